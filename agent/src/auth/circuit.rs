//! Stops a credential that Jira rejected from being tried again. Only the agent's own login probe decides that: a rejected
//! request fails alone, and requests the probe.
//!
//! Where a few wrong passwords lead to a CAPTCHA, the probe tries a new credential first, and requests wait for the probe
//! after one of them was rejected. So a wrong password reaches Jira once if its file is new, and at most twice if it was
//! changed in Jira.
//!
//! A state machine without clock or sockets; `inject` queries and informs it.

use super::CredentialUnavailable;
use crate::backoff::ExponentialBackoff;
use std::time::Duration;
use tokio::time::Instant;

/// The circuit of one forward's credential.
#[derive(Debug)]
pub(super) struct CredentialCircuit {
    generation: u64,
    phase: CircuitPhase,
}

#[derive(Debug)]
enum CircuitPhase {
    /// It is unknown whether Jira accepts this credential.
    Untried {
        /// The probe was inconclusive: a request may find out.
        probed: bool,
    },
    /// A request or the probe tests it.
    Testing { probed: bool },
    /// Jira accepted it.
    Closed,
    /// Jira accepted it, and then rejected a request: the probe has to find out.
    Doubted(CircuitDoubt),
    /// The probe tests the doubted credential.
    Confirming(CircuitDoubt),
    /// Jira rejected it: nothing is sent.
    Open(OpenCircuit),
    /// A probe retries a rejected credential; requests are still refused.
    HalfOpen(OpenCircuit),
}

#[derive(Debug)]
struct CircuitDoubt {
    /// Cause and remedy of the request's rejection.
    why: CredentialUnavailable,
    /// Jira had accepted the credential before.
    was_accepted: bool,
    /// The probe was inconclusive.
    probed: bool,
}

#[derive(Debug)]
struct OpenCircuit {
    why: CredentialUnavailable,
    /// `None`: only another credential or an administrator closes it.
    retry_at: Option<Instant>,
    failures: u32,
}

/// The kind of request that carries the credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallerKind {
    /// A request of the vendor.
    Traffic,
    /// The agent's own request for the login that it is (`myself`).
    Probe,
    /// Another request of the agent's own, which decides nothing.
    Auxiliary,
}

/// The rules for one credential.
#[derive(Clone, Copy, Debug)]
pub(super) struct CircuitRules {
    /// A few refusals lock the account.
    pub(super) locks_out: bool,
    /// The login is probed. If it is not, requests decide themselves.
    pub(super) probed: bool,
}

/// What a request may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AdmissionDecision {
    /// Be sent. The outcome of a trial must be recorded.
    Send {
        /// Whether Jira has not accepted this credential yet; others may wait for the outcome.
        trial: bool,
    },
    /// Ask again when the circuit has changed.
    Wait,
    /// Its credential is an old one: fetch the current one and ask again.
    Stale,
    /// Not be sent; the value is the reason.
    Refuse(CredentialUnavailable),
}

/// What a request showed about the credential.
#[derive(Debug)]
pub(super) enum CredentialOutcome {
    Accepted,
    Undecided,
    Rejected {
        why: CredentialUnavailable,
        /// Whether trying it again later does no harm.
        retry: bool,
    },
}

/// What an outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CircuitChange {
    None,
    /// A request was rejected, and the probe has to find out.
    Doubted,
    /// From now on nothing is sent.
    Opened,
}

impl Default for CredentialCircuit {
    fn default() -> Self {
        Self {
            generation: 0,
            phase: UNTRIED,
        }
    }
}

impl CredentialCircuit {
    pub(super) fn admit(
        &mut self,
        generation: u64,
        rules: CircuitRules,
        caller: CallerKind,
        now: Instant,
    ) -> AdmissionDecision {
        if generation < self.generation {
            return AdmissionDecision::Stale;
        }
        if generation > self.generation {
            *self = Self {
                generation,
                phase: UNTRIED,
            };
        }
        let probe = caller == CallerKind::Probe;
        let must_wait = rules.locks_out && !probe;
        let (phase, admission) = match std::mem::replace(&mut self.phase, UNTRIED) {
            CircuitPhase::Untried { probed: false } if must_wait && rules.probed => {
                (UNTRIED, AdmissionDecision::Wait)
            }
            CircuitPhase::Untried { probed } => (CircuitPhase::Testing { probed }, SEND_TRIAL),
            CircuitPhase::Testing { probed } if rules.locks_out => {
                (CircuitPhase::Testing { probed }, AdmissionDecision::Wait)
            }
            // A harmless credential is no reason to wait for an upload of many minutes.
            CircuitPhase::Testing { probed } => (CircuitPhase::Testing { probed }, SEND_TRIAL),
            CircuitPhase::Closed => (CircuitPhase::Closed, SEND),
            CircuitPhase::Doubted(doubt) if probe => (CircuitPhase::Confirming(doubt), SEND_TRIAL),
            CircuitPhase::Doubted(doubt) if must_wait && doubt.probed => {
                let why = doubt.why.clone();
                (CircuitPhase::Doubted(doubt), AdmissionDecision::Refuse(why))
            }
            CircuitPhase::Doubted(doubt) if must_wait => {
                (CircuitPhase::Doubted(doubt), AdmissionDecision::Wait)
            }
            CircuitPhase::Doubted(doubt) => (CircuitPhase::Doubted(doubt), SEND),
            CircuitPhase::Confirming(doubt) if rules.locks_out => {
                (CircuitPhase::Confirming(doubt), AdmissionDecision::Wait)
            }
            CircuitPhase::Confirming(doubt) => (CircuitPhase::Confirming(doubt), SEND),
            CircuitPhase::Open(opened) if probe && opened.retry_at.is_some_and(|at| at <= now) => {
                (CircuitPhase::HalfOpen(opened), SEND_TRIAL)
            }
            CircuitPhase::Open(opened) => {
                let why = opened.why.clone();
                (CircuitPhase::Open(opened), AdmissionDecision::Refuse(why))
            }
            CircuitPhase::HalfOpen(opened) => {
                let why = opened.why.clone();
                (
                    CircuitPhase::HalfOpen(opened),
                    AdmissionDecision::Refuse(why),
                )
            }
        };
        self.phase = phase;
        admission
    }

