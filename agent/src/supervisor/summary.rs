//! What the state machine says of one connection, for the log and the status.

use super::{
    slot::{Dial, Held, Slot},
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
    /// One per forward.
    pub forwards: Vec<ForwardState>,
}

impl Machine {
    /// All connections.
    pub(super) fn summaries(&self) -> Vec<Summary> {
        let summary = |slot: &Slot| {
            let forwards = self.forward_states(slot);
            Summary {
                phase: self.phase(slot, &forwards),
                gateway: gateway(slot),
                attempt: slot.attempt,
                next_dial: match slot.dial {
                    Dial::Waiting { until, .. } => Some(until),
                    _ => None,
                },
                sessions: slot.sessions,
                current: slot.current.as_ref().map(|live| live.generation),
                forwards,
            }
        };
        self.slots.iter().map(summary).collect()
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
        let Some(live) = &slot.current else {
            return vec![ForwardState::Pending; self.forwards()];
        };
        let state = |(forward, held): (usize, &Held)| match held {
            Held::Granted => ForwardState::Bound,
            Held::Due { refusals: 0 } | Held::Requested { refusals: 0 } | Held::Moving { .. } => {
                ForwardState::Pending
            }
            // While it is asked again it is still what it was.
            Held::Due { .. } | Held::Requested { .. } | Held::Refused { .. } => {
                match self.somebody_holds(live.gateway, forward) {
                    true => ForwardState::Standby,
                    false => ForwardState::Refused,
                }
            }
        };
        live.forwards.iter().enumerate().map(state).collect()
    }

    fn somebody_holds(&self, gateway: usize, forward: usize) -> bool {
        let lives = self.slots.iter().filter_map(|slot| slot.current.as_ref());
        lives
            .filter(|live| live.gateway == gateway)
            .any(|live| live.forwards.get(forward) == Some(&Held::Granted))
    }
}

fn gateway(slot: &Slot) -> usize {
    match (&slot.current, slot.dial) {
        (Some(live), _) => live.gateway,
        (None, Dial::Waiting { gateway, .. } | Dial::Dialing { gateway, .. }) => gateway,
        (None, Dial::Idle) => slot.home,
    }
}
