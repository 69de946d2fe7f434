//! One of several sources that report to the same layer.

use super::{ProofState, StatusLayer};
use parking_lot::Mutex;
use std::{borrow::Cow, sync::Arc};

/// One source that reports to a layer: traffic, or a probe. Each words a failure in its own way; if each repeated itself,
/// cause and log would alternate between the two while the failure lasts.
#[derive(Debug)]
pub struct LayerReporter {
    layer: Arc<StatusLayer>,
    /// The last cause that this source reported.
    last_cause: Mutex<String>,
}

impl LayerReporter {
    /// A source that reports to `layer` and has reported nothing yet.
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

    /// A sentence about Jira as one about the tool of the layer.
    pub fn reword<'a>(&self, text: &'a str) -> Cow<'a, str> {
        self.layer.reword(text)
    }

    /// Asks for a new probe; see [`StatusLayer::doubt`].
    pub fn doubt(&self) {
        self.layer.doubt();
    }

    /// The layer's current state, whoever reported it.
    pub fn state(&self) -> ProofState {
        self.layer.state()
    }

    /// Whether the layer is proven, whoever reported it.
    pub fn is_proven(&self) -> bool {
        self.layer.is(ProofState::Proven)
    }

    /// Reports a failure; see [`StatusLayer::failed`]. Ignores a repetition while the state is still the same.
    pub fn failed(&self, state: ProofState, cause: &str, remedy: &str) -> bool {
        let mut last_cause = self.last_cause.lock();
        if *last_cause == cause && self.layer.is(state) {
            return false;
        }
        cause.clone_into(&mut last_cause);
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
