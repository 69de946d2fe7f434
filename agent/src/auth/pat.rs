//! `pat`: a Jira personal access token (8.14 and later), held by the agent.
//!
//! Jira lists a user's tokens, with their ends, to whoever has one of them, but does not say which one
//! was shown. So the list tells when ours ends only where a single token in it is still alive.

use super::{Concern, Credential, Scheme, Unavailable, credential::FileCredential};
use crate::{
    expiry::{End, Expiry, Kind, moment},
    secret::{Secret, SecretFile},
};
use futures_util::future::BoxFuture;
use http::{StatusCode, request};
use serde::Deserialize;
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

pub(super) struct Pat {
    credential: FileCredential,
    /// As the configuration says.
    stated: Option<SystemTime>,
    told: Mutex<Told>,
}

/// What Jira told of the token's end.
#[derive(Default)]
struct Told {
    /// Which token it was about, and when it was asked.
    asked: Option<(u64, Instant)>,
    answer: Option<(u64, Lifetime)>,
}

struct Lifetime {
    since: Option<SystemTime>,
    end: End,
}

impl Pat {
    pub(super) fn new(token_file: SecretFile, stated: Option<SystemTime>) -> Self {
        Self {
            credential: FileCredential::new(token_file, |token| render(token.expose())),
            stated,
            told: Mutex::default(),
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scheme for Pat {
    fn mode(&self) -> &'static str {
        "pat"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<Credential, Unavailable>> {
        Box::pin(self.credential.current())
    }

    /// Jira counts no failed logins for tokens.
    fn locks_out(&self) -> bool {
        false
    }

    fn look(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(self.credential.look())
    }

    fn version(&self) -> u64 {
        self.credential.generation()
    }

    fn concern(&self) -> Option<Concern> {
        self.credential.concern()
    }

    fn remedy(&self) -> String {
        format!(
            "look in Jira under Profile, Personal Access Tokens, whether the token expired or was revoked; write a new one into {}",
            self.credential.file().path().display()
        )
    }

    fn expiries(&self) -> Vec<Expiry> {
        let remedy = format!(
            "make a new token in Jira (Profile, Personal Access Tokens), write it into {}, then revoke the old one; no restart is needed",
            self.credential.file().path().display()
        );
        let told = self.told();
        let current = self.credential.generation();
        let lifetime = told
            .answer
            .as_ref()
            .filter(|(generation, _)| *generation == current)
            .map(|(_, lifetime)| lifetime);
        let (end, since) = match (self.stated, lifetime) {
            (Some(stated), _) => (End::At(stated), None),
            (None, Some(lifetime)) => (lifetime.end.clone(), lifetime.since),
            (None, None) => (
                End::Unknown("Jira is asked for it once it has accepted the token".to_owned()),
                None,
            ),
        };
        vec![Expiry::new(Kind::PersonalAccessToken, end, remedy).issued(since)]
    }

    fn expiry_question(&self) -> Option<&'static str> {
        if self.stated.is_some() {
            return None;
        }
        let mut told = self.told();
        let current = self.credential.generation();
        let due = told
            .asked
            .is_none_or(|(generation, at)| generation != current || at.elapsed() >= ASK_EVERY);
        due.then(|| {
            told.asked = Some((current, Instant::now()));
            TOKENS
        })
    }

    fn expiry_answer(&self, generation: u64, status: StatusCode, body: &[u8]) {
        let lifetime = read(status, body, SystemTime::now());
        let mut told = self.told();
        // Which token it was is known only now.
        told.asked = told.asked.map(|(_, at)| (generation, at));
        told.answer = Some((generation, lifetime));
    }
}

/// What the list of tokens says about the one by which it was read.
fn read(status: StatusCode, body: &[u8], now: SystemTime) -> Lifetime {
    let unknown = |why: &str| Lifetime {
        since: None,
        end: End::Unknown(format!("{why}; set expires in [forward.auth]")),
    };
    if status != StatusCode::OK {
        return unknown(&format!(
            "Jira does not list its tokens ({})",
            status.as_u16()
        ));
    }
    let Ok(tokens) = serde_json::from_slice::<Vec<Token>>(body) else {
        return unknown("Jira's list of tokens cannot be read");
    };
    let moment = |text: &Option<String>| text.as_deref().and_then(moment::jira);
    // What has ended is not the token that was just accepted.
    let mut living = tokens
        .iter()
        .filter(|token| moment(&token.expiring_at).is_none_or(|end| end > now));
    match (living.next(), living.next()) {
        (Some(token), None) => Lifetime {
            since: moment(&token.created_at),
            end: match (&token.expiring_at, moment(&token.expiring_at)) {
                (_, Some(end)) => End::At(end),
                (None, None) => End::Never,
                (Some(_), None) => return unknown("Jira's date cannot be read"),
            },
        },
        (None, _) => unknown("Jira lists no token of this user"),
        (Some(_), Some(_)) => {
            unknown("this user has several tokens, and Jira does not say which one this is")
        }
    }
}

/// Other fields, the name above all, are nobody's business here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Token {
    created_at: Option<String>,
    expiring_at: Option<String>,
}

fn render(token: &[u8]) -> Result<Secret, String> {
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(
            "holds a space, a control character or a letter outside ASCII, which no token has; write the token alone, as one line"
                .to_owned(),
        );
    }
    let mut value = Vec::with_capacity(7 + token.len());
    // Exactly this case and one space: Jira compares the prefix as it is.
    value.extend_from_slice(b"Bearer ");
    value.extend_from_slice(token);
    Ok(Secret::new(value))
}

const TOKENS: &str = "/rest/pat/latest/tokens";
/// Ends change when an administrator makes a token; four times a day is soon enough.
const ASK_EVERY: Duration = Duration::from_secs(6 * 3600);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn end(list: &str) -> End {
        let now = moment::jira("2026-11-22T00:00:00.000+0000").unwrap();
        read(StatusCode::OK, list.as_bytes(), now).end
    }

    #[test]
    fn the_only_living_token_is_ours() {
        let dies = moment::jira("2027-01-31T10:00:00.000+0000").unwrap();
        let ours = r#"{"id":2,"name":"agent","createdAt":"2026-11-01T10:00:00.000+0000","expiringAt":"2027-01-31T10:00:00.000+0000"}"#;
        let dead = r#"{"id":1,"createdAt":"2025-11-01T10:00:00.000+0000","expiringAt":"2026-11-21T10:00:00.000+0000"}"#;
        assert_eq!(end(&format!("[{ours}]")), End::At(dies));
        assert_eq!(end(&format!("[{dead},{ours}]")), End::At(dies));
        assert_eq!(end(r#"[{"id":3,"name":"for ever"}]"#), End::Never);
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
            let End::Unknown(why) = end(list) else {
                panic!("{list}");
            };
            assert!(why.contains(part) && why.contains("set expires"), "{why}");
        }
        let refused = read(StatusCode::NOT_FOUND, b"", SystemTime::now()).end;
        assert!(matches!(refused, End::Unknown(why) if why.contains("404")));
    }
}
