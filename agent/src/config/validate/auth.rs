//! Validates `[forward.auth]`: which keys belong to which mode, and what each mode requires.

use super::{oauth1::oauth1, oauth2::oauth2, service::check_mode};
use crate::{
    auth,
    config::{
        files::FileResolver,
        merged::MergedSection,
        problem::ConfigProblems,
        raw::{self, RawAuthMode},
    },
    expiry::timestamps,
    profile::ServiceProfile,
    tokens::TokenStore,
    upstream::{self, HttpTarget},
};
use std::time::SystemTime;

/// What authentication needs to know about its forward.
pub(super) struct AuthContext<'a> {
    /// URL of the forward's upstream.
    pub target: &'a HttpTarget,
    /// Settings of the upstream; `None` if they are invalid.
    pub upstream: Option<&'a upstream::Settings>,
    /// What is behind the forward.
    pub profile: &'a ServiceProfile,
    /// Where tokens are stored.
    pub store: TokenStore,
}

/// The authentication settings of one forward. `None` after a problem, which is reported.
pub(super) fn auth(
    raw: raw::RawAuth,
    context: AuthContext<'_>,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<auth::Settings> {
    let mode = raw.mode.word();
    for (key, owners) in KEY_MODES {
        if !owners.contains(&raw.mode) && section.is_written(key) {
            let owners: Vec<_> = owners.iter().map(|o| format!("{:?}", o.word())).collect();
            let owners = owners.join(" or ");
            let text = format!(
                "belongs to mode {owners}, but the mode is {mode:?}; set mode = {owners}, or remove this key"
            );
            section.error(key, text, problems);
        }
    }
    check_mode(context.profile, raw.mode, section, problems);
    match raw.mode {
        RawAuthMode::PassThrough => Some(auth::Settings::PassThrough),
        RawAuthMode::Basic => {
            let username = required("username", raw.username, mode, section, problems);
            let file = required("password_file", raw.password_file, mode, section, problems);
            let password_file = files.secret_file(section, "password_file", &file?, problems);
            let username = username?;
            if username.is_empty() || username.contains(|c: char| c == ':' || c.is_control()) {
                let text = "not a user name: it must not be empty or contain a colon (RFC 7617)";
                section.error("username", text, problems);
            }
            Some(auth::Settings::Basic {
                username,
                password_file: password_file?,
            })
        }
        RawAuthMode::Pat => {
            let file = required("token_file", raw.token_file, mode, section, problems)?;
            let token_file = files.secret_file(section, "token_file", &file, problems)?;
            Some(auth::Settings::Pat {
                token_file,
                expires: expires(raw.expires, section, problems)?,
            })
        }
        RawAuthMode::ApiToken => {
            let email = required("email", raw.email, mode, section, problems);
            let file = required("token_file", raw.token_file, mode, section, problems);
            let token_file = files.secret_file(section, "token_file", &file?, problems);
            let email = email?;
            let control = |c: char| c == ':' || c.is_control() || c.is_whitespace();
            if !email.contains('@') || email.contains(control) {
                let text = "not an email address; use that of the API token's Atlassian account";
                section.error("email", text, problems);
            }
            Some(auth::Settings::ApiToken {
                email,
                token_file: token_file?,
                scoped: raw.scoped.unwrap_or(false),
                expires: expires(raw.expires, section, problems)?,
            })
        }
        RawAuthMode::Header => {
            let fields = header_fields(raw.headers.unwrap_or_default(), section, files, problems);
            Some(auth::Settings::Header {
                fields: fields?,
                expires: expires(raw.expires, section, problems)?,
            })
        }
        RawAuthMode::OAuth2 => {
            let settings = oauth2(raw, context, section, files, problems)?;
            Some(auth::Settings::OAuth2(Box::new(settings)))
        }
        RawAuthMode::OAuth1 => {
            let settings = oauth1(raw, context, section, files, problems)?;
            Some(auth::Settings::OAuth1(Box::new(settings)))
        }
    }
}

