//! `[forward.auth]`, judged: which keys belong to which mode, and what each mode needs.

use super::{
    effective::Place, files::Files, judge_oauth1::oauth1, judge_oauth2::oauth2, problem::Problems,
    raw, raw::Mode,
};
use crate::{
    auth,
    expiry::moment,
    tokens::Store,
    upstream::{self, HttpTarget},
};
use std::time::SystemTime;

/// What a login needs to know of its forward.
pub struct Site<'a> {
    /// Where the forward leads.
    pub target: &'a HttpTarget,
    /// The way there; `None` where something is wrong with it.
    pub upstream: Option<&'a upstream::Settings>,
    /// Where tokens are to live.
    pub store: Store,
}

/// The login of one forward, if nothing is wrong with it.
pub fn auth(
    raw: raw::Auth,
    site: Site<'_>,
    place: &Place<'_>,
    files: &Files,
    problems: &mut Problems,
) -> Option<auth::Settings> {
    let mode = word(raw.mode);
    for (key, owners) in KEYS {
        if !owners.contains(&raw.mode) && place.is_written(key) {
            let owners: Vec<_> = owners.iter().map(|o| format!("{:?}", word(*o))).collect();
            let owners = owners.join(" or ");
            let text = format!(
                "belongs to mode {owners}, and the mode is {mode:?}; set mode = {owners}, or remove this key"
            );
            place.wrong(key, text, problems);
        }
    }
    match raw.mode {
        Mode::PassThrough => Some(auth::Settings::PassThrough),
        Mode::Basic => {
            let username = required("username", raw.username, mode, place, problems);
            let file = required("password_file", raw.password_file, mode, place, problems);
            let password_file = files.secret(place, "password_file", &file?, problems);
            let username = username?;
            if username.is_empty() || username.contains(|c: char| c == ':' || c.is_control()) {
                let text = "not a user name: it may be neither empty nor hold a colon (RFC 7617)";
                place.wrong("username", text, problems);
            }
            Some(auth::Settings::Basic {
                username,
                password_file: password_file?,
            })
        }
        Mode::Pat => {
            let file = required("token_file", raw.token_file, mode, place, problems)?;
            let token_file = files.secret(place, "token_file", &file, problems)?;
            Some(auth::Settings::Pat {
                token_file,
                expires: expires(raw.expires, place, problems)?,
            })
        }
        Mode::ApiToken => {
            let email = required("email", raw.email, mode, place, problems);
            let file = required("token_file", raw.token_file, mode, place, problems);
            let token_file = files.secret(place, "token_file", &file?, problems);
            let email = email?;
            let control = |c: char| c == ':' || c.is_control() || c.is_whitespace();
            if !email.contains('@') || email.contains(control) {
                let text = "not an email address; write the one that the Atlassian account of the API token logs in with";
                place.wrong("email", text, problems);
            }
            Some(auth::Settings::ApiToken {
                email,
                token_file: token_file?,
                scoped: raw.scoped.unwrap_or(false),
                expires: expires(raw.expires, place, problems)?,
            })
        }
        Mode::OAuth2 => {
            let settings = oauth2(raw, site, place, files, problems)?;
            Some(auth::Settings::OAuth2(Box::new(settings)))
        }
        Mode::OAuth1 => {
            let settings = oauth1(raw, site, place, files, problems)?;
            Some(auth::Settings::OAuth1(Box::new(settings)))
        }
    }
}

/// The value of a key that this mode cannot do without.
pub fn required(
    key: &str,
    value: Option<String>,
    mode: &str,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<String> {
    if value.is_none() {
        let text = format!("missing; mode {mode:?} needs it");
        place.wrong_beside(key, "mode", text, problems);
    }
    value
}

/// When a credential ends, as the configuration says. `Some(None)` where it does not.
pub fn expires(
    raw: Option<String>,
    place: &Place<'_>,
    problems: &mut Problems,
) -> Option<Option<SystemTime>> {
    let Some(text) = raw else {
        return Some(None);
    };
    let day = moment::day(&text);
    if day.is_none() {
        let text = "not a day; write it like \"2027-01-31\"";
        place.wrong("expires", text, problems);
    }
    day.map(Some)
}

fn word(mode: Mode) -> &'static str {
    match mode {
        Mode::PassThrough => "pass-through",
        Mode::Basic => "basic",
        Mode::Pat => "pat",
        Mode::OAuth2 => "oauth2",
        Mode::ApiToken => "api-token",
        Mode::OAuth1 => "oauth1",
    }
}

/// Which modes each key of `[forward.auth]` belongs to.
const KEYS: &[(&str, &[Mode])] = &[
    ("username", &[Mode::Basic]),
    ("password_file", &[Mode::Basic]),
    ("token_file", &[Mode::Pat, Mode::ApiToken]),
    ("expires", &[Mode::Pat, Mode::ApiToken]),
    ("client_id", &[Mode::OAuth2]),
    ("client_secret_file", &[Mode::OAuth2]),
    ("grant", &[Mode::OAuth2]),
    ("scope", &[Mode::OAuth2]),
    ("redirect_uri", &[Mode::OAuth2]),
    ("refresh_token_file", &[Mode::OAuth2]),
    ("authorize_url", &[Mode::OAuth2]),
    ("token_url", &[Mode::OAuth2]),
    ("audience", &[Mode::OAuth2]),
    ("email", &[Mode::ApiToken]),
    ("scoped", &[Mode::ApiToken]),
    ("cloud_id", &[Mode::OAuth2, Mode::ApiToken]),
    ("api_url", &[Mode::OAuth2, Mode::ApiToken]),
    ("consumer_key", &[Mode::OAuth1]),
    ("private_key_file", &[Mode::OAuth1]),
    ("access_token_file", &[Mode::OAuth1]),
    ("two_legged", &[Mode::OAuth1]),
    ("signed_base_url", &[Mode::OAuth1]),
];
