//! The audit record of a request while it is being answered: submitted exactly once, when dropped.

use super::problem::HttpProblem;
use crate::{
    audit::{AuditHandle, AuditRecord, AuditedEvent, RecordPermit, RequestOutcome},
    metrics::TrafficCounters,
    upstream::Delivery,
};
use http::{HeaderValue, StatusCode};
use std::{sync::Arc, time::Instant};

/// Until another outcome is set the vendor has disconnected: that is what a dropped request means.
pub(super) struct PendingRecord {
    audit: AuditHandle,
    traffic: Arc<TrafficCounters>,
    started: Instant,
    /// `None` once submitted.
    record: Option<Box<AuditRecord>>,
    /// Its place in the writer's queue, once that has been reserved.
    permit: Option<RecordPermit>,
    /// The error code under which it is counted with others instead of recorded.
    summarized_as: Option<&'static str>,
}

impl PendingRecord {
    pub(super) fn new(
        audit: AuditHandle,
        traffic: Arc<TrafficCounters>,
        record: AuditRecord,
    ) -> Self {
        Self {
            audit,
            traffic,
            started: Instant::now(),
            record: Some(Box::new(record)),
            permit: None,
            summarized_as: None,
        }
    }

    /// The record has a place in the writer's queue from now on.
    pub(super) fn set_permit(&mut self, permit: RecordPermit) {
        self.permit = Some(permit);
    }

    /// The request is counted with others of this error code, and gets no line.
    pub(super) fn summarize_as(&mut self, error: &'static str) {
        self.summarized_as = Some(error);
    }

    /// The policy allowed the request by this rule.
    pub(super) fn set_allowed(&mut self, rule: Arc<str>) {
        self.edit(|record| {
            record.allowed = true;
            record.rule = Some(rule);
        });
    }

    /// The rule that refused the request.
    pub(super) fn set_rule(&mut self, rule: Option<Arc<str>>) {
        self.edit(|record| record.rule = rule);
    }

    /// From now on Jira may have seen the request.
    pub(super) fn set_sending(&mut self) {
        self.edit(|record| record.delivery = Delivery::MaybeSent);
    }

    /// How far the request got.
    pub(super) fn delivery(&self) -> Delivery {
        let record = self.record.as_ref();
        record.map_or(Delivery::MaybeSent, |record| record.delivery)
    }

    /// Jira's answer has begun, in the name of this user.
    pub(super) fn set_answered(&mut self, user: Option<HeaderValue>) {
        let elapsed = self.started.elapsed();
        self.edit(|record| {
            record.delivery = Delivery::Answered;
            record.first_byte = Some(elapsed);
            record.user = user;
        });
    }

    /// The event was stored under this id.
    pub(super) fn set_event(&mut self, id: Box<str>) {
        self.edit(|record| record.event = Some(AuditedEvent { id, attempts: None }));
    }

    /// The status of the answer to the vendor.
    pub(super) fn set_status(&mut self, status: StatusCode) {
        self.edit(|record| record.status = Some(status));
    }

    /// The agent answers with this problem. Its cause is for the customer's administrator.
    pub(super) fn set_problem(&mut self, problem: &HttpProblem, outcome: RequestOutcome) {
        self.edit(|record| {
            record.error = Some(problem.kind.code());
            record.delivery = problem.delivery;
            record.outcome = outcome;
            record.cause = problem.cause.as_deref().map(Into::into);
        });
    }

    /// How the request ended.
    pub(super) fn set_outcome(&mut self, outcome: RequestOutcome) {
        self.edit(|record| record.outcome = outcome);
    }

    /// Body bytes of both directions so far.
    pub(super) fn set_bytes(&mut self, request: u64, response: u64) {
        self.edit(|record| {
            record.request_bytes = request;
            record.response_bytes = response;
        });
    }

    fn edit(&mut self, change: impl FnOnce(&mut AuditRecord)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }
}

impl Drop for PendingRecord {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.duration = self.started.elapsed();
            self.traffic.count_ended(&record);
            match self.summarized_as {
                Some(error) => self.audit.count_refusal(&record.forward, error, 1),
                None => self.audit.submit(record, self.permit.take()),
            }
        }
    }
}