/// The fields of mode `header`. `None` after a problem, which is reported.
fn header_fields(
    raw: Vec<raw::RawHeaderField>,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Vec<auth::HeaderField>> {
    let before = problems.len();
    if raw.is_empty() || raw.len() > MAX_HEADER_FIELDS {
        let text = format!(
            "mode \"header\" needs 1 to {MAX_HEADER_FIELDS} of them, like headers = [{{ name = \"X-ApiKeys\", value_file = \"keys\" }}]"
        );
        section.error_at("headers", "mode", text, problems);
        return None;
    }
    let mut fields: Vec<auth::HeaderField> = Vec::with_capacity(raw.len());
    for (index, field) in raw.into_iter().enumerate() {
        let name = match field.name.parse::<http::HeaderName>() {
            Err(_) => Err("not the name of a header; write one like \"X-ApiKeys\""),
            Ok(name) if fields.iter().any(|known| known.name == name) => {
                Err("is there twice; write each name once")
            }
            Ok(name) => auth::may_carry_credential(&name).map(|()| name),
        };
        let name = match name {
            Ok(name) => Some(name),
            Err(why) => {
                let text = format!("{:?}: {why}", field.name);
                section.element_error("headers", index, text, problems);
                None
            }
        };
        let file = files.secret_file(section, "headers", &field.value_file, problems);
        if let (Some(name), Some(value_file)) = (name, file) {
            fields.push(auth::HeaderField { name, value_file });
        }
    }
    (problems.len() == before).then_some(fields)
}

/// The value of a key that this mode requires. `None` if it is missing, which is reported.
pub(super) fn required(
    key: &str,
    value: Option<String>,
    mode: &str,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<String> {
    if value.is_none() {
        let text = format!("missing; mode {mode:?} needs it");
        section.error_at(key, "mode", text, problems);
    }
    value
}

/// When a credential expires according to the configuration. `Some(None)` if it is not set, `None` if it is not a
/// date.
pub(super) fn expires(
    raw: Option<String>,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Option<Option<SystemTime>> {
    let Some(text) = raw else {
        return Some(None);
    };
    let day = timestamps::day(&text);
    if day.is_none() {
        let text = "not a date; write it like \"2027-01-31\"";
        section.error("expires", text, problems);
    }
    day.map(Some)
}

/// Far more than any tool needs.
const MAX_HEADER_FIELDS: usize = 8;
/// Which modes each key of `[forward.auth]` belongs to.
const KEY_MODES: &[(&str, &[RawAuthMode])] = &[
    ("username", &[RawAuthMode::Basic]),
    ("password_file", &[RawAuthMode::Basic]),
    ("token_file", &[RawAuthMode::Pat, RawAuthMode::ApiToken]),
    ("headers", &[RawAuthMode::Header]),
    (
        "expires",
        &[RawAuthMode::Pat, RawAuthMode::Header, RawAuthMode::ApiToken],
    ),
    ("client_id", &[RawAuthMode::OAuth2]),
    ("client_secret_file", &[RawAuthMode::OAuth2]),
    ("grant", &[RawAuthMode::OAuth2]),
    ("scope", &[RawAuthMode::OAuth2]),
    ("redirect_uri", &[RawAuthMode::OAuth2]),
    ("refresh_token_file", &[RawAuthMode::OAuth2]),
    ("authorize_url", &[RawAuthMode::OAuth2]),
    ("token_url", &[RawAuthMode::OAuth2]),
    ("audience", &[RawAuthMode::OAuth2]),
    ("email", &[RawAuthMode::ApiToken]),
    ("scoped", &[RawAuthMode::ApiToken]),
    ("cloud_id", &[RawAuthMode::OAuth2, RawAuthMode::ApiToken]),
    ("api_url", &[RawAuthMode::OAuth2, RawAuthMode::ApiToken]),
    ("consumer_key", &[RawAuthMode::OAuth1]),
    ("private_key_file", &[RawAuthMode::OAuth1]),
    ("access_token_file", &[RawAuthMode::OAuth1]),
    ("two_legged", &[RawAuthMode::OAuth1]),
    ("signed_base_url", &[RawAuthMode::OAuth1]),
];
