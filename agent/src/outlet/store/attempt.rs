//! One attempt to deliver an event, and what becomes of the event.

use super::{
    losses::EventLosses,
    off_runtime::off_runtime,
    retry::{AttemptVerdict, HostHold, delivery_of, judge, lane_wait, reason},
};
use crate::{
    audit::RecordPermit,
    http::{EventAnswer, EventEnd, EventEnding, HttpForward, event_request},
    upstream::{Delivery, SendError},
};
use agent_events::{
    EventHead, EventId, EventQueue, LeasedEvent, SigningSecrets,
    signature::{WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// What the attempts of one outlet share.
pub(super) struct AttemptContext {
    pub(super) forward: Arc<HttpForward>,
    pub(super) secrets: Arc<SigningSecrets>,
    pub(super) losses: Arc<EventLosses>,
    pub(super) hold: Mutex<HostHold>,
    /// How often the vendor's host has refused the request of an event.
    pub(super) refusals: Mutex<HashMap<EventId, u32>>,
    /// Bytes of the bodies that are being sent.
    pub(super) in_memory: AtomicUsize,
}

/// Counts a body as one that is being sent.
pub(super) struct BodyInMemory {
    context: Arc<AttemptContext>,
    bytes: usize,
}

impl BodyInMemory {
    pub(super) fn new(context: Arc<AttemptContext>, bytes: usize) -> Self {
        context.in_memory.fetch_add(bytes, Ordering::Relaxed);
        Self { context, bytes }
    }
}

impl Drop for BodyInMemory {
    fn drop(&mut self) {
        let bytes = &self.context.in_memory;
        bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// How an event leaves the queue, with what its record says.
struct Ending {
    ending: EventEnding,
    status: Option<StatusCode>,
    delivery: Delivery,
    cause: Option<String>,
}

/// Sends the event once, and gives it back to the queue or takes it off.
pub(super) async fn run_attempt(memory: BodyInMemory, queue: EventQueue, lease: LeasedEvent) {
    let context = &memory.context;
    // Without a place for its record nothing is sent, where the audit is required.
    let permit = match context.losses.audit().reserve() {
        Ok(permit) => permit,
        Err(unavailable) => {
            let why = format!("no audit record can be written: {unavailable}");
            let not_before = Instant::now() + AUDIT_PAUSE;
            return queue.failed(lease, &why, not_before).await;
        }
    };
    let Some(request) = context.request(&lease).await else {
        let ending = Ending {
            ending: EventEnding::Dead,
            status: None,
            delivery: Delivery::NotSent,
            cause: Some("what is stored of it makes no request".to_owned()),
        };
        return context.end(&queue, lease, ending, permit).await;
    };
    let result = context.forward.send_event(request).await;
    context.settle(&queue, lease, result, permit).await;
}

impl AttemptContext {
    async fn settle(
        &self,
        queue: &EventQueue,
        lease: LeasedEvent,
        result: Result<EventAnswer, SendError>,
        permit: RecordPermit,
    ) {
        let (verdict, host) = judge(&result);
        let now = Instant::now();
        let free_at = {
            let mut hold = self.hold.lock();
            hold.note(now, host, rand::random());
            hold.until(now).unwrap_or(now)
        };
        let answer = result.as_ref().ok();
        let status = answer.map(|answer| answer.status);
        let delivery = delivery_of(&result);
        match verdict {
            AttemptVerdict::Accepted => {
                let ending = Ending {
                    ending: EventEnding::Delivered,
                    status,
                    delivery,
                    cause: None,
                };
                self.end(queue, lease, ending, permit).await;
            }
            AttemptVerdict::Refused if self.refused(lease.head.id) >= MAX_REFUSALS => {
                let ending = Ending {
                    ending: EventEnding::Dead,
                    status,
                    delivery,
                    cause: Some(reason(&result)),
                };
                self.end(queue, lease, ending, permit).await;
            }
            AttemptVerdict::Refused | AttemptVerdict::Again => {
                // Where there is no answer, the wait is that of the whole outlet.
                let wait = match answer {
                    Some(answer) => lane_wait(lease.attempt, answer.retry_after, rand::random()),
                    None => Duration::ZERO,
                };
                let not_before = free_at.max(now + wait);
                queue.failed(lease, &reason(&result), not_before).await;
            }
            // Dropped, the lease gives its lane back without counting an attempt.
            AttemptVerdict::NotTried => drop(lease),
        }
    }

    /// Counts a refusal of this event.
    fn refused(&self, id: EventId) -> u32 {
        let mut refusals = self.refusals.lock();
        if refusals.len() >= MAX_COUNTED && !refusals.contains_key(&id) {
            // Those of events that an administrator or a full queue has dropped. The others are counted anew.
            refusals.clear();
        }
        let count = refusals.entry(id).or_insert(0);
        *count += 1;
        *count
    }

    async fn end(
        &self,
        queue: &EventQueue,
        lease: LeasedEvent,
        ending: Ending,
        permit: RecordPermit,
    ) {
        self.refusals.lock().remove(&lease.head.id);
        let (head, attempt) = (lease.head.clone(), lease.attempt);
        let cause = ending.cause.clone().unwrap_or_default();
        let settled = match ending.ending {
            EventEnding::Delivered => queue.delivered(lease).await.map(|()| Vec::new()),
            EventEnding::Dead | EventEnding::Dropped => queue.dead(lease, &cause).await,
        };
        self.record(&head, attempt, &ending, permit);
        if ending.ending == EventEnding::Dead {
            self.losses.report_dead(1, &cause);
        }
        match settled {
            Ok(dropped) => self.losses.dropped(&dropped, MADE_ROOM),
            // The queue keeps trying, and reports its disk.
            Err(error) => {
                tracing::debug!(%error, id = %head.id, "an event has ended, and is not removed yet")
            }
        }
    }

    fn record(&self, head: &EventHead, attempts: u32, ending: &Ending, permit: RecordPermit) {
        let end = EventEnd {
            id: head.id.as_str(),
            request: Some((head.method.as_str(), head.target.as_str())),
            source: &head.source,
            received_at: head.received_at,
            body_bytes: head.body_bytes,
            ending: ending.ending,
            attempts,
            status: ending.status,
            delivery: ending.delivery,
            cause: ending.cause.clone(),
        };
        self.losses.audit().record(&end, Some(permit));
    }

    /// The request as Jira sent it, with the headers of Standard Webhooks. The time is that of the attempt.
    async fn request(&self, lease: &LeasedEvent) -> Option<Request<Bytes>> {
        let head = &lease.head;
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.map_or(0, |since| since.as_secs());
        let (secrets, body, id) = (Arc::clone(&self.secrets), lease.body.clone(), head.id);
        let sign = move || secrets.sign(id.as_str(), seconds, &body);
        let signature = off_runtime(lease.body.len(), sign).await?;
        let mut headers = received_headers(head);
        let own = [
            (WEBHOOK_ID, id.as_str().to_owned()),
            (WEBHOOK_TIMESTAMP, seconds.to_string()),
            (WEBHOOK_SIGNATURE, signature),
        ];
        for (name, value) in own {
            let value = HeaderValue::from_str(&value).ok()?;
            headers.insert(HeaderName::from_static(name), value);
        }
        event_request(&head.method, &head.target, headers, lease.body.clone())
    }
}

/// Without those that only the agent sets. Servers that pass headers on as variables treat `_` and `-` alike.
fn received_headers(head: &EventHead) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in &head.headers {
        let like = name.replace('_', "-");
        if [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE].contains(&like.as_str()) {
            continue;
        }
        let name = HeaderName::from_bytes(name.as_bytes());
        if let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) {
            headers.append(name, value);
        }
    }
    headers
}

/// Refusals of one event until it becomes a dead letter: a vendor's host that refuses by mistake has half a minute.
const MAX_REFUSALS: u32 = 5;
/// Events whose refusals are counted.
const MAX_COUNTED: usize = 1024;
/// As long as the audit tests its sink.
const AUDIT_PAUSE: Duration = Duration::from_secs(1);
const MADE_ROOM: &str = "it made room for a newer dead letter";
