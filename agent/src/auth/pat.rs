//! `pat`: a Jira personal access token (8.14 and later).
//!
//! With any of a user's tokens Jira lists all of them and their ends, but does not report which one was used. So the list
//! shows when ours ends only if a single token in it is still valid.

use super::{
    AuthScheme, Concern, CredentialUnavailable, RequestCredential,
    credential::{FileCredential, bearer},
};
use crate::{
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime, timestamps},
    profile::ServiceProfile,
    secret::{Secret, SecretFile},
};
use futures_util::future::BoxFuture;
use http::{StatusCode, request};
use parking_lot::Mutex;
use serde::Deserialize;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

pub(super) struct PatScheme {
    credential: FileCredential,
    /// From the configuration.
    configured_expiry: Option<SystemTime>,
    reported: Mutex<ReportedExpiry>,
    profile: Arc<ServiceProfile>,
}

/// What Jira reported of the token's end.
#[derive(Default)]
struct ReportedExpiry {
    /// The generation of the token that was asked about, and when.
    asked_at: Option<(u64, Instant)>,
    answer: Option<(u64, TokenLifetime)>,
}

struct TokenLifetime {
    since: Option<SystemTime>,
    end: ExpiryTime,
}

impl PatScheme {
    pub(super) fn new(
        token_file: SecretFile,
        stated: Option<SystemTime>,
        profile: Arc<ServiceProfile>,
    ) -> Self {
        Self {
            credential: FileCredential::new(token_file, render),
            configured_expiry: stated,
            reported: Mutex::default(),
            profile,
        }
    }
}

impl PatScheme {
    fn lists_tokens(&self) -> bool {
        let login = self.profile.login.as_ref();
        login.is_some_and(|login| login.lists_tokens)
    }

    fn token_menu(&self) -> &'static str {
        match self.lists_tokens() {
            true => "Profile, Personal Access Tokens",
            false => "in the settings of the user",
        }
    }

    fn token_page(&self) -> String {
        match self.lists_tokens() {
            true => format!("{} under {},", self.profile.title, self.token_menu()),
            false => self.profile.title.clone(),
        }
    }
}

impl AuthScheme for PatScheme {
    fn mode(&self) -> &'static str {
        "pat"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<RequestCredential, CredentialUnavailable>> {
        Box::pin(self.credential.current())
    }

    /// Jira counts no failed logins for tokens.
    fn locks_out(&self) -> bool {
        false
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>> {
        Box::pin(self.credential.reload())
    }

    fn version(&self) -> u64 {
        self.credential.generation()
    }

    fn concern(&self) -> Option<Concern> {
        self.credential.concern()
    }

    fn remedy(&self) -> String {
        let place = self.token_page();
        format!(
            "check in {place} whether the token expired or was revoked; write a new one into {}",
            self.credential.file().path().display()
        )
    }

    fn expiries(&self) -> Vec<CredentialExpiry> {
        let remedy = format!(
            "make a new token in {} ({}), write it into {}, then revoke the old one; no restart is needed",
            self.profile.title,
            self.token_menu(),
            self.credential.file().path().display()
        );
        let reported = self.reported.lock();
        let current = self.credential.generation();
        let lifetime = reported
            .answer
            .as_ref()
            .filter(|(generation, _)| *generation == current)
            .map(|(_, lifetime)| lifetime);
        let (end, since) = match (self.configured_expiry, lifetime) {
            (Some(stated), _) => (ExpiryTime::At(stated), None),
            (None, Some(lifetime)) => (lifetime.end.clone(), lifetime.since),
            (None, None) if !self.lists_tokens() => (
                ExpiryTime::Unknown(format!(
                    "{} does not report it; set expires in [forward.auth]",
                    self.profile.title
                )),
                None,
            ),
            (None, None) => (
                ExpiryTime::Unknown(
                    self.profile
                        .reword("Jira is asked for it once it has accepted the token")
                        .into_owned(),
                ),
                None,
            ),
        };
        vec![CredentialExpiry::new(CredentialKind::PersonalAccessToken, end, remedy).issued(since)]
    }

    fn expiry_probe_path(&self) -> Option<&'static str> {
        if self.configured_expiry.is_some() || !self.lists_tokens() {
            return None;
        }
        let mut reported = self.reported.lock();
        let current = self.credential.generation();
        let due = reported
            .asked_at
            .is_none_or(|(generation, at)| generation != current || at.elapsed() >= ASK_EVERY);
        due.then(|| {
            reported.asked_at = Some((current, Instant::now()));
            TOKENS
        })
    }

