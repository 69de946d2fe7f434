//! The audit record of a request while it is being answered: submitted exactly once, when dropped.

use crate::{
    audit::{AuditHandle, AuditRecord, RecordPermit, RequestOutcome},
    metrics::TrafficCounters,
    upstream::Delivery,
};
use http::{HeaderValue, StatusCode};
use std::{sync::Arc, time::Instant};

/// Until somebody says otherwise the vendor is gone: that is what an exchange dropped on its way means.
pub(super) struct PendingRecord {
    audit: AuditHandle,
    traffic: Arc<TrafficCounters>,
    begun: Instant,
    /// `None` once submitted.
    record: Option<Box<AuditRecord>>,
    /// Where the record is to go, once that has been reserved.
    place: Option<RecordPermit>,
    /// As what it is counted with others instead of recorded.
    summed: Option<&'static str>,
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
            begun: Instant::now(),
            record: Some(Box::new(record)),
            place: None,
            summed: None,
        }
    }

    /// Its record is sure of a place from now on.
    pub(super) fn set_place(&mut self, place: RecordPermit) {
        self.place = Some(place);
    }

    /// It is one of many of this kind that the agent answers itself, and gets no line of its own.
    pub(super) fn summarize(&mut self, error: &'static str) {
        self.summed = Some(error);
    }

    /// Policy let it pass.
    pub(super) fn allow(&mut self, rule: Arc<str>) {
        self.edit(|record| {
            record.allowed = true;
            record.rule = Some(rule);
        });
    }

    /// The rule that refused it.
    pub(super) fn rule(&mut self, rule: Option<Arc<str>>) {
        self.edit(|record| record.rule = rule);
    }

    /// From now on Jira may have seen it.
    pub(super) fn sending(&mut self) {
        self.edit(|record| record.delivery = Delivery::MaybeSent);
    }

    /// How far it got.
    pub(super) fn delivery(&self) -> Delivery {
        let record = self.record.as_ref();
        record.map_or(Delivery::MaybeSent, |record| record.delivery)
    }

    /// Jira's answer has begun.
    pub(super) fn answered(&mut self, user: Option<HeaderValue>) {
        let elapsed = self.begun.elapsed();
        self.edit(|record| {
            record.delivery = Delivery::Answered;
            record.first_byte = Some(elapsed);
            record.user = user;
        });
    }

    /// The head of the answer to the vendor.
    pub(super) fn status(&mut self, status: StatusCode) {
        self.edit(|record| record.status = Some(status));
    }

    /// The agent answers itself.
    pub(super) fn problem(
        &mut self,
        code: &'static str,
        delivery: Delivery,
        outcome: RequestOutcome,
    ) {
        self.edit(|record| {
            record.error = Some(code);
            record.delivery = delivery;
            record.outcome = outcome;
        });
    }

    /// Why, in words for the customer's administrator.
    pub(super) fn cause(&mut self, cause: Option<&str>) {
        self.edit(|record| record.cause = cause.map(Into::into));
    }

    /// How the request ended, for the audit record.
    pub(super) fn outcome(&mut self, outcome: RequestOutcome) {
        self.edit(|record| record.outcome = outcome);
    }

    /// Body bytes so far.
    pub(super) fn bytes(&mut self, request: u64, response: u64) {
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
            record.duration = self.begun.elapsed();
            self.traffic.ended(&record);
            match self.summed {
                Some(error) => self.audit.count_refusal(&record.forward, error, 1),
                None => self.audit.submit(record, self.place.take()),
            }
        }
    }
}
