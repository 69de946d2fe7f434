//! Stops requests to a Jira that takes no connections, or takes requests and answers none. While it is open they fail at
//! once, and one trial at a time finds out whether Jira is back.
//!
//! One slow path is no reason: an answer to any request, and an answered probe, show that Jira answers.
//! The circuit of the credential (`auth/circuit.rs`) is another matter: there Jira answers, and rejects the credential.
//!
//! A state machine without clock or sockets.

use crate::upstream::FailedStep;
use std::time::Duration;
use tokio::time::Instant;

/// The breaker of one upstream.
#[derive(Debug)]
pub(super) struct UpstreamBreaker {
    /// Connections that failed one after the other.
    failures: u32,
    /// When any request last got an answer; at first the start.
    last_answer: Instant,
    /// When the agent's own probe last got no answer, if nothing was answered since.
    probe_failed: Option<Instant>,
    open: Option<OpenBreaker>,
}

#[derive(Debug)]
struct OpenBreaker {
    why: BreakerReason,
    /// From when on a trial may begin.
    next_trial: Instant,
    /// When the present trial began.
    trial: Option<TrialStart>,
}

/// Why nothing is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BreakerReason {
    /// Connections fail in this step, with the detail of the last failure.
    Connect(FailedStep, String),
    /// No request gets an answer; for how long already.
    Silent(Duration),
}

/// What a request may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BreakerDecision {
    /// Be sent.
    Send,
    /// Be sent, as the only one for now.
    Trial(TrialStart),
    /// Not be sent.
    Refuse(BreakerReason),
}

/// When a trial began, by which its end is told from that of another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TrialStart(Instant);

/// What an event has changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BreakerChange {
    /// From now on requests fail at once.
    Opened(BreakerReason),
    /// Requests are sent again.
    Closed,
}

