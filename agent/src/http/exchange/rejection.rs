//! A request that ends with the agent's own answer, and how many of those get an audit line each.

use super::RequestContext;
use crate::{
    audit::{RedactedTarget, RequestOutcome},
    http::{
        body::{UploadEnd, UploadProgress},
        forward::HttpForward,
        framing::FramingFault,
        pending_record::PendingRecord,
        problem::{HttpProblem, ProblemKind},
        request_id::RequestIds,
    },
    upstream::Delivery,
};
use http::{HeaderMap, Request};

/// A request that ends with the agent's own answer.
pub(super) struct RejectedRequest {
    pub(super) problem: HttpProblem,
    pub(super) outcome: RequestOutcome,
    /// How far its body got, once that was sent to Jira.
    pub(super) upload: UploadEnd,
    pub(super) uploaded: u64,
}

impl RejectedRequest {
    /// Jira gave no answer that may pass.
    pub(super) fn failed(problem: HttpProblem, progress: Option<&UploadProgress>) -> Self {
        let upload = progress.map_or(UploadEnd::Complete, UploadProgress::end);
        Self {
            problem,
            outcome: upload.outcome(),
            upload,
            uploaded: progress.map_or(0, UploadProgress::bytes),
        }
    }

    /// The agent stops, and the time for requests in flight is over.
    pub(super) fn aborted(delivery: Delivery) -> Self {
        let detail = "the agent is stopping, and this request did not finish in time";
        let problem = HttpProblem {
            delivery,
            ..HttpProblem::not_sent(ProblemKind::Stopping, detail)
        };
        Self {
            outcome: RequestOutcome::Failed,
            upload: UploadEnd::Running,
            ..problem.into()
        }
    }

    /// A check runs in the agent's place, and only its own request is answered.
    pub(super) fn not_running() -> Self {
        let detail = "the customer's agent is being set up; nothing was sent to Jira";
        HttpProblem::not_sent(ProblemKind::Paused, detail).into()
    }

    /// In sentences about the tool behind the forward. On the way out, the reader is the administrator of Jira and of the
    /// agent, not the vendor.
    pub(super) fn for_reader(mut self, forward: &HttpForward) -> Self {
        if let Some(tool) = forward.tool_in(self.problem.kind) {
            self.problem = self.problem.about(tool);
        }
        if forward.is_outward() && !self.problem.kind.is_outward() {
            self.problem.remedy = Some(
                "Look up this request_id in the agent's audit; docs/outlets.md explains each type."
                    .into(),
            );
        }
        self
    }

    /// The agent's own answers get an audit line each only up to a number in a minute; one line counts the rest. Past
    /// that number, what policy and framing refuse is answered with that reason. Allowed requests never come here.
    pub(super) fn limit(mut self, forward: &HttpForward, record: &mut PendingRecord) -> Self {
        let kind = self.problem.kind;
        if kind == ProblemKind::AuditUnavailable {
            record.summarize_as(kind.code());
            return self;
        }
        if self.problem.delivery != Delivery::NotSent
            || !kind.is_effortless()
            || forward.refusal_limit().take()
        {
            return self;
        }
        record.summarize_as(kind.code());
        if kind.is_refusal() {
            let most = forward.limits().refusals_per_minute;
            self.problem = self.problem.into_one_too_many(most);
        }
        self
    }
}

impl From<HttpProblem> for RejectedRequest {
    fn from(problem: HttpProblem) -> Self {
        Self {
            problem,
            outcome: RequestOutcome::Refused,
            upload: UploadEnd::Complete,
            uploaded: 0,
        }
    }
}

/// Audits requests that were refused before they could be read. Those past the forward's limit of refusals cost the
/// same, however many there are.
pub(in crate::http) fn audit_unread_refusals(
    context: &RequestContext,
    kind: ProblemKind,
    detail: &'static str,
    count: u64,
) {
    let forward = &context.forward;
    let recorded = (0..count).take_while(|_| forward.refusal_limit().take());
    let recorded = recorded.map(|_| audit_one(context, kind, detail));
    let rest = count - recorded.count() as u64;
    if rest > 0 {
        forward.count_unread_refusals(kind.code(), rest);
    }
}

fn audit_one(context: &RequestContext, kind: ProblemKind, detail: &'static str) {
    context.forward.count_request();
    let ids = RequestIds::of(&HeaderMap::new());
    let fault = FramingFault {
        kind,
        detail: detail.into(),
        method: None,
        target: RedactedTarget::unknown(),
    };
    let (head, ()) = Request::new(()).into_parts();
    let mut record = context.open_record(&head, Some(&fault), &ids);
    let problem = HttpProblem::not_sent(kind, detail);
    record.set_problem(&problem, RequestOutcome::Refused);
}
