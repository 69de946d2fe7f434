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
    /// It says nothing of the place: the gateway did not answer, the session has ended or was full.
    Inconclusive,
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
        if self.relies_on_checks() && !matches!(self.proof, PlaceProof::Granted(_)) {
            self.proof = PlaceProof::Granted(Some(UnprovenReason::ChecksStopped));
        }
        self.next_call = self.next_call.map(|_| now);
    }

    /// A look at the place: `requests` have come through it so far. Returns whether to call it now.
    pub(super) fn poll(&mut self, now: Instant, requests: u64) -> bool {
        let of_gateway = requests.saturating_sub(self.own);
        if self.checks.note(now, of_gateway) {
            self.proof = PlaceProof::Proven;
            self.strange = 0;
            self.next_call = self.next_call.map(|at| at.max(now + FRESH));
        } else if self.relies_on_checks() && self.checks.have_stopped(now) {
            self.proof = PlaceProof::Lost(LostSign::ChecksStopped);
        }
        self.next_call.is_some_and(|at| at <= now)
    }

    /// A call has ended. `requests` have come through the place so far, `before` of them when it began.
    pub(super) fn on_call(
        &mut self,
        now: Instant,
        outcome: CallOutcome,
        before: u64,
        requests: u64,
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
                self.strange += 1;
                if self.strange < STRANGE {
                    self.next_call = Some(now);
                } else {
                    self.proof = PlaceProof::Taken(PlaceTaker::OtherProgram(at, what));
                }
            }
            _ if arrived => self.proof = PlaceProof::Proven,
            CallOutcome::Arrived | CallOutcome::Inconclusive => {}
            CallOutcome::OwnConnection(other) => {
                self.call_worked = true;
                self.proof = PlaceProof::Taken(PlaceTaker::OwnConnection(other));
            }
            CallOutcome::OtherAgent => {
                self.call_worked = true;
                self.proof = PlaceProof::Taken(PlaceTaker::OtherAgent);
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
}

impl CheckRhythm {
    /// Whether there are more than before.
    fn note(&mut self, now: Instant, seen: u64) -> bool {
        if seen <= self.seen {
            return false;
        }
        self.seen = seen;
        if let Some(last) = self.last.replace(now) {
            if self.gaps.len() == GAPS {
                self.gaps.pop_front();
            }
            self.gaps.push_back(now.saturating_duration_since(last));
        }
        true
    }

