//! What the health requests that come through a place, and the agent's own ones, say of it. Pure: the time is an argument.

use crate::tunnel::{BindAddress, LostSign, PlaceProof, PlaceTaker, UnprovenReason};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Judges one place of one session.
pub(super) struct PlaceJudge {
    proof: PlaceProof,
    is_socket: bool,
    /// When the agent connects to the place itself; `None`: never again.
    next_call: Option<Instant>,
    /// The gateway has connected the agent to a place of this session before.
    call_worked: bool,
    /// Failed calls before the first that worked.
    refusals: u32,
    /// Calls in a row that something else answered, or nothing.
    strange: u32,
    checks: CheckRhythm,
    /// Requests that have come by a call of our own.
    own: u64,
}

/// How a call of the agent to its own place went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum CallOutcome {
    /// It says nothing of the place: the session has ended or was full.
    Inconclusive,
    /// The gateway left the call unanswered.
    NoAnswer,
    /// The request came back to this session.
    Arrived,
    /// The gateway does not let the agent connect.
    Prohibited,
    /// The gateway could not connect.
    NotConnected,
    /// Another connection of this process answered.
    OwnConnection(usize),
    /// Another process of an agent answered.
    OtherAgent,
    /// A program that is no agent answered, or nothing: its address, and what it did.
    Strange(BindAddress, String),
    /// The request came back, and nothing listens at this other address of the same name.
    OtherFree(BindAddress),
}

impl PlaceJudge {
    pub(super) fn new(now: Instant, is_socket: bool) -> Self {
        Self {
            proof: PlaceProof::Granted(None),
            is_socket,
            next_call: Some(now + FIRST_CALL),
            call_worked: false,
            refusals: 0,
            strange: 0,
            checks: CheckRhythm::default(),
            own: 0,
        }
    }

    /// The session has asked for the forward again, and the gateway has granted it: what was wrong may still be.
    pub(super) fn on_granted_again(&mut self, now: Instant) {
        self.checks = CheckRhythm::default();
        self.own = 0;
        self.strange = 0;
        if self.proof == PlaceProof::Lost(LostSign::HalfListens) {
            self.proof = PlaceProof::Granted(None);
        }
        if self.relies_on_checks() && !matches!(self.proof, PlaceProof::Granted(_)) {
            self.proof = PlaceProof::Granted(Some(UnprovenReason::ChecksStopped));
        }
        self.next_call = self.next_call.map(|_| now);
    }

    /// A look at the place: `requests` have come through it so far. `answered`: when the last probe that the gateway has
    /// answered was sent. Returns whether to call it now.
    pub(super) fn poll(&mut self, now: Instant, requests: u64, answered: Option<Instant>) -> bool {
        let of_gateway = requests.saturating_sub(self.own);
        if self.checks.note(now, of_gateway) {
            self.proof = PlaceProof::Proven;
            self.strange = 0;
            self.next_call = self.next_call.map(|at| at.max(now + FRESH));
        } else if self.relies_on_checks() && self.checks.have_stopped(now, answered) {
            self.proof = PlaceProof::Lost(LostSign::ChecksStopped);
        } else if self.relies_on_checks()
            && self.proof == PlaceProof::Proven
            && self.checks.are_overdue(now, answered)
        {
            // Too few have come to call it a loss.
            self.proof = PlaceProof::Granted(Some(UnprovenReason::ChecksStopped));
        }
        self.next_call.is_some_and(|at| at <= now)
    }

    /// A call has ended. `requests` have come through the place so far, `before` of them when it began. `strange`: how many of
    /// its addresses answered oddly.
    pub(super) fn on_call(
        &mut self,
        now: Instant,
        outcome: CallOutcome,
        before: u64,
        requests: u64,
        strange: u32,
    ) {
        let arrived = requests > before;
        if arrived {
            self.own += requests - before;
            self.call_worked = true;
        }
        self.next_call = Some(now + INTERVAL);
        if !matches!(outcome, CallOutcome::Strange(..)) {
            self.strange = 0;
        }
        match outcome {
            CallOutcome::Strange(at, what) => {
                self.strange += strange;
                if self.strange < STRANGE {
                    self.next_call = Some(now);
                } else {
                    self.proof = PlaceProof::Taken(PlaceTaker::OtherProgram(at, what));
                }
            }
            CallOutcome::OtherFree(at) if self.was_taken(&at) => {
                self.proof = PlaceProof::Lost(LostSign::HalfListens);
            }
            // Only the gateway can listen there again: it stays so until the forward is asked for again.
            _ if arrived && self.proof == PlaceProof::Lost(LostSign::HalfListens) => {}
            _ if arrived => self.proof = PlaceProof::Proven,
            CallOutcome::Arrived | CallOutcome::OtherFree(_) | CallOutcome::Inconclusive => {}
            CallOutcome::OwnConnection(other) => {
                self.call_worked = true;
                self.proof = PlaceProof::Taken(PlaceTaker::OwnConnection(other));
            }
            CallOutcome::OtherAgent => {
                self.call_worked = true;
                self.proof = PlaceProof::Taken(PlaceTaker::OtherAgent);
            }
            CallOutcome::NoAnswer => {
                self.refusals += 1;
                self.cannot_call(Some(now + NO_ANSWER_PAUSE), UnprovenReason::NoAnswer);
            }
            CallOutcome::Prohibited => self.cannot_call(None, UnprovenReason::Prohibited),
            CallOutcome::NotConnected if self.call_worked => {
                self.proof = PlaceProof::Lost(LostSign::NothingListens);
            }
            CallOutcome::NotConnected => {
                self.refusals += 1;
                let next = match self.is_socket {
                    true if self.refusals >= SOCKET_CALLS => None,
                    true => Some(now + SOCKET_PAUSE),
                    false => Some(now + PORT_PAUSE),
                };
                self.cannot_call(next, UnprovenReason::NotConnected);
            }
        }
    }

