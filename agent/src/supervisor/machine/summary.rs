//! The state of one connection, for the log and the status.

use super::{
    StateMachine,
    slot::{ConnectionSlot, DialState, DrainingSession, ForwardPhase, ReleasePhase},
};
use crate::status::{ConnectionPhase, ForwardState};
use std::time::Duration;

/// One connection at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) struct ConnectionSummary {
    pub phase: ConnectionPhase,
    /// Number of the gateway of its session, or the one to dial next.
    pub gateway: usize,
    pub attempt: u32,
    /// When it dials next, on the machine's clock.
    pub next_dial: Option<Duration>,
    /// Number of sessions that the connection has had.
    pub sessions: u64,
    /// Generation of the session that serves.
    pub current: Option<u64>,
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
                gateway: self.gateway(slot),
                attempt: slot.attempt,
                next_dial: match (slot.dial, &slot.current) {
                    (DialState::Waiting { until, .. }, _) => Some(until),
                    // Of its replacement.
                    (DialState::Idle, Some(active)) => {
                        active.retry_at.map(|at| self.choose(index, at).1)
                    }
                    _ => None,
                },
                sessions: slot.sessions,
                current: slot.current.as_ref().map(|active| active.generation),
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
        match (&slot.current, slot.dial) {
            (None, DialState::Waiting { .. }) => ConnectionPhase::Waiting,
            (None, _) => ConnectionPhase::Connecting,
            (Some(_), _) if forwards.contains(&ForwardState::Pending) => {
                ConnectionPhase::Connecting
            }
            (Some(_), _) if forwards.iter().all(|f| *f == ForwardState::Bound) => {
                ConnectionPhase::Serving
            }
            (Some(_), _) => ConnectionPhase::Standby,
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

    fn gateway(&self, slot: &ConnectionSlot) -> usize {
        match (&slot.current, slot.dial) {
            (Some(active), _) => active.gateway,
            (None, DialState::Waiting { gateway, .. } | DialState::Dialing { gateway, .. }) => {
                gateway
            }
            (None, DialState::Idle) => {
                let own = self.gateways.get(slot.home % self.gateways.len().max(1));
                own.copied().unwrap_or_default()
            }
        }
    }
}