    fn have_stopped(&self, now: Instant) -> bool {
        let (Some(last), Some(longest)) = (self.last, self.gaps.iter().max()) else {
            return false;
        };
        let silence = now.saturating_duration_since(last);
        let limit = longest.saturating_mul(4).max(SHORTEST_SILENCE);
        self.gaps.len() == GAPS && limit <= LONGEST_SILENCE && silence >= limit
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
/// Checks that come less often than every 15 s are no rhythm.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);
/// A balancer that restarts misses a few checks.
const SHORTEST_SILENCE: Duration = Duration::from_secs(8);
/// Gaps between checks that are remembered.
const GAPS: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Bench {
        judge: PlaceJudge,
        now: Instant,
        requests: u64,
    }

    impl Bench {
        fn new(is_socket: bool) -> Self {
            let now = Instant::now();
            let judge = PlaceJudge::new(now, is_socket);
            Self {
                judge,
                now,
                requests: 0,
            }
        }

        /// Seconds until the next call, at most a minute and a half.
        fn until_call(&mut self) -> Option<u32> {
            (0..90).find(|_| {
                let calls = self.judge.poll(self.now, self.requests);
                self.now += Duration::from_secs(u64::from(!calls));
                calls
            })
        }

        fn call(&mut self, outcome: CallOutcome) -> PlaceProof {
            let before = self.requests;
            self.requests += u64::from(outcome == CallOutcome::Arrived);
            self.judge.on_call(self.now, outcome, before, self.requests);
            self.judge.proof().clone()
        }

        /// Checks of the gateway, one a second.
        fn checked(&mut self, times: u32) {
            for _ in 0..times {
                self.requests += 1;
                self.now += Duration::from_secs(1);
                assert!(!self.judge.poll(self.now, self.requests));
            }
        }
    }

    fn strange() -> CallOutcome {
        CallOutcome::Strange("/s/jira.sock".parse().unwrap(), "does not answer".into())
    }

    #[test]
    fn a_call_proves_a_place_and_its_failure_then_is_a_loss() {
        let mut bench = Bench::new(true);
        assert_eq!(*bench.judge.proof(), PlaceProof::Granted(None));
        assert_eq!(bench.until_call(), Some(1));
        assert_eq!(bench.call(CallOutcome::Arrived), PlaceProof::Proven);
        assert_eq!(bench.until_call(), Some(2));
        let lost = PlaceProof::Lost(LostSign::NothingListens);
        assert_eq!(bench.call(CallOutcome::NotConnected), lost);
        assert_eq!(bench.until_call(), Some(2));
        bench.judge.on_granted_again(bench.now);
        bench.requests = 0;
        assert_eq!(*bench.judge.proof(), lost, "until the next call");
        assert_eq!(bench.until_call(), Some(0));
        assert_eq!(bench.call(CallOutcome::Arrived), PlaceProof::Proven);
    }

    #[test]
    fn who_answers_in_its_place_is_named() {
        let mut bench = Bench::new(true);
        let agent = PlaceProof::Taken(PlaceTaker::OtherAgent);
        assert_eq!(bench.call(CallOutcome::OtherAgent), agent);
        let own = PlaceProof::Taken(PlaceTaker::OwnConnection(1));
        assert_eq!(bench.call(CallOutcome::OwnConnection(1)), own);
        assert_eq!(bench.call(CallOutcome::Arrived), PlaceProof::Proven);
        // One odd answer is repeated at once.
        assert_eq!(bench.call(strange()), PlaceProof::Proven);
        assert_eq!(bench.until_call(), Some(0));
        let taken = bench.call(strange());
        assert!(matches!(
            taken,
            PlaceProof::Taken(PlaceTaker::OtherProgram(..))
        ));
        assert_eq!(bench.until_call(), Some(2));
        assert_eq!(bench.call(CallOutcome::Inconclusive), taken);
        assert_eq!(bench.call(CallOutcome::Arrived), PlaceProof::Proven);
    }

    #[test]
    fn what_the_gateway_does_not_permit_is_not_tried_again_and_not_a_loss() {
        let mut bench = Bench::new(false);
        let prohibited = PlaceProof::Granted(Some(UnprovenReason::Prohibited));
        assert_eq!(bench.call(CallOutcome::Prohibited), prohibited);
        assert_eq!(bench.until_call(), None);
        let mut socket = Bench::new(true);
        let unknown = PlaceProof::Granted(Some(UnprovenReason::NotConnected));
        assert_eq!(socket.call(CallOutcome::NotConnected), unknown);
        assert_eq!(socket.until_call(), Some(10));
        assert_eq!(socket.call(CallOutcome::NotConnected), unknown);
        assert_eq!(socket.until_call(), None);
        let mut port = Bench::new(false);
        assert_eq!(port.call(CallOutcome::NotConnected), unknown);
        assert_eq!(port.until_call(), Some(60));
    }

    #[test]
    fn checks_of_the_gateway_prove_a_place_and_their_end_is_a_loss_where_the_agent_may_not_call() {
        let mut bench = Bench::new(true);
        bench.call(CallOutcome::Prohibited);
        bench.checked(10);
        assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
        bench.now += Duration::from_secs(7);
        bench.judge.poll(bench.now, bench.requests);
        assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
        bench.now += Duration::from_secs(1);
        bench.judge.poll(bench.now, bench.requests);
        let lost = PlaceProof::Lost(LostSign::ChecksStopped);
        assert_eq!(*bench.judge.proof(), lost);
        // Asked for again, and still no checks: it may be the balancer.
        bench.judge.on_granted_again(bench.now);
        bench.requests = 0;
        let stopped = PlaceProof::Granted(Some(UnprovenReason::ChecksStopped));
        assert_eq!(bench.until_call(), None);
        assert_eq!(*bench.judge.proof(), stopped);
        bench.checked(1);
        assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
    }

    #[test]
    fn a_loss_shows_within_10_s_where_checks_proved_the_place_before_the_first_call() {
        for is_socket in [true, false] {
            let mut bench = Bench::new(is_socket);
            bench.checked(10);
            let gone_at = bench.now;
            assert_eq!(bench.until_call(), Some(4));
            assert_eq!(bench.call(CallOutcome::NotConnected), PlaceProof::Proven);
            let lost = PlaceProof::Lost(LostSign::ChecksStopped);
            while *bench.judge.proof() != lost {
                bench.now += Duration::from_secs(1);
                bench.judge.poll(bench.now, bench.requests);
                assert!(bench.now - gone_at < Duration::from_secs(10));
            }
            // Asked for again, it is called at once, in case calls work now.
            bench.judge.on_granted_again(bench.now);
            bench.requests = 0;
            assert_eq!(bench.until_call(), Some(0));
            let unknown = PlaceProof::Granted(Some(UnprovenReason::NotConnected));
            assert_eq!(bench.call(CallOutcome::NotConnected), unknown);
            bench.now += Duration::from_secs(30);
            bench.judge.poll(bench.now, bench.requests);
            assert_eq!(*bench.judge.proof(), unknown, "no rhythm, no loss");
        }
    }

    #[test]
    fn the_agent_calls_only_while_the_gateway_does_not_check() {
        let mut bench = Bench::new(true);
        bench.checked(3);
        assert_eq!(bench.until_call(), Some(4));
        assert_eq!(bench.call(CallOutcome::Arrived), PlaceProof::Proven);
        // Its own requests are no checks of the gateway.
        assert_eq!(bench.until_call(), Some(2));
        // Once a minute is no rhythm.
        let mut rare = Bench::new(true);
        rare.call(CallOutcome::Prohibited);
        for _ in 0..6 {
            rare.checked(1);
            rare.now += Duration::from_secs(59);
        }
        assert_eq!(rare.until_call(), None);
        assert_eq!(*rare.judge.proof(), PlaceProof::Proven);
    }
}
