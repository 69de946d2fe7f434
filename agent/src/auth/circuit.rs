//! Stops a credential that Jira refused from being tried again. Only the agent's own probe of the login
//! decides that: what one path answers fails that request alone, and asks for the probe.
//!
//! Where a few wrong passwords lead to a CAPTCHA, an untried credential is tried by the probe first, and
//! one that a request was refused with is held until the probe has decided. So a wrong password reaches
//! Jira once where its file is new, and at most once more than that where Jira has changed it.
//!
//! A state machine without clock or sockets; `inject` asks it and tells it.

use super::Unavailable;
use std::time::Duration;
use tokio::time::Instant;

/// The circuit of one forward's credential.
#[derive(Debug)]
pub(super) struct Circuit {
    generation: u64,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Nobody knows yet whether Jira takes this credential.
    Untried {
        /// The probe has had its turn, and nothing came of it: a request may find out.
        probed: bool,
    },
    /// Somebody finds out.
    Trying { probed: bool },
    /// Jira took it.
    Proven,
    /// Jira took it, and then a request was refused: the probe is to find out.
    Doubted(Doubt),
    /// The probe finds out.
    Confirming(Doubt),
    /// Jira refused it: nothing is sent.
    Open(Opened),
    /// A probe tries a refused credential again; traffic stays refused meanwhile.
    Retrying(Opened),
}

#[derive(Debug)]
struct Doubt {
    /// As the request was refused.
    why: Unavailable,
    /// Jira had taken it before.
    taken: bool,
    /// The probe has had its turn, and nothing came of it.
    probed: bool,
}

#[derive(Debug)]
struct Opened {
    why: Unavailable,
    /// `None`: only another credential or an administrator closes it.
    retry_at: Option<Instant>,
    failures: u32,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// A request of the vendor.
    Traffic,
    /// The agent's own request for the login that it is (`myself`).
    Probe,
    /// Another request of the agent's own, which decides nothing.
    Question,
}

/// What holds for one credential.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// A few refusals lock the account.
    pub(super) locks_out: bool,
    /// Somebody probes the login. If nobody does, requests find out themselves.
    pub(super) probed: bool,
}

/// What a request may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// Be sent. A trial must be settled.
    Go {
        /// Whether Jira has not yet taken this credential; others may wait for the outcome.
        trial: bool,
    },
    /// Ask again when the circuit has changed.
    Wait,
    /// Its credential is an old one: fetch the current one and ask again.
    Stale,
    /// Not be sent.
    Refuse(Unavailable),
}

/// How a request ended, as far as the login goes.
#[derive(Debug)]
pub(super) enum Outcome {
    Accepted,
    Undecided,
    Rejected {
        why: Unavailable,
        /// Whether trying it again later does no harm.
        retry: bool,
    },
}

/// What an outcome has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// A request was refused, and the probe is to find out.
    Doubted,
    /// From now on nothing is sent.
    Opened,
}

impl Default for Circuit {
    fn default() -> Self {
        Self {
            generation: 0,
            phase: UNTRIED,
        }
    }
}

