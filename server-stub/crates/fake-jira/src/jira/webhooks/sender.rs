//! The task of one webhook: it sends the deliveries in its queue, and again after a pause if the receiver failed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use parking_lot::Mutex;
use rand::Rng;
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::registry::WebhookOwner;
use super::signature::{app_token, hub_signature};

/// One attempt to deliver an event, for tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WebhookAttempt {
    /// The webhook's id.
    pub webhook: u64,
    /// The value of `webhookEvent`.
    pub event: String,
    /// The value of `X-Atlassian-Webhook-Identifier`, the same for each attempt.
    pub identifier: String,
    /// How many attempts came before this one.
    pub retry: u32,
    /// Status of the response; `None` if there was none.
    pub status: Option<u16>,
}

/// An event on its way to one webhook.
pub(super) struct WebhookDelivery {
    pub event: &'static str,
    pub flow: &'static str,
    pub identifier: String,
    pub url: String,
    /// Empty if the webhook excludes it.
    pub body: Bytes,
    pub retry: u32,
    /// Counts the body among those that are held, until dropped.
    pub _room: BodyRoom,
}

/// What the task of a webhook needs.
pub(super) struct WebhookSender {
    pub id: u64,
    pub client: reqwest::Client,
    pub user_agent: Arc<str>,
    pub cloud: bool,
    pub identifier: bool,
    pub owner: WebhookOwner,
    pub secret: Arc<Mutex<Option<String>>>,
    pub retries: u32,
    pub retry_pause: (u64, u64),
    pub in_flight: usize,
    pub waiting: usize,
    pub counts: Arc<DeliveryCounts>,
    pub log: Arc<AttemptLog>,
}

/// How the attempts of one webhook ended.
#[derive(Default)]
pub(in crate::jira) struct DeliveryCounts {
    /// Answered with 2xx.
    pub successes: AtomicU64,
    /// Answered with another status.
    pub failures: AtomicU64,
    /// Not answered.
    pub errors: AtomicU64,
    /// Not sent, because too many waited.
    pub dropped: AtomicU64,
}

/// The last attempts of all webhooks, at most [`MAX_ATTEMPTS`].
pub(super) struct AttemptLog {
    attempts: Mutex<VecDeque<WebhookAttempt>>,
    count: watch::Sender<u64>,
}

/// A share of the memory for bodies; gives it back when dropped.
pub(super) struct BodyRoom {
    held: Arc<AtomicUsize>,
    bytes: usize,
}

impl BodyRoom {
    /// `None` if all bodies together would exceed [`MAX_HELD`].
    pub(super) fn reserve(held: &Arc<AtomicUsize>, bytes: usize) -> Option<Self> {
        let more = |now: usize| now.checked_add(bytes).filter(|sum| *sum <= MAX_HELD);
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Self {
            held: held.clone(),
            bytes,
        })
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl AttemptLog {
    pub(super) fn new() -> Self {
        Self {
            attempts: Mutex::default(),
            count: watch::Sender::new(0),
        }
    }

    pub(super) fn snapshot(&self) -> Vec<WebhookAttempt> {
        self.attempts.lock().iter().cloned().collect()
    }

    /// The number of attempts since the start, to wait for.
    pub(super) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }

    fn add(&self, attempt: WebhookAttempt) {
        let mut attempts = self.attempts.lock();
        if attempts.len() == MAX_ATTEMPTS {
            attempts.pop_front();
        }
        attempts.push_back(attempt);
        drop(attempts);
        self.count.send_modify(|count| *count += 1);
    }
}

