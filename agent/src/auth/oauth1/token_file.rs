//! Looking whether the file is another than the one known: a person has logged in or out, or another process has
//! renewed.

use super::{
    refresh::{ended, logged_out, usable},
    stored_tokens::{StoredTokens, StoredTokensState},
};
use crate::{
    auth::CredentialUnavailable,
    secret::FileStamp,
    tokens::{TokenRecord, TokenSet, TokenStore, TokenStoreError},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::time::Instant;

impl StoredTokens {
    /// What is stored, as of a second ago at the latest.
    pub(super) async fn load_cached(&self) -> Result<(Arc<TokenSet>, u64), CredentialUnavailable> {
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        // Whoever holds it gives up on a disk that hangs, so this wait ends.
        let mut looking = self.single_flight.lock().await;
        if let Some(fresh) = self.fresh() {
            return fresh;
        }
        let (known, limit) = {
            let kept = self.lock();
            match kept.found {
                Some(Ok(_)) => (kept.stamp, SHORT_LOOK),
                _ => (kept.stamp, READ_TIMEOUT),
            }
        };
        let store = self.store.clone();
        let found = looking.run(limit, move || read(&store, known)).await;
        let mut kept = self.lock();
        let now = Instant::now();
        kept.checked_at = Some(now);
        kept.hangs_since = match found {
            None => kept.hangs_since.or(Some(now)),
            Some(_) => None,
        };
        match found {
            // It hangs: what was good a moment ago is better than nothing, and is not forgotten.
            None if matches!(kept.found, Some(Ok(_))) => {}
            None => {
                kept.stamp = None;
                let hangs = TokenStoreError::Hangs(self.store.path());
                kept.found = Some(Err(self.unavailable(&hangs)));
            }
            Some(Ok(Ok(None))) => {}
            Some(Ok(Ok(Some((stamp, record))))) => {
                let found = self.usable(record.as_ref());
                kept.stamp = Some(stamp);
                // A renewal writes the file before it asks, too: that is no news.
                if !kept
                    .found
                    .as_ref()
                    .is_some_and(|known| is_same(known, &found))
                {
                    kept.generation += 1;
                    let renewed = kept.refreshed.clone().map(Ok);
                    if !renewed.is_some_and(|renewed| is_same(&renewed, &found)) {
                        kept.version += 1;
                    }
                    kept.refresh_not_before = None;
                    kept.trouble = None;
                    kept.refresh_interrupted =
                        record.is_some_and(|record| record.pending.is_some());
                    self.rejected_early.store(false, Ordering::Relaxed);
                }
                kept.found = Some(found);
            }
            Some(Ok(Err(error))) => {
                kept.stamp = None;
                kept.found = Some(Err(self.unavailable(&error)));
            }
            // It panicked, or the runtime ends.
            Some(Err(_)) => kept.stamp = None,
        }
        drop(looking);
        kept.current()
            .unwrap_or_else(|| Err(self.nobody_logged_in()))
    }

    fn usable(&self, record: Option<&TokenRecord>) -> UsableTokens {
        let Some(record) = record else {
            return Err(self.nobody_logged_in());
        };
        usable(&self.settings, &self.store, record)?;
        if let Some(reason) = &record.ended {
            return Err(ended(&self.store, reason));
        }
        match &record.tokens {
            Some(tokens) if tokens.access.is_some() => Ok(Arc::clone(tokens)),
            _ => Err(self.nobody_logged_in()),
        }
    }

    fn fresh(&self) -> Option<Result<(Arc<TokenSet>, u64), CredentialUnavailable>> {
        let kept = self.lock();
        let looked_at = kept.checked_at?;
        (looked_at.elapsed() < CHECK_INTERVAL)
            .then(|| kept.current())
            .flatten()
    }

    fn nobody_logged_in(&self) -> CredentialUnavailable {
        logged_out(&self.settings, &self.store)
    }

    fn unavailable(&self, error: &TokenStoreError) -> CredentialUnavailable {
        CredentialUnavailable {
            cause: error.to_string(),
            remedy: format!("run agent login {}", self.store.forward()),
        }
    }
}

/// What there is to sign with, or why there is nothing.
pub(super) type UsableTokens = Result<Arc<TokenSet>, CredentialUnavailable>;

/// Whether requests would be signed with the same token, or fail for the same reason.
fn is_same(one: &UsableTokens, other: &UsableTokens) -> bool {
    match (one, other) {
        (Ok(one), Ok(other)) => match (&one.access, &other.access) {
            (Some(one), Some(other)) => one.expose() == other.expose(),
            _ => false,
        },
        (Err(one), Err(other)) => one == other,
        _ => false,
    }
}

/// What a look finds; `None` where the file is the one known.
pub(super) type TokenFileReading = Result<Option<StampedRecord>, TokenStoreError>;
type StampedRecord = (Option<FileStamp>, Option<TokenRecord>);

/// Reads the file if it is another one than `known`. Blocks.
fn read(store: &TokenStore, known: Option<Option<FileStamp>>) -> TokenFileReading {
    let stamp = store.stamp()?;
    if known == Some(stamp) {
        return Ok(None);
    }
    Ok(Some((stamp, store.read()?)))
}

impl StoredTokensState {
    fn current(&self) -> Option<Result<(Arc<TokenSet>, u64), CredentialUnavailable>> {
        let found = self.found.as_ref()?.clone();
        Some(found.map(|tokens| (tokens, self.generation)))
    }
}

/// Tokens of `agent login` are noticed after this at the latest.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// A file on a hanging network disk must not hold requests up for ever.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Less where the last known token will do.
const SHORT_LOOK: Duration = Duration::from_millis(200);
