//! The records of how stored events end.

use super::request_id::RequestIds;
use crate::{
    audit::{
        AuditHandle, AuditRecord, AuditUnavailable, AuditedEvent, RecordPermit, RedactedTarget,
        RequestOutcome, TrafficDirection,
    },
    upstream::Delivery,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::{sync::Arc, time::SystemTime};

/// Records the ends of the events of one outlet.
#[derive(Clone)]
pub struct EventAudit {
    outlet: Arc<str>,
    audit: AuditHandle,
}

/// How an event has left the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventEnding {
    /// The vendor has accepted it.
    Delivered,
    /// It is a dead letter.
    Dead,
    /// It was removed without being delivered.
    Dropped,
}

/// The end of an event, for the audit.
#[derive(Clone, Debug)]
pub struct EventEnd<'a> {
    /// Its id.
    pub id: &'a str,
    /// Method, and path and query, of Jira's request, without the path secret; `None` where only its summary is at hand.
    pub request: Option<(&'a str, &'a str)>,
    /// Address of the sender.
    pub source: &'a str,
    /// When it was received.
    pub received_at: SystemTime,
    /// Bytes of its body.
    pub body_bytes: u64,
    /// How it has ended.
    pub ending: EventEnding,
    /// How often it was sent since the agent started.
    pub attempts: u32,
    /// The last answer of the vendor's host.
    pub status: Option<StatusCode>,
    /// Whether the vendor's host may have seen it.
    pub delivery: Delivery,
    /// Why it was not delivered.
    pub cause: Option<String>,
}

impl EventAudit {
    /// For the outlet of this name.
    pub fn new(outlet: Arc<str>, audit: AuditHandle) -> Self {
        Self { outlet, audit }
    }

    /// Takes a place for the record of an event that is about to be sent.
    ///
    /// # Errors
    /// The audit is required, and no record can be written now.
    pub fn reserve(&self) -> Result<RecordPermit, AuditUnavailable> {
        self.audit.reserve()
    }

    /// Records the end of an event.
    pub fn record(&self, end: &EventEnd<'_>, permit: Option<RecordPermit>) {
        let now = SystemTime::now();
        let own = RequestIds::of(&HeaderMap::new()).own;
        let (method, target) = match end.request {
            Some((method, target)) => (
                Method::from_bytes(method.as_bytes()).ok(),
                RedactedTarget::redact(target),
            ),
            None => (None, RedactedTarget::unknown()),
        };
        let record = AuditRecord {
            time: now,
            request_id: HeaderValue::from_str(end.id).unwrap_or_else(|_| own.clone()),
            agent_request_id: own,
            forward: Arc::clone(&self.outlet),
            direction: TrafficDirection::Out,
            connection: 0,
            originator: end.source.into(),
            method,
            target,
            allowed: true,
            rule: None,
            error: None,
            cause: end.cause.as_deref().map(Into::into),
            status: end.status,
            request_bytes: end.body_bytes,
            response_bytes: 0,
            // A clock that was set back shows as no time.
            duration: now.duration_since(end.received_at).unwrap_or_default(),
            first_byte: None,
            delivery: end.delivery,
            outcome: match end.ending {
                EventEnding::Delivered => RequestOutcome::Delivered,
                EventEnding::Dead => RequestOutcome::Dead,
                EventEnding::Dropped => RequestOutcome::Dropped,
            },
            user: None,
            event: Some(AuditedEvent {
                id: end.id.into(),
                attempts: Some(end.attempts),
            }),
        };
        self.audit.submit(Box::new(record), permit);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::time::Duration;

    #[tokio::test]
    async fn the_end_of_an_event_has_a_line_without_query_values() {
        let (audit, mut records) = AuditHandle::captured_with(false);
        let audit = EventAudit::new("events".into(), audit);
        let end = EventEnd {
            id: "msg_0123",
            request: Some(("POST", "/hooks?user=CANARY")),
            source: "10.1.2.3",
            received_at: SystemTime::now() - Duration::from_secs(90),
            body_bytes: 12,
            ending: EventEnding::Dead,
            attempts: 5,
            status: Some(StatusCode::GONE),
            delivery: Delivery::Answered,
            cause: Some("HTTP 410".to_owned()),
        };
        audit.record(&end, None);
        let line = records.next().await;
        let shown = |key: &str| line[key].as_str().unwrap();
        assert_eq!(
            [
                "direction",
                "forward",
                "outcome",
                "event_id",
                "request_id",
                "cause",
                "target"
            ]
            .map(shown),
            [
                "out",
                "events",
                "dead",
                "msg_0123",
                "msg_0123",
                "HTTP 410",
                "/hooks?user=*"
            ]
        );
        assert_eq!(
            (&line["attempts"], &line["status"]),
            (&5.into(), &410.into())
        );
        assert!(line["duration_ms"].as_f64().unwrap() >= 90_000.0);
        audit.record(
            &EventEnd {
                request: None,
                ..end
            },
            None,
        );
        let line = records.next().await;
        assert!(line["method"].is_null() && line["target"] == "");
    }
}
