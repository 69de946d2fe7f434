//! The one order of steps by which stored tokens are exchanged for the next ones: mark, ask, save, use.
//!
//! Jira may kill the old tokens the moment it answers. The mark on the disk says "these may be dead" from
//! before they are sent until what came for them is on the disk too; a process that finds the mark knows
//! why the token it holds is refused, should it be. Both OAuths renew by this.

use super::CredentialUnavailable;
use crate::{
    secret::Secret,
    tokens::{LockedTokenStore, TokenRecord, TokenSet, TokenStoreError},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::sleep;

/// What came of it.
pub enum RefreshOutcome {
    /// On the disk and good to use. Somebody else may have renewed them meanwhile.
    Refreshed(TokenRecord),
    /// Only a person can help: the reason is on the disk too, and in the record.
    LoginRequired(TokenRecord),
    /// Not this time; what was there is as good as it was, or may be.
    Failed(CredentialUnavailable),
}

/// Why no tokens came.
pub(super) struct RefreshError {
    /// Cause and remedy of the failure.
    pub why: CredentialUnavailable,
    /// What became of the old ones.
    pub old_token: OldToken,
}

/// What became of the code or token that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldToken {
    /// It is as good as it was.
    Valid,
    /// It is not taken, nor ever will be.
    Invalid,
    /// It may have been taken and the answer been lost.
    Unknown,
}

/// Marks the record, asks, and saves what came. `guess` is what may have happened where the old tokens are
/// dead and no mark tells why. An error: the mark could not be saved, and nothing was sent.
pub(super) async fn rotate(
    locked: &LockedTokenStore,
    mut record: TokenRecord,
    old: &Arc<TokenSet>,
    ask: impl Future<Output = Result<TokenSet, RefreshError>>,
    guess: &str,
) -> Result<RefreshOutcome, TokenStoreError> {
    let interrupted = record.pending;
    record.pending = Some(interrupted.unwrap_or_else(SystemTime::now));
    locked.save(&record).await?;
    Ok(match ask.await {
        Ok(fresh) => RefreshOutcome::Refreshed(save_new_tokens(locked, record, old, fresh).await),
        Err(refused) => fail(locked, record, interrupted, refused, guess).await,
    })
}

/// Saves until it is saved: these tokens are the only ones that live, and are used only then.
async fn save_new_tokens(
    locked: &LockedTokenStore,
    before: TokenRecord,
    old: &Arc<TokenSet>,
    fresh: TokenSet,
) -> TokenRecord {
    let again = || {
        old.refresh
            .as_ref()
            .map(|kept| Secret::new(kept.expose().to_vec()))
    };
    let record = TokenRecord {
        tokens: Some(Arc::new(TokenSet {
            // A provider that does not rotate sends none (RFC 6749 §6).
            refresh: fresh.refresh.or_else(again),
            user: old.user.clone(),
            ..fresh
        })),
        pending: None,
        ended: None,
        ..before
    };
    while let Err(error) = locked.save(&record).await {
        tracing::error!(
            forward = locked.forward(),
            %error,
            remedy = "free space on the disk of the state folder; a restart before that loses the new tokens",
            "the refreshed tokens cannot be saved; trying again"
        );
        sleep(SAVE_PAUSE).await;
    }
    record
}

async fn fail(
    locked: &LockedTokenStore,
    mut record: TokenRecord,
    interrupted: Option<SystemTime>,
    refused: RefreshError,
    guess: &str,
) -> RefreshOutcome {
    match refused.old_token {
        // The mark stays: whoever is refused later must know why.
        OldToken::Unknown => {}
        OldToken::Valid => {
            record.pending = interrupted;
            save_best_effort(locked, &record).await;
        }
        OldToken::Invalid => {
            record.pending = None;
            record.ended = Some(reason(&refused.why.cause, interrupted, guess));
            save_best_effort(locked, &record).await;
            return RefreshOutcome::LoginRequired(record);
        }
    }
    RefreshOutcome::Failed(refused.why)
}

/// What is saved here can be found out anew, at worst by asking once more in vain.
async fn save_best_effort(locked: &LockedTokenStore, record: &TokenRecord) {
    if let Err(error) = locked.save(record).await {
        tracing::warn!(
            forward = locked.forward(),
            %error,
            remedy = "free space on the disk of the state folder",
            "the token file could not be updated"
        );
    }
}

fn reason(cause: &str, interrupted: Option<SystemTime>, guess: &str) -> String {
    match interrupted {
        Some(since) => format!(
            "a refresh started {} was interrupted before the new tokens were saved (a crash, a kill, or an answer that never came), and the old ones are no longer valid: {cause}",
            humantime::format_rfc3339_seconds(since)
        ),
        None => format!("{cause}: {guess}"),
    }
}

/// How long a renewal waits for the lock: as long as another process may take over one of its own.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to save what must not be lost.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
