//! The forwards: requested, granted, released, and handed from one session to the next.

use super::{
    SessionId, StateMachine, SupervisorAction, backoff,
    slot::{ForwardPhase, ReleasePhase},
};
use std::time::Duration;

impl StateMachine {
    pub(super) fn on_granted(
        &mut self,
        id: SessionId,
        forward: usize,
        actions: &mut Vec<SupervisorAction>,
    ) {
        match self.forward_phase(id, forward) {
            Some(phase @ ForwardPhase::Requested { .. }) => {
                *phase = ForwardPhase::Granted;
                // The previous session need not hold it any more.
                self.release_predecessors(id.slot, forward, actions);
            }
            // It was requested before it was removed from the configuration.
            Some(phase @ ForwardPhase::Releasing(ReleasePhase::Requested)) => {
                *phase = ForwardPhase::Releasing(ReleasePhase::Cancelling);
                actions.push(SupervisorAction::Cancel(id, forward));
            }
            _ => {}
        }
        // It was requested before the session was replaced.
        if let Some(release) = self.release_phase(id, forward)
            && *release == ReleasePhase::Requested
        {
            *release = ReleasePhase::Cancelling;
            actions.push(SupervisorAction::Cancel(id, forward));
        }
    }

    pub(super) fn on_refused(
        &mut self,
        now: Duration,
        id: SessionId,
        forward: usize,
        jitter: f64,
        actions: &mut Vec<SupervisorAction>,
    ) {
        match self.forward_phase(id, forward).copied() {
            Some(ForwardPhase::Requested { refusals }) => {
                // If only one session may listen, the previous one releases the forward first. At another gateway too,
                // which may be another name of the same machine.
                let phase = match self.release_predecessors(id.slot, forward, actions) {
                    Some(from) => ForwardPhase::AwaitingRelease { from },
                    None => ForwardPhase::Refused {
                        retry_at: now + backoff::forward(refusals, jitter),
                        refusals: refusals.saturating_add(1),
                    },
                };
                if let Some(active) = self.active_session(id) {
                    active.forwards.insert(forward, phase);
                }
            }
            Some(ForwardPhase::Releasing(ReleasePhase::Requested)) => {
                self.remove_forward(id, forward)
            }
            _ => {}
        }
        if let Some(release) = self.release_phase(id, forward)
            && *release == ReleasePhase::Requested
        {
            *release = ReleasePhase::Released;
            self.release(now, id, forward);
        }
    }

    pub(super) fn on_cancelled(&mut self, now: Duration, id: SessionId, forward: usize) {
        if let Some(ForwardPhase::Releasing(ReleasePhase::Cancelling)) =
            self.forward_phase(id, forward)
        {
            self.remove_forward(id, forward);
        }
        if let Some(release) = self.release_phase(id, forward)
            && *release == ReleasePhase::Cancelling
        {
            *release = ReleasePhase::Released;
            self.release(now, id, forward);
        }
    }

    fn remove_forward(&mut self, id: SessionId, forward: usize) {
        if let Some(active) = self.active_session(id) {
            active.forwards.remove(&forward);
        }
    }

    /// Makes the older sessions of a connection release a forward that they retain. Returns the last of them.
    fn release_predecessors(
        &mut self,
        index: usize,
        forward: usize,
        actions: &mut Vec<SupervisorAction>,
    ) -> Option<u64> {
        let slot = self.slots.get_mut(index)?;
        let mut last = None;
        for draining in &mut slot.draining {
            if draining.forwards.get(&forward) == Some(&ReleasePhase::Retained) {
                draining.cancel_forwards(index, |f| f == forward, actions);
                last = Some(draining.generation);
            }
        }
        last
    }

    fn release(&mut self, now: Duration, id: SessionId, forward: usize) {
        if let Some(gateway) = self.draining_session(id).map(|draining| draining.gateway) {
            self.on_released(now, id, gateway, forward);
        }
    }

    /// A draining session has released a forward: its successor requests it now, or else the standby connections.
    pub(super) fn on_released(
        &mut self,
        now: Duration,
        id: SessionId,
        gateway: usize,
        forward: usize,
    ) {
        let from = id.generation;
        let successor = self.slots.get_mut(id.slot).and_then(|slot| {
            let phase = slot.current.as_mut()?.forwards.get_mut(&forward)?;
            (*phase == ForwardPhase::AwaitingRelease { from }).then_some(phase)
        });
        match successor {
            Some(phase) => *phase = ForwardPhase::Due { refusals: 0 },
            None => self.retry_now(now, gateway, forward),
        }
    }

    /// Standby connections request a forward of this gateway at once: its holder has ended.
    pub(super) fn retry_now(&mut self, now: Duration, gateway: usize, forward: usize) {
        let lives = self.slots.iter_mut().filter_map(|s| s.current.as_mut());
        for active in lives.filter(|active| active.gateway == gateway) {
            if let Some(phase @ ForwardPhase::Refused { .. }) = active.forwards.get_mut(&forward) {
                *phase = ForwardPhase::Refused {
                    retry_at: now,
                    refusals: 0,
                };
            }
        }
    }
}
