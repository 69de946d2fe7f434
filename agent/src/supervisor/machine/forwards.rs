//! The forwards: requested, granted, released, and handed from one session to the next.

use super::{
    PlaceLoss, SessionId, StateMachine, SupervisorAction, backoff,
    places::PlaceShortage,
    slot::{ForwardPhase, ReleasePhase, RepeatedRequests},
};
use std::time::Duration;

impl StateMachine {
    /// Requests the forwards of a connection that are due, each at a place of its own if its bind names the slot.
    pub(super) fn request_due(
        &mut self,
        now: Duration,
        index: usize,
        jitter: f64,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let Some(slot) = self.slots.get(index) else {
            return;
        };
        let Some(active) = &slot.current else {
            return;
        };
        let gateway = active.gateway;
        let id = SessionId {
            slot: index,
            generation: active.generation,
        };
        for (forward, refusals) in slot.due_forwards(now) {
            let phase = match self.places.take(now, id, gateway, forward) {
                Ok(place) => {
                    actions.push(SupervisorAction::Request(id, forward, place));
                    ForwardPhase::Requested { refusals }
                }
                Err(PlaceShortage::AllTaken) => {
                    self.refused_phase(now, id, forward, refusals, jitter, actions)
                }
                Err(PlaceShortage::JustRefused) => wait_to_request(now, refusals, jitter),
            };
            if let Some(active) = self.active_session(id) {
                active.forwards.insert(forward, phase);
            }
        }
    }

    /// Frees the slot numbers of sessions that neither hold nor request the forward any more.
    pub(super) fn free_places(&mut self) {
        let slots = &self.slots;
        self.places.retain(|id, forward| {
            let Some(slot) = slots.get(id.slot) else {
                return false;
            };
            let current = slot.current.as_ref();
            let current = current.filter(|active| active.generation == id.generation);
            let phase = current.and_then(|active| active.forwards.get(&forward));
            let draining = slot.draining.iter();
            let mut draining = draining.filter(|left| left.generation == id.generation);
            let release = draining.find_map(|left| left.forwards.get(&forward));
            phase.is_some_and(ForwardPhase::may_listen)
                || release.is_some_and(|release| *release != ReleasePhase::Released)
        });
    }

