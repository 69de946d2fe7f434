//! Stops a credential that Jira refused from being tried again. Only the agent's own probe of the login
//! decides that: what one path answers fails that request alone, and asks for the probe.
//!
//! Where a few wrong passwords lead to a CAPTCHA, an untried credential is tried by the probe first, and
//! one that a request was refused with is held until the probe has decided. So a wrong password reaches
//! Jira once where its file is new, and at most once more than that where Jira has changed it.
//!
//! A state machine without clock or sockets; `inject` asks it and tells it.

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
    /// Nobody knows yet whether Jira takes this credential.
    Untried {
        /// The probe has had its turn, and nothing came of it: a request may find out.
        probed: bool,
    },
    /// Somebody finds out.
    Testing { probed: bool },
    /// Jira took it.
    Closed,
    /// Jira took it, and then a request was refused: the probe is to find out.
    Doubted(CircuitDoubt),
    /// The probe finds out.
    Confirming(CircuitDoubt),
    /// Jira refused it: nothing is sent.
    Open(OpenCircuit),
    /// A probe tries a refused credential again; traffic stays refused meanwhile.
    HalfOpen(OpenCircuit),
}

#[derive(Debug)]
struct CircuitDoubt {
    /// As the request was refused.
    why: CredentialUnavailable,
    /// Jira had taken it before.
    was_accepted: bool,
    /// The probe has had its turn, and nothing came of it.
    probed: bool,
}

#[derive(Debug)]
struct OpenCircuit {
    why: CredentialUnavailable,
    /// `None`: only another credential or an administrator closes it.
    retry_at: Option<Instant>,
    failures: u32,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CallerKind {
    /// A request of the vendor.
    Traffic,
    /// The agent's own request for the login that it is (`myself`).
    Probe,
    /// Another request of the agent's own, which decides nothing.
    Auxiliary,
}

/// What holds for one credential.
#[derive(Clone, Copy, Debug)]
pub(super) struct CircuitRules {
    /// A few refusals lock the account.
    pub(super) locks_out: bool,
    /// Somebody probes the login. If nobody does, requests find out themselves.
    pub(super) probed: bool,
}

/// What a request may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AdmissionDecision {
    /// Be sent. A trial must be settled.
    Send {
        /// Whether Jira has not yet taken this credential; others may wait for the outcome.
        trial: bool,
    },
    /// Ask again when the circuit has changed.
    Wait,
    /// Its credential is an old one: fetch the current one and ask again.
    Stale,
    /// The request must not be sent; the value says why.
    Refuse(CredentialUnavailable),
}

/// How a request ended, as far as the login goes.
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
    /// A request was refused, and the probe is to find out.
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
        let holds = rules.locks_out && !probe;
        let (phase, admission) = match std::mem::replace(&mut self.phase, UNTRIED) {
            CircuitPhase::Untried { probed: false } if holds && rules.probed => {
                (UNTRIED, AdmissionDecision::Wait)
            }
            CircuitPhase::Untried { probed } => (CircuitPhase::Testing { probed }, SEND_TRIAL),
            CircuitPhase::Testing { probed } if rules.locks_out => {
                (CircuitPhase::Testing { probed }, AdmissionDecision::Wait)
            }
            // Nobody waits behind an upload of many minutes for what does no harm.
            CircuitPhase::Testing { probed } => (CircuitPhase::Testing { probed }, SEND_TRIAL),
            CircuitPhase::Closed => (CircuitPhase::Closed, SEND),
            CircuitPhase::Doubted(doubt) if probe => (CircuitPhase::Confirming(doubt), SEND_TRIAL),
            CircuitPhase::Doubted(doubt) if holds && doubt.probed => {
                let why = doubt.why.clone();
                (CircuitPhase::Doubted(doubt), AdmissionDecision::Refuse(why))
            }
            CircuitPhase::Doubted(doubt) if holds => {
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

    /// Tells how an admitted request ended.
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
            _ => None,
        }
    }

    /// Whether Jira has ever taken this credential, as far as nothing has decided otherwise since.
    pub(super) fn was_accepted(&self) -> bool {
        match &self.phase {
            CircuitPhase::Closed => true,
            CircuitPhase::Doubted(doubt) | CircuitPhase::Confirming(doubt) => doubt.was_accepted,
            _ => false,
        }
    }

    /// Whether a request was refused and the probe has not decided since.
    pub(super) fn is_doubted(&self) -> bool {
        matches!(
            self.phase,
            CircuitPhase::Doubted(_) | CircuitPhase::Confirming(_)
        )
    }

    /// Whether a request or the probe was refused, and nothing has shown since that Jira takes the credential.
    pub(super) fn is_doubted_or_open(&self) -> bool {
        self.is_doubted()
            || matches!(
                self.phase,
                CircuitPhase::Open(_) | CircuitPhase::HalfOpen(_)
            )
    }

    /// What the probe has made of a refusal of this generation: whether Jira takes a later credential. `None` while it
    /// is still finding out.
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

    /// Lets the credential be tried again, whatever is known of it.
    pub(super) fn reset(&mut self) {
        self.phase = UNTRIED;
    }
}

/// `decides`: by the probe, or by whoever stands in for it.
fn accepted(before: CircuitPhase, trial: bool, decides: bool) -> CircuitPhase {
    match before {
        CircuitPhase::Testing { .. } => CircuitPhase::Closed,
        // Of several trials one may have ended undecided before.
        CircuitPhase::Untried { .. } if trial => CircuitPhase::Closed,
        CircuitPhase::HalfOpen(_) if trial => CircuitPhase::Closed,
        // A request that was sent before the doubt may be answered after it.
        CircuitPhase::Doubted(_) | CircuitPhase::Confirming(_) if decides => CircuitPhase::Closed,
        before => before,
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
        before => before,
    }
}

/// By whoever decides.
fn rejected(
    before: CircuitPhase,
    trial: bool,
    rules: CircuitRules,
    (why, retry): (CredentialUnavailable, bool),
    now: Instant,
) -> (CircuitPhase, CircuitChange) {
    let (failures, again) = match before {
        // The first refusal is the one that is told.
        CircuitPhase::Open(_) => return (before, CircuitChange::None),
        CircuitPhase::HalfOpen(_) if !trial => return (before, CircuitChange::None),
        CircuitPhase::HalfOpen(opened) => (opened.failures + 1, retry),
        // One odd answer to the probe itself: Jira took the credential a moment ago, and one wrong password more
        // locks nothing yet. A second refusal stays.
        CircuitPhase::Closed => (1, retry || rules.probed),
        // Jira has refused it twice by now.
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

/// By a request of the vendor, whose answer is its own affair until the probe has said the same.
fn doubted(
    before: CircuitPhase,
    why: CredentialUnavailable,
    harmful: bool,
) -> (CircuitPhase, CircuitChange) {
    match before {
        // The probe was refused just before: that makes two.
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
