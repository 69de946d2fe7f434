//! Whether the administrator has paused the vendor's requests, for all forwards or for some, and since when.
//!
//! A pause survives a restart (`store`). A state that cannot be read means paused: only a person may let the vendor in
//! again.

mod store;

pub use store::PauseStoreError;

use parking_lot::RwLock;
use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use store::PauseStore;
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// A pause of the vendor's requests: since when, why, and by whom.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Pause")]
pub struct PauseRecord {
    /// When the pause began, RFC 3339, UTC.
    pub since: String,
    /// Why, as given with `agent pause --reason`.
    pub reason: Option<String>,
    /// User id of the caller, from the kernel; absent if the agent paused by itself.
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

/// Why a pause could not be started, saved or ended.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// The reason is empty, too long, or not one line.
    #[error("{0}")]
    Reason(String),
    /// All forwards are paused, so that one cannot be resumed alone.
    #[error(
        "all forwards are paused; run `agent resume` without a name, then pause the others by name"
    )]
    AllPaused,
    /// It is paused, but a restart would lose the pause.
    #[error("paused, but a restart would lose the pause: {0}")]
    NotSaved(PauseStoreError),
    /// It is still paused.
    #[error("still paused: {0}")]
    NotResumed(PauseStoreError),
    /// Another process of the agent decides on pauses now.
    #[error(
        "the agent is being replaced by a new process, and nothing was changed; run the command again"
    )]
    HandedOver,
}

/// What is paused. Every request reads it; clones share the state.
#[derive(Clone, Default)]
pub struct PauseRegistry {
    active: Arc<RwLock<ActivePauses>>,
    /// `None`: nothing is saved (tests).
    store: Option<PauseStore>,
    /// One change at a time, held until it is on the disk, so that a later write cannot overtake a slow one.
    changing: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled while this process does not yet know what is paused; requests wait then.
    unknown: Option<CancellationToken>,
    /// Another process changes the pauses.
    frozen: Arc<AtomicBool>,
    /// Counts changes that are saved.
    changes: Arc<watch::Sender<u64>>,
}

/// While it lives, this process changes no pause.
pub struct PauseFreeze {
    frozen: Arc<AtomicBool>,
    _changing: Option<tokio::sync::OwnedMutexGuard<()>>,
    is_kept: bool,
}

impl PauseFreeze {
    /// Changes no pause until this process ends.
    pub fn keep(mut self) {
        self.is_kept = true;
    }
}

impl Drop for PauseFreeze {
    fn drop(&mut self) {
        if !self.is_kept {
            self.frozen.store(false, Ordering::Release);
        }
    }
}

/// All pauses, as they are saved on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct ActivePauses {
    all: Option<PauseRecord>,
    forwards: BTreeMap<String, PauseRecord>,
}