    /// The phase of a forward that cannot be bound now. If only one session may listen, the previous one releases the
    /// forward first. At another gateway too, which may be another name of the same machine.
    fn refused_phase(
        &mut self,
        now: Duration,
        id: SessionId,
        forward: usize,
        refusals: u32,
        jitter: f64,
        actions: &mut Vec<SupervisorAction>,
    ) -> ForwardPhase {
        match self.release_predecessors(id.slot, forward, actions) {
            Some(from) => ForwardPhase::AwaitingRelease { from },
            None => wait_to_request(now, refusals, jitter),
        }
    }

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
                let gateway = self.active_session(id).map(|active| active.gateway);
                let gateway = gateway.unwrap_or_default();
                // Another place is asked for at once: the wait is for a place that all need.
                let phase = match self.places.refuse(now, id, gateway, forward) {
                    true => ForwardPhase::Due { refusals },
                    false => self.refused_phase(now, id, forward, refusals, jitter, actions),
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
            // It held nothing, so that other connections gain nothing from asking now.
            self.resume_successor(id, forward);
        }
    }

    pub(super) fn on_cancelled(&mut self, now: Duration, id: SessionId, forward: usize) {
        if let Some(ForwardPhase::Releasing(ReleasePhase::Cancelling)) =
            self.forward_phase(id, forward)
        {
            self.remove_forward(id, forward);
            // Its place was lost: it is requested again.
            if self.forwards.contains(&forward) {
                let phase = match self.releasing_predecessor(id, forward) {
                    Some(from) => ForwardPhase::AwaitingRelease { from },
                    None => ForwardPhase::Due { refusals: 0 },
                };
                if let Some(active) = self.active_session(id) {
                    active.forwards.insert(forward, phase);
                }
            }
        }
        if let Some(release) = self.release_phase(id, forward)
            && *release == ReleasePhase::Cancelling
        {
            *release = ReleasePhase::Released;
            self.release(now, id, forward);
        }
    }

    /// Releases a granted forward whose place is lost, and requests it again, at another place if its bind names the slot.
    /// More and more rarely if that does not help. A place that another agent has is left to it, and one that serves by half
    /// keeps serving: only a forward with another slot moves there.
    pub(super) fn on_place_lost(
        &mut self,
        now: Duration,
        id: SessionId,
        forward: usize,
        loss: PlaceLoss,
        actions: &mut Vec<SupervisorAction>,
    ) {
        if !self.forwards.contains(&forward)
            || self.forward_phase(id, forward).copied() != Some(ForwardPhase::Granted)
        {
            return;
        }
        let Some(active) = self.active_session(id) else {
            return;
        };
        let gateway = active.gateway;
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        let is_recent = |repeats: &RepeatedRequests| {
            now.saturating_sub(repeats.last) < backoff::REPEATS_FORGOTTEN
        };
        slot.repeats.retain(|_, repeats| is_recent(repeats));
        let repeats = slot.repeats.get(&(gateway, forward)).copied();
        let mut repeats = repeats.unwrap_or_default();
        let since = now.saturating_sub(repeats.last);
        if repeats.count > 0 && since < backoff::repeat(repeats.count) {
            return;
        }
        let can_move =
            self.places.is_slotted(forward) && self.places.has_free(now, gateway, forward);
        if loss != PlaceLoss::Gone && !can_move {
            return;
        }
        self.places.avoid(now, id, gateway, forward);
        repeats.count = repeats.count.saturating_add(1);
        repeats.last = now;
        if let Some(slot) = self.slots.get_mut(id.slot) {
            slot.repeats.insert((gateway, forward), repeats);
        }
        if let Some(active) = self.active_session(id) {
            let releasing = ForwardPhase::Releasing(ReleasePhase::Cancelling);
            active.forwards.insert(forward, releasing);
            actions.push(SupervisorAction::Cancel(id, forward));
        }
    }

    /// The older session of this connection that releases the same place, if there is one.
    fn releasing_predecessor(&self, id: SessionId, forward: usize) -> Option<u64> {
        if self.places.is_slotted(forward) {
            return None;
        }
        let slot = self.slots.get(id.slot)?;
        let gateway = slot.current.as_ref()?.gateway;
        let mut elders = slot.draining.iter().filter(|l| l.gateway == gateway);
        let elder = elders.rfind(|l| {
            let release = l.forwards.get(&forward);
            matches!(
                release,
                Some(ReleasePhase::Requested | ReleasePhase::Cancelling)
            )
        });
        elder.map(|elder| elder.generation)
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
        if !self.resume_successor(id, forward) {
            self.retry_now(now, gateway, forward);
        }
    }

    /// Returns whether the successor of this session has waited for the forward; it requests it now.
    fn resume_successor(&mut self, id: SessionId, forward: usize) -> bool {
        let from = id.generation;
        let slot = self.slots.get_mut(id.slot);
        let active = slot.and_then(|slot| slot.current.as_mut());
        let phase = active.and_then(|active| active.forwards.get_mut(&forward));
        let waiting = phase.filter(|phase| **phase == ForwardPhase::AwaitingRelease { from });
        let Some(phase) = waiting else {
            return false;
        };
        *phase = ForwardPhase::Due { refusals: 0 };
        true
    }

    /// All refused forwards are requested at once: another process has released what it held.
    pub(super) fn retry_all_now(&mut self, now: Duration) {
        let lives = self.slots.iter_mut().filter_map(|s| s.current.as_mut());
        for phase in lives.flat_map(|active| active.forwards.values_mut()) {
            if let ForwardPhase::Refused { .. } = phase {
                *phase = ForwardPhase::Refused {
                    retry_at: now,
                    refusals: 0,
                };
            }
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

fn wait_to_request(now: Duration, refusals: u32, jitter: f64) -> ForwardPhase {
    ForwardPhase::Refused {
        retry_at: now + backoff::forward(refusals, jitter),
        refusals: refusals.saturating_add(1),
    }
}
