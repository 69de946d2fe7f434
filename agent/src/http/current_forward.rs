//! The place that one forward takes after another when the configuration changes.

use super::HttpForward;
use std::sync::{Arc, PoisonError, RwLock};

/// What the channels of a forward hold: each request is answered by the forward that has the seat when it comes, and to
/// its end by that one. So a new policy holds for the next request, also on a connection that the vendor keeps alive,
/// and no connection has to be closed for it. Clones are the same seat.
#[derive(Clone)]
pub struct CurrentForward(Arc<RwLock<Arc<HttpForward>>>);

impl From<Arc<HttpForward>> for CurrentForward {
    fn from(forward: Arc<HttpForward>) -> Self {
        Self(Arc::new(RwLock::new(forward)))
    }
}

impl CurrentForward {
    /// The forward that answers now.
    pub fn load(&self) -> Arc<HttpForward> {
        // A panic while this lock is held leaves a whole value behind.
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets another one answer from the next request on.
    pub fn replace(&self, successor: Arc<HttpForward>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = successor;
    }
}
