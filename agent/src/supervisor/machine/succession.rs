//! When a new session takes the place of the one that serves: with its first proof, not with its login. A gateway that
//! accepts logins and ends the sessions would otherwise take each connection from a gateway that works.

use super::{
    REPLACED_DRAIN, SERVED, SessionId, StateMachine, SupervisorAction,
    slot::{
        ActiveSession, ConnectionSlot, DrainingSession, ForwardPhase, ReleasePhase,
        SuccessorSession,
    },
};
use std::{collections::BTreeMap, time::Duration};

impl StateMachine {
    pub(super) fn opened(
        &mut self,
        now: Duration,
        id: SessionId,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let Some(dial) = self.take_dial(id) else {
            return;
        };
        let (generation, gateway) = (dial.generation, dial.gateway);
        if self.refusing.remove(&gateway) {
            self.retry_waiting(now, gateway);
        }
        let home = self.home(id.slot);
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        let session = SuccessorSession {
            generation,
            gateway,
            since: now,
            proven: false,
        };
        if self.draining || dial.stale || slot.retired {
            // Too late: the session cannot serve.
            slot.draining.push(session.discard(now));
            return;
        }
        self.paces.insert(
            gateway,
            dial.slowest_hop.max(now.saturating_sub(dial.progress_at)),
        );
        slot.sessions += 1;
        // A dial to the home gateway continues: its session will take over from this one.
        slot.abandon_dials(
            id.slot,
            |rival| gateway == home || rival.gateway != home,
            actions,
        );
        slot.discard_successor(now);
        match slot.current {
            Some(_) => slot.successor = Some(session),
            None => self.promote(now, id.slot, session, actions),
        }
    }

    /// A session has answered its first probe.
    pub(super) fn on_proven(&mut self, id: SessionId) {
        if let Some(active) = self.active_session(id) {
            active.proven = true;
        }
        let slot = self.slots.get_mut(id.slot);
        let successor = slot.and_then(|slot| slot.successor.as_mut());
        if let Some(successor) = successor.filter(|one| one.generation == id.generation) {
            successor.proven = true;
        }
    }

    /// Lets a proven successor serve.
    pub(super) fn succeed(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        if slot.succession_due().is_some_and(|due| due <= now)
            && let Some(successor) = slot.successor.take()
        {
            self.promote(now, index, successor, actions);
        }
    }

    /// A session has ended before it took the place of another, which serves as before.
    pub(super) fn successor_ended(
        &mut self,
        now: Duration,
        id: SessionId,
        hint: Option<Duration>,
        jitter: f64,
    ) {
        let slot = self.slots.get_mut(id.slot);
        let ended = slot.and_then(|slot| {
            let successor = &mut slot.successor;
            let ended = successor.take_if(|one| one.generation == id.generation)?;
            slot.note_end(now, ended.gateway, false, jitter);
            Some(ended)
        });
        if let (Some(ended), Some(hint)) = (ended, hint) {
            self.bar_hinted(now, ended.gateway, hint, jitter);
        }
    }

    /// The session serves from now on. The previous one drains, and keeps each forward until this one holds it.
    pub(super) fn promote(
        &mut self,
        now: Duration,
        index: usize,
        session: SuccessorSession,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let SuccessorSession {
            generation,
            gateway,
            since,
            proven,
        } = session;
        let due = |forward: &usize| (*forward, ForwardPhase::Due { refusals: 0 });
        let mut forwards: BTreeMap<_, _> = self.forwards.iter().map(due).collect();
        if let Some(old) = slot.current.take() {
            if old.gateway == gateway {
                // A new session is no reason to request sooner what another connection holds.
                let refused = |phase: &ForwardPhase| matches!(phase, ForwardPhase::Refused { .. });
                let refused = old.forwards.iter().filter(|(forward, phase)| {
                    refused(phase) && !self.places.is_slotted(**forward)
                });
                forwards.extend(refused.map(|(forward, phase)| (*forward, *phase)));
            }
            let old_id = SessionId {
                slot: index,
                generation: old.generation,
            };
            let deadline = now + REPLACED_DRAIN;
            slot.draining
                .push(old.drain(old_id, deadline, true, actions));
        }
        // A forward that an older session of this connection releases is not free yet.
        for draining in slot.draining.iter().filter(|l| l.gateway == gateway) {
            for (forward, phase) in &mut forwards {
                if self.places.is_slotted(*forward) {
                    continue;
                }
                if let Some(ReleasePhase::Requested | ReleasePhase::Cancelling) =
                    draining.forwards.get(forward)
                {
                    *phase = ForwardPhase::AwaitingRelease {
                        from: draining.generation,
                    };
                }
            }
        }
        slot.current = Some(ActiveSession {
            generation,
            gateway,
            since,
            forwards,
            proven,
            needs_replacement: false,
        });
    }
}

impl ConnectionSlot {
    /// When the successor may serve. Where the last session was of no use, an answer alone is not enough.
    pub(super) fn succession_due(&self) -> Option<Duration> {
        let successor = self.successor.as_ref().filter(|one| one.proven)?;
        let history = self.histories.get(&successor.gateway);
        let trial = match history.is_some_and(|history| history.bad_sessions > 0) {
            true => SERVED,
            false => Duration::ZERO,
        };
        Some(successor.since + trial)
    }

    /// Disconnects the successor: it is not wanted any more, and has no forward.
    pub(super) fn discard_successor(&mut self, now: Duration) {
        let discarded = self.successor.take();
        self.draining
            .extend(discarded.map(|successor| successor.discard(now)));
    }
}

impl SuccessorSession {
    fn discard(self, now: Duration) -> DrainingSession {
        DrainingSession {
            generation: self.generation,
            gateway: self.gateway,
            forwards: BTreeMap::new(),
            deadline: now,
            marked_replaced: true,
            watched: true,
            disconnecting: false,
        }
    }
}
