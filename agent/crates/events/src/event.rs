//! The event, its id, and what is stored beside its body.

mod json;

pub(crate) use json::{unix_millis, whole_millis};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr, time::SystemTime};

/// Identifies an event for all parties: `msg_` and 32 hexadecimal digits. It is the `webhook-id` of Standard Webhooks, and
/// the same in each attempt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId([u8; ID_LEN]);

/// The text is no id of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an id of an event; it is `msg_` and 32 hexadecimal digits in lower case, as `agent events` shows it"
)]
pub struct EventIdError;

impl EventId {
    /// An id that no other event has.
    pub fn random() -> Self {
        Self::from_bits(uuid::Uuid::new_v4().into_bytes())
    }

    /// The id of an event that its sender identifies: the same for each repeat by the sender. All parts count, so that a
    /// sender that uses an identifier twice does not hide an event.
    pub fn of_identified(outlet: &str, identifier: &str, target: &str, body: &[u8]) -> Self {
        let mut hash = Sha256::new();
        for part in [
            outlet.as_bytes(),
            identifier.as_bytes(),
            target.as_bytes(),
            body,
        ] {
            // With its length: no two lists of parts are the same bytes.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest: [u8; 32] = hash.finalize().into();
        let mut bits = [0; 16];
        for (bit, from) in bits.iter_mut().zip(digest) {
            *bit = from;
        }
        Self::from_bits(bits)
    }

    /// As it is sent: ASCII.
    pub fn as_str(&self) -> &str {
        // Always ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn from_bits(bits: [u8; 16]) -> Self {
        let mut text = [0; ID_LEN];
        let digits = bits.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
        let digits = digits.map(|digit| match digit {
            0..10 => b'0' + digit,
            _ => b'a' + digit - 10,
        });
        let all = PREFIX.bytes().chain(digits);
        for (place, byte) in text.iter_mut().zip(all) {
            *place = byte;
        }
        Self(text)
    }
}

impl FromStr for EventId {
    type Err = EventIdError;

    fn from_str(text: &str) -> Result<Self, EventIdError> {
        let digits = text.strip_prefix(PREFIX).ok_or(EventIdError)?;
        match digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        {
            true => Ok(Self(text.as_bytes().try_into().map_err(|_| EventIdError)?)),
            false => Err(EventIdError),
        }
    }
}

impl TryFrom<String> for EventId {
    type Error = EventIdError;

    fn try_from(text: String) -> Result<Self, EventIdError> {
        text.parse()
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event to store. Its source, headers and body are what the sender chose: bounds are the caller's.
#[derive(Clone)]
pub struct NewEvent {
    /// Method of the sender's request.
    pub method: String,
    /// Path and query as the sender sent them, without the path secret.
    pub target: String,
    /// End-to-end headers, as received.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Address of the sender, which has a bound of its own.
    pub source: String,
    /// What the sender names this event by, in each of its repeats (`X-Atlassian-Webhook-Identifier`).
    pub identifier: Option<String>,
    /// The whole body, as received.
    pub body: Bytes,
}

/// What is stored beside the body of an event. It has no `Debug` of its target and headers: they may hold secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventHead {
    /// The same in each attempt.
    pub id: EventId,
    /// When it was stored, by the clock of this host, to the millisecond.
    #[serde(rename = "received_at_ms", with = "json::unix_millis")]
    pub received_at: SystemTime,
    /// When an administrator retried it as a dead letter: its age counts from then.
    #[serde(
        rename = "retried_at_ms",
        with = "json::optional_unix_millis",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    pub retried_at: Option<SystemTime>,
    /// Method of the sender's request.
    pub method: String,
    /// Path and query as the sender sent them, without the path secret.
    pub target: String,
    /// End-to-end headers, as received.
    #[serde(with = "json::header_fields")]
    pub headers: Vec<(String, Vec<u8>)>,
    /// Address of the sender.
    pub source: String,
    /// Events of one lane are delivered in order: `issue:10001`, `project:SEC`, or empty.
    pub lane: String,
    /// Jira's `webhookEvent`, such as `jira:issue_updated`.
    pub event_type: Option<String>,
    /// Jira's key of the issue.
    pub issue_key: Option<String>,
    /// Bytes of the body.
    pub body_bytes: u64,
}

impl fmt::Debug for EventHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventHead")
            .field("id", &self.id)
            .field("lane", &self.lane)
            .field("body_bytes", &self.body_bytes)
            .finish_non_exhaustive()
    }
}

const PREFIX: &str = "msg_";
/// Bytes of the prefix and 32 digits.
const ID_LEN: usize = 36;

#[cfg(test)]
mod tests;
