//! What the state machine says of one connection, for the log and the status.

use super::{
    slot::{Dial, Farewell, Held, Leaving, Slot},
    step::Machine,
};
use crate::status::{ForwardState, Phase};
use std::time::Duration;

/// One connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Summary {
    pub phase: Phase,
    /// Number of the gateway it is at, or will dial next.
    pub gateway: usize,
    pub attempt: u32,
    /// When it dials next, on the machine's clock.
    pub next_dial: Option<Duration>,
    /// Sessions so far.
    pub sessions: u64,
    /// Generation of the session that serves.
    pub current: Option<u64>,
    /// One per forward that is wanted.
    pub forwards: Vec<ForwardState>,
}

impl Machine {
    /// All connections that are wanted.
    pub(super) fn summaries(&self) -> Vec<Summary> {
        let summary = |(index, slot): (usize, &Slot)| {
            let forwards = self.forward_states(slot);
            Summary {
                phase: self.phase(slot, &forwards),
                gateway: self.gateway(slot),
                attempt: slot.attempt,
                next_dial: match (slot.dial, &slot.current) {
                    (Dial::Waiting { until, .. }, _) => Some(until),
                    // Of its replacement.
                    (Dial::Idle, Some(live)) => live.retry_at.map(|at| self.choose(index, at).1),
                    _ => None,
                },
                sessions: slot.sessions,
                current: slot.current.as_ref().map(|live| live.generation),
                forwards,
            }
        };
        self.slots
            .iter()
            .take(self.connections)
            .enumerate()
            .map(summary)
            .collect()
    }

    fn phase(&self, slot: &Slot, forwards: &[ForwardState]) -> Phase {
        if self.is_draining() {
            return match slot.is_empty() {
                true => Phase::Stopped,
                false => Phase::Draining,
            };
        }
        match (&slot.current, slot.dial) {
            (None, Dial::Waiting { .. }) => Phase::Waiting,
            (None, _) => Phase::Connecting,
            (Some(_), _) if forwards.contains(&ForwardState::Pending) => Phase::Connecting,
            (Some(_), _) if forwards.iter().all(|f| *f == ForwardState::Bound) => Phase::Serving,
            (Some(_), _) => Phase::Standby,
        }
    }

    fn forward_states(&self, slot: &Slot) -> Vec<ForwardState> {
        let state = |forward: &usize| self.forward_state(slot, *forward);
        self.forwards.iter().map(state).collect()
    }

    fn forward_state(&self, slot: &Slot, forward: usize) -> ForwardState {
        let keeps = |leaving: &Leaving| leaving.forwards.get(&forward) == Some(&Farewell::Keeping);
        if slot.leaving.iter().any(keeps) {
            return ForwardState::Bound;
        }
        let Some(live) = &slot.current else {
            return ForwardState::Pending;
        };
        match live.forwards.get(&forward) {
            Some(Held::Granted) => ForwardState::Bound,
            None
            | Some(
                Held::Due { refusals: 0 }
                | Held::Requested { refusals: 0 }
                | Held::Moving { .. }
                | Held::Parting(_),
            ) => ForwardState::Pending,
            // While it is asked again it is still what it was.
            Some(Held::Due { .. } | Held::Requested { .. } | Held::Refused { .. }) => {
                match self.somebody_holds(live.gateway, forward) {
                    true => ForwardState::Standby,
                    // Another connection was faster, and its answer is still to come.
                    false if self.is_first_asked(live.gateway, forward) => ForwardState::Pending,
                    false => ForwardState::Refused,
                }
            }
        }
    }

    fn is_first_asked(&self, gateway: usize, forward: usize) -> bool {
        let lives = self.slots.iter().filter_map(|slot| slot.current.as_ref());
        let mut held = lives
            .filter(|live| live.gateway == gateway)
            .filter_map(|live| live.forwards.get(&forward));
        held.any(|held| matches!(held, Held::Requested { refusals: 0 }))
    }

    pub(super) fn somebody_holds(&self, gateway: usize, forward: usize) -> bool {
        let lives = self.slots.iter().filter_map(|slot| slot.current.as_ref());
        lives
            .filter(|live| live.gateway == gateway)
            .any(|live| live.forwards.get(&forward) == Some(&Held::Granted))
    }

    fn gateway(&self, slot: &Slot) -> usize {
        match (&slot.current, slot.dial) {
            (Some(live), _) => live.gateway,
            (None, Dial::Waiting { gateway, .. } | Dial::Dialing { gateway, .. }) => gateway,
            (None, Dial::Idle) => {
                let own = self.gateways.get(slot.home % self.gateways.len().max(1));
                own.copied().unwrap_or_default()
            }
        }
    }
}
