//! The turn of one request: from the moment at which it may be sent to the end of its answer.

use super::{
    ProtectionState, UpstreamProtection,
    breaker::TrialStart,
    rate_gate::{GatedRequest, RequesterKey},
};
use crate::upstream::{SendError, exchange::SendProgress};
use http::{HeaderMap, Method, StatusCode};
use std::sync::Arc;
use tokio::time::Instant;

/// What the protection has to know of a request.
pub(in crate::upstream) struct ProtectedRequest {
    pub(in crate::upstream) requester: RequesterKey,
    pub(in crate::upstream) method: Method,
    pub(in crate::upstream) path: String,
}

impl ProtectedRequest {
    pub(super) fn gated(&self) -> GatedRequest<'_> {
        GatedRequest {
            requester: self.requester,
            method: &self.method,
            path: &self.path,
        }
    }
}

/// The turn of one request, until it is dropped.
pub(in crate::upstream) struct UpstreamPermit {
    protection: Arc<UpstreamProtection>,
    id: u64,
    pub(super) request: Option<ProtectedRequest>,
}

pub(super) struct TurnHolder {
    pub(super) since: Instant,
    /// Without, its turn says nothing about how long Jira takes.
    was_sent: bool,
    /// Until its answer begins.
    pub(super) unanswered: Option<Arc<SendProgress>>,
    pub(super) trial: Option<TrialStart>,
}

impl UpstreamProtection {
    pub(super) fn begin(
        self: &Arc<Self>,
        state: &mut ProtectionState,
        now: Instant,
        trial: Option<TrialStart>,
    ) -> UpstreamPermit {
        let id = state.id();
        let holder = TurnHolder {
            since: now,
            was_sent: false,
            unanswered: None,
            trial,
        };
        state.turn_holders.insert(id, holder);
        let in_use = state.turn_holders.len();
        state.concurrency.in_use(in_use);
        UpstreamPermit {
            protection: Arc::clone(self),
            id,
            request: None,
        }
    }

    fn end(self: &Arc<Self>, id: u64) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(holder) = state.turn_holders.remove(&id) {
            if holder.was_sent {
                state.turns.add(now.saturating_duration_since(holder.since));
            }
            state.last_end = now;
            // An answer has ended it already, and a failed connection.
            if let Some(trial) = holder.trial {
                state.breaker.trial_ended(trial);
            }
        }
        state.observe(now);
        let gone = self.grant(&mut state, now);
        drop(state);
        drop(gone);
    }
}

impl UpstreamPermit {
    /// The request is being sent; from now on Jira is expected to take it and to answer.
    pub(in crate::upstream) fn sent(&self, progress: &Arc<SendProgress>) {
        let mut state = self.protection.state.lock();
        if let Some(holder) = state.turn_holders.get_mut(&self.id) {
            holder.was_sent = true;
            holder.unanswered = Some(Arc::clone(progress));
        }
    }

    /// The head of the answer is here.
    pub(in crate::upstream) fn answered(&self, status: StatusCode, headers: &HeaderMap) {
        let now = Instant::now();
        let mut state = self.protection.state.lock();
        let holder = state.turn_holders.get_mut(&self.id);
        let progress = holder.and_then(|holder| holder.unanswered.take());
        // An upload that Jira answers early did not wait.
        let took = progress.and_then(|progress| progress.waited_for_jira());
        let took = took.unwrap_or_default();
        state.heads.add(took);
        state.concurrency.answered(took);
        let is_new = state.gate.waiting(now).is_none();
        let asks = self
            .request
            .as_ref()
            .is_some_and(|request| state.gate.answered(now, request.gated(), status, headers));
        if asks && is_new {
            tracing::info!(
                status = status.as_u16(),
                "{}",
                state.profile.reword(
                    "Jira asks to be called again later; such requests are answered without it until then"
                )
            );
        }
        let change = state.breaker.answered(now);
        state.apply(change);
    }

    /// The connection failed: see [`UpstreamProtection::connect_failed`].
    pub(in crate::upstream) fn connect_failed(&self, error: &SendError) {
        self.protection.connect_failed(error);
    }
}

impl Drop for UpstreamPermit {
    fn drop(&mut self) {
        self.protection.end(self.id);
    }
}
