//! Whether the administrator has stopped the vendor's requests, as a whole or by forward, and since when.
//!
//! What is paused stays paused over a restart (`store`), and a state that cannot be read means paused: only a person
//! lets the vendor in again.

mod store;

pub use store::PauseStoreError;

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, RwLock, RwLockReadGuard},
    time::{Duration, SystemTime},
};
use store::PauseStore;
use tokio::time::timeout;

/// That the vendor's requests are stopped, and what is known of why.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Pause")]
pub struct PauseRecord {
    /// Since when, RFC 3339, UTC.
    pub since: String,
    /// Why, in the words of whoever asked for it.
    pub reason: Option<String>,
    /// User id of whoever asked, as the kernel told it; absent where the agent paused by itself.
    pub by_uid: Option<u32>,
}

/// What `agent pause` and `agent resume` send to the running agent.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// Name of a forward; none means all of them, now and later.
    pub forward: Option<String>,
    /// Why the pause was requested; see [`check_reason`].
    pub reason: Option<String>,
}

/// Why a pause could not be begun, or not be ended.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The text for `reason`.
    #[error("{0}")]
    Reason(String),
    /// Everything is paused, so that one forward cannot be let go by its own.
    #[error(
        "all forwards are paused; `agent resume` without a name lets all of them go, then pause the others by name"
    )]
    AllPaused,
    /// It is paused, but would not be after a restart.
    #[error("paused, but a restart would forget it: {0}")]
    NotSaved(PauseStoreError),
    /// It is still paused.
    #[error("still paused: {0}")]
    NotResumed(PauseStoreError),
}

/// What is paused. Asked by every request; clones are the same.
#[derive(Clone, Default)]
pub struct PauseRegistry {
    active: Arc<RwLock<ActivePauses>>,
    /// None: nothing is kept (tests).
    store: Option<PauseStore>,
    /// One change at a time; goes along to the disk, so that a slow write is not overtaken by a later one.
    changing: Arc<tokio::sync::Mutex<()>>,
}

/// All pauses, as they lie on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ActivePauses {
    all: Option<PauseRecord>,
    forwards: BTreeMap<String, PauseRecord>,
}

impl PauseRegistry {
    /// What `state_dir` says. Blocks on the disk. A file that cannot be read pauses everything.
    pub fn load(state_dir: &Path) -> Self {
        let store = PauseStore::new(state_dir);
        let held = store.read().unwrap_or_else(|error| {
            tracing::error!(
                %error,
                remedy = "agent resume, if nothing was to be paused",
                "all forwards are paused, since it cannot be known what was paused"
            );
            ActivePauses {
                all: Some(PauseRecord {
                    since: now(),
                    reason: Some(error.to_string()),
                    by_uid: None,
                }),
                ..ActivePauses::default()
            }
        });
        for (forward, pause) in &held.forwards {
            tracing::warn!(
                forward,
                since = pause.since,
                reason = pause.reason,
                "still paused"
            );
        }
        if let Some(pause) = &held.all {
            tracing::warn!(
                since = pause.since,
                reason = pause.reason,
                "all forwards are still paused"
            );
        }
        Self {
            active: Arc::new(RwLock::new(held)),
            store: Some(store),
            changing: Arc::default(),
        }
    }

    /// Whether requests of this forward are stopped.
    pub fn of(&self, forward: &str) -> Option<PauseRecord> {
        let held = self.read();
        held.all
            .as_ref()
            .or_else(|| held.forwards.get(forward))
            .cloned()
    }

    /// Stops the requests of one forward or of all. They are stopped even where it cannot be kept.
    pub async fn pause(&self, order: PauseRequest, by_uid: Option<u32>) -> Result<(), PauseError> {
        if let Some(reason) = &order.reason {
            check_reason(reason).map_err(PauseError::Reason)?;
        }
        let changing = self.lock_changes().await.map_err(PauseError::NotSaved);
        let pause = PauseRecord {
            since: now(),
            reason: order.reason,
            by_uid,
        };
        let (forward, reason) = (order.forward.as_deref(), pause.reason.as_deref());
        tracing::warn!(
            forward,
            reason,
            by_uid,
            "{}: the vendor gets 503 until `agent resume`",
            if forward.is_some() {
                "paused"
            } else {
                "all forwards are paused"
            }
        );
        let next = self.change(|held| match &order.forward {
            Some(forward) => {
                held.forwards.insert(forward.clone(), pause);
            }
            None => held.all = Some(pause),
        });
        // Stopped before the turn is looked at: a disk that hangs is no reason to let requests pass.
        self.save(next, changing?, || {})
            .await
            .map_err(PauseError::NotSaved)
    }

    /// Lets the requests of one forward pass again, or all of them. They pass once that is on the disk.
    pub async fn resume(
        &self,
        order: &PauseRequest,
        by_uid: Option<u32>,
    ) -> Result<(), PauseError> {
        let changing = self.lock_changes().await.map_err(PauseError::NotResumed)?;
        let mut next = self.read().clone();
        match &order.forward {
            Some(_) if next.all.is_some() => return Err(PauseError::AllPaused),
            Some(forward) => {
                next.forwards.remove(forward);
            }
            None => next = ActivePauses::default(),
        }
        let (pauses, forward, after) = (self.clone(), order.forward.clone(), next.clone());
        let let_go = move || {
            pauses.change(|held| *held = after);
            tracing::warn!(forward, by_uid, "resumed: the vendor's requests pass again");
        };
        self.save(next, changing, let_go)
            .await
            .map_err(PauseError::NotResumed)
    }

    async fn lock_changes(&self) -> Result<tokio::sync::OwnedMutexGuard<()>, PauseStoreError> {
        let turn = Arc::clone(&self.changing).lock_owned();
        timeout(DISK_TIMEOUT, turn)
            .await
            .map_err(|_| PauseStoreError::Hangs)
    }

    /// Writes `next`, then does `kept`, both also where the caller no longer waits.
    async fn save(
        &self,
        next: ActivePauses,
        changing: tokio::sync::OwnedMutexGuard<()>,
        kept: impl FnOnce() + Send + 'static,
    ) -> Result<(), PauseStoreError> {
        let Some(store) = self.store.clone() else {
            kept();
            return Ok(());
        };
        let written = tokio::task::spawn_blocking(move || {
            let _changing = changing;
            store.write(&next).map(|()| kept())
        });
        match timeout(DISK_TIMEOUT, written).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(PauseStoreError::Hangs),
        }
    }

    fn change(&self, change: impl FnOnce(&mut ActivePauses)) -> ActivePauses {
        // A panic while this lock is held leaves a whole state behind.
        let mut held = self
            .active
            .write()
            .unwrap_or_else(|poison| poison.into_inner());
        change(&mut held);
        held.clone()
    }

    fn read(&self) -> RwLockReadGuard<'_, ActivePauses> {
        self.active
            .read()
            .unwrap_or_else(|poison| poison.into_inner())
    }
}

/// At most 200 characters on one line: it goes to log, status and disk.
pub fn check_reason(reason: &str) -> Result<(), String> {
    match reason.chars().count() {
        0 => Err("the reason is empty; leave --reason out".to_owned()),
        1..=MAX_REASON if reason.chars().any(char::is_control) => {
            Err("the reason must be one line without control characters".to_owned())
        }
        1..=MAX_REASON => Ok(()),
        long => Err(format!(
            "the reason has {long} characters; at most {MAX_REASON} are kept"
        )),
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Characters. A sentence and a ticket number.
const MAX_REASON: usize = 200;
/// Two fsyncs take milliseconds; whoever asks waits five seconds for an answer.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
