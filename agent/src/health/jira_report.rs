//! Tells status, log and breaker what the probes of Jira find, and the probes what the requests of the data path do.

use super::{
    PROBE_PATIENCE,
    jira::{ProbeFailure, ProbeReach},
};
use crate::{
    status::{LayerReporter, ProofState, StatusLayer},
    upstream::{ProbeOutcome, ProtectionSnapshot, Upstream},
};
use std::{sync::Arc, time::Duration};

/// Between the probes of one forward, its layer `jira`, and its requests.
pub(super) struct JiraReport {
    forward: Arc<str>,
    /// The connections of the data path, whose requests show when Jira is silent.
    pub(super) upstream: Option<Arc<Upstream>>,
    layer: Arc<StatusLayer>,
    reporter: LayerReporter,
}

impl JiraReport {
    pub(super) fn new(forward: Arc<str>, layer: Arc<StatusLayer>) -> Self {
        Self {
            forward,
            upstream: None,
            reporter: LayerReporter::new(layer.clone()),
            layer,
        }
    }

    /// What the data path to Jira does now; nothing, where there are no requests to look at.
    pub(super) fn protection(&self) -> ProtectionSnapshot {
        let span = tracing::error_span!("protection", forward = &*self.forward);
        let upstream = self.upstream.as_ref();
        upstream.map_or_else(ProtectionSnapshot::default, |upstream| {
            span.in_scope(|| upstream.protection())
        })
    }

    /// What the probe found counts for the breaker of the data path. Its failed connections do not: a request's own do.
    pub(super) fn inform_protection(
        &self,
        result: &Result<String, ProbeFailure>,
        waited: Duration,
    ) {
        let Some(upstream) = &self.upstream else {
            return;
        };
        let reach = result.as_ref().map_err(|failure| failure.reach);
        let outcome = match reach {
            Ok(_) => ProbeOutcome::Well,
            Err(ProbeReach::Answered) => ProbeOutcome::Answered,
            Err(ProbeReach::Unanswered) => ProbeOutcome::Unanswered { waited },
            Err(ProbeReach::NotConnected) => return,
        };
        let span = tracing::error_span!("protection", forward = &*self.forward);
        span.in_scope(|| upstream.probe_ended(outcome));
    }

    /// What the probe found, for the layer and the log.
    pub(super) fn found(&self, result: &Result<String, ProbeFailure>) {
        match result {
            Ok(detail) => {
                if self.reporter.proven(Some(detail)) {
                    tracing::info!(
                        forward = &*self.forward,
                        "{}{detail}",
                        self.layer.reword("the probe of Jira succeeded: ")
                    );
                }
            }
            Err(ProbeFailure {
                state,
                cause,
                remedy,
                is_foreign: _,
                reach: _,
            }) => {
                if self.reporter.failed(*state, cause, remedy) {
                    self.warn(cause, remedy, "the probe of Jira failed");
                }
            }
        }
    }

    /// The probe has got no answer for a while, and still may get one. A layer that something has proven meanwhile stays
    /// proven. `silent`: how many requests wait, and for how long.
    pub(super) fn late(&self, silent: Option<(usize, Duration)>) {
        let snapshot = self.layer.snapshot();
        let is_proven_since = snapshot
            .proven_at
            .is_some_and(|at| at.elapsed() < PROBE_PATIENCE);
        if snapshot.state != ProofState::Proven || is_proven_since {
            return;
        }
        let waiting = match silent {
            Some((1, longest)) => format!(", and a request waits for {} s", longest.as_secs()),
            Some((count, longest)) => format!(
                ", and {count} requests wait, the longest for {} s",
                longest.as_secs()
            ),
            None => String::new(),
        };
        let cause = format!(
            "Jira has not answered the agent's probe for {} s{waiting}",
            PROBE_PATIENCE.as_secs()
        );
        if self
            .reporter
            .failed(ProofState::Degraded, &cause, SILENT_REMEDY)
        {
            self.warn(&cause, SILENT_REMEDY, "Jira does not answer");
        }
    }

    fn warn(&self, cause: &str, remedy: &str, message: &str) {
        let [cause, remedy, message] = [cause, remedy, message].map(|text| self.layer.reword(text));
        tracing::warn!(
            forward = &*self.forward,
            cause = &*cause,
            remedy = &*remedy,
            "{message}"
        );
    }
}

const SILENT_REMEDY: &str = "look why Jira does not answer: its own log, garbage collection, threads, database; the agent notices by itself when it does";
