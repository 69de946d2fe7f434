//! One layer of the status: proven or not, since when, and what to do about it.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// State of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProofState {
    /// Not tried yet, or what was proven counts no more.
    Unknown,
    /// The other side replied.
    Proven,
    /// Works, but not as it should.
    Degraded,
    /// The layer does not work.
    Failed,
}

/// What a layer says at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSnapshot {
    /// State of the layer at that moment.
    pub state: ProofState,
    /// When the other side last replied.
    pub proven_at: Option<Instant>,
    /// When the state last changed.
    pub changed_at: Option<Instant>,
    /// What was seen, one line: the user Jira names, the round-trip time.
    pub detail: Option<String>,
    /// Why it is not proven.
    pub cause: Option<String>,
    /// What an administrator does about it.
    pub remedy: Option<String>,
}

/// A cell that a room on the path writes without waiting and status reads.
#[derive(Debug, Default)]
pub struct StatusLayer {
    /// None: of a connection, or in a test.
    forward: Option<Arc<str>>,
    cell: Mutex<LayerSnapshot>,
    /// Something answered that may not be the other side: look again.
    doubted: AtomicBool,
}

impl Default for LayerSnapshot {
    fn default() -> Self {
        Self {
            state: ProofState::Unknown,
            proven_at: None,
            changed_at: None,
            detail: None,
            cause: None,
            remedy: None,
        }
    }
}

impl StatusLayer {
    /// A layer of this forward's, by whose name log lines are told apart.
    pub fn of_forward(name: &Arc<str>) -> Self {
        Self {
            forward: Some(Arc::clone(name)),
            ..Self::default()
        }
    }

    /// Name of the forward whose layer it is.
    pub fn forward(&self) -> Option<&str> {
        self.forward.as_deref()
    }

    /// The other side has just replied. Returns whether the state changed, so that the caller logs it once.
    pub fn proven(&self, detail: Option<&str>) -> bool {
        let now = Instant::now();
        let mut cell = self.lock();
        cell.proven_at = Some(now);
        if cell.detail.as_deref() != detail && detail.is_some() {
            cell.detail = detail.map(str::to_owned);
        }
        let changed = cell.state != ProofState::Proven;
        if changed {
            cell.state = ProofState::Proven;
            cell.changed_at = Some(now);
            cell.cause = None;
            cell.remedy = None;
        }
        changed
    }

    /// It does not work, or not as it should. Returns whether state or cause changed.
    pub fn failed(&self, state: ProofState, cause: &str, remedy: &str) -> bool {
        let mut cell = self.lock();
        let changed = cell.state != state || cell.cause.as_deref() != Some(cause);
        if cell.state != state {
            cell.state = state;
            cell.changed_at = Some(Instant::now());
        }
        if changed {
            cell.cause = Some(cause.to_owned());
            cell.remedy = Some(remedy.to_owned());
        }
        changed
    }

    /// What was proven counts no more, or could not be tried: neither works nor fails. Returns whether state or
    /// cause changed.
    pub fn unknown(&self, cause: &str, remedy: &str) -> bool {
        let changed = self.failed(ProofState::Unknown, cause, remedy);
        self.lock().proven_at = None;
        changed
    }

    /// Whoever probes it is to look soon: what a request met may not be the other side. The state stays.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether it has been [doubted](Self::doubt), and nobody has [looked](Self::take_doubt) since.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Whether it has been [doubted](Self::doubt) since this was last asked.
    pub fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Ordering::Relaxed)
    }

    /// Whether it is in this state.
    pub(super) fn is(&self, state: ProofState) -> bool {
        self.lock().state == state
    }

    /// The state alone.
    pub(super) fn state(&self) -> ProofState {
        self.lock().state
    }

    /// What the layer says now.
    pub fn snapshot(&self) -> LayerSnapshot {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, LayerSnapshot> {
        // A panic while this lock is held leaves a whole snapshot behind: every write is a plain assignment.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