    /// Records how an admitted request ended.
    pub(super) fn record_outcome(
        &mut self,
        generation: u64,
        rules: CircuitRules,
        caller: CallerKind,
        trial: bool,
        outcome: CredentialOutcome,
        now: Instant,
    ) -> CircuitChange {
        if generation != self.generation {
            return CircuitChange::None;
        }
        let decides =
            caller == CallerKind::Probe || (!rules.probed && caller == CallerKind::Traffic);
        let before = std::mem::replace(&mut self.phase, UNTRIED);
        let (after, change) = match outcome {
            CredentialOutcome::Accepted => (accepted(before, trial, decides), CircuitChange::None),
            CredentialOutcome::Undecided => {
                (undecided(before, trial, caller, now), CircuitChange::None)
            }
            CredentialOutcome::Rejected { why, retry } if decides => {
                rejected(before, trial, rules, (why, retry), now)
            }
            CredentialOutcome::Rejected { why, retry } => {
                doubted(before, why, rules.locks_out && !retry)
            }
        };
        self.phase = after;
        change
    }

    /// Why nothing is sent, while it is open.
    pub(super) fn refusal(&self) -> Option<CredentialUnavailable> {
        match &self.phase {
            CircuitPhase::Open(opened) | CircuitPhase::HalfOpen(opened) => Some(opened.why.clone()),
            CircuitPhase::Untried { .. }
            | CircuitPhase::Testing { .. }
            | CircuitPhase::Closed
            | CircuitPhase::Doubted(_)
            | CircuitPhase::Confirming(_) => None,
        }
    }

    /// Whether Jira has accepted this credential, and the probe has not decided otherwise since.
    pub(super) fn was_accepted(&self) -> bool {
        match &self.phase {
            CircuitPhase::Closed => true,
            CircuitPhase::Doubted(doubt) | CircuitPhase::Confirming(doubt) => doubt.was_accepted,
            CircuitPhase::Untried { .. }
            | CircuitPhase::Testing { .. }
            | CircuitPhase::Open(_)
            | CircuitPhase::HalfOpen(_) => false,
        }
    }

    /// Whether a request was rejected and the probe has not decided since.
    pub(super) fn is_doubted(&self) -> bool {
        matches!(
            self.phase,
            CircuitPhase::Doubted(_) | CircuitPhase::Confirming(_)
        )
    }

    /// Whether a request or the probe was rejected, and no accepted answer has come since.
    pub(super) fn is_doubted_or_open(&self) -> bool {
        self.is_doubted()
            || matches!(
                self.phase,
                CircuitPhase::Open(_) | CircuitPhase::HalfOpen(_)
            )
    }

    /// What the probe has found after a rejection of this generation: whether Jira accepts a later credential. `None`
    /// until it has decided.
    pub(super) fn newer_credential_accepted(&self, generation: u64) -> Option<bool> {
        match &self.phase {
            CircuitPhase::Doubted(doubt) if doubt.probed => Some(false),
            CircuitPhase::Untried { probed: true } => Some(false),
            CircuitPhase::Untried { .. } | CircuitPhase::Testing { .. } => None,
            CircuitPhase::Doubted(_) | CircuitPhase::Confirming(_) => None,
            CircuitPhase::Closed => Some(self.generation > generation),
            CircuitPhase::Open(_) | CircuitPhase::HalfOpen(_) => Some(false),
        }
    }

    /// Allows the credential to be tried again.
    pub(super) fn reset(&mut self) {
        self.phase = UNTRIED;
    }
}