impl Circuit {
    pub(super) fn admit(
        &mut self,
        generation: u64,
        rules: Rules,
        asker: Asker,
        now: Instant,
    ) -> Admission {
        if generation < self.generation {
            return Admission::Stale;
        }
        if generation > self.generation {
            *self = Self {
                generation,
                phase: UNTRIED,
            };
        }
        let probe = asker == Asker::Probe;
        let holds = rules.locks_out && !probe;
        let (phase, admission) = match std::mem::replace(&mut self.phase, UNTRIED) {
            Phase::Untried { probed: false } if holds && rules.probed => (UNTRIED, Admission::Wait),
            Phase::Untried { probed } => (Phase::Trying { probed }, GO_TRIAL),
            Phase::Trying { probed } if rules.locks_out => {
                (Phase::Trying { probed }, Admission::Wait)
            }
            // Nobody waits behind an upload of many minutes for what does no harm.
            Phase::Trying { probed } => (Phase::Trying { probed }, GO_TRIAL),
            Phase::Proven => (Phase::Proven, GO),
            Phase::Doubted(doubt) if probe => (Phase::Confirming(doubt), GO_TRIAL),
            Phase::Doubted(doubt) if holds && doubt.probed => {
                let why = doubt.why.clone();
                (Phase::Doubted(doubt), Admission::Refuse(why))
            }
            Phase::Doubted(doubt) if holds => (Phase::Doubted(doubt), Admission::Wait),
            Phase::Doubted(doubt) => (Phase::Doubted(doubt), GO),
            Phase::Confirming(doubt) if rules.locks_out => {
                (Phase::Confirming(doubt), Admission::Wait)
            }
            Phase::Confirming(doubt) => (Phase::Confirming(doubt), GO),
            Phase::Open(opened) if probe && opened.retry_at.is_some_and(|at| at <= now) => {
                (Phase::Retrying(opened), GO_TRIAL)
            }
            Phase::Open(opened) => {
                let why = opened.why.clone();
                (Phase::Open(opened), Admission::Refuse(why))
            }
            Phase::Retrying(opened) => {
                let why = opened.why.clone();
                (Phase::Retrying(opened), Admission::Refuse(why))
            }
        };
        self.phase = phase;
        admission
    }

    /// Tells how an admitted request ended.
    pub(super) fn settle(
        &mut self,
        generation: u64,
        rules: Rules,
        asker: Asker,
        trial: bool,
        outcome: Outcome,
        now: Instant,
    ) -> Change {
        if generation != self.generation {
            return Change::None;
        }
        let decides = asker == Asker::Probe || (!rules.probed && asker == Asker::Traffic);
        let before = std::mem::replace(&mut self.phase, UNTRIED);
        let (after, change) = match outcome {
            Outcome::Accepted => (accepted(before, trial, decides), Change::None),
            Outcome::Undecided => (undecided(before, trial, asker, now), Change::None),
            Outcome::Rejected { why, retry } if decides => {
                rejected(before, trial, rules, (why, retry), now)
            }
            Outcome::Rejected { why, retry } => doubted(before, why, rules.locks_out && !retry),
        };
        self.phase = after;
        change
    }

    /// Why nothing is sent, while it is open.
    pub(super) fn refusal(&self) -> Option<Unavailable> {
        match &self.phase {
            Phase::Open(opened) | Phase::Retrying(opened) => Some(opened.why.clone()),
            _ => None,
        }
    }

    /// Whether Jira has ever taken this credential, as far as nothing has decided otherwise since.
    pub(super) fn was_taken(&self) -> bool {
        match &self.phase {
            Phase::Proven => true,
            Phase::Doubted(doubt) | Phase::Confirming(doubt) => doubt.taken,
            _ => false,
        }
    }

    /// Whether a request was refused and the probe has not decided since.
    pub(super) fn is_doubted(&self) -> bool {
        matches!(self.phase, Phase::Doubted(_) | Phase::Confirming(_))
    }

    /// Whether a request or the probe was refused, and nothing has shown since that Jira takes the credential.
    pub(super) fn is_doubted_or_open(&self) -> bool {
        self.is_doubted() || matches!(self.phase, Phase::Open(_) | Phase::Retrying(_))
    }

    /// What the probe has made of a refusal of this generation: whether Jira takes a later credential. `None` while it
    /// is still finding out.
    pub(super) fn decided_beyond(&self, generation: u64) -> Option<bool> {
        match &self.phase {
            Phase::Doubted(doubt) if doubt.probed => Some(false),
            Phase::Untried { probed: true } => Some(false),
            Phase::Untried { .. } | Phase::Trying { .. } => None,
            Phase::Doubted(_) | Phase::Confirming(_) => None,
            Phase::Proven => Some(self.generation > generation),
            Phase::Open(_) | Phase::Retrying(_) => Some(false),
        }
    }

