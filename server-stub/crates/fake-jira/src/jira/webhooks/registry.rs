//! The registered webhooks, bounded, with their expiry. The time is an argument.

use std::sync::Arc;

use parking_lot::Mutex;
use time::OffsetDateTime;
use tokio::sync::mpsc;

use super::SharedWebhook;
use super::event::WebhookEvent;
use super::sender::{DeliveryCounts, WebhookDelivery};

/// An OAuth 2.0 (3LO) app of Cloud whose access token sent a request.
#[derive(Clone)]
pub(crate) struct ConnectedApp {
    /// The app's `client_id`.
    pub id: String,
    /// The app's `client_secret`, which signs the deliveries to it.
    pub secret: String,
}

/// Who has registered a webhook.
#[derive(Clone)]
pub(in crate::jira) enum WebhookOwner {
    /// An administrator.
    Administrator,
    /// An app, for this account.
    App { app: ConnectedApp, account: String },
}

/// What a registration or a change of one asks for.
#[derive(Clone)]
pub(in crate::jira) struct WebhookDraft {
    pub name: String,
    pub description: String,
    pub url: String,
    /// Names as registered; empty means all.
    pub events: Vec<String>,
    pub jql: String,
    /// Fields of which a change fires `jira:issue_updated`; empty means any.
    pub field_ids: Vec<String>,
    pub exclude_body: bool,
    pub enabled: bool,
    pub secret: Option<String>,
    pub ssl_verification: bool,
}

/// A webhook as it is registered.
pub(in crate::jira) struct RegisteredWebhook {
    pub id: u64,
    pub owner: WebhookOwner,
    pub draft: WebhookDraft,
    pub created: OffsetDateTime,
    pub updated: OffsetDateTime,
    /// Login name of the administrator who changed it last.
    pub updated_by: Option<String>,
    /// `None` means never.
    pub expires: Option<OffsetDateTime>,
    pub counts: Arc<DeliveryCounts>,
    /// The secret that its task signs with.
    pub(super) secret: Arc<Mutex<Option<String>>>,
    /// To its task.
    pub(super) queue: mpsc::Sender<WebhookDelivery>,
}

/// The limit of webhooks is reached.
#[derive(Debug, thiserror::Error)]
#[error("Maximum number of webhooks registered ({0})")]
pub(in crate::jira) struct WebhooksFull(usize);

/// All registered webhooks, oldest first.
pub(super) struct WebhookRegistry {
    next_id: u64,
    webhooks: Vec<SharedWebhook>,
}

impl WebhookDraft {
    fn wants(&self, event: WebhookEvent) -> bool {
        self.enabled
            && (self.events.is_empty() || self.events.iter().any(|name| name == event.name()))
    }
}

impl RegisteredWebhook {
    fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
    }

    /// The same webhook, to be changed; both share the task.
    pub(super) fn copy(&self) -> Self {
        Self {
            id: self.id,
            owner: self.owner.clone(),
            draft: self.draft.clone(),
            created: self.created,
            updated: self.updated,
            updated_by: self.updated_by.clone(),
            expires: self.expires,
            counts: self.counts.clone(),
            secret: self.secret.clone(),
            queue: self.queue.clone(),
        }
    }

    /// Whether it belongs to this app and account.
    pub(in crate::jira) fn is_of(&self, app: &ConnectedApp, who: &str) -> bool {
        match &self.owner {
            WebhookOwner::Administrator => false,
            WebhookOwner::App {
                app: owner,
                account,
            } => owner.id == app.id && account == who,
        }
    }

    /// Whether an administrator has registered it.
    pub(in crate::jira) fn is_administrators(&self) -> bool {
        match &self.owner {
            WebhookOwner::Administrator => true,
            WebhookOwner::App { .. } => false,
        }
    }
}

impl WebhookRegistry {
    pub(super) fn new() -> Self {
        Self {
            next_id: 1,
            webhooks: Vec::new(),
        }
    }

    /// The id for the next webhook.
    pub(super) fn fresh_id(&mut self, now: OffsetDateTime) -> Result<u64, WebhooksFull> {
        self.webhooks.retain(|webhook| !webhook.is_expired(now));
        if self.webhooks.len() >= MAX_WEBHOOKS {
            return Err(WebhooksFull(MAX_WEBHOOKS));
        }
        let id = self.next_id;
        self.next_id += 1;
        Ok(id)
    }

    pub(super) fn add(&mut self, webhook: SharedWebhook) {
        self.webhooks.push(webhook);
    }

    /// The webhooks that have not expired.
    pub(super) fn all(&self, now: OffsetDateTime) -> impl Iterator<Item = &SharedWebhook> {
        self.webhooks
            .iter()
            .filter(move |webhook| !webhook.is_expired(now))
    }

    pub(super) fn wanting(&self, event: WebhookEvent, now: OffsetDateTime) -> Vec<SharedWebhook> {
        self.all(now)
            .filter(|webhook| webhook.draft.wants(event))
            .cloned()
            .collect()
    }

    /// Replaces the webhook with the same id; `false` if there is none.
    pub(super) fn replace(&mut self, changed: SharedWebhook) -> bool {
        match self.webhooks.iter_mut().find(|w| w.id == changed.id) {
            Some(known) => {
                *known = changed;
                true
            }
            None => false,
        }
    }

    /// Removes those that `gone` selects. Returns how many.
    pub(super) fn remove(&mut self, gone: impl Fn(&RegisteredWebhook) -> bool) -> usize {
        let before = self.webhooks.len();
        self.webhooks.retain(|webhook| !gone(webhook));
        before - self.webhooks.len()
    }
}

/// Each has a task and a queue.
const MAX_WEBHOOKS: usize = 100;
