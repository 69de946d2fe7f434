//! Looking whether the files are others than those known: a person has logged in or out, or another
//! process has renewed.

use super::{
    GrantType, Settings,
    refresh::{read_first_token, with_first_token},
    scheme::OAuth2Inner,
    state::OAuth2State,
};
use crate::{
    auth::CredentialUnavailable,
    disk::DISK_TIMEOUT,
    secret::{FileStamp, SecretDigest},
    tokens::{TokenRecord, TokenStoreError},
};
use std::time::Duration;
use tokio::time::Instant;

/// What a look began with, and what it found; `None` where the files are those known.
pub(super) type TokenFilesReading = (u64, Result<Option<Seen>, CredentialUnavailable>);
pub(super) type FileStamps = [Option<FileStamp>; 3];

/// What is on the disk now.
pub(super) struct Seen {
    stamps: FileStamps,
    record: Option<TokenRecord>,
    /// Of the client's secret, where it can be read.
    secret: Option<SecretDigest>,
}

impl OAuth2Inner {
    /// Looks, at most once a second.
    pub(super) async fn reload_if_due(&self) -> Result<(), CredentialUnavailable> {
        if let Some(known) = self.fresh() {
            return known;
        }
        let mut looking = self.single_flight.lock().await;
        if let Some(known) = self.fresh() {
            return known;
        }
        let (limit, adoptions, known) = {
            let state = self.lock();
            let limit = match state.tokens {
                Some(_) => CACHED_READ_TIMEOUT,
                None => DISK_TIMEOUT,
            };
            (limit, state.record_count, state.stamps)
        };
        let settings = self.settings.clone();
        let look = move || (adoptions, read_files(&settings, known));
        let answer = looking.run(limit, look).await;
        // A slow disk is no news for a while, an answer that something is wrong is.
        let worth_telling = match answer {
            Some(_) => Instant::now(),
            None => Instant::now() + DISK_TIMEOUT,
        };
        let found = match answer {
            Some(Ok((adoptions, found))) => found.map(|found| self.apply_reading(adoptions, found)),
            Some(Err(error)) => Err(unreadable(&self.settings, error)),
            None => {
                let hangs = TokenStoreError::Hangs(self.settings.store.path());
                Err(unreadable(&self.settings, hangs))
            }
        };
        if let Err(why) = &found {
            tracing::debug!(cause = why.cause, "the token file cannot be read");
        }
        let mut state = self.lock();
        state.checked_at = Some(Instant::now());
        state.read_error = found.err();
        state.unread_since = state.read_error.is_some().then(|| {
            let before = state.unread_since.unwrap_or(worth_telling);
            before.min(worth_telling)
        });
        usable_state(&state)
    }

    /// `adoptions` is the count at which the look began.
    fn apply_reading(&self, adoptions: u64, found: Option<Seen>) {
        let Some(Seen {
            stamps,
            record,
            secret,
        }) = found
        else {
            return;
        };
        // A renewal that has ended meanwhile knows better, and the next look sees its file.
        let mut state = self.lock();
        if state.record_count != adoptions {
            return;
        }
        let (known, generation) = (state.stamps, state.generation);
        let (known_secret, known_secret_is_readable) = (state.secret, state.secret_is_readable);
        match &record {
            _ if self.settings.grant == GrantType::ClientCredentials => {}
            Some(record) => state.apply_record(record),
            None => state.forget(),
        }
        // The same content written once more is no other secret.
        let new_secret = known.is_some() && secret.is_some() && secret != known_secret;
        if new_secret {
            state.use_new_secret();
        }
        // One that cannot be read now is known still when it comes back, and then it is used at once.
        let was_readable = known.is_none() || known_secret_is_readable;
        if secret.is_some() && !was_readable {
            state.failures = 0;
            state.retry_at = None;
        }
        state.secret_is_readable = secret.is_some();
        state.secret = secret.or(known_secret);
        if known.is_none() || new_secret || state.generation != generation {
            state.version += 1;
        }
        state.stamps = Some(stamps);
    }

    /// `None` where it is time to look again.
    fn fresh(&self) -> Option<Result<(), CredentialUnavailable>> {
        let state = self.lock();
        let looked_at = state.checked_at?;
        (looked_at.elapsed() < CHECK_INTERVAL).then(|| usable_state(&state))
    }
}

/// Reads the files if they are others than `known`. Blocks.
fn read_files(
    settings: &Settings,
    known: Option<FileStamps>,
) -> Result<Option<Seen>, CredentialUnavailable> {
    let store = &settings.store;
    let seed = &settings.refresh_token_file;
    let stored = match settings.grant {
        GrantType::ClientCredentials => None,
        GrantType::AuthorizationCode => {
            store.stamp().map_err(|error| unreadable(settings, error))?
        }
    };
    let stamps = [
        stored,
        seed.as_ref().and_then(|file| file.stamp().ok()),
        settings.client_secret_file.stamp().ok(),
    ];
    if known == Some(stamps) {
        return Ok(None);
    }
    let secret = settings.client_secret_file.read().ok();
    let secret = secret.map(|secret| secret.digest());
    // Its tokens are in memory alone.
    if settings.grant == GrantType::ClientCredentials {
        return Ok(Some(Seen {
            stamps,
            record: None,
            secret,
        }));
    }
    let stored = store.read().map_err(|error| unreadable(settings, error))?;
    let record = with_first_token(settings, stored, read_first_token(seed.clone()))?;
    Ok(Some(Seen {
        stamps,
        record,
        secret,
    }))
}

fn unreadable(settings: &Settings, error: impl std::fmt::Display) -> CredentialUnavailable {
    CredentialUnavailable {
        cause: error.to_string(),
        remedy: format!(
            "mend the file, or log in again: {}",
            settings.login_command()
        ),
    }
}

/// What is held is good until it is refused, whatever the disk does.
fn usable_state(state: &OAuth2State) -> Result<(), CredentialUnavailable> {
    match (&state.tokens, &state.read_error) {
        (None, Some(why)) => Err(why.clone()),
        _ => Ok(()),
    }
}

/// A login by a person is noticed after this at the latest.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a request waits for a look while there is a token to send. A slower disk's answer counts
/// when it comes.
const CACHED_READ_TIMEOUT: Duration = Duration::from_millis(200);
