#![allow(clippy::unwrap_used)]
use super::*;

const USUAL: Option<Duration> = Some(Duration::from_millis(50));

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn refused(decision: &BreakerDecision) -> bool {
    matches!(decision, BreakerDecision::Refuse(_))
}

fn tried(decision: &BreakerDecision) -> bool {
    matches!(decision, BreakerDecision::Trial(_))
}

#[tokio::test(start_paused = true)]
async fn three_failed_connections_open_it_and_one_trial_at_a_time_finds_out() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    let fail = |breaker: &mut UpstreamBreaker, now| {
        breaker.connect_failed(now, FailedStep::Connect, "refused")
    };
    assert_eq!(fail(&mut breaker, start), None);
    assert_eq!(fail(&mut breaker, start), None);
    // A success in between starts the count again.
    assert_eq!(breaker.answered(start), None);
    assert_eq!(fail(&mut breaker, start), None);
    assert_eq!(fail(&mut breaker, start), None);
    assert!(matches!(
        fail(&mut breaker, start),
        Some(BreakerChange::Opened(BreakerReason::Connect(
            FailedStep::Connect,
            _
        )))
    ));
    assert!(refused(&breaker.admit(start, true)));

    let due = start + TRIAL_PAUSE;
    // Nothing is sent where a connection fails, so that a write may try, too.
    assert!(tried(&breaker.admit(due, false)));
    assert!(refused(&breaker.admit(due, true)));
    assert_eq!(fail(&mut breaker, due), None);
    assert!(refused(&breaker.admit(due, true)));
    let due = due + TRIAL_PAUSE;
    assert!(tried(&breaker.admit(due, true)));
    assert_eq!(breaker.answered(due), Some(BreakerChange::Closed));
    assert_eq!(breaker.admit(due, false), BreakerDecision::Send);
}

#[tokio::test(start_paused = true)]
async fn several_that_wait_while_none_is_answered_open_it() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    let waits = [seconds(12); 3];
    assert!(matches!(
        breaker.observe(start + seconds(12), &waits, USUAL),
        Some(BreakerChange::Opened(BreakerReason::Silent(_)))
    ));
    // An answer to one that was sent before closes it.
    assert_eq!(
        breaker.answered(start + seconds(13)),
        Some(BreakerChange::Closed)
    );
}

#[tokio::test(start_paused = true)]
async fn a_slow_path_a_slow_jira_and_an_upload_do_not_open_it() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    let now = start + seconds(30);
    // Two slow searches, nothing else.
    assert_eq!(breaker.observe(now, &[seconds(30); 2], USUAL), None);
    // Many slow searches, while others are answered.
    breaker.answered(now - seconds(9));
    assert_eq!(breaker.observe(now, &[seconds(30); 40], USUAL), None);
    // Answers usually take a second.
    let mut breaker = UpstreamBreaker::new(start);
    let usual = Some(seconds(1));
    assert_eq!(
        breaker.observe(start + seconds(19), &[seconds(19); 9], usual),
        None
    );
    assert!(
        breaker
            .observe(start + seconds(20), &[seconds(20); 9], usual)
            .is_some()
    );
    // Uploads that move do not wait for Jira.
    let mut breaker = UpstreamBreaker::new(start);
    assert_eq!(breaker.observe(now, &[], USUAL), None);
}

#[tokio::test(start_paused = true)]
async fn one_request_and_the_probe_are_two_witnesses() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    breaker.probe_failed(start + seconds(7), seconds(7));
    assert_eq!(
        breaker.observe(start + seconds(9), &[seconds(9)], USUAL),
        None
    );
    assert!(
        breaker
            .observe(start + seconds(10), &[seconds(10)], USUAL)
            .is_some()
    );
}

/// A firewall drops the probe's path; requests are answered, when there are any.
#[tokio::test(start_paused = true)]
async fn a_probe_alone_locks_no_vendor_out() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    for round in 1..=30 {
        let now = start + seconds(20) * round;
        breaker.probe_failed(now, seconds(15));
        assert_eq!(breaker.observe(now, &[], USUAL), None);
        assert_eq!(breaker.admit(now, false), BreakerDecision::Send);
    }
}

#[tokio::test(start_paused = true)]
async fn reads_try_a_silent_jira_before_writes() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    let opened = start + seconds(10);
    breaker.observe(opened, &[seconds(10); 5], USUAL).unwrap();
    let due = opened + TRIAL_PAUSE;
    assert!(refused(&breaker.admit(due, false)));
    assert!(tried(&breaker.admit(due, true)));
    assert!(refused(&breaker.admit(due + seconds(9), true)));
    // A trial that is not answered either does not keep the others out.
    let next = due + TRIAL_PATIENCE;
    let BreakerDecision::Trial(trial) = breaker.admit(next, true) else {
        panic!("no trial");
    };
    breaker.trial_ended(trial);
    // Where nothing else tries, a write does.
    let due = next + TRIAL_PAUSE + WRITE_WAITS;
    assert!(tried(&breaker.admit(due, false)));
}

/// A slow search and a probe whose path is blocked open it, too: they lock a vendor out for half a minute.
#[tokio::test(start_paused = true)]
async fn a_request_of_the_vendor_seldom_tries_a_silent_jira_while_the_probe_does() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    let opened = start + seconds(15);
    breaker.probe_failed(opened, seconds(15));
    breaker.observe(opened, &[seconds(15)], USUAL).unwrap();
    let mut tries = Vec::new();
    for second in 0..=120 {
        let now = opened + seconds(second);
        if second % 20 == 0 {
            breaker.probe_failed(now, seconds(15));
        }
        assert!(refused(&breaker.admit(now, false)));
        if tried(&breaker.admit(now, true)) {
            tries.push(second);
        }
    }
    assert_eq!(tries, [31, 62, 93]);
    // A vendor that only writes.
    let now = opened + seconds(134);
    breaker.probe_failed(now, seconds(15));
    assert!(tried(&breaker.admit(now, false)));
    assert!(breaker.answered(now).is_some());
    assert_eq!(breaker.admit(now, false), BreakerDecision::Send);
}

/// A Jira that restarts: its port is closed, then it takes requests and answers none, then its port is closed again.
#[tokio::test(start_paused = true)]
async fn what_failed_last_decides_who_tries() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    for _ in 0..FAILURES {
        breaker.connect_failed(start, FailedStep::Connect, "refused");
    }
    let now = start + seconds(20);
    breaker.probe_failed(now, seconds(15));
    for harmless in [true, false] {
        let BreakerDecision::Refuse(why) = breaker.admit(now, harmless) else {
            panic!("tried");
        };
        assert_eq!(why, BreakerReason::Silent(seconds(20)));
    }
    breaker.connect_failed(now, FailedStep::Connect, "refused");
    assert!(tried(&breaker.admit(now + TRIAL_PAUSE, false)));
}

/// A connection that a firewall resets says nothing of Jira, however long no request came.
#[tokio::test(start_paused = true)]
async fn a_probe_that_breaks_at_once_is_no_witness() {
    let start = Instant::now();
    let mut breaker = UpstreamBreaker::new(start);
    let now = start + seconds(30);
    breaker.probe_failed(now, Duration::from_millis(5));
    assert_eq!(breaker.observe(now, &[seconds(30)], USUAL), None);
    assert_eq!(breaker.admit(now, false), BreakerDecision::Send);
}
