//! What the judge makes of checks and calls.
#![allow(clippy::unwrap_used)]
use super::judge::{CallOutcome, PlaceJudge};
use crate::tunnel::{LostSign, PlaceProof, PlaceTaker, UnprovenReason};
use std::time::{Duration, Instant};

struct Bench {
    judge: PlaceJudge,
    now: Instant,
    requests: u64,
    /// When the last probe that was answered was sent; `None`: `probe_age` ago.
    answered: Option<Instant>,
    probe_age: Duration,
}

impl Bench {
    fn new(is_socket: bool) -> Self {
        let now = Instant::now();
        let judge = PlaceJudge::new(now, is_socket);
        Self {
            judge,
            now,
            requests: 0,
            answered: None,
            probe_age: Duration::ZERO,
        }
    }

    fn poll(&mut self) -> bool {
        let answered = self.answered.or(Some(self.now - self.probe_age));
        self.judge.poll(self.now, self.requests, answered)
    }

    /// Seconds until the next call, at most a minute and a half.
    fn until_call(&mut self) -> Option<u32> {
        (0..90).find(|_| {
            let calls = self.poll();
            self.now += Duration::from_secs(u64::from(!calls));
            calls
        })
    }

    fn call(&mut self, outcome: CallOutcome) -> PlaceProof {
        let before = self.requests;
        let arrives = matches!(outcome, CallOutcome::Arrived | CallOutcome::OtherFree(_));
        self.requests += u64::from(arrives);
        let strange = u32::from(matches!(outcome, CallOutcome::Strange(..)));
        self.judge
            .on_call(self.now, outcome, before, self.requests, strange);
        self.judge.proof().clone()
    }

