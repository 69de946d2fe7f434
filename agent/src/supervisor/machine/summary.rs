//! The state of one connection, for the log and the status.

use super::{
    StateMachine,
    slot::{ConnectionSlot, DrainingSession, ForwardPhase, ReleasePhase},
};
use crate::status::{ConnectionPhase, ForwardState};
use std::time::Duration;

/// One connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) struct ConnectionSummary {
    pub phase: ConnectionPhase,
    /// Number of the gateway of its session, or the one to dial next.
    pub gateway: usize,
    /// Number of the gateway at which its session should be.
    pub home: usize,
    pub attempt: u32,
    /// When it dials next, on the machine's clock.
    pub next_dial: Option<Duration>,
    /// Number of sessions that the connection has had.
    pub sessions: u64,
    /// Generation of the session that serves.
    pub current: Option<u64>,
    /// Generation of a session that serves as soon as it is proven.
    pub successor: Option<u64>,
    /// State of each wanted forward.
    pub forwards: Vec<ForwardState>,
}

impl StateMachine {
    /// All connections that are wanted.
    pub(in crate::supervisor) fn summaries(&self) -> Vec<ConnectionSummary> {
        let summary = |(index, slot): (usize, &ConnectionSlot)| {
            let forwards = self.forward_states(slot);
            ConnectionSummary {
                phase: self.phase(slot, &forwards),
                gateway: self.gateway(index, slot),
                home: self.home(index),
                attempt: slot.attempt,
                next_dial: match slot.live_dials().next() {
                    Some(_) => None,
                    None => self.next_dial(index).map(|(due, _)| due),
                },
                sessions: slot.sessions,
                current: slot.current.as_ref().map(|active| active.generation),
                successor: slot
                    .successor
                    .as_ref()
                    .map(|successor| successor.generation),
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

    fn phase(&self, slot: &ConnectionSlot, forwards: &[ForwardState]) -> ConnectionPhase {
        if self.is_draining() {
            return match slot.is_empty() {
                true => ConnectionPhase::Stopped,
                false => ConnectionPhase::Draining,
            };
        }
        match slot.current {
            None if slot.live_dials().next().is_none() => ConnectionPhase::Waiting,
            None => ConnectionPhase::Connecting,
            Some(_) if forwards.contains(&ForwardState::Pending) => ConnectionPhase::Connecting,
            Some(_) if forwards.iter().all(|f| *f == ForwardState::Bound) => {
                ConnectionPhase::Serving
            }
            Some(_) => ConnectionPhase::Standby,
        }
    }

    fn forward_states(&self, slot: &ConnectionSlot) -> Vec<ForwardState> {
        let state = |forward: &usize| self.forward_state(slot, *forward);
        self.forwards.iter().map(state).collect()
    }

    fn forward_state(&self, slot: &ConnectionSlot, forward: usize) -> ForwardState {
        let keeps = |draining: &DrainingSession| {
            draining.forwards.get(&forward) == Some(&ReleasePhase::Retained)
        };
        if slot.draining.iter().any(keeps) {
            return ForwardState::Bound;
        }
        let Some(active) = &slot.current else {
            return ForwardState::Pending;
        };
        match active.forwards.get(&forward) {
            Some(ForwardPhase::Granted) => ForwardState::Bound,
            None
            | Some(
                ForwardPhase::Due { refusals: 0 }
                | ForwardPhase::Requested { refusals: 0 }
                | ForwardPhase::AwaitingRelease { .. }
                | ForwardPhase::Releasing(_),
            ) => ForwardState::Pending,
            // While it is requested again, its state does not change.
            Some(
                ForwardPhase::Due { .. }
                | ForwardPhase::Requested { .. }
                | ForwardPhase::Refused { .. },
            ) => {
                let shared = !self.places.is_slotted(forward);
                match self.is_held_by_any(active.gateway, forward) {
                    true if shared => ForwardState::Standby,
                    true => ForwardState::Refused,
                    // Another connection was faster, and its answer is pending.
                    false if self.is_first_asked(active.gateway, forward) => ForwardState::Pending,
                    false => ForwardState::Refused,
                }
            }
        }
    }

    fn is_first_asked(&self, gateway: usize, forward: usize) -> bool {
        let lives = self.slots.iter().filter_map(|slot| slot.current.as_ref());
        let mut phase = lives
            .filter(|active| active.gateway == gateway)
            .filter_map(|active| active.forwards.get(&forward));
        phase.any(|phase| matches!(phase, ForwardPhase::Requested { refusals: 0 }))
    }

    pub(super) fn is_held_by_any(&self, gateway: usize, forward: usize) -> bool {
        let lives = self.slots.iter().filter_map(|slot| slot.current.as_ref());
        lives
            .filter(|active| active.gateway == gateway)
            .any(|active| active.forwards.get(&forward) == Some(&ForwardPhase::Granted))
    }

    fn gateway(&self, index: usize, slot: &ConnectionSlot) -> usize {
        let active = slot.current.as_ref().map(|active| active.gateway);
        let dialed = || slot.live_dials().last().map(|dial| dial.gateway);
        let next = || self.next_dial(index).map(|(_, gateway)| gateway);
        let gateway = active.or_else(dialed).or_else(next);
        gateway.unwrap_or_else(|| self.home(index))
    }
}
