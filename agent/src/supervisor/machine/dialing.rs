//! When the state machine dials, and where: gateways raced, failed and barred ones, the way back to the home gateway,
//! replacement of sessions.

use super::{
    SessionId, StateMachine, SupervisorAction, backoff,
    slot::{ConnectionSlot, DialHistory, MAX_DRAINING, PendingDial},
};
use std::time::Duration;

impl StateMachine {
    /// The gateway at the same place as the connection: where it belongs.
    pub(super) fn home(&self, index: usize) -> usize {
        let home = self.slots.get(index).map_or(index, |slot| slot.home);
        let own = self.gateways.get(home % self.gateways.len().max(1));
        own.copied().unwrap_or_default()
    }

    /// What the slot dials next, and when; `None` if it needs no session, or another event must come first.
    pub(super) fn next_dial(&self, index: usize) -> Option<(Duration, usize)> {
        let slot = self.slots.get(index)?;
        let waits = slot.successor.is_some() || slot.dials.len() >= MAX_DIALS;
        if self.draining || slot.retired || waits {
            return None;
        }
        let running = slot.live_dials().map(|dial| self.rival_due(dial)).max();
        let from = match (running, &slot.current) {
            (None, _) => slot.not_before,
            (Some(rival), None) => slot.not_before.max(rival),
            // Nothing is urgent while a session serves.
            (Some(_), Some(_)) => return None,
        };
        let candidates = self.candidates(index, slot);
        let open = candidates.filter(|gateway| {
            !slot.is_dialing(*gateway) && !self.is_tried_elsewhere(index, *gateway)
        });
        let due = |gateway: usize| {
            let history = slot.histories.get(&gateway).copied().unwrap_or_default();
            let barred = self.barred.get(&gateway).copied().unwrap_or_default();
            let due = from.max(history.earliest()).max(barred);
            // The loss of a session alone is no reason to prefer another gateway.
            (due, history.failures > 1, gateway)
        };
        // `min_by_key` returns the first of equals: the order decides among gateways that have not failed.
        let next = open.map(due).min_by_key(|(due, fails, _)| (*due, *fails));
        next.map(|(due, _, gateway)| (due, gateway))
    }

    /// When another gateway may be dialed beside this dial: a hop has taken longer than it should. As addresses of one name
    /// are raced (RFC 8305).
    fn rival_due(&self, dial: &PendingDial) -> Duration {
        let pace = self.paces.get(&dial.gateway);
        let patience = pace.map_or(UNMEASURED_HOP, |slowest| {
            (*slowest * 2).clamp(SHORTEST_HOP, LONGEST_HOP)
        });
        dial.progress_at + patience
    }

