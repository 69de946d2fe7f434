//! One request to a receiver.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::ReceiverSettings;
use super::journal::Journal;
use super::order::EventOrder;
use super::signature::{EventSecrets, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
use super::tally::{JournalEntry, ReceiverStats};

/// What all requests share.
pub(super) struct ReceiverState {
    settings: ReceiverSettings,
    secrets: EventSecrets,
    journal: Journal,
    failed_on_purpose: AtomicU64,
}

/// What the sender claims about an event, in the three headers of Standard Webhooks.
struct SignedHead<'a> {
    id: &'a str,
    timestamp: u64,
    signature: &'a str,
}

impl ReceiverState {
    pub(super) fn new(settings: ReceiverSettings, secrets: EventSecrets, journal: Journal) -> Self {
        Self {
            settings,
            secrets,
            journal,
            failed_on_purpose: AtomicU64::new(0),
        }
    }

    pub(super) fn stats(&self) -> ReceiverStats {
        ReceiverStats {
            failed_on_purpose: self.failed_on_purpose.load(Ordering::Relaxed),
            ..self.journal.stats()
        }
    }

    /// What a request is, before anything is recorded.
    fn judge(&self, headers: &HeaderMap, body: &[u8], now: u64) -> JournalEntry {
        let Some(head) = SignedHead::read(headers) else {
            return JournalEntry::Forged;
        };
        if !self
            .secrets
            .verify(head.id, head.timestamp, body, head.signature)
        {
            return JournalEntry::Forged;
        }
        if now.abs_diff(head.timestamp) > self.settings.tolerance.as_secs() {
            return JournalEntry::Stale;
        }
        let order = EventOrder::of(body);
        JournalEntry::Event {
            id: head.id.to_owned(),
            sequence: order.as_ref().map(|order| order.sequence),
            issue: order.map(|order| order.issue),
        }
    }

    /// The status for an event that is not to be taken.
    fn failure_on_purpose(&self) -> Option<StatusCode> {
        let status = match (self.settings.fail_first, self.settings.status) {
            (None, None) => return None,
            (None, Some(status)) => status,
            (Some(first), status) => {
                let before = self.failed_on_purpose.load(Ordering::Relaxed);
                if before >= first {
                    return None;
                }
                status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE.as_u16())
            }
        };
        self.failed_on_purpose.fetch_add(1, Ordering::Relaxed);
        StatusCode::from_u16(status).ok()
    }
}

impl<'a> SignedHead<'a> {
    /// `None` unless each header is there exactly once, and usable.
    fn read(headers: &'a HeaderMap) -> Option<Self> {
        let one = |name: &str| {
            let mut values = headers.get_all(name).iter();
            let value = values.next()?.to_str().ok()?;
            values.next().is_none().then_some(value)
        };
        let id = one(WEBHOOK_ID)?;
        (!id.is_empty() && id.len() <= MAX_ID).then_some(())?;
        Some(Self {
            id,
            timestamp: one(WEBHOOK_TIMESTAMP)?.parse().ok()?,
            signature: one(WEBHOOK_SIGNATURE)?,
        })
    }
}

/// Takes an event: 200 once it is on disk, also for a repeat; 401 for a forgery.
pub(super) async fn receive(
    State(state): State<Arc<ReceiverState>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let entry = state.judge(&headers, &body, now.as_secs());
    let refusal = match &entry {
        JournalEntry::Event { .. } => None,
        JournalEntry::Forged => Some("the signature is not genuine"),
        JournalEntry::Stale => Some("the timestamp is too far from now"),
    };
    if refusal.is_none()
        && let Some(status) = state.failure_on_purpose()
    {
        tokio::time::sleep(state.settings.delay).await;
        return status.into_response();
    }
    let recorded = state.journal.record(entry).await;
    tokio::time::sleep(state.settings.delay).await;
    match (recorded, refusal) {
        (Ok(_), Some(refusal)) => {
            let body = json!({ "error": refusal });
            (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response()
        }
        (Ok(outcome), None) => axum::Json(json!({ "outcome": outcome })).into_response(),
        (Err(error), _) => {
            let body = json!({ "error": error.to_string() });
            (StatusCode::INSUFFICIENT_STORAGE, axum::Json(body)).into_response()
        }
    }
}

/// The counts as JSON.
pub(super) async fn stats(State(state): State<Arc<ReceiverState>>) -> Response {
    axum::Json(state.stats()).into_response()
}

/// Bytes of a `webhook-id`; the agent's have 36.
const MAX_ID: usize = 256;
