//! Waiting for an agent that has just left: a restart, an upgrade or a new session takes less than a second, and nothing of
//! the request was sent.

use super::{AgentName, GatewayState};
use std::sync::Arc;
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    time::{Instant, sleep_until},
};

/// The wait of one request or raw connection. Make it before the first attempt, so that no change is missed.
pub(crate) struct ReconnectWait {
    shared: Arc<GatewayState>,
    agent: AgentName,
    changes: watch::Receiver<()>,
    /// Since it waits: until when, and its place among those that wait.
    waiting: Option<(Instant, OwnedSemaphorePermit)>,
}

impl ReconnectWait {
    pub(crate) fn new(shared: &Arc<GatewayState>, agent: AgentName) -> Self {
        Self {
            shared: Arc::clone(shared),
            agent,
            changes: shared.registry.changes(),
            waiting: None,
        }
    }

    /// After an attempt that sent nothing: waits for a change. False: the agent has not left lately, it has not come back in
    /// time, or too many wait already.
    pub(crate) async fn again(&mut self) -> bool {
        let until = match &self.waiting {
            Some((until, _)) => *until,
            None => {
                let wait = self.shared.settings.limits.reconnect_wait;
                if !self.shared.registry.has_left_within(&self.agent, wait) {
                    return false;
                }
                let places = Arc::clone(&self.shared.reconnect_places);
                let Ok(place) = places.try_acquire_owned() else {
                    return false;
                };
                let until = Instant::now() + wait;
                self.waiting = Some((until, place));
                until
            }
        };
        tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => false,
            () = sleep_until(until) => false,
            changed = self.changes.changed() => changed.is_ok(),
        }
    }
}