impl UpstreamBreaker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            failures: 0,
            last_answer: now,
            probe_failed: None,
            open: None,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// When any request last got an answer.
    pub(super) fn last_answer(&self) -> Instant {
        self.last_answer
    }

    /// Whether a request may be sent. `harmless`: it may fail after it was sent without a need to look whether it
    /// was carried out.
    pub(super) fn admit(&mut self, now: Instant, harmless: bool) -> BreakerDecision {
        let Some(open) = &mut self.open else {
            return BreakerDecision::Send;
        };
        let is_tried = open
            .trial
            .is_some_and(|TrialStart(since)| now.saturating_duration_since(since) < TRIAL_PATIENCE);
        let probe_tries = self
            .probe_failed
            .is_some_and(|at| now.saturating_duration_since(at) < PROBE_TRIES);
        let earliest = match (&open.why, harmless) {
            // It waits for an answer in place of a request of the vendor. Its path alone may be blocked: a request tries
            // too, seldom.
            (BreakerReason::Silent(_), true) if probe_tries => open.next_trial + REQUEST_WAITS,
            (BreakerReason::Silent(_), false) if probe_tries => {
                open.next_trial + REQUEST_WAITS + WRITE_WAITS
            }
            (BreakerReason::Silent(_), false) => open.next_trial + WRITE_WAITS,
            (BreakerReason::Silent(_) | BreakerReason::Connect(..), _) => open.next_trial,
        };
        if is_tried || now < earliest {
            return BreakerDecision::Refuse(open.why.clone());
        }
        let trial = TrialStart(now);
        open.trial = Some(trial);
        open.next_trial = now + TRIAL_PAUSE;
        BreakerDecision::Trial(trial)
    }

    /// A request got the head of an answer, whatever it says.
    pub(super) fn answered(&mut self, now: Instant) -> Option<BreakerChange> {
        self.failures = 0;
        self.last_answer = now;
        self.probe_failed = None;
        self.open.take().map(|_| BreakerChange::Closed)
    }

    /// A connection failed in this step.
    pub(super) fn connect_failed(
        &mut self,
        now: Instant,
        step: FailedStep,
        detail: &str,
    ) -> Option<BreakerChange> {
        self.failures = self.failures.saturating_add(1);
        if let Some(open) = &mut self.open {
            open.trial = None;
            open.next_trial = now + TRIAL_PAUSE;
            open.why = BreakerReason::Connect(step, detail.to_owned());
            return None;
        }
        if self.failures < FAILURES {
            return None;
        }
        self.open(now, BreakerReason::Connect(step, detail.to_owned()))
    }

    /// The agent's own probe got no answer, and waited this long for it. A connection that breaks at once is no silence.
    /// Alone it opens nothing: a firewall may drop the probe's path and no other.
    pub(super) fn probe_failed(&mut self, now: Instant, waited: Duration) {
        if waited < LEAST_SILENCE {
            return;
        }
        self.probe_failed = Some(now);
        let silence = now.saturating_duration_since(self.last_answer);
        if let Some(open) = &mut self.open {
            // It was connected, whatever failed before.
            open.why = BreakerReason::Silent(silence);
        }
    }

    /// Looks at the requests that Jira has let wait for these times: opens if several wait for many times the usual, and
    /// none got an answer meanwhile.
    pub(super) fn observe(
        &mut self,
        now: Instant,
        waits: &[Duration],
        usual: Option<Duration>,
    ) -> Option<BreakerChange> {
        let patience = patience(usual);
        let silence = now.saturating_duration_since(self.last_answer);
        if self.open.is_some() || silence < patience {
            return None;
        }
        let waiting = waits.iter().filter(|wait| **wait >= patience).count();
        // With the probe, one request is the second witness.
        let several = if self.probe_failed.is_some() {
            1
        } else {
            SEVERAL
        };
        if waiting < several {
            return None;
        }
        self.open(now, BreakerReason::Silent(silence))
    }

    /// This trial ended without an answer and without a failure: its vendor left, or it ran into its deadline. Another one
    /// may have begun since.
    pub(super) fn trial_ended(&mut self, trial: TrialStart) {
        if let Some(open) = &mut self.open
            && open.trial == Some(trial)
        {
            open.trial = None;
        }
    }

    fn open(&mut self, now: Instant, why: BreakerReason) -> Option<BreakerChange> {
        self.open = Some(OpenBreaker {
            why: why.clone(),
            next_trial: now + TRIAL_PAUSE,
            trial: None,
        });
        Some(BreakerChange::Opened(why))
    }
}

/// How long a request may wait for an answer before it counts as not answered.
fn patience(usual: Option<Duration>) -> Duration {
    let usual = usual.unwrap_or_default();
    (usual * MANY_TIMES).clamp(LEAST_PATIENCE, MOST_PATIENCE)
}

/// Connections that fail one after the other. One or two may be a restart, or an address that moves.
const FAILURES: u32 = 3;
/// Requests that wait at once. Fewer may have met one slow path.
const SEVERAL: usize = 3;
/// Of what is usual.
const MANY_TIMES: u32 = 20;
/// A probe that fails sooner was not kept waiting.
const LEAST_SILENCE: Duration = Duration::from_secs(3);
/// A slow search, or Jira's garbage collection, takes seconds.
const LEAST_PATIENCE: Duration = Duration::from_secs(10);
/// Below the default of `response_timeout`, where usual answers take long.
const MOST_PATIENCE: Duration = Duration::from_secs(60);
/// Between two trials: what a Jira that is back waits at most for the first request.
pub(super) const TRIAL_PAUSE: Duration = Duration::from_secs(1);
/// After this, a trial without an answer no longer keeps the next one waiting.
const TRIAL_PATIENCE: Duration = Duration::from_secs(10);
/// After a probe without an answer, the next ones try for this long: longer than one probe takes and the pause behind it.
const PROBE_TRIES: Duration = Duration::from_secs(30);
/// While the probe tries: a request that Jira does not answer waits for up to `response_timeout`.
const REQUEST_WAITS: Duration = Duration::from_secs(30);
/// A write that Jira does not answer may have been carried out: for this long only reads and the probe try.
const WRITE_WAITS: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
