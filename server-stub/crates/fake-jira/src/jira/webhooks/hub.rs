//! The webhooks of one Jira: registering, changing, and giving events to their queues.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::Rng;
use time::{Duration, OffsetDateTime};
use tokio::sync::{mpsc, watch};

use super::client::{self, WebhookClientError};
use super::event::{WebhookEvent, WebhookFlow};
use super::registry::{RegisteredWebhook, WebhookRegistry};
use super::sender::{AttemptLog, BodyRoom, DeliveryCounts, WebhookDelivery, WebhookSender};
use super::url_template::{VariableStyle, WebhookVariables};
use super::{
    ConnectedApp, SharedWebhook, WebhookAttempt, WebhookDraft, WebhookOwner, WebhookSettings,
    WebhooksFull,
};
use crate::jira::oauth2::HttpsRule;

/// All webhooks of one Jira.
pub(in crate::jira) struct WebhookHub {
    settings: WebhookSettings,
    /// Built at the first registration: most Jiras have no webhook.
    client: OnceLock<reqwest::Client>,
    registry: Mutex<WebhookRegistry>,
    log: Arc<AttemptLog>,
    held: Arc<AtomicUsize>,
}

/// An event as one webhook gets it.
pub(in crate::jira) struct OutgoingEvent<'a> {
    pub event: WebhookEvent,
    pub flow: WebhookFlow,
    /// The payload, the same for all webhooks.
    pub body: &'a Bytes,
    pub variables: &'a WebhookVariables,
    pub style: VariableStyle,
    /// Parameters that Jira adds to the query.
    pub query: &'a [(&'static str, String)],
}

/// The Jira that a webhook's deliveries come from.
#[derive(Clone, Copy)]
pub(in crate::jira) struct WebhookOrigin<'a> {
    pub cloud: bool,
    pub user_agent: &'a str,
}

