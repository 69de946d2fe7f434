//! Stops a credential that Jira refused from being tried again, and lets an untried one that can lock
//! the account be tried by one request at a time: a few wrong passwords lead to a CAPTCHA.
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
    Untried,
    /// A request finds out. Where a wrong credential locks the account, the others wait for it.
    Trying,
    /// Jira took it.
    Proven,
    /// Jira refused it: nothing is sent.
    Open(Opened),
    /// A probe tries a refused credential again; traffic stays refused meanwhile.
    Retrying(Opened),
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
    /// A harmless request of our own.
    Probe,
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

impl Default for Circuit {
    fn default() -> Self {
        Self {
            generation: 0,
            phase: Phase::Untried,
        }
    }
}

impl Circuit {
    /// `locks_out`: whether a few refusals lock the account.
    pub(super) fn admit(
        &mut self,
        generation: u64,
        locks_out: bool,
        asker: Asker,
        now: Instant,
    ) -> Admission {
        if generation < self.generation {
            return Admission::Stale;
        }
        if generation > self.generation {
            *self = Self {
                generation,
                phase: Phase::Untried,
            };
        }
        match std::mem::replace(&mut self.phase, Phase::Untried) {
            Phase::Untried => {
                self.phase = Phase::Trying;
                Admission::Go { trial: true }
            }
            Phase::Trying if locks_out => {
                self.phase = Phase::Trying;
                Admission::Wait
            }
            // Nobody waits behind an upload of many minutes for what does no harm.
            Phase::Trying => {
                self.phase = Phase::Trying;
                Admission::Go { trial: true }
            }
            Phase::Proven => {
                self.phase = Phase::Proven;
                Admission::Go { trial: false }
            }
            Phase::Open(opened)
                if asker == Asker::Probe && opened.retry_at.is_some_and(|at| at <= now) =>
            {
                self.phase = Phase::Retrying(opened);
                Admission::Go { trial: true }
            }
            Phase::Open(opened) => {
                let why = opened.why.clone();
                self.phase = Phase::Open(opened);
                Admission::Refuse(why)
            }
            Phase::Retrying(opened) => {
                let why = opened.why.clone();
                self.phase = Phase::Retrying(opened);
                Admission::Refuse(why)
            }
        }
    }

    /// Tells how an admitted request ended. Returns whether the circuit has just opened.
    pub(super) fn settle(
        &mut self,
        generation: u64,
        trial: bool,
        outcome: Outcome,
        now: Instant,
    ) -> bool {
        if generation != self.generation {
            return false;
        }
        let before = std::mem::replace(&mut self.phase, Phase::Untried);
        let (after, opened) = match (before, outcome) {
            (Phase::Trying, Outcome::Accepted) => (Phase::Proven, false),
            // Of several trials one may have ended undecided before.
            (Phase::Untried | Phase::Retrying(_), Outcome::Accepted) if trial => {
                (Phase::Proven, false)
            }
            (Phase::Trying, Outcome::Undecided) if trial => (Phase::Untried, false),
            (Phase::Retrying(opened), Outcome::Undecided) if trial => (
                Phase::Open(Opened {
                    retry_at: Some(now + pause(opened.failures)),
                    ..opened
                }),
                false,
            ),
            // The first refusal is the one that is told.
            (Phase::Open(opened), Outcome::Rejected { .. }) => (Phase::Open(opened), false),
            (Phase::Retrying(opened), Outcome::Rejected { .. }) if !trial => {
                (Phase::Retrying(opened), false)
            }
            (before, Outcome::Rejected { why, retry }) => {
                let (failures, news) = match before {
                    Phase::Retrying(opened) => (opened.failures + 1, false),
                    _ => (1, true),
                };
                let opened = Opened {
                    why,
                    retry_at: retry.then(|| now + pause(failures)),
                    failures,
                };
                (Phase::Open(opened), news)
            }
            (before, _) => (before, false),
        };
        self.phase = after;
        opened
    }

    /// Why nothing is sent, while it is open.
    pub(super) fn refusal(&self) -> Option<Unavailable> {
        match &self.phase {
            Phase::Open(opened) | Phase::Retrying(opened) => Some(opened.why.clone()),
            Phase::Untried | Phase::Trying | Phase::Proven => None,
        }
    }

    /// Lets the credential be tried again, whatever is known of it.
    pub(super) fn reset(&mut self) {
        self.phase = Phase::Untried;
    }
}

/// Doubling from [`FIRST_RETRY`] to [`LAST_RETRY`].
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (FIRST_RETRY * (1 << doublings)).min(LAST_RETRY)
}

/// Soon enough to shrug off one odd answer.
const FIRST_RETRY: Duration = Duration::from_secs(15);
/// A revoked token is asked about twelve times an hour, no more.
const LAST_RETRY: Duration = Duration::from_secs(300);