impl PauseRegistry {
    /// Reads the pauses in `state_dir`. Blocks on the disk. A file that cannot be read pauses everything.
    pub fn load(state_dir: &Path) -> Self {
        let store = PauseStore::new(state_dir);
        let active = store.read().unwrap_or_else(|error| {
            tracing::error!(
                %error,
                remedy = "if nothing should be paused: agent resume",
                "all forwards are paused, because the saved pauses cannot be read"
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
        for (forward, pause) in &active.forwards {
            tracing::warn!(
                forward,
                since = pause.since,
                reason = pause.reason,
                "still paused; to resume: agent resume"
            );
        }
        if let Some(pause) = &active.all {
            tracing::warn!(
                since = pause.since,
                reason = pause.reason,
                "all forwards are still paused; to resume: agent resume"
            );
        }
        Self {
            active: Arc::new(RwLock::new(active)),
            store: Some(store),
            ..Self::default()
        }
    }

    /// For a process that another one hands over to: what is paused is not [known](Self::known) before
    /// [`read_again`](Self::read_again) and [`set_known`](Self::set_known).
    pub fn unknown(state_dir: &Path) -> Self {
        Self {
            store: Some(PauseStore::new(state_dir)),
            unknown: Some(CancellationToken::new()),
            ..Self::default()
        }
    }

    /// Waits until this process knows what is paused.
    pub async fn known(&self) {
        if let Some(known) = &self.unknown {
            known.cancelled().await;
        }
    }

    /// Whether this process knows what is paused.
    pub fn is_known(&self) -> bool {
        self.unknown
            .as_ref()
            .is_none_or(CancellationToken::is_cancelled)
    }

    /// Lets the requests pass that wait for it.
    pub fn set_known(&self) {
        if let Some(known) = &self.unknown {
            known.cancel();
        }
    }

    /// Reads the pauses that another process has saved. Blocks on the disk. After an error nothing has changed.
    pub fn read_again(&self) -> Result<(), PauseStoreError> {
        if let Some(store) = &self.store {
            let active = store.read()?;
            *self.active.write() = active;
        }
        Ok(())
    }

    /// Waits until all pauses are saved, also one that could not be saved before; from then on this process changes none.
    pub async fn freeze(&self) -> Result<PauseFreeze, PauseStoreError> {
        self.frozen.store(true, Ordering::Release);
        let mut freeze = PauseFreeze {
            frozen: Arc::clone(&self.frozen),
            _changing: None,
            is_kept: false,
        };
        let changing = self.lock_changes().await?;
        let Some(store) = self.store.clone() else {
            freeze._changing = Some(changing);
            return Ok(freeze);
        };
        let active = self.active.read().clone();
        let saving = tokio::task::spawn_blocking(move || {
            if store.read()? != active {
                store.write(&active)?;
            }
            Ok::<_, PauseStoreError>(changing)
        });
        let saved = timeout(DISK_TIMEOUT, saving).await;
        let saved = saved.map_err(|_| PauseStoreError::Hangs)?;
        freeze._changing = Some(saved.map_err(|_| PauseStoreError::Hangs)??);
        Ok(freeze)
    }

    /// A counter of the changes that were saved.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The pause of this forward, if there is one.
    pub fn of(&self, forward: &str) -> Option<PauseRecord> {
        let active = self.active.read();
        active
            .all
            .as_ref()
            .or_else(|| active.forwards.get(forward))
            .cloned()
    }

    /// Pauses one forward or all. They are paused even if that cannot be saved.
    pub async fn pause(
        &self,
        request: PauseRequest,
        by_uid: Option<u32>,
    ) -> Result<(), PauseError> {
        if let Some(reason) = &request.reason {
            check_reason(reason).map_err(PauseError::Reason)?;
        }
        self.refuse_if_frozen()?;
        let changing = self.lock_changes().await.map_err(PauseError::NotSaved);
        self.refuse_if_frozen()?;
        let pause = PauseRecord {
            since: now(),
            reason: request.reason,
            by_uid,
        };
        let (forward, reason) = (request.forward.as_deref(), pause.reason.as_deref());
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
        let next = self.change(|active| match &request.forward {
            Some(forward) => {
                active.forwards.insert(forward.clone(), pause);
            }
            None => active.all = Some(pause),
        });
        // Paused before the lock is checked: a disk that hangs is no reason to let requests pass.
        self.save(next, changing?, || {})
            .await
            .map_err(PauseError::NotSaved)
    }

    /// Resumes one forward or all. Requests pass once that is saved.
    pub async fn resume(
        &self,
        request: &PauseRequest,
        by_uid: Option<u32>,
    ) -> Result<(), PauseError> {
        self.refuse_if_frozen()?;
        let changing = self.lock_changes().await.map_err(PauseError::NotResumed);
        self.refuse_if_frozen()?;
        let changing = changing?;
        let mut next = self.active.read().clone();
        match &request.forward {
            Some(_) if next.all.is_some() => return Err(PauseError::AllPaused),
            Some(forward) => {
                next.forwards.remove(forward);
            }
            None => next = ActivePauses::default(),
        }
        let (pauses, forward, after) = (self.clone(), request.forward.clone(), next.clone());
        let resume = move || {
            pauses.change(|active| *active = after);
            tracing::warn!(forward, by_uid, "resumed: the vendor's requests pass again");
        };
        self.save(next, changing, resume)
            .await
            .map_err(PauseError::NotResumed)
    }

    fn refuse_if_frozen(&self) -> Result<(), PauseError> {
        match self.frozen.load(Ordering::Acquire) {
            true => Err(PauseError::HandedOver),
            false => Ok(()),
        }
    }

    async fn lock_changes(&self) -> Result<tokio::sync::OwnedMutexGuard<()>, PauseStoreError> {
        let guard = Arc::clone(&self.changing).lock_owned();
        timeout(DISK_TIMEOUT, guard)
            .await
            .map_err(|_| PauseStoreError::Hangs)
    }

    /// Writes `next`, then calls `on_saved`; both happen even if the caller no longer waits.
    async fn save(
        &self,
        next: ActivePauses,
        changing: tokio::sync::OwnedMutexGuard<()>,
        on_saved: impl FnOnce() + Send + 'static,
    ) -> Result<(), PauseStoreError> {
        let Some(store) = self.store.clone() else {
            on_saved();
            return Ok(());
        };
        let changes = Arc::clone(&self.changes);
        let written = tokio::task::spawn_blocking(move || {
            let _changing = changing;
            store.write(&next).map(|()| {
                on_saved();
                changes.send_modify(|count| *count += 1);
            })
        });
        match timeout(DISK_TIMEOUT, written).await {
            Ok(Ok(done)) => done,
            Ok(Err(_)) | Err(_) => Err(PauseStoreError::Hangs),
        }
    }

    fn change(&self, change: impl FnOnce(&mut ActivePauses)) -> ActivePauses {
        let mut active = self.active.write();
        change(&mut active);
        active.clone()
    }
}

/// Checks that a reason is one line of at most 200 characters: it goes to log, status and disk.
pub fn check_reason(reason: &str) -> Result<(), String> {
    match reason.chars().count() {
        0 => Err("the reason is empty; leave --reason out".to_owned()),
        1..=MAX_REASON if reason.chars().any(char::is_control) => {
            Err("the reason must be one line without control characters".to_owned())
        }
        1..=MAX_REASON => Ok(()),
        long => Err(format!(
            "the reason has {long} characters; the limit is {MAX_REASON}"
        )),
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Characters: enough for a sentence and a ticket number.
const MAX_REASON: usize = 200;
/// Two fsyncs take milliseconds; the command waits five seconds for an answer.
const DISK_TIMEOUT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;
