//! What the state machine does about a changed configuration: what has not changed stays as it is, what has is let go of,
//! asked for or replaced.

use super::{
    slot::{Dial, MAX_LEAVING, Slot},
    step::{Action, Id, Machine, REPLACED_DRAIN, Wanted},
};
use std::time::Duration;

impl Machine {
    pub(super) fn reload(&mut self, now: Duration, wanted: Wanted, actions: &mut Vec<Action>) {
        if self.draining {
            return;
        }
        let gateways = std::mem::replace(&mut self.gateways, wanted.gateways);
        let rearranged = gateways != self.gateways;
        self.forwards = wanted.forwards;
        match wanted.anew {
            // Whatever barred a gateway may be what was changed.
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
            self.slots.push(Slot::new(self.slots.len()));
        }
        for index in 0..self.slots.len() {
            let own = |gateways: &[usize]| gateways.get(index % gateways.len().max(1)).copied();
            let (own_before, own_now) = (own(&gateways), own(&self.gateways));
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            let back = slot.retired && index < self.connections;
            slot.retired = index >= self.connections;
            if wanted.anew || rearranged {
                (slot.attempt, slot.rotation) = (0, 0);
            }
            if let Some(live) = &mut slot.current {
                let lost = !self.gateways.contains(&live.gateway);
                let displaced = own_now != Some(live.gateway);
                live.moves = lost || displaced && (live.moves || own_before != own_now);
                live.worn |= wanted.anew || live.moves;
                if wanted.anew || rearranged {
                    live.retry_at = None;
                }
                let id = Id {
                    slot: index,
                    generation: live.generation,
                };
                live.want(id, &self.forwards, actions);
            }
            let forwards = &self.forwards;
            for leaving in &mut slot.leaving {
                leaving.let_go(index, |forward| !forwards.contains(&forward), actions);
            }
            match &mut slot.dial {
                Dial::Dialing {
                    generation,
                    gateway,
                    stale,
                } if !*stale
                    && (wanted.anew || slot.retired || !self.gateways.contains(gateway)) =>
                {
                    *stale = true;
                    actions.push(Action::Abandon(Id {
                        slot: index,
                        generation: *generation,
                    }));
                }
                Dial::Waiting { .. } if slot.retired => slot.dial = Dial::Idle,
                Dial::Waiting { .. } if wanted.anew || rearranged => self.dial_anew(now, index),
                Dial::Idle if back && slot.current.is_none() => self.dial_anew(now, index),
                _ => {}
            }
        }
    }

    /// Winds up what is retired, once another connection has a session, and forgets what is done.
    pub(super) fn retire(&mut self, now: Duration, actions: &mut Vec<Action>) {
        let serves = |slot: &Slot| !slot.retired && slot.current.is_some();
        if self.slots.iter().any(serves) {
            let slots = self.slots.iter_mut().enumerate();
            for (index, slot) in slots.filter(|(_, slot)| slot.retired) {
                // What it kept for a successor, which is not wanted any more.
                for leaving in &mut slot.leaving {
                    leaving.let_go(index, |_| true, actions);
                }
                if slot.leaving.len() < MAX_LEAVING
                    && let Some(live) = slot.current.take()
                {
                    let id = Id {
                        slot: index,
                        generation: live.generation,
                    };
                    let deadline = now + REPLACED_DRAIN;
                    slot.leaving.push(live.leave(id, deadline, false, actions));
                }
            }
        }
        while self.slots.len() > self.connections && self.slots.last().is_some_and(Slot::is_empty) {
            self.slots.pop();
        }
    }
}
