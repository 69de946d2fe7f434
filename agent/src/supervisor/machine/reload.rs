//! The reaction to a changed configuration: unchanged parts stay, changed ones are released, requested or replaced.

use super::{
    DesiredState, REPLACED_DRAIN, SessionId, StateMachine, SupervisorAction,
    slot::{ConnectionSlot, MAX_DRAINING},
};
use std::time::Duration;

impl StateMachine {
    pub(super) fn reload(
        &mut self,
        now: Duration,
        wanted: DesiredState,
        actions: &mut Vec<SupervisorAction>,
    ) {
        if self.draining {
            return;
        }
        let gateways = std::mem::replace(&mut self.gateways, wanted.gateways);
        let rearranged = gateways != self.gateways;
        self.forwards = wanted.forwards;
        self.places.configure(wanted.slots, &wanted.slotted);
        self.paces
            .retain(|gateway, _| self.gateways.contains(gateway));
        match wanted.replace_sessions {
            // The change may remove the reason for which a gateway was barred.
            true => {
                self.barred.clear();
                self.refusing.clear();
            }
            false => {
                let gateways = &self.gateways;
                self.barred.retain(|gateway, _| gateways.contains(gateway));
                self.refusing.retain(|gateway| gateways.contains(gateway));
            }
        }
        self.connections = wanted.connections;
        while self.slots.len() < self.connections {
            self.slots.push(ConnectionSlot::new(self.slots.len()));
        }
        for (index, slot) in self.slots.iter_mut().enumerate() {
            let back = slot.retired && index < self.connections;
            slot.retired = index >= self.connections;
            if wanted.replace_sessions || rearranged || back {
                // Dialed at once, because no gateway has failed as it is configured now.
                slot.attempt = 0;
                slot.not_before = now;
                slot.histories.clear();
            }
            if let Some(active) = &mut slot.current {
                let gone = !self.gateways.contains(&active.gateway);
                active.needs_replacement |= wanted.replace_sessions || gone;
                let id = SessionId {
                    slot: index,
                    generation: active.generation,
                };
                active.reconcile(id, &self.forwards, actions);
            }
            let forwards = &self.forwards;
            for draining in &mut slot.draining {
                draining.cancel_forwards(index, |forward| !forwards.contains(&forward), actions);
            }
            let outdated = wanted.replace_sessions || slot.retired;
            let gateways = &self.gateways;
            let successor = slot.successor.as_ref();
            if successor.is_some_and(|one| outdated || !gateways.contains(&one.gateway)) {
                slot.discard_successor(now);
            }
            slot.abandon_dials(
                index,
                |dial| outdated || !gateways.contains(&dial.gateway),
                actions,
            );
        }
    }

    /// Drains retired slots, once another connection has a session, and removes the ones that are done.
    pub(super) fn retire(&mut self, now: Duration, actions: &mut Vec<SupervisorAction>) {
        let serves = |slot: &ConnectionSlot| !slot.retired && slot.current.is_some();
        if self.slots.iter().any(serves) {
            let slots = self.slots.iter_mut().enumerate();
            for (index, slot) in slots.filter(|(_, slot)| slot.retired) {
                // Forwards retained for a successor, which does not come.
                for draining in &mut slot.draining {
                    draining.cancel_forwards(index, |_| true, actions);
                }
                if slot.draining.len() < MAX_DRAINING
                    && let Some(active) = slot.current.take()
                {
                    let id = SessionId {
                        slot: index,
                        generation: active.generation,
                    };
                    let deadline = now + REPLACED_DRAIN;
                    slot.draining
                        .push(active.drain(id, deadline, false, actions));
                }
            }
        }
        while self.slots.len() > self.connections
            && self.slots.last().is_some_and(ConnectionSlot::is_empty)
        {
            self.slots.pop();
        }
    }
}
