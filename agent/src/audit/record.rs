//! One audit record and its line.

use super::RedactedTarget;
use crate::{printable::printable_within, upstream::Delivery};
use http::{HeaderValue, Method, StatusCode};
use serde::ser::{Serialize, SerializeStruct, Serializer};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Which way a request goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TrafficDirection {
    /// From the vendor to Jira, through a forward.
    #[default]
    In,
    /// From Jira to the vendor, through an outlet.
    Out,
}

/// One request and how it ended. Serialized, it is one audit line (`docs/audit.md`).
#[derive(Clone, Debug)]
pub struct AuditRecord {
    /// When the request head was complete.
    pub time: SystemTime,
    /// `X-Request-Id` of the answer: the vendor's own where it sent one.
    pub request_id: HeaderValue,
    /// The agent's own id, unique for each request.
    pub agent_request_id: HeaderValue,
    /// Name of the forward or outlet.
    pub forward: Arc<str>,
    /// Which way it went.
    pub direction: TrafficDirection,
    /// Index of the SSH connection, from 0; of no meaning on the way out.
    pub connection: usize,
    /// Address of the vendor's client, as the gateway reports it.
    pub originator: Arc<str>,
    /// Method; `None` where the head could not be read.
    pub method: Option<Method>,
    /// Path and parameter names of the query.
    pub target: RedactedTarget,
    /// Whether the policy allowed it.
    pub allowed: bool,
    /// The rule that decided; `None` where none did.
    pub rule: Option<Arc<str>>,
    /// Code of the agent's own answer (`docs/errors.md`); `None` where Jira's answer passed.
    pub error: Option<&'static str>,
    /// What was wrong with Jira or the credential, if that is why. It may name files, addresses and accounts; the vendor
    /// never gets it.
    pub cause: Option<Box<str>>,
    /// Status sent to the vendor; `None` if it had disconnected before.
    pub status: Option<StatusCode>,
    /// Body bytes read from the vendor.
    pub request_bytes: u64,
    /// Body bytes handed to the channel.
    pub response_bytes: u64,
    /// From the head to the end of the answer.
    pub duration: Duration,
    /// From the head to the head of the answer.
    pub first_byte: Option<Duration>,
    /// Whether Jira may have seen it.
    pub delivery: Delivery,
    /// How the request ended, from the vendor's point of view.
    pub outcome: RequestOutcome,
    /// The user as Jira names it (`X-AUSERNAME`).
    pub user: Option<HeaderValue>,
    /// The event that an outlet of mode `store` has stored, or whose way has ended.
    pub event: Option<AuditedEvent>,
}

/// What a record says of a stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedEvent {
    /// Its id, which the vendor gets as `webhook-id`.
    pub id: Box<str>,
    /// How often it was sent to the vendor; `None` in the record of Jira's call.
    pub attempts: Option<u32>,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RequestOutcome {
    /// Jira's answer was handed to the channel to its last byte.
    Complete,
    /// The agent refused it.
    Refused,
    /// Jira gave no answer; the agent answered instead.
    Failed,
    /// The channel ended first.
    VendorGone,
    /// Jira's answer broke in the middle; the channel was closed.
    JiraBroke,
    /// The answer did not move for the stall limit; the channel was closed.
    Stalled,
    /// The vendor has accepted a stored event.
    Delivered,
    /// A stored event has become a dead letter.
    Dead,
    /// A stored event was removed without being delivered.
    Dropped,
}

impl Serialize for AuditRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let method = self.method.as_ref().map(Method::as_str);
        let mut line = serializer.serialize_struct("Record", 24)?;
        line.serialize_field("time", &rfc3339(self.time))?;
        line.serialize_field("request_id", &text(&self.request_id))?;
        line.serialize_field("forward", &*self.forward)?;
        let connection = match self.direction {
            TrafficDirection::In => Some(self.connection),
            TrafficDirection::Out => None,
        };
        line.serialize_field("connection", &connection)?;
        line.serialize_field("originator", &printable_within(&self.originator, MAX_TEXT))?;
        line.serialize_field(
            "method",
            &method.map(|method| printable_within(method, MAX_METHOD)),
        )?;
        line.serialize_field("target", &self.target)?;
        line.serialize_field("decision", if self.allowed { "allowed" } else { "refused" })?;
        let rule = self
            .rule
            .as_deref()
            .map(|rule| printable_within(rule, MAX_RULE));
        line.serialize_field("rule", &rule)?;
        line.serialize_field("error", &self.error)?;
        let cause = self
            .cause
            .as_deref()
            .map(|cause| printable_within(cause, MAX_CAUSE));
        line.serialize_field("cause", &cause)?;
        line.serialize_field("status", &self.status.map(|status| status.as_u16()))?;
        line.serialize_field("request_bytes", &self.request_bytes)?;
        line.serialize_field("response_bytes", &self.response_bytes)?;
        line.serialize_field("duration_ms", &milliseconds(self.duration))?;
        line.serialize_field("first_byte_ms", &self.first_byte.map(milliseconds))?;
        line.serialize_field("delivery", &self.delivery)?;
        line.serialize_field("outcome", &self.outcome)?;
        line.serialize_field("user", &self.user.as_ref().map(text))?;
        line.serialize_field("agent_request_id", &text(&self.agent_request_id))?;
        line.serialize_field("target_hidden_bytes", &self.target.hidden_bytes())?;
        line.serialize_field("direction", &self.direction)?;
        if let Some(event) = &self.event {
            line.serialize_field("event_id", &printable_within(&event.id, MAX_TEXT))?;
            line.serialize_field("attempts", &event.attempts)?;
        }
        line.end()
    }
}

/// UTC with milliseconds, `2026-11-22T09:30:00.125Z`.
pub(super) fn rfc3339(time: SystemTime) -> String {
    // Before 1970 or after 9999 the clock is broken; a record is still better than none.
    let time = time
        .max(SystemTime::UNIX_EPOCH)
        .min(SystemTime::UNIX_EPOCH + LAST);
    humantime::format_rfc3339_millis(time).to_string()
}

fn milliseconds(duration: Duration) -> f64 {
    // Microseconds are kept: most answers take less than a few milliseconds.
    duration.as_micros() as f64 / 1000.0
}

/// A header value for a line, bounded; bytes that are no UTF-8 are replaced.
fn text(value: &HeaderValue) -> String {
    let bytes = value.as_bytes();
    // A replaced byte takes three.
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_TEXT + 1)]);
    printable_within(&text, MAX_TEXT)
}

/// Longest cause in bytes: two long sentences.
const MAX_CAUSE: usize = 512;
/// Longest user name, id or address in bytes.
const MAX_TEXT: usize = 128;
/// Longer than any registered method. HTTP/1.1 requests with a longer one are refused, HTTP/2 knows no such limit.
const MAX_METHOD: usize = 32;
/// A rule is the customer's own, and far shorter.
const MAX_RULE: usize = 512;
/// The end of the year 9999, past which RFC 3339 has no form.
const LAST: Duration = Duration::from_secs(253_402_300_799);
/// Bytes of the longest possible line: a target at its bound with each byte escaped, the other texts at theirs, and
/// names, numbers and times. Times the places of the queue, it is what a full queue writes to the disk.
pub(super) const MAX_LINE: usize = 6 << 10;
