//! An imitation Jira without a listener, for a site of the imitation Cloud, which authenticates each
//! request itself. Only application links (OAuth 1.0a) are verified here, as in any other Jira.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;

use super::login::{AuthKind, Caller};
use super::oauth1::{OAuth1Consumer, OAuth1Settings, PublicKeyError};
use super::request_log::ReceivedRequest;
use super::rest;
use super::settings::{HttpsSettings, Settings, UserSettings};
use super::state::JiraState;
use super::webhooks::{WebhookAttempt, WebhookSettings};
use super::{InjectedFault, JiraStartError};

/// The Jira of one Cloud site.
#[derive(Clone)]
pub(crate) struct EmbeddedJira {
    shared: Arc<JiraState>,
    router: TowerToHyperService<Router>,
}

impl EmbeddedJira {
    /// Creates the Jira of a site. The login name of a user is the account id.
    pub(crate) fn new(
        base_url: &str,
        title: &str,
        users: Vec<UserSettings>,
        oauth1: OAuth1Settings,
        webhooks: WebhookSettings,
        attachments: PathBuf,
    ) -> Result<Self, JiraStartError> {
        std::fs::create_dir_all(&attachments).map_err(|source| JiraStartError::Directory {
            path: attachments.clone(),
            source,
        })?;
        let settings = Settings {
            users,
            oauth1,
            webhooks,
            // The embedding Cloud serves TLS, and OAuth 1.0a signatures cover the scheme.
            https: Some(HttpsSettings::default()),
            tokens: Vec::new(),
            title: title.to_owned(),
            version: "1001.0.0".into(),
            ..Settings::default()
        };
        let shared =
            Arc::new(JiraState::new(settings, base_url.to_owned(), attachments)?.in_cloud());
        Ok(Self {
            router: TowerToHyperService::new(rest::router(shared.clone())),
            shared,
        })
    }

    /// Serves a request as `user`; `None` means anonymous.
    pub(crate) async fn serve(
        &self,
        mut request: Request,
        user: Option<String>,
        kind: AuthKind,
        reason: Option<&'static str>,
    ) -> Response {
        request
            .extensions_mut()
            .insert(Caller { user, kind, reason });
        self.serve_signed(request).await
    }

    /// Serves a request whose only possible credential is the signature of an application link.
    pub(crate) async fn serve_signed(&self, request: Request) -> Response {
        let answered = self.router.call(request.map(Body::new)).await;
        answered.unwrap_or_else(|never| match never {})
    }

    /// The last requests; see [`RunningJira::requests`](super::RunningJira::requests).
    pub(crate) fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.request_log.snapshot()
    }

    /// The last attempts to deliver webhooks, oldest first.
    pub(crate) fn webhook_attempts(&self) -> Vec<WebhookAttempt> {
        self.shared.webhooks.attempts()
    }

    pub(crate) fn clear_requests(&self) {
        self.shared.request_log.clear();
    }

    /// Registers the consumer of an application link, or replaces the one with its key.
    pub(crate) fn register_oauth1_consumer(
        &self,
        consumer: OAuth1Consumer,
    ) -> Result<(), PublicKeyError> {
        self.shared.consumers.lock().register(consumer)
    }

    /// Expires every OAuth 1.0a access token, and their sessions if `sessions_too`.
    pub(crate) fn expire_oauth1_tokens(&self, sessions_too: bool) {
        let now = self.shared.now();
        self.shared.consumers.lock().expire(sessions_too, now);
    }

    /// Sets the site's clock ahead by this many seconds.
    pub(crate) fn set_clock_offset(&self, seconds: i64) {
        self.shared.controls.lock().clock_offset = seconds;
    }

    pub(crate) fn set_faults(&self, faults: Vec<InjectedFault>) {
        self.shared.controls.lock().faults = faults;
    }
}
