//! What is known of one forward's tokens, and how the files and each refresh change it. It reads the clock only to
//! note times.

use super::{FileStamps, StoredRecord, TokenFilesReading, TokenProvider};
use crate::{
    auth::{Concern, CredentialUnavailable},
    secret::{Secret, SecretDigest},
    tokens::{TokenRecord, TokenSet},
};
use std::{sync::Arc, time::SystemTime};
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct TokenState {
    /// Why the last read failed.
    pub read_error: Option<CredentialUnavailable>,
    /// From when on that is reported while the cached token is usable.
    pub unread_since: Option<Instant>,
    /// Rises with each record that is taken over, so that a slow read does not bring back an older one.
    pub revision: u64,
    /// Of the files that were last taken over.
    pub stamps: Option<FileStamps>,
    /// Of the client's secret that was last seen.
    pub client_secret: Option<SecretDigest>,
    pub client_secret_is_readable: bool,
    /// Rises with each other thing that a person put there: a login, a client secret. 0 before the first read.
    pub version: u64,
    pub tokens: Option<Arc<TokenSet>>,
    /// Why there are no tokens, where only a login brings some.
    pub missing: Option<CredentialUnavailable>,
    /// Rises with each other access token.
    pub generation: u64,
    /// From when on the access token is refreshed although it is usable.
    pub refresh_at: Option<SystemTime>,
    /// Jira has rejected the access token: it is not sent again.
    pub rejected: bool,
    /// An interrupted refresh may have invalidated the access token: it is refreshed before it is sent, if possible.
    pub refresh_interrupted: bool,
    /// Why only a person can help.
    pub ended: Option<String>,
    /// Why the last refresh failed.
    pub refresh_error: Option<CredentialUnavailable>,
    /// Since when none has succeeded.
    pub trouble_since: Option<Instant>,
    /// Since when the client has another secret that no refresh has tried.
    pub untried_since: Option<Instant>,
    pub failures: u32,
    pub retry_at: Option<Instant>,
    /// When Jira last rejected a token that it had never accepted.
    pub ineffective_refresh_at: Option<Instant>,
}

impl TokenState {
    /// Takes over what a read found.
    pub(super) fn apply_reading(
        &mut self,
        reading: TokenFilesReading,
        provider: &impl TokenProvider,
    ) {
        let is_first = self.version == 0;
        let generation = self.generation;
        let known_secret = self.client_secret;
        let was_readable = is_first || self.client_secret_is_readable;
        match reading.record {
            StoredRecord::NotStored => {}
            StoredRecord::Found(record) => self.apply_record(&record, provider),
            StoredRecord::Missing(why) => self.forget_tokens(why),
        }
        let secret = reading.client_secret;
        // The same content written once more is no other secret.
        let is_new_secret = !is_first && secret.is_some() && secret != known_secret;
        if is_new_secret {
            self.use_new_secret();
        }
        // A secret that becomes readable is used at once.
        if secret.is_some() && !was_readable {
            self.failures = 0;
            self.retry_at = None;
        }
        self.client_secret_is_readable = secret.is_some();
        self.client_secret = secret.or(known_secret);
        if is_first || is_new_secret || self.generation != generation {
            self.version += 1;
        }
        self.stamps = reading.stamps;
    }

    /// Takes over what is stored.
    pub(super) fn apply_record(&mut self, record: &TokenRecord, provider: &impl TokenProvider) {
        let same = match (&self.tokens, &record.tokens) {
            (Some(cached), Some(stored)) => is_same(&cached.access, &stored.access),
            _ => false,
        };
        // The same token issued once more: its end is another one, and it may be tried again.
        let reissued = match (&self.tokens, &record.tokens) {
            (Some(cached), Some(stored)) => same && cached.obtained != stored.obtained,
            _ => false,
        };
        self.revision += 1;
        self.tokens = record.tokens.clone();
        self.missing = None;
        if same && !reissued && self.ended == record.ended {
            return;
        }
        self.ended = record.ended.clone();
        self.forget_trouble();
        self.failures = 0;
        self.retry_at = None;
        if !same {
            self.generation += 1;
        }
        if !same || reissued {
            self.rejected = false;
            self.refresh_interrupted = record.pending.is_some();
            let tokens = record.tokens.as_deref();
            self.refresh_at = tokens.and_then(|tokens| provider.refresh_at(tokens));
        }
    }

    /// Forgets the tokens after a logout, or where those that are stored must not be used.
    fn forget_tokens(&mut self, why: CredentialUnavailable) {
        if self.missing.as_ref() == Some(&why) {
            return;
        }
        *self = Self {
            generation: self.generation + 1,
            revision: self.revision + 1,
            version: self.version,
            missing: Some(why),
            ..Self::default()
        };
    }

    /// The client has another secret: a refresh tries it now, whatever became of the former one.
    fn use_new_secret(&mut self) {
        self.forget_trouble();
        self.failures = 0;
        self.retry_at = None;
        if self.tokens.is_some() {
            self.refresh_at = Some(SystemTime::UNIX_EPOCH);
            self.untried_since = Some(Instant::now());
        }
    }

    /// Notes that a refresh failed.
    pub(super) fn fail(&mut self, why: CredentialUnavailable) {
        self.untried_since = None;
        self.trouble_since.get_or_insert_with(Instant::now);
        self.refresh_error = Some(why);
    }

    /// Drops what is known of failed refreshes.
    pub(super) fn forget_trouble(&mut self) {
        self.refresh_error = None;
        self.trouble_since = None;
        self.untried_since = None;
    }

    /// What is wrong although the cached token is still usable.
    pub(super) fn concern(&self) -> Option<Concern> {
        self.tokens.as_ref()?;
        let concern = |why, since: &Option<Instant>| {
            let since = (*since)?;
            (since <= Instant::now()).then_some(Concern { why, since })
        };
        if let Some(CredentialUnavailable { cause, remedy }) = &self.refresh_error {
            let why = CredentialUnavailable {
                cause: format!(
                    "the access token is still valid, but could not be refreshed: {cause}"
                ),
                remedy: remedy.clone(),
            };
            return concern(why, &self.trouble_since);
        }
        if let Some(since) = self.untried_since {
            let why = CredentialUnavailable {
                cause: "the client secret has changed, and the token endpoint has not accepted the new one yet"
                    .to_owned(),
                remedy: "wait a few seconds; if this persists, check the agent's log".to_owned(),
            };
            return concern(why, &Some(since));
        }
        let CredentialUnavailable { cause, remedy } = self.read_error.clone()?;
        let why = CredentialUnavailable {
            cause: format!("the access token is still valid, but {cause}"),
            remedy,
        };
        concern(why, &self.unread_since)
    }
}

fn is_same(one: &Option<Secret>, other: &Option<Secret>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.expose() == other.expose(),
        (None, None) => true,
        _ => false,
    }
}
