//! Several who tell one layer what they see.

use super::{ProofState, StatusLayer};
use std::sync::{Arc, Mutex, PoisonError};

/// One of those who tell a layer what they see: traffic, or a probe. Each words a failure in its own way; were each to
/// repeat itself, cause and log would go back and forth between the two for as long as the failure lasts.
#[derive(Debug)]
pub struct LayerReporter {
    layer: Arc<StatusLayer>,
    /// The last cause that this one has told.
    last_cause: Mutex<String>,
}

impl LayerReporter {
    /// A reporter that writes to `layer`.
    pub fn new(layer: Arc<StatusLayer>) -> Self {
        Self {
            layer,
            last_cause: Mutex::default(),
        }
    }

    /// Reports success; see [`StatusLayer::proven`].
    pub fn proven(&self, detail: Option<&str>) -> bool {
        self.layer.proven(detail)
    }

    /// Asks for a new probe; see [`StatusLayer::doubt`].
    pub fn doubt(&self) {
        self.layer.doubt();
    }

    /// What the layer says now, whoever told it.
    pub fn state(&self) -> ProofState {
        self.layer.state()
    }

    /// Whether it is proven now.
    pub fn is_proven(&self) -> bool {
        self.layer.is(ProofState::Proven)
    }

    /// See [`StatusLayer::failed`]. What this one has told already is left out while the state is still the same.
    pub fn failed(&self, state: ProofState, cause: &str, remedy: &str) -> bool {
        let mut told = self
            .last_cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if *told == cause && self.layer.is(state) {
            return false;
        }
        cause.clone_into(&mut told);
        self.layer.failed(state, cause, remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_who_word_a_failure_differently_do_not_take_turns() {
        let layer = Arc::new(StatusLayer::default());
        let (traffic, probe) = (
            LayerReporter::new(layer.clone()),
            LayerReporter::new(layer.clone()),
        );
        let cause = || layer.snapshot().cause;
        assert!(traffic.failed(ProofState::Degraded, "answers 503", "look at its log"));
        assert!(probe.failed(ProofState::Degraded, "in maintenance", "wait"));
        assert!(!traffic.failed(ProofState::Degraded, "answers 503", "look at its log"));
        assert!(!probe.failed(ProofState::Degraded, "in maintenance", "wait"));
        assert_eq!(cause().as_deref(), Some("in maintenance"));

        // Something else has happened, or the same once more.
        assert!(traffic.failed(ProofState::Failed, "refused", "start it"));
        assert!(traffic.proven(None));
        assert!(traffic.failed(ProofState::Failed, "refused", "start it"));
        assert_eq!(cause().as_deref(), Some("refused"));
    }

    #[test]
    fn another_cause_does_not_make_a_state_younger() {
        let layer = StatusLayer::default();
        layer.failed(ProofState::Failed, "refused", "");
        let since = layer.snapshot().changed_at;
        assert!(layer.failed(ProofState::Failed, "timed out", ""));
        assert_eq!(layer.snapshot().changed_at, since);
    }
}
