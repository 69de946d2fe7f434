//! What becomes of the forwards: asked for, held, let go of, and handed from one session to the next.

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
                // From here on the session that was there before is not needed for it.
                self.release_predecessors(id.slot, forward, actions);
            }
            // It was asked for before it was taken out of the configuration.
            Some(phase @ ForwardPhase::Releasing(ReleasePhase::Requested)) => {
                *phase = ForwardPhase::Releasing(ReleasePhase::Cancelling);
                actions.push(SupervisorAction::Cancel(id, forward));
            }
            _ => {}
        }
        // It was asked for before the session was left.
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
                // Where only one may listen, the session that was there before lets go first: at another gateway too,
                // which may be another way to the same machine.
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

    /// Makes the older sessions of a connection let go of a forward that they keep. Gives the last of them.
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

    /// A forward that a session on its way out held is free: its successor asks now, or else whoever
    /// stands by.
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

    /// Those that stand by for a forward of this gateway ask at once: its holder is gone.
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