    /// Checks of the gateway, one a second.
    fn checked(&mut self, times: u32) {
        for _ in 0..times {
            self.requests += 1;
            self.now += Duration::from_secs(1);
            assert!(!self.poll());
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
    for _ in 0..7 {
        bench.now += Duration::from_secs(1);
        bench.poll();
    }
    assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
    bench.now += Duration::from_secs(1);
    bench.poll();
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
        // The usual interval of probes.
        bench.probe_age = Duration::from_millis(2500);
        assert_eq!(bench.until_call(), Some(4));
        assert_eq!(bench.call(CallOutcome::NotConnected), PlaceProof::Proven);
        let lost = PlaceProof::Lost(LostSign::ChecksStopped);
        while *bench.judge.proof() != lost {
            bench.now += Duration::from_secs(1);
            bench.poll();
            assert!(bench.now - gone_at < Duration::from_secs(10));
        }
        // Asked for again, it is called at once, in case calls work now.
        bench.judge.on_granted_again(bench.now);
        bench.requests = 0;
        assert_eq!(bench.until_call(), Some(0));
        let unknown = PlaceProof::Granted(Some(UnprovenReason::NotConnected));
        assert_eq!(bench.call(CallOutcome::NotConnected), unknown);
        bench.now += Duration::from_secs(30);
        bench.poll();
        assert_eq!(*bench.judge.proof(), unknown, "no rhythm, no loss");
    }
}

#[test]
fn checks_that_may_wait_behind_bulk_data_have_not_stopped() {
    let mut bench = Bench::new(true);
    bench.call(CallOutcome::Prohibited);
    bench.checked(10);
    let last = bench.now;
    // Bytes arrive, but no answer to a probe of this time.
    bench.answered = Some(last);
    bench.now = last + Duration::from_secs(30);
    bench.poll();
    assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
    // The channel of a check would be here. Its request may wait in turn, until the next probe is answered.
    bench.answered = Some(last + Duration::from_secs(10));
    bench.poll();
    bench.now += Duration::from_secs(10);
    bench.poll();
    assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
    bench.answered = Some(last + Duration::from_secs(31));
    bench.poll();
    let lost = PlaceProof::Lost(LostSign::ChecksStopped);
    assert_eq!(*bench.judge.proof(), lost);
}

#[test]
fn the_free_half_of_a_port_is_asked_for_once_where_a_program_had_it() {
    let mut bench = Bench::new(false);
    let free = || CallOutcome::OtherFree("[::1]:8080".parse().unwrap());
    assert_eq!(
        bench.call(free()),
        PlaceProof::Proven,
        "it may have no IPv6"
    );
    let six = || CallOutcome::Strange("[::1]:8080".parse().unwrap(), "answers 200".into());
    bench.call(six());
    assert!(matches!(bench.call(six()), PlaceProof::Taken(_)));
    let half = PlaceProof::Lost(LostSign::HalfListens);
    assert_eq!(bench.call(free()), half);
    assert_eq!(
        bench.call(CallOutcome::Arrived),
        half,
        "until it is asked for again"
    );
    bench.judge.on_granted_again(bench.now);
    bench.requests = 0;
    assert_eq!(bench.call(free()), PlaceProof::Proven, "and not in a loop");
}

#[test]
fn a_gateway_that_leaves_calls_unanswered_is_called_once_a_minute() {
    let mut bench = Bench::new(false);
    let unknown = PlaceProof::Granted(Some(UnprovenReason::NoAnswer));
    assert_eq!(bench.call(CallOutcome::NoAnswer), unknown);
    assert_eq!(bench.until_call(), Some(60));
    assert_eq!(bench.call(CallOutcome::Arrived), PlaceProof::Proven);
    assert_eq!(bench.call(CallOutcome::NoAnswer), PlaceProof::Proven);
}

/// Each odd answer takes two seconds or more, and a name has three addresses.
#[test]
fn two_odd_answers_of_one_round_are_enough() {
    let mut bench = Bench::new(false);
    bench.judge.on_call(bench.now, strange(), 0, 0, 2);
    assert!(matches!(bench.judge.proof(), PlaceProof::Taken(_)));
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
    assert_eq!(*rare.judge.proof(), PlaceProof::Proven);
    assert_eq!(rare.until_call(), None);
    let stopped = PlaceProof::Granted(Some(UnprovenReason::ChecksStopped));
    assert_eq!(*rare.judge.proof(), stopped, "but no proof for ever");
}

/// Where the agent may not call, a check proves the place until the next one should have come.
#[test]
fn an_old_check_is_no_proof() {
    let stopped = PlaceProof::Granted(Some(UnprovenReason::ChecksStopped));
    // Seconds between two checks, how many have come, and until when the last one counts.
    for (period, checks, until) in [(1, 1, 8), (1, 3, 8), (6, 3, 12), (20, 6, 30), (60, 2, 70)] {
        let mut bench = Bench::new(true);
        bench.call(CallOutcome::Prohibited);
        for _ in 0..checks {
            bench.now += Duration::from_secs(period);
            bench.requests += 1;
            bench.poll();
            assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
        }
        let last = bench.now;
        while *bench.judge.proof() == PlaceProof::Proven {
            bench.now += Duration::from_secs(1);
            bench.poll();
        }
        assert_eq!(*bench.judge.proof(), stopped, "{period} s");
        assert_eq!((bench.now - last).as_secs(), until, "{period} s");
        bench.requests += 1;
        bench.poll();
        assert_eq!(*bench.judge.proof(), PlaceProof::Proven);
    }
}

/// Where it may call, a call decides long before a check that comes once a minute.
#[test]
fn a_seldom_check_leaves_the_proof_to_calls() {
    let mut bench = Bench::new(false);
    assert_eq!(bench.until_call(), Some(1));
    assert_eq!(bench.call(CallOutcome::Arrived), PlaceProof::Proven);
    bench.checked(1);
    assert_eq!(bench.until_call(), Some(4));
    let lost = PlaceProof::Lost(LostSign::NothingListens);
    assert_eq!(bench.call(CallOutcome::NotConnected), lost);
}