/// Why a webhook was not registered.
#[derive(Debug, thiserror::Error)]
pub(in crate::jira) enum RegistrationError {
    #[error(transparent)]
    Full(#[from] WebhooksFull),
    #[error(transparent)]
    Client(#[from] WebhookClientError),
}

impl WebhookHub {
    pub(in crate::jira) fn new(settings: WebhookSettings) -> Self {
        Self {
            settings,
            client: OnceLock::new(),
            registry: Mutex::new(WebhookRegistry::new()),
            log: Arc::new(AttemptLog::new()),
            held: Arc::default(),
        }
    }

    /// Where the URL of a webhook may be plain http.
    pub(in crate::jira) fn https(&self, cloud: bool) -> HttpsRule {
        self.settings.https(cloud)
    }

    /// Registers a webhook and starts its task.
    pub(in crate::jira) fn register(
        &self,
        draft: WebhookDraft,
        owner: WebhookOwner,
        origin: WebhookOrigin<'_>,
        by: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<SharedWebhook, RegistrationError> {
        let client = self.client()?;
        let mut registry = self.registry.lock();
        let id = registry.fresh_id(now)?;
        // At least one place, which the channel demands.
        let (queue, deliveries) = mpsc::channel(self.settings.queue.clamp(1, MAX_QUEUE));
        let counts = Arc::new(DeliveryCounts::default());
        let sender = WebhookSender {
            id,
            client,
            user_agent: origin.user_agent.into(),
            cloud: origin.cloud,
            identifier: self.settings.identifier,
            owner: owner.clone(),
            secret: Arc::new(Mutex::new(draft.secret.clone())),
            retries: self.settings.retries(origin.cloud),
            retry_pause: (self.settings.retry_pause_min, self.settings.retry_pause_max),
            in_flight: self.settings.in_flight.max(1),
            waiting: self.settings.queue.clamp(1, MAX_QUEUE),
            counts: counts.clone(),
            log: self.log.clone(),
        };
        let expires = match &owner {
            WebhookOwner::Administrator => None,
            WebhookOwner::App { .. } => Some(self.app_expiry(now)),
        };
        let webhook = Arc::new(RegisteredWebhook {
            id,
            owner,
            draft,
            created: now,
            updated: now,
            updated_by: by.map(str::to_owned),
            expires,
            counts,
            secret: sender.secret.clone(),
            queue,
        });
        tokio::spawn(sender.run(deliveries));
        registry.add(webhook.clone());
        Ok(webhook)
    }

    /// The webhooks that have not expired, oldest first.
    pub(in crate::jira) fn all(&self, now: OffsetDateTime) -> Vec<SharedWebhook> {
        self.registry.lock().all(now).cloned().collect()
    }

    /// An administrator's webhook.
    pub(in crate::jira) fn administrators(
        &self,
        id: u64,
        now: OffsetDateTime,
    ) -> Option<SharedWebhook> {
        let registry = self.registry.lock();
        let mut found = registry.all(now);
        found
            .find(|webhook| webhook.id == id && webhook.is_administrators())
            .cloned()
    }

    /// Changes an administrator's webhook; `None` if there is none of this id.
    pub(in crate::jira) fn change(
        &self,
        id: u64,
        draft: WebhookDraft,
        by: Option<&str>,
        now: OffsetDateTime,
    ) -> Option<SharedWebhook> {
        let known = self.administrators(id, now)?;
        known.secret.lock().clone_from(&draft.secret);
        let changed = Arc::new(RegisteredWebhook {
            draft,
            updated: now,
            updated_by: by.map(str::to_owned),
            ..known.copy()
        });
        self.registry
            .lock()
            .replace(changed.clone())
            .then_some(changed)
    }

    /// Removes an administrator's webhook; `false` if there is none of this id.
    pub(in crate::jira) fn remove(&self, id: u64) -> bool {
        let gone = |webhook: &RegisteredWebhook| webhook.id == id && webhook.is_administrators();
        self.registry.lock().remove(gone) > 0
    }

    /// Removes these webhooks of an app; others are ignored.
    pub(in crate::jira) fn remove_of_app(&self, ids: &[u64], app: &ConnectedApp, account: &str) {
        let gone =
            |webhook: &RegisteredWebhook| ids.contains(&webhook.id) && webhook.is_of(app, account);
        self.registry.lock().remove(gone);
    }

    /// Extends the life of these webhooks of an app; others are ignored. Returns the new end.
    pub(in crate::jira) fn refresh(
        &self,
        ids: &[u64],
        app: &ConnectedApp,
        account: &str,
        now: OffsetDateTime,
    ) -> OffsetDateTime {
        let expires = self.app_expiry(now);
        let mut registry = self.registry.lock();
        let refreshed: Vec<SharedWebhook> = registry
            .all(now)
            .filter(|webhook| ids.contains(&webhook.id) && webhook.is_of(app, account))
            .map(|webhook| {
                Arc::new(RegisteredWebhook {
                    expires: Some(expires),
                    ..webhook.copy()
                })
            })
            .collect();
        for webhook in refreshed {
            registry.replace(webhook);
        }
        expires
    }

    /// The webhooks that name this event, without regard to their filters.
    pub(in crate::jira) fn wanting(
        &self,
        event: WebhookEvent,
        now: OffsetDateTime,
    ) -> Vec<SharedWebhook> {
        self.registry.lock().wanting(event, now)
    }

    /// Puts an event into the queue of a webhook, or counts it as dropped if the queue is full. Never waits.
    pub(in crate::jira) fn enqueue(&self, webhook: &RegisteredWebhook, event: &OutgoingEvent<'_>) {
        let body = match webhook.draft.exclude_body {
            true => Bytes::new(),
            false => event.body.clone(),
        };
        let queued = BodyRoom::reserve(&self.held, body.len()).is_some_and(|room| {
            let delivery = WebhookDelivery {
                event: event.event.name(),
                flow: event.flow.name(),
                identifier: rand::rng().random::<u64>().to_string(),
                url: with_query(
                    event.variables.fill(&webhook.draft.url, event.style),
                    event.query,
                ),
                body,
                retry: 0,
                _room: room,
            };
            webhook.queue.try_send(delivery).is_ok()
        });
        if !queued {
            webhook.counts.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(webhook = webhook.id, "the queue of a webhook is full");
        }
    }

    /// The last attempts, oldest first.
    pub(in crate::jira) fn attempts(&self) -> Vec<WebhookAttempt> {
        self.log.snapshot()
    }

    /// The number of attempts since the start, to wait for.
    pub(in crate::jira) fn attempt_count(&self) -> watch::Receiver<u64> {
        self.log.count()
    }

    fn client(&self) -> Result<reqwest::Client, WebhookClientError> {
        if let Some(client) = self.client.get() {
            return Ok(client.clone());
        }
        let client = client::build(&self.settings)?;
        Ok(self.client.get_or_init(|| client).clone())
    }

    fn app_expiry(&self, now: OffsetDateTime) -> OffsetDateTime {
        now.saturating_add(Duration::seconds(self.settings.app_lifetime.into()))
    }
}

/// Adds parameters to the query of a URL.
fn with_query(mut url: String, pairs: &[(&'static str, String)]) -> String {
    for (name, value) in pairs {
        url.push(if url.contains('?') { '&' } else { '?' });
        url.push_str(name);
        url.push('=');
        url.push_str(&crate::jira::oauth1::escape(value));
    }
    url
}

/// Deliveries of one webhook that wait; their bodies have a bound of their own.
const MAX_QUEUE: usize = 1_000_000;
