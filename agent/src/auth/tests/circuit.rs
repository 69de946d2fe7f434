//! The circuit as a state machine.

use super::*;
use crate::auth::circuit::{Admission, Asker, Circuit, Outcome};
use tokio::time::Instant;

const TRIAL: Admission = Admission::Go { trial: true };
const FREE: Admission = Admission::Go { trial: false };

fn why(cause: &str) -> Unavailable {
    Unavailable {
        cause: cause.to_owned(),
        remedy: String::new(),
    }
}

fn rejected(retry: bool) -> Outcome {
    Outcome::Rejected {
        why: why("refused"),
        retry,
    }
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

#[tokio::test(start_paused = true)]
async fn an_untried_credential_is_tried_once_at_a_time() {
    let now = Instant::now();
    let mut circuit = Circuit::default();
    assert_eq!(circuit.admit(1, true, Asker::Traffic, now), TRIAL);
    assert_eq!(circuit.admit(1, true, Asker::Traffic, now), Admission::Wait);
    assert_eq!(circuit.admit(1, true, Asker::Probe, now), Admission::Wait);
    circuit.settle(1, true, Outcome::Undecided, now);
    assert_eq!(circuit.admit(1, true, Asker::Traffic, now), TRIAL);
    circuit.settle(1, true, Outcome::Accepted, now);
    assert_eq!(circuit.admit(1, true, Asker::Traffic, now), FREE);
    assert_eq!(circuit.admit(1, true, Asker::Traffic, now), FREE);
    // Once proven, answers that say nothing do not unprove it.
    circuit.settle(1, false, Outcome::Undecided, now);
    assert_eq!(circuit.admit(1, true, Asker::Traffic, now), FREE);
}

#[tokio::test(start_paused = true)]
async fn a_refused_password_is_never_tried_again_by_itself() {
    let mut circuit = Circuit::default();
    assert_eq!(circuit.admit(1, true, Asker::Traffic, after(0)), TRIAL);
    assert!(circuit.settle(1, true, rejected(false), after(0)));
    for seconds in [0, 60, 86_400 * 365] {
        let refused = Admission::Refuse(why("refused"));
        assert_eq!(
            circuit.admit(1, true, Asker::Traffic, after(seconds)),
            refused
        );
        assert_eq!(
            circuit.admit(1, true, Asker::Probe, after(seconds)),
            refused
        );
    }
    // Another one is.
    assert_eq!(circuit.admit(2, true, Asker::Traffic, after(0)), TRIAL);
    assert_eq!(
        circuit.admit(1, true, Asker::Traffic, after(0)),
        Admission::Stale
    );
    // What is still heard of the old one no longer counts.
    assert!(!circuit.settle(1, false, rejected(false), after(0)));
    circuit.settle(2, true, Outcome::Accepted, after(0));
    assert_eq!(circuit.admit(2, true, Asker::Traffic, after(0)), FREE);
}

#[tokio::test(start_paused = true)]
async fn a_proven_password_that_is_refused_opens_the_circuit_too() {
    let mut circuit = Circuit::default();
    circuit.admit(1, true, Asker::Traffic, after(0));
    circuit.settle(1, true, Outcome::Accepted, after(0));
    assert!(circuit.settle(1, false, rejected(false), after(0)));
    assert!(
        !circuit.settle(1, false, rejected(false), after(0)),
        "told once"
    );
    // An earlier request's success comes late and changes nothing.
    circuit.settle(1, false, Outcome::Accepted, after(0));
    assert!(matches!(
        circuit.admit(1, true, Asker::Traffic, after(0)),
        Admission::Refuse(_)
    ));
    circuit.reset();
    assert_eq!(circuit.admit(1, true, Asker::Traffic, after(0)), TRIAL);
}

#[tokio::test(start_paused = true)]
async fn a_harmless_retry_is_the_probes_alone_and_less_and_less_frequent() {
    let mut circuit = Circuit::default();
    circuit.admit(1, true, Asker::Traffic, after(0));
    circuit.settle(1, true, rejected(true), after(0));
    let mut at = 0;
    for pause in [15, 30, 60, 120, 240, 300, 300] {
        let refused = |a| matches!(a, Admission::Refuse(_));
        assert!(refused(circuit.admit(
            1,
            true,
            Asker::Probe,
            after(at + pause - 1)
        )));
        at += pause;
        assert!(refused(circuit.admit(1, true, Asker::Traffic, after(at))));
        assert_eq!(circuit.admit(1, true, Asker::Probe, after(at)), TRIAL);
        // While it runs, nobody else.
        assert!(refused(circuit.admit(1, true, Asker::Probe, after(at))));
        assert!(refused(circuit.admit(1, true, Asker::Traffic, after(at))));
        assert!(
            !circuit.settle(1, true, rejected(true), after(at)),
            "no news"
        );
    }
    assert_eq!(circuit.admit(1, true, Asker::Probe, after(at + 300)), TRIAL);
    circuit.settle(1, true, Outcome::Accepted, after(at + 300));
    assert_eq!(circuit.admit(1, true, Asker::Traffic, after(at)), FREE);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_locks_nothing_out_is_tried_by_all_at_once() {
    let now = Instant::now();
    let mut circuit = Circuit::default();
    for asker in [Asker::Traffic, Asker::Traffic, Asker::Probe] {
        assert_eq!(circuit.admit(1, false, asker, now), TRIAL);
    }
    // One that says nothing takes nothing away from the others.
    circuit.settle(1, true, Outcome::Undecided, now);
    circuit.settle(1, true, Outcome::Accepted, now);
    assert_eq!(circuit.admit(1, false, Asker::Traffic, now), FREE);
    // The next one, renewed ahead of the end, holds up nobody either.
    assert_eq!(circuit.admit(2, false, Asker::Traffic, now), TRIAL);
    assert_eq!(circuit.admit(2, false, Asker::Traffic, now), TRIAL);
    assert!(circuit.settle(2, true, rejected(true), now));
    assert!(matches!(
        circuit.admit(2, false, Asker::Traffic, now),
        Admission::Refuse(_)
    ));
}
