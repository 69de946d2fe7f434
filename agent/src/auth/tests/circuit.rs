//! The circuit as a state machine.

use super::*;
use crate::auth::circuit::{
    AdmissionDecision, CallerKind, CircuitChange, CircuitRules, CredentialCircuit,
    CredentialOutcome,
};
use CallerKind::{Auxiliary, Probe, Traffic};
use proptest::prelude::*;
use tokio::time::Instant;

const TRIAL: AdmissionDecision = AdmissionDecision::Send { trial: true };
const FREE: AdmissionDecision = AdmissionDecision::Send { trial: false };
/// A password whose login is probed.
const PASSWORD: CircuitRules = CircuitRules {
    locks_out: true,
    probed: true,
};
/// A token whose login is probed.
const TOKEN: CircuitRules = CircuitRules {
    locks_out: false,
    probed: true,
};
/// A password without a probe.
const ALONE: CircuitRules = CircuitRules {
    locks_out: true,
    probed: false,
};

fn why(cause: &str) -> CredentialUnavailable {
    CredentialUnavailable {
        cause: cause.to_owned(),
        remedy: String::new(),
    }
}

fn rejected(retry: bool) -> CredentialOutcome {
    CredentialOutcome::Rejected {
        why: why("refused"),
        retry,
    }
}

