//! A session that answers, for requests that go out through it.

use super::session_liveness::SessionLiveness;
use crate::tunnel::session::Session;
use std::{sync::Arc, time::Instant};

/// An open session of which no answer was missing when it was looked up.
#[derive(Clone)]
pub struct LivingSession {
    /// The session.
    pub session: Session,
    pub(super) liveness: Arc<SessionLiveness>,
}

impl LivingSession {
    /// Whether an answer of its gateway is missing now.
    pub fn is_suspect(&self) -> bool {
        self.liveness.verdict(Instant::now()).is_suspect()
    }
}
