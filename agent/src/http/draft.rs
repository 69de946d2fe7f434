//! The audit record of a request while it is being answered: submitted exactly once, when dropped.

use crate::{
    audit::{Audit, Outcome, Record},
    metrics::Traffic,
    upstream::Delivery,
};
use http::{HeaderValue, StatusCode};
use std::{sync::Arc, time::Instant};

/// Until somebody says otherwise the vendor is gone: that is what an exchange dropped on its way means.
pub(super) struct Draft {
    audit: Audit,
    traffic: Arc<Traffic>,
    begun: Instant,
    /// `None` once submitted.
    record: Option<Box<Record>>,
}

impl Draft {
    pub(super) fn new(audit: Audit, traffic: Arc<Traffic>, record: Record) -> Self {
        Self {
            audit,
            traffic,
            begun: Instant::now(),
            record: Some(Box::new(record)),
        }
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
    pub(super) fn problem(&mut self, code: &'static str, delivery: Delivery, outcome: Outcome) {
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

    /// How it ended.
    pub(super) fn outcome(&mut self, outcome: Outcome) {
        self.edit(|record| record.outcome = outcome);
    }

    /// Body bytes so far.
    pub(super) fn bytes(&mut self, request: u64, response: u64) {
        self.edit(|record| {
            record.request_bytes = request;
            record.response_bytes = response;
        });
    }

    fn edit(&mut self, change: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            change(record);
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(mut record) = self.record.take() {
            record.duration = self.begun.elapsed();
            self.traffic.ended(&record);
            self.audit.submit(record);
        }
    }
}