    /// Lets the credential be tried again, whatever is known of it.
    pub(super) fn reset(&mut self) {
        self.phase = UNTRIED;
    }
}

/// `decides`: by the probe, or by whoever stands in for it.
fn accepted(before: Phase, trial: bool, decides: bool) -> Phase {
    match before {
        Phase::Trying { .. } => Phase::Proven,
        // Of several trials one may have ended undecided before.
        Phase::Untried { .. } if trial => Phase::Proven,
        Phase::Retrying(_) if trial => Phase::Proven,
        // A request that was sent before the doubt may be answered after it.
        Phase::Doubted(_) | Phase::Confirming(_) if decides => Phase::Proven,
        before => before,
    }
}

fn undecided(before: Phase, trial: bool, asker: Asker, now: Instant) -> Phase {
    let probe = asker == Asker::Probe;
    match before {
        Phase::Trying { probed } if trial => Phase::Untried {
            probed: probed || probe,
        },
        Phase::Untried { probed } if trial => Phase::Untried {
            probed: probed || probe,
        },
        Phase::Confirming(doubt) if probe => Phase::Doubted(Doubt {
            probed: true,
            ..doubt
        }),
        Phase::Retrying(opened) if trial => Phase::Open(Opened {
            retry_at: Some(now + pause(opened.failures)),
            ..opened
        }),
        before => before,
    }
}

/// By whoever decides.
fn rejected(
    before: Phase,
    trial: bool,
    rules: Rules,
    (why, retry): (Unavailable, bool),
    now: Instant,
) -> (Phase, Change) {
    let (failures, again) = match before {
        // The first refusal is the one that is told.
        Phase::Open(_) => return (before, Change::None),
        Phase::Retrying(_) if !trial => return (before, Change::None),
        Phase::Retrying(opened) => (opened.failures + 1, retry),
        // One odd answer to the probe itself: Jira took the credential a moment ago, and one wrong password more
        // locks nothing yet. A second refusal stays.
        Phase::Proven => (1, retry || rules.probed),
        // Jira has refused it twice by now.
        Phase::Doubted(_) | Phase::Confirming(_) => (1, retry),
        Phase::Untried { .. } | Phase::Trying { .. } => (1, retry),
    };
    let change = match failures {
        1 => Change::Opened,
        _ => Change::None,
    };
    let opened = Opened {
        why,
        retry_at: again.then(|| now + pause(failures)),
        failures,
    };
    (Phase::Open(opened), change)
}

/// By a request of the vendor, whose answer is its own affair until the probe has said the same.
fn doubted(before: Phase, why: Unavailable, harmful: bool) -> (Phase, Change) {
    match before {
        // The probe was refused just before: that makes two.
        Phase::Open(opened) if harmful => {
            let opened = Opened {
                retry_at: None,
                ..opened
            };
            (Phase::Open(opened), Change::None)
        }
        Phase::Open(_) | Phase::Retrying(_) | Phase::Confirming(_) => (before, Change::None),
        Phase::Doubted(doubt) => (Phase::Doubted(doubt), Change::None),
        Phase::Proven | Phase::Untried { .. } | Phase::Trying { .. } => {
            let doubt = Doubt {
                why,
                taken: matches!(before, Phase::Proven),
                probed: false,
            };
            (Phase::Doubted(doubt), Change::Doubted)
        }
    }
}

/// Doubling from [`FIRST_RETRY`] to [`LAST_RETRY`].
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_RETRY * (1 << doublings)).min(LAST_RETRY)
}

const UNTRIED: Phase = Phase::Untried { probed: false };
const GO: Admission = Admission::Go { trial: false };
const GO_TRIAL: Admission = Admission::Go { trial: true };
/// Soon enough to shrug off one odd answer.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// A revoked token is asked about twelve times an hour, no more.
const LAST_RETRY: Duration = Duration::from_secs(300);
