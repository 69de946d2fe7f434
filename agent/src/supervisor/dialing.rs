//! When the state machine dials, and where: retries, barred gateways, replacement of worn sessions.

use super::{
    backoff,
    slot::{Dial, Slot},
    step::{Action, Id, Machine, STABLE},
};
use std::time::Duration;

impl Machine {
    /// Puts the slot to sleep before its next attempt; in a drain there is none.
    pub(super) fn wait(&mut self, now: Duration, index: usize, jitter: f64) {
        let wanted = |slot: &&Slot| !self.draining && !slot.retired;
        let Some(slot) = self.slots.get(index).filter(wanted) else {
            return;
        };
        let until = now + backoff::reconnect(slot.attempt, jitter);
        let (gateway, until) = self.choose(index, until);
        if let Some(slot) = self.slots.get_mut(index) {
            slot.attempt = slot.attempt.saturating_add(1);
            slot.dial = Dial::Waiting { until, gateway };
        }
    }

    /// The gateway to dial at `at`, or later if all are barred. A replacement stays where the old session
    /// is, unless that has to move; otherwise it is the slot's own gateway first, and the next after each failure.
    pub(super) fn choose(&self, index: usize, at: Duration) -> (usize, Duration) {
        let Some(slot) = self.slots.get(index) else {
            return (0, at);
        };
        let open_at = |gateway: usize| self.barred.get(&gateway).copied().unwrap_or_default();
        if let Some(live) = slot.current.as_ref().filter(|live| !live.moves) {
            return (live.gateway, at.max(open_at(live.gateway)));
        }
        let first = slot.home.wrapping_add(slot.rotation);
        let order = self.gateways.iter().cycle();
        let order = order.skip(first % self.gateways.len().max(1));
        let order = order.take(self.gateways.len()).copied();
        // `min_by_key` keeps the first of equals: the order decides among those that are open.
        let best = order.min_by_key(|g| open_at(*g).max(at));
        let gateway = best.unwrap_or_default();
        (gateway, at.max(open_at(gateway)))
    }

    /// Replaces sessions that are worn or old, one at a time, so that the others carry the load.
    pub(super) fn replace_one(&mut self, now: Duration) {
        for slot in &mut self.slots {
            if let Some(live) = &mut slot.current
                && now.saturating_sub(live.since) >= MAX_AGE
            {
                live.worn = true;
            }
        }
        if self.slots.iter().any(Slot::is_being_replaced) {
            return;
        }
        let worn = |slot: &&mut Slot| {
            !slot.retired
                && slot.leaving.len() < MAX_LEAVING
                && slot.current.as_ref().is_some_and(|live| live.worn)
        };
        if let Some(slot) = self.slots.iter_mut().find(worn)
            && let Some(live) = &slot.current
        {
            if now.saturating_sub(live.since) >= STABLE {
                slot.attempt = 0;
            }
            slot.dial = Dial::Waiting {
                until: now,
                gateway: live.gateway,
            };
        }
    }

    pub(super) fn dial_if_due(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        let due = match self.slots.get(index).map(|slot| &slot.dial) {
            Some(Dial::Waiting { until, .. }) => *until <= now,
            _ => false,
        };
        if !due {
            return;
        }
        // The gateway may have been barred since, or another one opened.
        let (gateway, until) = self.choose(index, now);
        let generation = self.generations + 1;
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if until > now {
            slot.dial = Dial::Waiting { until, gateway };
            return;
        }
        self.generations = generation;
        slot.dial = Dial::Dialing {
            generation,
            gateway,
            stale: false,
        };
        actions.push(Action::Dial(
            Id {
                slot: index,
                generation,
            },
            gateway,
        ));
    }
}

/// Sessions of one connection that still finish what is under way; meanwhile it is not replaced again.
pub(super) const MAX_LEAVING: usize = 4;
/// A session is replaced after this, which also proves once a day that a login still works.
pub(super) const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
