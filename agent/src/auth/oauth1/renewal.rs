//! Renews the stored access token by its session (`oauth_session_handle`).

use super::{Endpoint, EndpointError, Settings};
use crate::{
    auth::{
        Unavailable,
        rotation::{LOCK_PATIENCE, Refused, Renewal, Spent, rotate},
    },
    secret::Secret,
    tokens::{Record, Store, StoreError},
};
use std::time::SystemTime;

/// Renews the access token, unless the stored one is another than `stale` already. `disowned`: Jira takes
/// `stale` no more, whatever its time says.
pub async fn renew(
    settings: &Settings,
    store: &Store,
    endpoint: &Endpoint,
    stale: Option<&Secret>,
    disowned: bool,
) -> Renewal {
    match steps(settings, store, endpoint, stale, disowned).await {
        Ok(renewal) => renewal,
        Err(why) => Renewal::Failed(why),
    }
}

async fn steps(
    settings: &Settings,
    store: &Store,
    endpoint: &Endpoint,
    stale: Option<&Secret>,
    disowned: bool,
) -> Result<Renewal, Unavailable> {
    let disk = |error: StoreError| Unavailable {
        cause: error.to_string(),
        remedy: "mend the state folder; the agent tries again by itself".to_owned(),
    };
    let locked = store.lock(LOCK_PATIENCE).await.map_err(disk)?;
    let Some(record) = locked.load().await.map_err(disk)? else {
        return Err(logged_out(settings, store));
    };
    usable(settings, store, &record)?;
    if record.ended.is_some() {
        return Ok(Renewal::Ended(record));
    }
    let Some(old) = record.tokens.clone() else {
        return Err(logged_out(settings, store));
    };
    let Some(access) = &old.access else {
        return Err(logged_out(settings, store));
    };
    let is_news = stale.is_none_or(|stale| stale.expose() != access.expose());
    if is_news && record.pending.is_none() {
        return Ok(Renewal::Tokens(record));
    }
    let Some(session) = &old.refresh else {
        return Err(Unavailable {
            cause: "Jira gave no session to renew the access token by".to_owned(),
            remedy: log_in(store),
        });
    };
    let now = SystemTime::now();
    let over =
        disowned || record.pending.is_some() || old.access_expires.is_some_and(|end| end <= now);
    let ask = async {
        let refused = |error: EndpointError| Refused {
            why: error.why,
            spent: match error.spent {
                // Renewed ahead of its end, the access token may outlive its session.
                Spent::Dead if !over => Spent::No,
                spent => spent,
            },
        };
        endpoint.renew(access, session).await.map_err(refused)
    };
    rotate(&locked, record.clone(), &old, ask, GUESS)
        .await
        .map_err(disk)
}

/// Refuses tokens of another consumer or Jira: they must not be shown to this one.
pub(super) fn usable(
    settings: &Settings,
    store: &Store,
    record: &Record,
) -> Result<(), Unavailable> {
    if record.owner == settings.owner() {
        return Ok(());
    }
    Err(Unavailable {
        cause: format!(
            "the stored tokens belong to consumer {:?} at {}, and the configuration names another",
            record.owner.client, record.owner.issuer
        ),
        remedy: log_in(store),
    })
}

/// Why there is nothing to sign with.
pub(super) fn logged_out(settings: &Settings, store: &Store) -> Unavailable {
    Unavailable {
        cause: format!(
            "nobody has logged in yet as consumer {:?} at {}",
            settings.consumer_key, settings.target
        ),
        remedy: log_in(store),
    }
}

/// Why stored tokens are of no use any more.
pub(super) fn ended(store: &Store, reason: &str) -> Unavailable {
    Unavailable {
        cause: format!("the login for Jira has ended: {reason}"),
        remedy: format!("log in again: agent login {}", store.forward()),
    }
}

fn log_in(store: &Store) -> String {
    format!("run agent login {}", store.forward())
}

const GUESS: &str = "the session has ended, or another agent has renewed a copy of the same token";