    /// What is known of the place.
    pub(super) fn proof(&self) -> &PlaceProof {
        &self.proof
    }

    /// Whether another program was seen at this address. It is free now, and the gateway does not listen there by itself.
    fn was_taken(&self, at: &BindAddress) -> bool {
        matches!(&self.proof, PlaceProof::Taken(PlaceTaker::OtherProgram(taken, _)) if taken == at)
    }

    /// Whether calls of the agent say nothing of the place: they are prohibited, or have never worked.
    fn relies_on_checks(&self) -> bool {
        self.next_call.is_none() || self.refusals > 0 && !self.call_worked
    }

    fn cannot_call(&mut self, next: Option<Instant>, reason: UnprovenReason) {
        self.next_call = next;
        // The gateway's own checks prove it all the same, or have shown that it is lost.
        if matches!(self.proof, PlaceProof::Granted(_)) {
            self.proof = PlaceProof::Granted(Some(reason));
        }
    }
}

/// The health requests that the gateway sends by itself. Where they come regularly, their end says something.
#[derive(Default)]
struct CheckRhythm {
    seen: u64,
    last: Option<Instant>,
    gaps: VecDeque<Duration>,
    /// The channel of the next check would have arrived by then, if there was one.
    opened_by: Option<Instant>,
}

impl CheckRhythm {
    /// Whether there are more than before.
    fn note(&mut self, now: Instant, seen: u64) -> bool {
        if seen <= self.seen {
            return false;
        }
        self.seen = seen;
        self.opened_by = None;
        if let Some(last) = self.last.replace(now) {
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back(now.saturating_duration_since(last));
        }
        true
    }

    /// Whether a rhythm of checks has ended.
    fn have_stopped(&mut self, now: Instant, answered: Option<Instant>) -> bool {
        let limit = self.period().saturating_mul(4).max(SHORTEST_SILENCE);
        self.gaps.len() == GAPS
            && limit <= LONGEST_SILENCE
            && self.is_silent_for(limit, now, answered)
    }

    /// Whether the last check is too old to prove anything: older than two periods, and at most `MOST_OVERDUE` older than one.
    fn are_overdue(&mut self, now: Instant, answered: Option<Instant>) -> bool {
        let period = self.period();
        let limit = (period + period.min(MOST_OVERDUE)).max(SHORTEST_SILENCE);
        self.is_silent_for(limit, now, answered)
    }

    /// The longest gap between the last checks; zero after the first one.
    fn period(&self) -> Duration {
        self.gaps.iter().max().copied().unwrap_or_default()
    }

    /// A session is one ordered stream. A check takes two trips through it, the channel and then its request, and each may
    /// wait behind bulk data of the gateway. So two probes must have been answered, one sent after the other's answer.
    fn is_silent_for(&mut self, limit: Duration, now: Instant, answered: Option<Instant>) -> bool {
        let Some(last) = self.last else {
            return false;
        };
        if self.opened_by.is_none() && answered >= Some(last + self.period()) {
            self.opened_by = Some(now);
        }
        let is_missing = self.opened_by.is_some() && answered >= self.opened_by;
        is_missing && now.saturating_duration_since(last) >= limit
    }
}

/// The gateway's own check usually comes first.
const FIRST_CALL: Duration = Duration::from_secs(1);
/// Between two calls: a loss shows within 10 s, also if each of two calls waits for its answer.
const INTERVAL: Duration = Duration::from_secs(2);
/// While the gateway checks the place this often, the agent does not.
const FRESH: Duration = Duration::from_secs(4);
/// One odd answer may be chance.
const STRANGE: u32 = 2;
/// Calls to a socket that has never taken one: OpenSSH logs each, and answers the same if it forbids them.
const SOCKET_CALLS: u32 = 2;
const SOCKET_PAUSE: Duration = Duration::from_secs(10);
/// The same for ports, where a failure is no prohibition.
const PORT_PAUSE: Duration = Duration::from_secs(60);
/// A call without an answer costs a channel until the gateway answers: a firewall that drops packets delays that for minutes.
const NO_ANSWER_PAUSE: Duration = Duration::from_secs(60);
/// Checks that come less often than every 15 s are no rhythm.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// A balancer that restarts misses a few checks.
const SHORTEST_SILENCE: Duration = Duration::from_secs(8);
/// Of a balancer that checks seldom: the next check was due this long ago.
const MOST_OVERDUE: Duration = Duration::from_secs(10);
/// Gaps between checks that are remembered.
const GAPS: usize = 4;
