//! The order of steps by which both OAuths exchange stored tokens for the next ones: mark, request, save, use.
//!
//! Jira may invalidate the old tokens the moment it answers. The mark on the disk records that from before they are sent
//! until the new ones are on the disk too. A process that finds the mark knows why its token is rejected.

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

/// The result of a refresh.
pub enum RefreshOutcome {
    /// New tokens, on the disk and valid. Another process may have refreshed them.
    Refreshed(TokenRecord),
    /// Only a new login helps: the reason is in the record and on the disk.
    LoginRequired(TokenRecord),
    /// No new tokens this time; the old ones are valid, or may be.
    Failed(CredentialUnavailable),
}

/// Why a token request failed.
pub(super) struct RefreshError {
    /// Cause and remedy of the failure.
    pub why: CredentialUnavailable,
    /// State of the tokens that were sent.
    pub old_token: OldToken,
}

/// State of the code or token that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldToken {
    /// It is as valid as before.
    Valid,
    /// It will never be accepted again.
    Invalid,
    /// It may have been exchanged, and the answer lost.
    Unknown,
}

/// Marks the record, runs `request`, and saves the result. `likely_cause` explains invalid tokens where no mark does. An
/// error: the mark could not be saved, and nothing was sent.
pub(super) async fn rotate(
    locked: &LockedTokenStore,
    mut record: TokenRecord,
    old: &Arc<TokenSet>,
    request: impl Future<Output = Result<TokenSet, RefreshError>>,
    likely_cause: &str,
) -> Result<RefreshOutcome, TokenStoreError> {
    let interrupted = record.pending;
    record.pending = Some(interrupted.unwrap_or_else(SystemTime::now));
    locked.save(&record).await?;
    Ok(match request.await {
        Ok(fresh) => RefreshOutcome::Refreshed(save_new_tokens(locked, record, old, fresh).await),
        Err(error) => fail(locked, record, interrupted, error, likely_cause).await,
    })
}

/// Retries until they are saved: these tokens are the only valid ones, and are used only then.
async fn save_new_tokens(
    locked: &LockedTokenStore,
    before: TokenRecord,
    old: &Arc<TokenSet>,
    fresh: TokenSet,
) -> TokenRecord {
    let old_refresh = || {
        old.refresh
            .as_ref()
            .map(|token| Secret::new(token.expose().to_vec()))
    };
    let record = TokenRecord {
        tokens: Some(Arc::new(TokenSet {
            // A provider that does not rotate sends none (RFC 6749 §6).
            refresh: fresh.refresh.or_else(old_refresh),
            // A refresh does not prolong a login whose end is known.
            refresh_expires: fresh.refresh_expires.or(old.refresh_expires),
            user: old.user.clone(),
            // A refresh that names no scope keeps it (RFC 6749 §6).
            scope: fresh.scope.or_else(|| old.scope.clone()),
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
    error: RefreshError,
    likely_cause: &str,
) -> RefreshOutcome {
    match error.old_token {
        // The mark stays: it explains a later rejection.
        OldToken::Unknown => {}
        OldToken::Valid => {
            record.pending = interrupted;
            save_best_effort(locked, &record).await;
        }
        OldToken::Invalid => {
            record.pending = None;
            record.ended = Some(reason(&error.why.cause, interrupted, likely_cause));
            save_best_effort(locked, &record).await;
            return RefreshOutcome::LoginRequired(record);
        }
    }
    RefreshOutcome::Failed(error.why)
}

/// What is saved here can be found out again, at worst by another request that fails.
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

fn reason(cause: &str, interrupted: Option<SystemTime>, likely_cause: &str) -> String {
    match interrupted {
        Some(since) => format!(
            "a refresh started {} was interrupted before the new tokens were saved (a crash, a kill, or an answer that never came), and the old ones are no longer valid: {cause}",
            humantime::format_rfc3339_seconds(since)
        ),
        None => format!("{cause}: {likely_cause}"),
    }
}

/// How long a refresh waits for the lock: as long as another process's refresh may take.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(30);
/// Between two attempts to save what must not be lost.
const SAVE_PAUSE: Duration = Duration::from_secs(1);
