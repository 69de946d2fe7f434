//! Refreshes the stored access token by its session (`oauth_session_handle`).

use super::{OAuth1Endpoints, OAuth1Error, Settings};
use crate::{
    auth::{
        CredentialUnavailable,
        rotation::{LOCK_PATIENCE, OldToken, RefreshError, RefreshOutcome, rotate},
    },
    secret::Secret,
    tokens::{TokenRecord, TokenStore, TokenStoreError},
};
use std::time::SystemTime;

/// Refreshes the access token, unless the stored one is another one than `stale` already. `rejected`: Jira no longer
/// accepts `stale`, whatever its end.
pub async fn refresh(
    settings: &Settings,
    store: &TokenStore,
    endpoint: &OAuth1Endpoints,
    stale: Option<&Secret>,
    rejected: bool,
) -> RefreshOutcome {
    match try_refresh(settings, store, endpoint, stale, rejected).await {
        Ok(outcome) => outcome,
        Err(why) => RefreshOutcome::Failed(why),
    }
}

async fn try_refresh(
    settings: &Settings,
    store: &TokenStore,
    endpoint: &OAuth1Endpoints,
    stale: Option<&Secret>,
    rejected: bool,
) -> Result<RefreshOutcome, CredentialUnavailable> {
    let disk = |error: TokenStoreError| CredentialUnavailable {
        cause: error.to_string(),
        remedy: "repair the state folder; the agent retries by itself".to_owned(),
    };
    let locked = store.lock(LOCK_PATIENCE).await.map_err(disk)?;
    let Some(record) = locked.load().await.map_err(disk)? else {
        return Err(logged_out(settings, store));
    };
    check_owner(settings, store, &record)?;
    if record.ended.is_some() {
        return Ok(RefreshOutcome::LoginRequired(record));
    }
    let Some(old) = record.tokens.clone() else {
        return Err(logged_out(settings, store));
    };
    let Some(access) = &old.access else {
        return Err(logged_out(settings, store));
    };
    let is_newer = stale.is_none_or(|stale| stale.expose() != access.expose());
    if is_newer && record.pending.is_none() {
        return Ok(RefreshOutcome::Refreshed(record));
    }
    let Some(session) = &old.refresh else {
        return Err(CredentialUnavailable {
            cause: "Jira issued no session to refresh the access token with".to_owned(),
            remedy: log_in(store),
        });
    };
    let now = SystemTime::now();
    let is_unusable =
        rejected || record.pending.is_some() || old.access_expires.is_some_and(|end| end <= now);
    let ask = async {
        let refused = |error: OAuth1Error| RefreshError {
            why: error.why,
            old_token: match error.old_token {
                // Ahead of its end, the access token may outlive its session.
                OldToken::Invalid if !is_unusable => OldToken::Valid,
                old_token @ (OldToken::Valid | OldToken::Invalid | OldToken::Unknown) => old_token,
            },
        };
        endpoint.refresh(access, session).await.map_err(refused)
    };
    rotate(&locked, record.clone(), &old, ask, LIKELY_CAUSE)
        .await
        .map_err(disk)
}

/// Refuses tokens of another consumer or Jira: they must not be shown to this one.
pub(super) fn check_owner(
    settings: &Settings,
    store: &TokenStore,
    record: &TokenRecord,
) -> Result<(), CredentialUnavailable> {
    if record.owner == settings.owner() {
        return Ok(());
    }
    Err(CredentialUnavailable {
        cause: format!(
            "the stored tokens belong to consumer {:?} at {}, and the configuration names another",
            record.owner.client, record.owner.issuer
        ),
        remedy: log_in(store),
    })
}

/// Why there is no token to sign with.
pub(super) fn logged_out(settings: &Settings, store: &TokenStore) -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!(
            "no login is stored for consumer {:?} at {}",
            settings.consumer_key, settings.target
        ),
        remedy: log_in(store),
    }
}

/// Why the stored tokens are no longer valid.
pub(super) fn ended(store: &TokenStore, reason: &str) -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!("the login for Jira has ended: {reason}"),
        remedy: format!("log in again: agent login {}", store.forward()),
    }
}

fn log_in(store: &TokenStore) -> String {
    format!("run agent login {}", store.forward())
}

const LIKELY_CAUSE: &str =
    "the session has ended, or another agent has refreshed a copy of the same token";
