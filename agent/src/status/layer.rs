//! One layer of the status: proven or not, since when, and what to do about it.

use crate::profile::ServiceProfile;
use parking_lot::Mutex;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

/// State of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProofState {
    /// Not tried yet, or the earlier proof no longer counts.
    Unknown,
    /// The other side replied.
    Proven,
    /// Works, but not as it should.
    Degraded,
    /// The layer does not work.
    Failed,
}

/// The content of a layer at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSnapshot {
    /// State of the layer at that moment.
    pub state: ProofState,
    /// When the other side last replied.
    pub proven_at: Option<Instant>,
    /// When the state last changed.
    pub changed_at: Option<Instant>,
    /// What was seen, one line: the user that Jira reports, the round-trip time.
    pub detail: Option<String>,
    /// Why it is not proven.
    pub cause: Option<String>,
    /// What an administrator should do about it.
    pub remedy: Option<String>,
}

/// The state of one layer: rooms on the data path write it without waiting, and status reads it.
#[derive(Debug, Default)]
pub struct StatusLayer {
    /// `None` for a connection, or in a test.
    forward: Option<Arc<str>>,
    /// What the sentences are about; `None`: Jira.
    profile: Option<Arc<ServiceProfile>>,
    snapshot: Mutex<LayerSnapshot>,
    /// Something answered that may not be the other side: probe again.
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
    /// A layer of this forward, whose name its log lines carry.
    pub fn of_forward(name: &Arc<str>) -> Self {
        Self {
            forward: Some(Arc::clone(name)),
            ..Self::default()
        }
    }

    /// The same layer, with sentences about the tool of this profile.
    pub fn about(self, profile: &Arc<ServiceProfile>) -> Self {
        Self {
            profile: (!profile.is_jira()).then(|| Arc::clone(profile)),
            ..self
        }
    }

    /// A sentence about Jira as one about the tool of the layer.
    pub fn reword<'a>(&self, text: &'a str) -> Cow<'a, str> {
        match &self.profile {
            Some(profile) => profile.reword(text),
            None => Cow::Borrowed(text),
        }
    }

    /// Name of the layer's forward; `None` for a connection.
    pub fn forward(&self) -> Option<&str> {
        self.forward.as_deref()
    }

    /// The other side has just replied. Returns whether the state changed, so that the caller logs it once.
    pub fn proven(&self, detail: Option<&str>) -> bool {
        let now = Instant::now();
        let detail = detail.map(|detail| self.reword(detail));
        let detail = detail.as_deref();
        let mut snapshot = self.snapshot.lock();
        snapshot.proven_at = Some(now);
        if snapshot.detail.as_deref() != detail && detail.is_some() {
            snapshot.detail = detail.map(str::to_owned);
        }
        let changed = snapshot.state != ProofState::Proven;
        if changed {
            snapshot.state = ProofState::Proven;
            snapshot.changed_at = Some(now);
            snapshot.cause = None;
            snapshot.remedy = None;
        }
        changed
    }

    /// It fails, or does not work as it should. Returns whether state or cause changed, so that the caller logs it once.
    pub fn failed(&self, state: ProofState, cause: &str, remedy: &str) -> bool {
        let (cause, remedy) = (self.reword(cause), self.reword(remedy));
        let (cause, remedy) = (&*cause, &*remedy);
        let mut snapshot = self.snapshot.lock();
        let changed = snapshot.state != state || snapshot.cause.as_deref() != Some(cause);
        if snapshot.state != state {
            snapshot.state = state;
            snapshot.changed_at = Some(Instant::now());
        }
        if changed {
            snapshot.cause = Some(cause.to_owned());
            snapshot.remedy = Some(remedy.to_owned());
        }
        changed
    }

    /// The earlier proof no longer counts, or no attempt was possible: neither works nor fails. Returns whether state or
    /// cause changed.
    pub fn unknown(&self, cause: &str, remedy: &str) -> bool {
        let changed = self.failed(ProofState::Unknown, cause, remedy);
        self.snapshot.lock().proven_at = None;
        changed
    }

    /// Asks for a probe soon, since what answered a request may not be the other side. The state does not change.
    pub fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    /// Whether it was [doubted](Self::doubt) and that has not been [taken](Self::take_doubt) yet.
    pub fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// Whether it was [doubted](Self::doubt) since the last call; clears the doubt.
    pub fn take_doubt(&self) -> bool {
        self.doubted.swap(false, Ordering::Relaxed)
    }

    /// Whether the layer is in this state.
    pub(super) fn is(&self, state: ProofState) -> bool {
        self.snapshot.lock().state == state
    }

    /// The current state, without cause and detail.
    pub(super) fn state(&self) -> ProofState {
        self.snapshot.lock().state
    }

    /// A copy of the layer's content.
    pub fn snapshot(&self) -> LayerSnapshot {
        self.snapshot.lock().clone()
    }
}