impl WebhookSender {
    /// Sends until the webhook is removed, and then abandons what is in flight.
    pub(super) async fn run(self, mut queue: mpsc::Receiver<WebhookDelivery>) {
        let sender = Arc::new(self);
        // Each is bounded: attempts by `in_flight`, pauses by `waiting`.
        let mut attempts: JoinSet<Option<WebhookDelivery>> = JoinSet::new();
        let mut pauses: JoinSet<WebhookDelivery> = JoinSet::new();
        loop {
            let free = attempts.len() < sender.in_flight;
            let next = tokio::select! {
                Some(ended) = attempts.join_next() => {
                    if let Ok(Some(again)) = ended {
                        if pauses.len() < sender.waiting {
                            pauses.spawn(sender.clone().pause(again));
                        } else {
                            sender.counts.dropped.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                    continue;
                }
                Some(due) = pauses.join_next(), if free => due.ok(),
                next = queue.recv(), if free => match next {
                    Some(next) => Some(next),
                    None => break,
                },
            };
            if let Some(delivery) = next {
                attempts.spawn(sender.clone().attempt(delivery));
            }
        }
    }

    async fn pause(self: Arc<Self>, mut delivery: WebhookDelivery) -> WebhookDelivery {
        let (shortest, longest) = self.retry_pause;
        let pause = rand::rng().random_range(shortest..=longest.max(shortest));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        delivery.retry += 1;
        delivery
    }

    /// Sends it once. Returns it if it must be sent again.
    async fn attempt(self: Arc<Self>, delivery: WebhookDelivery) -> Option<WebhookDelivery> {
        let status = self.send(&delivery).await;
        let count = match status {
            Some(200..=299) => &self.counts.successes,
            Some(_) => &self.counts.failures,
            None => &self.counts.errors,
        };
        count.fetch_add(1, Ordering::Relaxed);
        let again = status.is_none_or(is_retried) && delivery.retry < self.retries;
        self.log.add(WebhookAttempt {
            webhook: self.id,
            event: delivery.event.to_owned(),
            identifier: delivery.identifier.clone(),
            retry: delivery.retry,
            status,
        });
        again.then_some(delivery)
    }

    async fn send(&self, delivery: &WebhookDelivery) -> Option<u16> {
        let mut request = self
            .client
            .post(&delivery.url)
            .header(USER_AGENT, &*self.user_agent)
            .header(CONTENT_TYPE, "application/json; charset=UTF-8")
            .body(delivery.body.clone());
        if self.identifier {
            request = request.header("x-atlassian-webhook-identifier", &delivery.identifier);
        }
        if self.cloud {
            request = request.header("x-atlassian-webhook-flow", delivery.flow);
            if delivery.retry > 0 {
                request = request.header("x-atlassian-webhook-retry", delivery.retry.to_string());
            }
        }
        let secret = self.secret.lock().clone();
        if let Some(secret) = secret {
            request = request.header("x-hub-signature", hub_signature(&secret, &delivery.body));
        }
        if let WebhookOwner::App { app, .. } = &self.owner {
            let now = OffsetDateTime::now_utc().unix_timestamp();
            let token = app_token(&app.id, &app.secret, now);
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut response = request.send().await.ok()?;
        let status = response.status().as_u16();
        // The rest of a longer response is left unread, which closes the connection.
        let mut read = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            read += chunk.len();
            if read > MAX_RESPONSE {
                break;
            }
        }
        Some(status)
    }
}

/// Whether a delivery with this status is sent again, as Cloud documents it.
fn is_retried(status: u16) -> bool {
    matches!(status, 408 | 409 | 425 | 429 | 500..=599)
}

const MAX_ATTEMPTS: usize = 1024;
/// Bytes of all bodies that wait or are sent.
const MAX_HELD: usize = 64 << 20;
const MAX_RESPONSE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn only_transient_statuses_are_retried() {
        let retried: Vec<u16> = (200..600).filter(|status| is_retried(*status)).collect();
        assert_eq!(retried[..4], [408, 409, 425, 429]);
        assert_eq!(retried.len(), 104);
    }

    #[test]
    fn bodies_together_are_bounded_and_room_comes_back() {
        let held = Arc::new(AtomicUsize::new(0));
        let first = BodyRoom::reserve(&held, MAX_HELD - 1).unwrap();
        assert!(BodyRoom::reserve(&held, 2).is_none());
        assert!(BodyRoom::reserve(&held, 1).is_some());
        drop(first);
        assert_eq!(held.load(Ordering::Relaxed), 0);
    }
}
