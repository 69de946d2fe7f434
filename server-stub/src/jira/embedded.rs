//! An imitation Jira without a listener and without logins of its own: the site of an imitation
//! Cloud, which decides who is asking before it hands a request on. Application links alone are this
//! Jira's own affair: their provider is the one of any other Jira.

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
use super::{InjectedFault, JiraStartError};

/// The site.
#[derive(Clone)]
pub(crate) struct EmbeddedJira {
    shared: Arc<JiraState>,
    router: TowerToHyperService<Router>,
}

impl EmbeddedJira {
    /// The login name of `users` is their account id.
    pub fn new(
        base_url: &str,
        title: &str,
        users: Vec<UserSettings>,
        oauth1: OAuth1Settings,
        attachments: PathBuf,
    ) -> Result<Self, JiraStartError> {
        std::fs::create_dir_all(&attachments).map_err(|source| JiraStartError::Directory {
            path: attachments.clone(),
            source,
        })?;
        let settings = Settings {
            users: users,
            oauth1,
            // Whoever embeds it speaks TLS, and signatures are made over that.
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

    /// Serves a request as `user`; `None`: anonymous.
    pub async fn serve(
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

    /// Serves a request that holds no other credential than, it may be, a signature of an application
    /// link.
    pub async fn serve_signed(&self, request: Request) -> Response {
        let answered = self.router.call(request.map(Body::new)).await;
        answered.unwrap_or_else(|never| match never {})
    }

    /// The last requests, as [`RunningJira::requests`](super::RunningJira::requests).
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.request_log.snapshot()
    }

    pub fn clear_requests(&self) {
        self.shared.request_log.clear();
    }

    /// Registers the consumer of an application link, or replaces the one with its key.
    pub fn register_oauth1_consumer(&self, consumer: OAuth1Consumer) -> Result<(), PublicKeyError> {
        self.shared.consumers().register(consumer)
    }

    /// Ends the life of every OAuth 1.0a access token, and that of their sessions if told so.
    pub fn expire_oauth1_tokens(&self, sessions_too: bool) {
        let now = self.shared.now();
        self.shared.consumers().expire(sessions_too, now);
    }

    /// Sets the site's clock off by so many seconds.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.controls().clock_offset = seconds;
    }

    pub fn set_faults(&self, faults: Vec<InjectedFault>) {
        self.shared.controls().faults = faults;
    }
}