    fn on_expiry_response(&self, generation: u64, status: StatusCode, body: &[u8]) {
        let mut lifetime = read(status, body, SystemTime::now());
        if let ExpiryTime::Unknown(why) = &mut lifetime.end {
            *why = self.profile.reword(why).into_owned();
        }
        let mut reported = self.reported.lock();
        // Only now is the token known that was sent.
        reported.asked_at = reported.asked_at.map(|(_, at)| (generation, at));
        reported.answer = Some((generation, lifetime));
    }
}

/// Reads the lifetime of our token out of the list that it gave access to.
fn read(status: StatusCode, body: &[u8], now: SystemTime) -> TokenLifetime {
    let unknown = |why: &str| TokenLifetime {
        since: None,
        end: ExpiryTime::Unknown(format!("{why}; set expires in [forward.auth]")),
    };
    if status != StatusCode::OK {
        return unknown(&format!(
            "Jira does not list its tokens ({})",
            status.as_u16()
        ));
    }
    let Ok(tokens) = serde_json::from_slice::<Vec<ListedToken>>(body) else {
        return unknown("Jira's list of tokens cannot be read");
    };
    let moment = |text: &Option<String>| text.as_deref().and_then(timestamps::jira);
    // An expired one is not the token that was just accepted.
    let mut valid = tokens
        .iter()
        .filter(|token| moment(&token.expiring_at).is_none_or(|end| end > now));
    match (valid.next(), valid.next()) {
        (Some(token), None) => TokenLifetime {
            since: moment(&token.created_at),
            end: match (&token.expiring_at, moment(&token.expiring_at)) {
                (_, Some(end)) => ExpiryTime::At(end),
                (None, None) => ExpiryTime::Never,
                (Some(_), None) => return unknown("Jira's date cannot be read"),
            },
        },
        (None, _) => unknown("Jira lists no token of this user"),
        (Some(_), Some(_)) => {
            unknown("this user has several tokens, and Jira does not report which one this is")
        }
    }
}

/// Other fields, such as the name, are private to the user.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedToken {
    created_at: Option<String>,
    expiring_at: Option<String>,
}

fn render(token: &Secret) -> Result<Secret, String> {
    if !token.expose().iter().all(u8::is_ascii_graphic) {
        return Err(
            "holds a space, a control character or a letter outside ASCII, which no token has; write the token alone, as one line"
                .to_owned(),
        );
    }
    Ok(bearer(token))
}

const TOKENS: &str = "/rest/pat/latest/tokens";
/// Ends change when an administrator makes a token; four times a day is soon enough.
const ASK_EVERY: Duration = Duration::from_secs(6 * 3600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn end(list: &str) -> ExpiryTime {
        let now = timestamps::jira("2026-11-22T00:00:00.000+0000").unwrap();
        read(StatusCode::OK, list.as_bytes(), now).end
    }

    #[test]
    fn the_only_living_token_is_ours() {
        let dies = timestamps::jira("2027-01-31T10:00:00.000+0000").unwrap();
        let ours = r#"{"id":2,"name":"agent","createdAt":"2026-11-01T10:00:00.000+0000","expiringAt":"2027-01-31T10:00:00.000+0000"}"#;
        let dead = r#"{"id":1,"createdAt":"2025-11-01T10:00:00.000+0000","expiringAt":"2026-11-21T10:00:00.000+0000"}"#;
        assert_eq!(end(&format!("[{ours}]")), ExpiryTime::At(dies));
        assert_eq!(end(&format!("[{dead},{ours}]")), ExpiryTime::At(dies));
        assert_eq!(end(r#"[{"id":3,"name":"for ever"}]"#), ExpiryTime::Never);
    }

    #[test]
    fn nothing_is_guessed() {
        let two = r#"[{"id":1},{"id":2,"expiringAt":"2027-01-31T10:00:00.000+0000"}]"#;
        for (list, part) in [
            (two, "several tokens"),
            ("[]", "no token"),
            ("<html>", "cannot be read"),
            (r#"[{"id":1,"expiringAt":"soon"}]"#, "date"),
        ] {
            let ExpiryTime::Unknown(why) = end(list) else {
                panic!("{list}");
            };
            assert!(why.contains(part) && why.contains("set expires"), "{why}");
        }
        let refused = read(StatusCode::NOT_FOUND, b"", SystemTime::now()).end;
        assert!(matches!(refused, ExpiryTime::Unknown(why) if why.contains("404")));
    }
}