/// `decides`: by the probe, or by a request that acts as one.
fn accepted(before: CircuitPhase, trial: bool, decides: bool) -> CircuitPhase {
    match before {
        CircuitPhase::Testing { .. } => CircuitPhase::Closed,
        // Of several trials one may have ended undecided before.
        CircuitPhase::Untried { .. } if trial => CircuitPhase::Closed,
        CircuitPhase::HalfOpen(_) if trial => CircuitPhase::Closed,
        // A request that was sent before the doubt may be answered after it.
        CircuitPhase::Doubted(_) | CircuitPhase::Confirming(_) if decides => CircuitPhase::Closed,
        before @ (CircuitPhase::Untried { .. }
        | CircuitPhase::Closed
        | CircuitPhase::Doubted(_)
        | CircuitPhase::Confirming(_)
        | CircuitPhase::Open(_)
        | CircuitPhase::HalfOpen(_)) => before,
    }
}

fn undecided(before: CircuitPhase, trial: bool, caller: CallerKind, now: Instant) -> CircuitPhase {
    let probe = caller == CallerKind::Probe;
    match before {
        CircuitPhase::Testing { probed } if trial => CircuitPhase::Untried {
            probed: probed || probe,
        },
        CircuitPhase::Untried { probed } if trial => CircuitPhase::Untried {
            probed: probed || probe,
        },
        CircuitPhase::Confirming(doubt) if probe => CircuitPhase::Doubted(CircuitDoubt {
            probed: true,
            ..doubt
        }),
        CircuitPhase::HalfOpen(opened) if trial => CircuitPhase::Open(OpenCircuit {
            retry_at: Some(now + RETRY.after(opened.failures)),
            ..opened
        }),
        before @ (CircuitPhase::Untried { .. }
        | CircuitPhase::Testing { .. }
        | CircuitPhase::Closed
        | CircuitPhase::Doubted(_)
        | CircuitPhase::Confirming(_)
        | CircuitPhase::Open(_)
        | CircuitPhase::HalfOpen(_)) => before,
    }
}

/// The probe, or a request that acts as one, was rejected.
fn rejected(
    before: CircuitPhase,
    trial: bool,
    rules: CircuitRules,
    (why, retry): (CredentialUnavailable, bool),
    now: Instant,
) -> (CircuitPhase, CircuitChange) {
    let (failures, again) = match before {
        // The first rejection is the one that is reported.
        CircuitPhase::Open(_) => return (before, CircuitChange::None),
        CircuitPhase::HalfOpen(_) if !trial => return (before, CircuitChange::None),
        CircuitPhase::HalfOpen(opened) => (opened.failures + 1, retry),
        // It may be one odd answer to the probe: Jira accepted the credential a moment ago, and one more wrong password
        // locks nothing yet. A second rejection is final.
        CircuitPhase::Closed => (1, retry || rules.probed),
        // Jira has rejected it twice by now.
        CircuitPhase::Doubted(_) | CircuitPhase::Confirming(_) => (1, retry),
        CircuitPhase::Untried { .. } | CircuitPhase::Testing { .. } => (1, retry),
    };
    let change = match failures {
        1 => CircuitChange::Opened,
        _ => CircuitChange::None,
    };
    let opened = OpenCircuit {
        why,
        retry_at: again.then(|| now + RETRY.after(failures)),
        failures,
    };
    (CircuitPhase::Open(opened), change)
}

/// A request of the vendor was rejected, which concerns it alone until the probe confirms it.
fn doubted(
    before: CircuitPhase,
    why: CredentialUnavailable,
    harmful: bool,
) -> (CircuitPhase, CircuitChange) {
    match before {
        // The probe was rejected just before: that makes two.
        CircuitPhase::Open(opened) if harmful => {
            let opened = OpenCircuit {
                retry_at: None,
                ..opened
            };
            (CircuitPhase::Open(opened), CircuitChange::None)
        }
        CircuitPhase::Open(_) | CircuitPhase::HalfOpen(_) | CircuitPhase::Confirming(_) => {
            (before, CircuitChange::None)
        }
        CircuitPhase::Doubted(doubt) => (CircuitPhase::Doubted(doubt), CircuitChange::None),
        CircuitPhase::Closed | CircuitPhase::Untried { .. } | CircuitPhase::Testing { .. } => {
            let doubt = CircuitDoubt {
                why,
                was_accepted: matches!(before, CircuitPhase::Closed),
                probed: false,
            };
            (CircuitPhase::Doubted(doubt), CircuitChange::Doubted)
        }
    }
}

const UNTRIED: CircuitPhase = CircuitPhase::Untried { probed: false };
const SEND: AdmissionDecision = AdmissionDecision::Send { trial: false };
const SEND_TRIAL: AdmissionDecision = AdmissionDecision::Send { trial: true };
/// Soon enough for one odd answer to pass; a revoked token is tried twelve times an hour, no more.
const RETRY: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_secs(15), Duration::from_secs(300), 2.0);
