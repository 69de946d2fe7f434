//! When the state machine dials, and where: retries, barred gateways, replacement of sessions.

use super::{
    STABLE, SessionId, StateMachine, SupervisorAction, backoff,
    slot::{ConnectionSlot, DialState, ForwardPhase},
};
use std::time::Duration;

impl StateMachine {
    /// Schedules the slot's next attempt; in a drain there is none.
    pub(super) fn wait(&mut self, now: Duration, index: usize, jitter: f64) {
        let wanted = |slot: &&ConnectionSlot| !self.draining && !slot.retired;
        let Some(slot) = self.slots.get(index).filter(wanted) else {
            return;
        };
        let until = now + backoff::reconnect(slot.attempt, jitter);
        self.dial_at(index, until);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.attempt = slot.attempt.saturating_add(1);
        }
    }

    /// Dials at once, because the configuration has changed and no gateway has failed.
    pub(super) fn dial_now(&mut self, now: Duration, index: usize) {
        let wanted = |slot: &ConnectionSlot| !self.draining && !slot.retired;
        if self.slots.get(index).is_some_and(wanted) {
            self.dial_at(index, now);
        }
    }

    /// A serving session stays, and is replaced when its turn comes.
    fn dial_at(&mut self, index: usize, until: Duration) {
        let (gateway, open) = self.choose(index, until);
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.dial = match &mut slot.current {
            Some(active) => {
                active.retry_at = Some(until);
                DialState::Idle
            }
            None => DialState::Waiting {
                until: open,
                gateway,
            },
        };
    }

    /// The gateway to dial at `at`, or later if all are barred. A replacement stays at the gateway of the old session unless
    /// that must move. Otherwise the slot's own gateway is first, and after each failure the next one.
    pub(super) fn choose(&self, index: usize, at: Duration) -> (usize, Duration) {
        self.choose_where(index, at, |_| false)
    }

    /// As [`choose`](Self::choose), but a `postponed` gateway is not dialed before the longest wait has passed.
    fn choose_where(
        &self,
        index: usize,
        at: Duration,
        postponed: impl Fn(usize) -> bool,
    ) -> (usize, Duration) {
        let Some(slot) = self.slots.get(index) else {
            return (0, at);
        };
        let open_at = |gateway: usize| {
            let barred = self.barred.get(&gateway).copied().unwrap_or_default();
            match postponed(gateway) {
                true => barred.max(at + backoff::CEILING),
                false => barred,
            }
        };
        if let Some(active) = slot.current.as_ref().filter(|active| !active.relocate) {
            return (active.gateway, at.max(open_at(active.gateway)));
        }
        let first = slot.home.wrapping_add(slot.rotation);
        let order = self.gateways.iter().cycle();
        let order = order.skip(first % self.gateways.len().max(1));
        let order = order.take(self.gateways.len()).copied();
        // `min_by_key` returns the first of equals: the order decides among open gateways.
        let best = order.min_by_key(|g| open_at(*g).max(at));
        let gateway = best.unwrap_or_default();
        (gateway, at.max(open_at(gateway)))
    }

    /// Whether another connection tries a gateway that refused the last login: failed logins are counted there
    /// (fail2ban, PerSourcePenalties), and one is enough to learn whether the next would succeed.
    fn is_tried_elsewhere(&self, index: usize, wanted: usize) -> bool {
        let mut others = self
            .slots
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != index);
        self.refusing.contains(&wanted)
            && others.any(|(_, slot)| {
                matches!(slot.dial, DialState::Dialing { gateway, stale: false, .. } if gateway == wanted)
            })
    }

    /// A gateway that refused logins accepts them again: connections that wait for it dial at once.
    pub(super) fn retry_waiting(&mut self, now: Duration, opened: usize) {
        let barred = self.barred.get(&opened).copied().unwrap_or_default();
        for slot in &mut self.slots {
            if let DialState::Waiting { until, gateway } = &mut slot.dial
                && *gateway == opened
            {
                *until = now.max(barred);
            }
        }
    }

    /// Whether a session has served: it, or another connection, holds each forward.
    pub(super) fn has_served(&self, id: SessionId) -> bool {
        let slot = self.slots.get(id.slot);
        let Some(active) = slot.and_then(|slot| slot.current.as_ref()) else {
            return false;
        };
        let has = |(forward, phase): (&usize, &ForwardPhase)| match phase {
            ForwardPhase::Granted
            | ForwardPhase::AwaitingRelease { .. }
            | ForwardPhase::Releasing(_) => true,
            ForwardPhase::Due { .. }
            | ForwardPhase::Requested { .. }
            | ForwardPhase::Refused { .. } => self.is_held_by_any(active.gateway, *forward),
        };
        active.generation == id.generation && active.forwards.iter().all(has)
    }

    /// Replaces sessions that are near their limits or old, one at a time, so that the others carry the load.
    pub(super) fn replace_one(&mut self, now: Duration) {
        for slot in &mut self.slots {
            if let Some(active) = &mut slot.current
                && now.saturating_sub(active.since) >= MAX_AGE
            {
                active.needs_replacement = true;
            }
        }
        let Some((due, index)) = self.next_replacement().filter(|(due, _)| *due <= now) else {
            return;
        };
        let (gateway, _) = self.choose(index, due);
        if let Some(slot) = self.slots.get_mut(index)
            && let Some(active) = &slot.current
        {
            let first = active.retry_at.is_none();
            if first && now.saturating_sub(active.since) >= STABLE {
                slot.attempt = 0;
            }
            slot.dial = DialState::Waiting {
                until: now,
                gateway,
            };
        }
    }

    /// When the next session is to be replaced, and of which connection; none while another one is.
    pub(super) fn next_replacement(&self) -> Option<(Duration, usize)> {
        if self.slots.iter().any(ConnectionSlot::is_being_replaced) {
            return None;
        }
        let slots = self.slots.iter().enumerate();
        let waiting = slots.filter(|(_, slot)| slot.awaits_replacement());
        let due = waiting.map(|(index, slot)| {
            let retry_at = slot.current.as_ref().and_then(|active| active.retry_at);
            let (_, due) = self.choose(index, retry_at.unwrap_or_default());
            (due, index)
        });
        due.min()
    }

    pub(super) fn dial_if_due(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let due = match self.slots.get(index).map(|slot| &slot.dial) {
            Some(DialState::Waiting { until, .. }) => *until <= now,
            _ => false,
        };
        if !due {
            return;
        }
        // The gateway may have been barred since, or another one opened.
        let serves = self
            .slots
            .get(index)
            .is_some_and(|slot| slot.current.is_some());
        let postponed = |gateway| !serves && self.is_tried_elsewhere(index, gateway);
        let (gateway, until) = self.choose_where(index, now, postponed);
        let generation = self.generations + 1;
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if until > now {
            slot.dial = DialState::Waiting { until, gateway };
            return;
        }
        self.generations = generation;
        slot.dial = DialState::Dialing {
            generation,
            gateway,
            stale: false,
        };
        actions.push(SupervisorAction::Dial(
            SessionId {
                slot: index,
                generation,
            },
            gateway,
        ));
    }
}

/// Maximum age of a session. Its replacement also proves once a day that a login works.
pub(super) const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
