//! Looking whether the files are others than those known: a person has logged in or out, or another
//! process has renewed.

use super::{
    Grant, Settings,
    renewal::{read_seed, with_seed},
    scheme::Inner,
    state::State,
};
use crate::{
    auth::Unavailable,
    disk::DISK_TIMEOUT,
    secret::{SecretDigest, Stamp},
    tokens::{Record, StoreError},
};
use std::time::Duration;
use tokio::time::Instant;

/// What a look began with, and what it found; `None` where the files are those known.
pub(super) type Look = (u64, Result<Option<Seen>, Unavailable>);
pub(super) type Stamps = [Option<Stamp>; 3];

/// What is on the disk now.
pub(super) struct Seen {
    stamps: Stamps,
    record: Option<Record>,
    /// Of the client's secret, where it can be read.
    secret: Option<SecretDigest>,
}

impl Inner {
    /// Looks, at most once a second.
    pub(super) async fn look(&self) -> Result<(), Unavailable> {
        if let Some(known) = self.fresh() {
            return known;
        }
        let mut looking = self.looking.lock().await;
        if let Some(known) = self.fresh() {
            return known;
        }
        let (limit, adoptions, known) = {
            let state = self.lock();
            let limit = match state.tokens {
                Some(_) => HOLDING_LOOK,
                None => DISK_TIMEOUT,
            };
            (limit, state.adoptions, state.stamps)
        };
        let settings = self.settings.clone();
        let look = move || (adoptions, read_files(&settings, known));
        let answer = looking.ask(limit, look).await;
        // A slow disk is no news for a while, an answer that something is wrong is.
        let worth_telling = match answer {
            Some(_) => Instant::now(),
            None => Instant::now() + DISK_TIMEOUT,
        };
        let found = match answer {
            Some(Ok((adoptions, found))) => found.map(|found| self.take_over(adoptions, found)),
            Some(Err(error)) => Err(unreadable(&self.settings, error)),
            None => {
                let hangs = StoreError::Hangs(self.settings.store.path());
                Err(unreadable(&self.settings, hangs))
            }
        };
        if let Err(why) = &found {
            tracing::debug!(cause = why.cause, "the token file cannot be read");
        }
        let mut state = self.lock();
        state.looked_at = Some(Instant::now());
        state.unread = found.err();
        state.unread_since = state.unread.is_some().then(|| {
            let before = state.unread_since.unwrap_or(worth_telling);
            before.min(worth_telling)
        });
        known_of(&state)
    }

    /// `adoptions` is the count at which the look began.
    fn take_over(&self, adoptions: u64, found: Option<Seen>) {
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
        if state.adoptions != adoptions {
            return;
        }
        let (known, generation) = (state.stamps, state.generation);
        let (known_secret, known_secret_is_readable) = (state.secret, state.secret_is_readable);
        match &record {
            _ if self.settings.grant == Grant::ClientCredentials => {}
            Some(record) => state.adopt(record),
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
    fn fresh(&self) -> Option<Result<(), Unavailable>> {
        let state = self.lock();
        let looked_at = state.looked_at?;
        (looked_at.elapsed() < LOOK_EVERY).then(|| known_of(&state))
    }
}

/// Reads the files if they are others than `known`. Blocks.
fn read_files(settings: &Settings, known: Option<Stamps>) -> Result<Option<Seen>, Unavailable> {
    let store = &settings.store;
    let seed = &settings.refresh_token_file;
    let stored = match settings.grant {
        Grant::ClientCredentials => None,
        Grant::AuthorizationCode => store.stamp().map_err(|error| unreadable(settings, error))?,
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
    if settings.grant == Grant::ClientCredentials {
        return Ok(Some(Seen {
            stamps,
            record: None,
            secret,
        }));
    }
    let stored = store.read().map_err(|error| unreadable(settings, error))?;
    let record = with_seed(settings, stored, read_seed(seed.clone()))?;
    Ok(Some(Seen {
        stamps,
        record,
        secret,
    }))
}

fn unreadable(settings: &Settings, error: impl std::fmt::Display) -> Unavailable {
    Unavailable {
        cause: error.to_string(),
        remedy: format!(
            "mend the file, or log in again: {}",
            settings.login_command()
        ),
    }
}

/// What is held is good until it is refused, whatever the disk does.
fn known_of(state: &State) -> Result<(), Unavailable> {
    match (&state.tokens, &state.unread) {
        (None, Some(why)) => Err(why.clone()),
        _ => Ok(()),
    }
}

/// A login by a person is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a request waits for a look while there is a token to send. A slower disk's answer counts
/// when it comes.
const HOLDING_LOOK: Duration = Duration::from_millis(200);
