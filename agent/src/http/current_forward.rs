//! The forward that answers now: a reload replaces it.

use super::HttpForward;
use parking_lot::RwLock;
use std::sync::Arc;

/// Held by the channels of a forward. Each request is answered to its end by the forward that is current when it arrives.
/// So a new policy applies to the next request, also on a connection that the vendor keeps alive, and no connection has to
/// be closed for it. Clones share the current forward.
#[derive(Clone)]
pub struct CurrentForward(Arc<RwLock<Arc<HttpForward>>>);

impl From<Arc<HttpForward>> for CurrentForward {
    fn from(forward: Arc<HttpForward>) -> Self {
        Self(Arc::new(RwLock::new(forward)))
    }
}

impl CurrentForward {
    /// The forward that answers requests arriving now.
    pub fn load(&self) -> Arc<HttpForward> {
        // A panic while this lock is held leaves a whole value behind.
        Arc::clone(&self.0.read())
    }

    /// Makes another forward answer from the next request on.
    pub fn replace(&self, successor: Arc<HttpForward>) {
        *self.0.write() = successor;
    }
}
