//! What becomes of the forwards: asked for, held, let go of, and handed from one session to the next.

use super::{
    backoff,
    slot::{ForwardPhase, ReleasePhase},
    step::{SessionId, StateMachine, SupervisorAction},
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
            Some(held @ ForwardPhase::Requested { .. }) => {
                *held = ForwardPhase::Granted;
                // From here on the session that was there before is not needed for it.
                self.release_predecessors(id.slot, forward, actions);
            }
            // It was asked for before it was taken out of the configuration.
            Some(held @ ForwardPhase::Releasing(ReleasePhase::Requested)) => {
                *held = ForwardPhase::Releasing(ReleasePhase::Cancelling);
                actions.push(SupervisorAction::Cancel(id, forward));
            }
            _ => {}
        }
        // It was asked for before the session was left.
        if let Some(farewell) = self.release_phase(id, forward)
            && *farewell == ReleasePhase::Requested
        {
            *farewell = ReleasePhase::Cancelling;
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
                let held = match self.release_predecessors(id.slot, forward, actions) {
                    Some(from) => ForwardPhase::AwaitingRelease { from },
                    None => ForwardPhase::Refused {
                        retry_at: now + backoff::forward(refusals, jitter),
                        refusals: refusals.saturating_add(1),
                    },
                };
                if let Some(live) = self.active_session(id) {
                    live.forwards.insert(forward, held);
                }
            }
            Some(ForwardPhase::Releasing(ReleasePhase::Requested)) => {
                self.remove_forward(id, forward)
            }
            _ => {}
        }
        if let Some(farewell) = self.release_phase(id, forward)
            && *farewell == ReleasePhase::Requested
        {
            *farewell = ReleasePhase::Released;
            self.release(now, id, forward);
        }
    }

    pub(super) fn on_cancelled(&mut self, now: Duration, id: SessionId, forward: usize) {
        if let Some(ForwardPhase::Releasing(ReleasePhase::Cancelling)) =
            self.forward_phase(id, forward)
        {
            self.remove_forward(id, forward);
        }
        if let Some(farewell) = self.release_phase(id, forward)
            && *farewell == ReleasePhase::Cancelling
        {
            *farewell = ReleasePhase::Released;
            self.release(now, id, forward);
        }
    }

    fn remove_forward(&mut self, id: SessionId, forward: usize) {
        if let Some(live) = self.active_session(id) {
            live.forwards.remove(&forward);
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
        for leaving in &mut slot.draining {
            if leaving.forwards.get(&forward) == Some(&ReleasePhase::Retained) {
                leaving.cancel_forwards(index, |f| f == forward, actions);
                last = Some(leaving.generation);
            }
        }
        last
    }

    fn release(&mut self, now: Duration, id: SessionId, forward: usize) {
        if let Some(gateway) = self.draining_session(id).map(|leaving| leaving.gateway) {
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
            let held = slot.current.as_mut()?.forwards.get_mut(&forward)?;
            (*held == ForwardPhase::AwaitingRelease { from }).then_some(held)
        });
        match successor {
            Some(held) => *held = ForwardPhase::Due { refusals: 0 },
            None => self.retry_now(now, gateway, forward),
        }
    }

    /// Those that stand by for a forward of this gateway ask at once: its holder is gone.
    pub(super) fn retry_now(&mut self, now: Duration, gateway: usize, forward: usize) {
        let lives = self.slots.iter_mut().filter_map(|s| s.current.as_mut());
        for live in lives.filter(|live| live.gateway == gateway) {
            if let Some(held @ ForwardPhase::Refused { .. }) = live.forwards.get_mut(&forward) {
                *held = ForwardPhase::Refused {
                    retry_at: now,
                    refusals: 0,
                };
            }
        }
    }
}