fn after(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A circuit of the first generation.
struct Tried {
    circuit: CredentialCircuit,
    rules: CircuitRules,
}

impl Tried {
    fn new(rules: CircuitRules) -> Self {
        let circuit = CredentialCircuit::default();
        Self { circuit, rules }
    }

    /// Jira has taken it.
    fn proven(rules: CircuitRules) -> Self {
        let mut tried = Self::new(rules);
        assert_eq!(tried.admit(Probe), TRIAL);
        assert_eq!(
            tried.record(Probe, true, CredentialOutcome::Accepted),
            CircuitChange::None
        );
        tried
    }

    fn admit(&mut self, caller: CallerKind) -> AdmissionDecision {
        self.admit_at(caller, 0)
    }

    fn admit_at(&mut self, caller: CallerKind, seconds: u64) -> AdmissionDecision {
        self.circuit.admit(1, self.rules, caller, after(seconds))
    }

    fn record(
        &mut self,
        caller: CallerKind,
        trial: bool,
        outcome: CredentialOutcome,
    ) -> CircuitChange {
        let rules = self.rules;
        self.circuit
            .record_outcome(1, rules, caller, trial, outcome, after(0))
    }

    fn is_open(&self) -> bool {
        self.circuit.refusal().is_some()
    }
}

fn refuses(admission: AdmissionDecision) -> bool {
    matches!(admission, AdmissionDecision::Refuse(_))
}

#[tokio::test(start_paused = true)]
async fn an_untried_password_is_tried_by_the_probe_first() {
    let mut tried = Tried::new(PASSWORD);
    assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
    assert_eq!(tried.admit(Auxiliary), AdmissionDecision::Wait);
    assert_eq!(tried.admit(Probe), TRIAL);
    assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
    tried.record(Probe, true, CredentialOutcome::Accepted);
    assert_eq!(tried.admit(Traffic), FREE);
    // Once proven, answers that say nothing do not unprove it.
    tried.record(Traffic, false, CredentialOutcome::Undecided);
    assert_eq!(tried.admit(Traffic), FREE);
}

#[tokio::test(start_paused = true)]
async fn where_the_probe_found_nothing_out_one_request_at_a_time_may() {
    let mut tried = Tried::new(PASSWORD);
    assert_eq!(tried.admit(Probe), TRIAL);
    tried.record(Probe, true, CredentialOutcome::Undecided);
    assert_eq!(tried.admit(Traffic), TRIAL);
    assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
    assert_eq!(tried.admit(Probe), AdmissionDecision::Wait);
    // A refusal is the path's own affair, until the probe has said the same.
    let change = tried.record(Traffic, true, rejected(false));
    assert_eq!(change, CircuitChange::Doubted);
    assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
    assert_eq!(tried.admit(Probe), TRIAL);
    tried.record(Probe, true, CredentialOutcome::Accepted);
    assert_eq!(tried.admit(Traffic), FREE);
}

#[tokio::test(start_paused = true)]
async fn one_refused_request_holds_a_password_until_the_probe_has_decided() {
    let mut tried = Tried::proven(PASSWORD);
    for _ in 0..5 {
        assert_eq!(tried.admit(Traffic), FREE);
        let change = tried.record(Traffic, false, rejected(false));
        assert_eq!(change, CircuitChange::Doubted);
        assert!(!tried.is_open() && tried.circuit.is_doubted());
        assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
        // Sent before the doubt, answered after it.
        tried.record(Traffic, false, CredentialOutcome::Accepted);
        assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
        assert_eq!(tried.admit(Probe), TRIAL);
        assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
        tried.record(Probe, true, CredentialOutcome::Accepted);
        assert_eq!(tried.admit(Traffic), FREE);
    }
    tried.record(Traffic, false, rejected(false));
    assert_eq!(tried.admit(Probe), TRIAL);
    let change = tried.record(Probe, true, rejected(false));
    assert_eq!(change, CircuitChange::Opened);
    // Two wrong passwords; a third may lock the account.
    for seconds in [0, 60, 86_400 * 365] {
        assert!(refuses(tried.admit_at(Traffic, seconds)));
        assert!(refuses(tried.admit_at(Probe, seconds)));
    }
    // Another one is tried.
    let next = tried.circuit.admit(2, PASSWORD, Probe, after(0));
    assert_eq!(next, TRIAL);
    assert_eq!(tried.admit(Traffic), AdmissionDecision::Stale);
    // What is still heard of the old one no longer counts.
    assert_eq!(
        tried.record(Traffic, false, rejected(false)),
        CircuitChange::None
    );
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_says_nothing_leaves_the_doubt_and_keeps_nobody_waiting() {
    let mut tried = Tried::proven(PASSWORD);
    tried.record(Traffic, false, rejected(false));
    assert_eq!(tried.admit(Probe), TRIAL);
    tried.record(Probe, true, CredentialOutcome::Undecided);
    assert!(refuses(tried.admit(Traffic)));
    assert_eq!(tried.admit(Probe), TRIAL);
    tried.record(Probe, true, CredentialOutcome::Accepted);
    assert_eq!(tried.admit(Traffic), FREE);
}

#[tokio::test(start_paused = true)]
async fn one_odd_answer_to_the_probe_itself_is_asked_about_once_more() {
    let mut tried = Tried::proven(PASSWORD);
    for last in [CredentialOutcome::Accepted, rejected(false)] {
        assert_eq!(tried.admit(Probe), FREE);
        let change = tried.record(Probe, false, rejected(false));
        assert_eq!(change, CircuitChange::Opened);
        assert!(refuses(tried.admit_at(Probe, 14)));
        assert!(refuses(tried.admit_at(Traffic, 15)));
        assert_eq!(tried.admit_at(Probe, 15), TRIAL);
        tried.record(Probe, true, last);
    }
    assert!(refuses(tried.admit_at(Probe, 86_400)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_and_a_request_that_were_both_refused_are_two() {
    let mut tried = Tried::proven(PASSWORD);
    assert_eq!(tried.admit(Traffic), FREE);
    assert_eq!(tried.admit(Probe), FREE);
    tried.record(Probe, false, rejected(false));
    tried.record(Traffic, false, rejected(false));
    assert!(refuses(tried.admit_at(Probe, 86_400)));
}

#[tokio::test(start_paused = true)]
async fn a_doubted_token_goes_on_being_sent_until_the_probe_refuses_it() {
    let mut tried = Tried::proven(TOKEN);
    tried.record(Traffic, false, rejected(true));
    assert_eq!(tried.admit(Traffic), FREE);
    assert_eq!(tried.admit(Probe), TRIAL);
    assert_eq!(tried.admit(Traffic), FREE);
    assert_eq!(
        tried.record(Traffic, false, rejected(true)),
        CircuitChange::None
    );
    // Worth a refresh: Jira took it before.
    assert!(tried.circuit.was_accepted());
    assert_eq!(
        tried.record(Probe, true, rejected(true)),
        CircuitChange::Opened
    );
    assert!(!tried.circuit.was_accepted());
    assert!(refuses(tried.admit(Traffic)));
}

#[tokio::test(start_paused = true)]
async fn a_harmless_retry_is_the_probes_alone_and_less_and_less_frequent() {
    let mut tried = Tried::new(TOKEN);
    tried.admit(Probe);
    tried.record(Probe, true, rejected(true));
    let mut at = 0;
    for pause in [15, 30, 60, 120, 240, 300, 300] {
        assert!(refuses(tried.admit_at(Probe, at + pause - 1)));
        at += pause;
        assert!(refuses(tried.admit_at(Traffic, at)));
        assert_eq!(tried.admit_at(Probe, at), TRIAL);
        // While it runs, nobody else.
        assert!(refuses(tried.admit_at(Probe, at)));
        assert!(refuses(tried.admit_at(Traffic, at)));
        let change = tried
            .circuit
            .record_outcome(1, TOKEN, Probe, true, rejected(true), after(at));
        assert_eq!(change, CircuitChange::None, "no news");
    }
    assert_eq!(tried.admit_at(Probe, at + 300), TRIAL);
    tried.record(Probe, true, CredentialOutcome::Accepted);
    assert_eq!(tried.admit(Traffic), FREE);
}

#[tokio::test(start_paused = true)]
async fn a_credential_that_locks_nothing_out_is_tried_by_all_at_once() {
    let mut tried = Tried::new(TOKEN);
    for caller in [Traffic, Traffic, Probe] {
        assert_eq!(tried.admit(caller), TRIAL);
    }
    // One that says nothing takes nothing away from the others.
    tried.record(Traffic, true, CredentialOutcome::Undecided);
    tried.record(Traffic, true, CredentialOutcome::Accepted);
    assert_eq!(tried.admit(Traffic), FREE);
    // The next one, refreshed before it expires, delays no request either.
    let next = |tried: &mut Tried| tried.circuit.admit(2, TOKEN, Traffic, after(0));
    assert_eq!(next(&mut tried), TRIAL);
    assert_eq!(next(&mut tried), TRIAL);
    let change = tried
        .circuit
        .record_outcome(2, TOKEN, Traffic, true, rejected(true), after(0));
    assert_eq!(change, CircuitChange::Doubted);
    assert_eq!(next(&mut tried), FREE);
}

#[tokio::test(start_paused = true)]
async fn where_nobody_probes_a_request_decides() {
    let mut tried = Tried::new(ALONE);
    assert_eq!(tried.admit(Traffic), TRIAL);
    assert_eq!(tried.admit(Traffic), AdmissionDecision::Wait);
    let change = tried.record(Traffic, true, rejected(false));
    assert_eq!(change, CircuitChange::Opened);
    assert!(refuses(tried.admit_at(Traffic, 86_400)));
    tried.circuit.reset();
    assert_eq!(tried.admit(Traffic), TRIAL);
    tried.record(Traffic, true, CredentialOutcome::Accepted);
    assert_eq!(tried.admit(Traffic), FREE);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// A request or a probe begins.
    Begins(CallerKind),
    /// The oldest one in flight is answered.
    Ends,
    /// It gets no answer.
    Lost,
    /// Time goes by.
    Passes(u64),
    /// Jira's own mind about the password.
    Jira(bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => Just(Event::Begins(Traffic)),
        3 => Just(Event::Begins(Probe)),
        5 => Just(Event::Ends),
        1 => Just(Event::Lost),
        2 => (1u64..400).prop_map(Event::Passes),
        1 => any::<bool>().prop_map(Event::Jira),
    ]
}

proptest! {
    /// Whatever happens in whatever order: from when Jira has another password on, ours reaches it at most twice
    /// (what was on its way already apart).
    #[test]
    fn a_wrong_password_never_reaches_jira_three_times(
        good_at_first in any::<bool>(),
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut circuit = CredentialCircuit::default();
        let mut now = Instant::now();
        let mut good = good_at_first;
        let mut wrong = 0;
        let mut in_flight: Vec<(CallerKind, bool, bool)> = Vec::new();
        for event in events {
            match event {
                Event::Begins(caller) => {
                    if let AdmissionDecision::Send { trial } = circuit.admit(1, PASSWORD, caller, now) {
                        // One at a time, so that what counts is what the circuit lets go after an answer.
                        if in_flight.is_empty() || trial {
                            wrong += u32::from(!good);
                            in_flight.push((caller, trial, good));
                        } else {
                            circuit.record_outcome(1, PASSWORD, caller, trial, CredentialOutcome::Undecided, now);
                        }
                    }
                }
                Event::Ends if !in_flight.is_empty() => {
                    let (caller, trial, was) = in_flight.remove(0);
                    let outcome = if was { CredentialOutcome::Accepted } else { rejected(false) };
                    circuit.record_outcome(1, PASSWORD, caller, trial, outcome, now);
                }
                Event::Lost if !in_flight.is_empty() => {
                    let (caller, trial, was) = in_flight.remove(0);
                    // Jira never saw it.
                    wrong -= u32::from(!was && wrong > 0);
                    circuit.record_outcome(1, PASSWORD, caller, trial, CredentialOutcome::Undecided, now);
                }
                Event::Ends | Event::Lost => {}
                Event::Passes(seconds) => now += Duration::from_secs(seconds),
                Event::Jira(mind) => {
                    if mind && !good {
                        // Right again: Jira counts from the start, as after a login that went well.
                        wrong = 0;
                        in_flight.clear();
                        circuit = CredentialCircuit::default();
                    }
                    good = mind;
                }
            }
            prop_assert!(wrong <= 2, "{wrong}");
        }
    }
}