    /// The gateways of which the slot needs a session, the preferred ones first.
    fn candidates<'a>(
        &'a self,
        index: usize,
        slot: &'a ConnectionSlot,
    ) -> impl Iterator<Item = usize> + 'a {
        let wanted = move |gateway: usize| match &slot.current {
            None => true,
            Some(_) if slot.draining.len() >= MAX_DRAINING => false,
            Some(active) => {
                // A gateway that is not configured any more is not dialed again.
                let anywhere = !self.gateways.contains(&active.gateway);
                let replace = active.needs_replacement && !self.is_another_replaced(index);
                let returns = active.gateway != self.home(index) && gateway == self.home(index);
                returns || replace && (anywhere || gateway == active.gateway)
            }
        };
        let home = slot.home % self.gateways.len().max(1);
        let (after, before) = (self.gateways.iter().skip(home), self.gateways.iter());
        let order = after.chain(before.take(home)).copied();
        order.filter(move |gateway| wanted(*gateway))
    }

    /// Sessions are replaced one at a time, so that the others carry the load.
    fn is_another_replaced(&self, index: usize) -> bool {
        let mut slots = self.slots.iter().enumerate();
        slots.any(|(other, slot)| other != index && slot.is_being_replaced())
    }

    /// Whether another connection tries a gateway that refused the last login: failed logins are counted there
    /// (fail2ban, PerSourcePenalties), and one is enough to learn whether the next would succeed.
    fn is_tried_elsewhere(&self, index: usize, wanted: usize) -> bool {
        let mut slots = self.slots.iter().enumerate();
        self.refusing.contains(&wanted)
            && slots.any(|(other, slot)| other != index && slot.is_dialing(wanted))
    }

    /// A gateway that refused logins accepts them again: connections that wait for it dial at once.
    pub(super) fn retry_waiting(&mut self, now: Duration, opened: usize) {
        for slot in &mut self.slots {
            if let Some(history) = slot.histories.get_mut(&opened) {
                history.not_before = history.not_before.min(now);
            }
        }
    }

    /// What failed before may work now: gateways are dialed at once, and dials without an answer are repeated. A gateway
    /// that refuses the agent stays barred.
    pub(super) fn wake(&mut self, now: Duration, actions: &mut Vec<SupervisorAction>) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            for history in slot.histories.values_mut() {
                let earliest = history
                    .dialed_at
                    .map_or(now, |at| now.max(at + WOKEN_FLOOR));
                history.not_before = history.not_before.min(earliest);
            }
            slot.not_before = slot.not_before.min(now);
            let histories = &slot.histories;
            let may_repeat = |gateway: &usize| {
                let dialed_at = histories.get(gateway).and_then(|history| history.dialed_at);
                dialed_at.is_none_or(|at| at + WOKEN_FLOOR <= now)
            };
            // Its packets may leave by an address that does not exist any more.
            let unanswered = slot.live_dials().filter(|dial| !dial.connected);
            let unanswered = unanswered.map(|dial| dial.gateway);
            let repeated: Vec<usize> = unanswered.filter(may_repeat).collect();
            slot.abandon_dials(index, |dial| repeated.contains(&dial.gateway), actions);
        }
    }

    pub(super) fn progressed(&mut self, now: Duration, id: SessionId) {
        let slot = self.slots.get_mut(id.slot);
        let mut dials = slot.into_iter().flat_map(|slot| &mut slot.dials);
        if let Some(dial) = dials.find(|dial| dial.generation == id.generation) {
            let hop = now.saturating_sub(dial.progress_at);
            dial.slowest_hop = dial.slowest_hop.max(hop);
            dial.progress_at = now;
            dial.connected = true;
        }
    }

    /// The dial with this number, which has ended.
    pub(super) fn take_dial(&mut self, id: SessionId) -> Option<PendingDial> {
        let dials = &mut self.slots.get_mut(id.slot)?.dials;
        let at = dials
            .iter()
            .position(|dial| dial.generation == id.generation)?;
        Some(dials.swap_remove(at))
    }

    /// Marks old sessions for replacement.
    pub(super) fn note_age(&mut self, now: Duration) {
        for active in self.slots.iter_mut().filter_map(|s| s.current.as_mut()) {
            active.needs_replacement |= now.saturating_sub(active.since) >= MAX_AGE;
        }
    }

    pub(super) fn dial_due(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<SupervisorAction>,
    ) {
        while let Some((_, gateway)) = self.next_dial(index).filter(|(due, _)| *due <= now) {
            let Some(slot) = self.slots.get_mut(index) else {
                return;
            };
            self.generations += 1;
            let id = SessionId {
                slot: index,
                generation: self.generations,
            };
            slot.dials.push(PendingDial {
                generation: id.generation,
                gateway,
                progress_at: now,
                slowest_hop: Duration::ZERO,
                connected: false,
                stale: false,
            });
            slot.histories.entry(gateway).or_default().dialed_at = Some(now);
            actions.push(SupervisorAction::Dial(id, gateway));
        }
    }
}

impl DialHistory {
    /// When the gateway may be dialed; the floor is kept whatever happens.
    fn earliest(&self) -> Duration {
        let floor = self.dialed_at.map(|at| at + backoff::FLOOR);
        self.not_before.max(floor.unwrap_or_default())
    }

    /// Notes one more failure, and how long the gateway is not dialed.
    pub(super) fn fail(&mut self, now: Duration, jitter: f64) {
        self.not_before = now + backoff::reconnect(self.failures, self.bad_sessions, jitter);
        self.failures = self.failures.saturating_add(1);
    }
}

/// Maximum age of a session. Its replacement also proves once a day that a login works.
pub(super) const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Dials of one connection at a time, abandoned ones included.
pub(super) const MAX_DIALS: usize = 4;
/// Another gateway is dialed after twice the slowest hop of the last login, within these bounds.
pub(super) const SHORTEST_HOP: Duration = Duration::from_millis(250);
pub(super) const LONGEST_HOP: Duration = Duration::from_secs(1);
/// The same, before a login has succeeded.
pub(super) const UNMEASURED_HOP: Duration = Duration::from_millis(500);
/// However often addresses and routes change, a connection dials a gateway once in this time for it.
pub(super) const WOKEN_FLOOR: Duration = Duration::from_secs(1);
