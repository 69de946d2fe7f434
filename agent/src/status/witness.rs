//! Several who tell one layer what they see.

use super::{Layer, State};
use std::sync::{Arc, Mutex, PoisonError};

/// One of those who tell a layer what they see: traffic, or a probe. Each words a failure in its own way; were each to
/// repeat itself, cause and log would go back and forth between the two for as long as the failure lasts.
#[derive(Debug)]
pub struct Witness {
    layer: Arc<Layer>,
    /// The last cause that this one has told.
    told: Mutex<String>,
}

impl Witness {
    /// Tells `layer`.
    pub fn new(layer: Arc<Layer>) -> Self {
        Self {
            layer,
            told: Mutex::default(),
        }
    }

    /// See [`Layer::proven`].
    pub fn proven(&self, detail: Option<&str>) -> bool {
        self.layer.proven(detail)
    }

    /// See [`Layer::doubt`].
    pub fn doubt(&self) {
        self.layer.doubt();
    }

    /// What the layer says now, whoever told it.
    pub fn state(&self) -> State {
        self.layer.state()
    }

    /// Whether it is proven now.
    pub fn is_proven(&self) -> bool {
        self.layer.is(State::Proven)
    }

    /// See [`Layer::failed`]. What this one has told already is left out while the state is still the same.
    pub fn failed(&self, state: State, cause: &str, remedy: &str) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
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
        let layer = Arc::new(Layer::default());
        let (traffic, probe) = (Witness::new(layer.clone()), Witness::new(layer.clone()));
        let cause = || layer.snapshot().cause;
        assert!(traffic.failed(State::Degraded, "answers 503", "look at its log"));
        assert!(probe.failed(State::Degraded, "in maintenance", "wait"));
        assert!(!traffic.failed(State::Degraded, "answers 503", "look at its log"));
        assert!(!probe.failed(State::Degraded, "in maintenance", "wait"));
        assert_eq!(cause().as_deref(), Some("in maintenance"));

        // Something else has happened, or the same once more.
        assert!(traffic.failed(State::Failed, "refused", "start it"));
        assert!(traffic.proven(None));
        assert!(traffic.failed(State::Failed, "refused", "start it"));
        assert_eq!(cause().as_deref(), Some("refused"));
    }

    #[test]
    fn another_cause_does_not_make_a_state_younger() {
        let layer = Layer::default();
        layer.failed(State::Failed, "refused", "");
        let since = layer.snapshot().changed_at;
        assert!(layer.failed(State::Failed, "timed out", ""));
        assert_eq!(layer.snapshot().changed_at, since);
    }
}
