//! Counters of one forward, updated on the request path: relaxed atomics, no lock, no allocation.

use super::families::{self, MetricFamily};
use crate::{
    audit::{AuditRecord, RequestOutcome},
    auth::HeaderClass,
};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, core::Collector,
};
use std::time::Duration;

/// The counters of one forward.
pub struct TrafficCounters {
    requests: IntCounterVec,
    /// The children of `requests`, looked up once.
    by_outcome: [[IntCounter; CLASSES.len()]; OUTCOMES.len()],
    errors: IntCounterVec,
    removed_headers: IntCounterVec,
    repeated: IntCounter,
    health_requests: IntCounter,
    request_bytes: IntCounter,
    response_bytes: IntCounter,
    duration: Histogram,
    first_byte: Histogram,
}

impl TrafficCounters {
    /// Counters of one forward, all at zero.
    pub fn new(forward: &str) -> Self {
        let requests = counters(&families::REQUESTS, forward);
        let by_outcome = OUTCOMES.map(|outcome| {
            CLASSES.map(|class| requests.with_label_values(&[label(outcome), class]))
        });
        Self {
            by_outcome,
            requests,
            errors: counters(&families::ERRORS, forward),
            removed_headers: removed_headers_counter(forward),
            repeated: counter(&families::REPEATED, forward),
            health_requests: counter(&families::HEALTH, forward),
            request_bytes: counter(&families::REQUEST_BYTES, forward),
            response_bytes: counter(&families::RESPONSE_BYTES, forward),
            duration: histogram(&families::DURATION, forward),
            first_byte: histogram(&families::FIRST_BYTE, forward),
        }
    }

    /// Counts a request that has ended.
    pub fn count_ended(&self, record: &AuditRecord) {
        let outcome = OUTCOMES.iter().position(|o| *o == record.outcome);
        let class = record.status.map_or(0, |s| usize::from(s.as_u16() / 100));
        let row = outcome.and_then(|outcome| self.by_outcome.get(outcome));
        if let Some(counter) = row.and_then(|row| row.get(class)) {
            counter.inc();
        }
        if let Some(code) = record.error {
            self.errors.with_label_values(&[code]).inc();
        }
        self.request_bytes.inc_by(record.request_bytes);
        self.response_bytes.inc_by(record.response_bytes);
        self.duration.observe(record.duration.as_secs_f64());
        if let Some(first_byte) = record.first_byte.as_ref().map(Duration::as_secs_f64) {
            self.first_byte.observe(first_byte);
        }
    }

    /// Counts requests that were refused unread, under one error code.
    pub fn count_unread_refusals(&self, error: &'static str, count: u64) {
        let refused = OUTCOMES.iter().position(|o| *o == RequestOutcome::Refused);
        let row = refused.and_then(|refused| self.by_outcome.get(refused));
        if let Some(counter) = row.and_then(|row| row.first()) {
            counter.inc_by(count);
        }
        self.errors.with_label_values(&[error]).inc_by(count);
    }

    /// Counts a request that was sent once more.
    pub fn count_repeated(&self) {
        self.repeated.inc();
    }

    /// Requests sent once more so far.
    #[cfg(test)]
    pub fn repeated(&self) -> u64 {
        self.repeated.get()
    }

    /// Counts a health request.
    pub fn count_health_request(&self) {
        self.health_requests.inc();
    }

    /// Counts a header that was removed from a request of the vendor.
    pub fn count_removed_header(&self, class: HeaderClass) {
        self.removed_headers
            .with_label_values(&[class.label()])
            .inc();
    }

    /// Headers removed so far, by class.
    #[cfg(test)]
    pub fn removed_headers(&self) -> [u64; HeaderClass::ALL.len()] {
        HeaderClass::ALL.map(|class| {
            let counter = self.removed_headers.with_label_values(&[class.label()]);
            counter.get()
        })
    }

    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let all: [Box<dyn Collector>; 9] = [
            Box::new(self.requests.clone()),
            Box::new(self.errors.clone()),
            Box::new(self.removed_headers.clone()),
            Box::new(self.repeated.clone()),
            Box::new(self.health_requests.clone()),
            Box::new(self.request_bytes.clone()),
            Box::new(self.response_bytes.clone()),
            Box::new(self.duration.clone()),
            Box::new(self.first_byte.clone()),
        ];
        all.into_iter()
            .try_for_each(|counter| registry.register(counter))
    }
}

/// Has a zero for each class: what has not happened yet is not absent.
fn removed_headers_counter(forward: &str) -> IntCounterVec {
    let counters = counters(&families::REMOVED_HEADERS, forward);
    for class in HeaderClass::ALL {
        counters.with_label_values(&[class.label()]);
    }
    counters
}

fn options(family: &MetricFamily, forward: &str) -> Opts {
    Opts::new(family.name(), family.help).const_label("forward", forward)
}

#[expect(
    clippy::expect_used,
    reason = "names and labels are constants; `every_family_is_documented` builds them all"
)]
fn counters(family: &MetricFamily, forward: &str) -> IntCounterVec {
    let own = family.labels.get(1..).unwrap_or_default();
    IntCounterVec::new(options(family, forward), own).expect("valid names")
}

#[expect(clippy::expect_used, reason = "see `counters`")]
fn counter(family: &MetricFamily, forward: &str) -> IntCounter {
    IntCounter::with_opts(options(family, forward)).expect("valid names")
}

#[expect(clippy::expect_used, reason = "see `counters`")]
fn histogram(family: &MetricFamily, forward: &str) -> Histogram {
    let options = HistogramOpts::from(options(family, forward)).buckets(BUCKETS.to_vec());
    Histogram::with_opts(options).expect("valid names and rising buckets")
}

/// The outcome as the audit record has it.
fn label(outcome: RequestOutcome) -> &'static str {
    match outcome {
        RequestOutcome::Complete => "complete",
        RequestOutcome::Refused => "refused",
        RequestOutcome::Failed => "failed",
        RequestOutcome::VendorGone => "vendor_gone",
        RequestOutcome::JiraBroke => "jira_broke",
        RequestOutcome::Stalled => "stalled",
        // Ends of stored events are no requests, and are counted by their queue.
        RequestOutcome::Delivered => "delivered",
        RequestOutcome::Dead => "dead",
        RequestOutcome::Dropped => "dropped",
    }
}

const OUTCOMES: [RequestOutcome; 6] = [
    RequestOutcome::Complete,
    RequestOutcome::Refused,
    RequestOutcome::Failed,
    RequestOutcome::VendorGone,
    RequestOutcome::JiraBroke,
    RequestOutcome::Stalled,
];
/// By the first digit of the status; `none` where the vendor got no answer.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];
/// Seconds: from a small answer nearby to a large attachment.
const BUCKETS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0, 600.0,
];
