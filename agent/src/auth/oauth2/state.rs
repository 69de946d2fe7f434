//! What is held of one forward's login, and how what is on the disk changes that.

use super::token_files::FileStamps;
use crate::{
    auth::{Concern, CredentialUnavailable},
    secret::{Secret, SecretDigest},
    tokens::{TokenRecord, TokenSet},
};
use rand::Rng;
use std::{sync::Arc, time::SystemTime};
use tokio::time::Instant;

#[derive(Default)]
pub(super) struct OAuth2State {
    pub checked_at: Option<Instant>,
    /// Why the last look found nothing out.
    pub read_error: Option<CredentialUnavailable>,
    /// From when on that is worth telling while what is held still serves.
    pub unread_since: Option<Instant>,
    /// Counts what was taken over, so that a slow look does not bring back what is older.
    pub record_count: u64,
    /// Of the token file, of the one with a first refresh token, and of the client's secret.
    pub stamps: Option<FileStamps>,
    /// Of the client's secret that was last seen.
    pub secret: Option<SecretDigest>,
    pub secret_is_readable: bool,
    /// Rises with each other thing that a person put there: a login, a client secret.
    pub version: u64,
    pub tokens: Option<Arc<TokenSet>>,
    /// Rises with each new access token.
    pub generation: u64,
    /// From here on it is renewed, while it still serves.
    pub refresh_at: Option<SystemTime>,
    /// Jira has refused it: it is not sent again.
    pub rejected: bool,
    /// An interrupted renewal of before may have killed it: it is renewed before it is sent, if it can be.
    pub refresh_interrupted: bool,
    /// Why only a person can help.
    pub ended: Option<String>,
    /// Why the last renewal failed.
    pub refresh_error: Option<CredentialUnavailable>,
    /// Since when none has succeeded.
    pub trouble_since: Option<Instant>,
    /// The client has another secret since then, and no renewal has shown whether it is good.
    pub untried_since: Option<Instant>,
    pub failures: u32,
    pub retry_at: Option<Instant>,
    /// When Jira last refused a token that it had never taken.
    pub ineffective_refresh_at: Option<Instant>,
}

impl OAuth2State {
    /// Takes over what is on the disk.
    pub fn apply_record(&mut self, record: &TokenRecord) {
        let same = match (&self.tokens, &record.tokens) {
            (Some(held), Some(stored)) => is_same(&held.access, &stored.access),
            _ => false,
        };
        // The same token issued once more: its end is another one, and it may be tried again.
        let reissued = match (&self.tokens, &record.tokens) {
            (Some(held), Some(stored)) => same && held.obtained != stored.obtained,
            _ => false,
        };
        self.record_count += 1;
        self.tokens = record.tokens.clone();
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
            self.refresh_at = record.tokens.as_deref().and_then(refresh_at);
        }
    }

    /// Discards the tokens after a logout.
    pub fn forget(&mut self) {
        let Self {
            generation,
            record_count: adoptions,
            version,
            ..
        } = *self;
        *self = Self {
            generation: generation + 1,
            record_count: adoptions + 1,
            version,
            ..Self::default()
        };
    }

    /// The client has another secret: it is used now, to see whether it is good, however the former one fared.
    pub fn use_new_secret(&mut self) {
        self.forget_trouble();
        self.failures = 0;
        self.retry_at = None;
        if self.tokens.is_some() {
            self.refresh_at = Some(SystemTime::UNIX_EPOCH);
            self.untried_since = Some(Instant::now());
        }
    }

    /// A renewal failed.
    pub fn fail(&mut self, why: CredentialUnavailable) {
        self.untried_since = None;
        self.trouble_since.get_or_insert_with(Instant::now);
        self.refresh_error = Some(why);
    }

    /// What failed before counts no more.
    pub fn forget_trouble(&mut self) {
        self.refresh_error = None;
        self.trouble_since = None;
        self.untried_since = None;
    }

    /// What is wrong although what is held still serves.
    pub fn concern(&self) -> Option<Concern> {
        self.tokens.as_ref()?;
        let concern = |why, since: &Option<Instant>| {
            let since = (*since)?;
            (since <= Instant::now()).then_some(Concern { why, since })
        };
        if let Some(CredentialUnavailable { cause, remedy }) = &self.refresh_error {
            let why = CredentialUnavailable {
                cause: format!(
                    "the access token still serves, but could not be refreshed: {cause}"
                ),
                remedy: remedy.clone(),
            };
            return concern(why, &self.trouble_since);
        }
        if let Some(since) = self.untried_since {
            let why = CredentialUnavailable {
                cause: "the client secret has changed, and the token endpoint has not yet said whether it takes the new one"
                    .to_owned(),
                remedy: "wait a few seconds; if this stays, look at the agent's log".to_owned(),
            };
            return concern(why, &Some(since));
        }
        let CredentialUnavailable { cause, remedy } = self.read_error.clone()?;
        let why = CredentialUnavailable {
            cause: format!("the access token still serves, but {cause}"),
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

/// Somewhere between 70 and 85 per cent of its life, so that many agents do not come all at once.
fn refresh_at(tokens: &TokenSet) -> Option<SystemTime> {
    let life = tokens
        .access_expires?
        .duration_since(tokens.obtained)
        .ok()?;
    let share = rand::rng().random_range(0.7..0.85);
    tokens.obtained.checked_add(life.mul_f64(share))
}
