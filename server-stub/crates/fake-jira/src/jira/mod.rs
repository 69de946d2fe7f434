//! An imitation of Jira Server / Data Center. It responds in Jira's shapes, refuses what Jira refuses,
//! and verifies every credential.
//!
//! A request passes `server` (connections, TLS) → `middleware` (record, faults, context path, login, rate
//! limit, XSRF) → `rest` (one file per group of resources), which reads and changes the `model`.
//! `login` has one file per login method; `oauth1` and `oauth2` issue the tokens that it checks. `jql`
//! searches. `webhooks` delivers what changes.

mod aborted_response;
mod consent;
mod control;
mod defaults;
mod embedded;
mod fault;
mod jql;
mod login;
mod middleware;
mod model;
mod oauth1;
mod oauth2;
mod path;
mod rate;
mod request_log;
mod response;
mod rest;
pub(crate) mod server;
mod settings;
mod state;
pub(crate) mod webhooks;
mod xsrf;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

pub(crate) use embedded::EmbeddedJira;
pub use fault::{CannedResponse, FaultKind, InjectedFault};
pub use login::AuthKind;
pub use model::JiraPermission;
pub use oauth1::{OAuth1Consumer, OAuth1Settings, PublicKeyError};
pub use oauth2::{HttpsRule, OAuth2Client, OAuth2Counts, OAuth2Scope, OAuth2Settings};
pub use rate::RateLimit;
pub use request_log::ReceivedRequest;
pub use settings::{
    HttpsSettings, PermissionGrant, PermissionHolder, ProjectSettings, Settings, TokenSettings,
    TomcatConnector, UserSettings,
};
pub use state::ServerState;
pub use webhooks::{WebhookAttempt, WebhookSettings};

use crate::certificate_authority::{
    CERTIFICATE_FILE, CertificateAuthority, CertificateAuthorityError, LeafCertificate,
    server_names,
};
use state::JiraState;

/// The imitation of Jira; start it with `start`.
pub struct JiraStub;

/// A Jira that serves until [`RunningJira::stop`] or until this is dropped.
pub struct RunningJira {
    /// Address on which Jira listens.
    pub addr: SocketAddr,
    /// URL to reach it: scheme, address and context path, without a trailing slash. With https the
    /// certificate is valid for the address.
    pub url: String,
    /// Base URL of `serverInfo` and of every link.
    pub base_url: String,
    /// Certificate of the CA that signed Jira's certificate, PEM; only with https.
    pub ca_pem: Option<String>,
    /// The file with that CA certificate; only with https.
    pub ca_path: Option<PathBuf>,
    authority: Option<CertificateAuthority>,
    shared: Arc<JiraState>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    /// Removes the temporary directory and its attachments when dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// Why the imitation Jira did not start.
#[derive(Debug, thiserror::Error)]
pub enum JiraStartError {
    /// The address is in use or not on this host.
    #[error("cannot listen on {addr}: {source}; choose another --listen")]
    Listen {
        /// The address to listen on.
        addr: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The directory cannot be created.
    #[error("cannot use the directory {path}: {source}; choose another --data")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The context path is neither empty nor a path such as `/jira`.
    #[error("context path {0:?}: write \"\" or a path such as \"/jira\", without a trailing slash")]
    ContextPath(String),
    /// The public key of an OAuth 1.0a consumer is invalid.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    /// The certificates could not be made.
    #[error(transparent)]
    Authority(#[from] CertificateAuthorityError),
}

impl JiraStub {
    /// Listens, and serves in the background.
    ///
    /// # Errors
    /// See [`JiraStartError`].
    pub async fn start(settings: Settings) -> Result<RunningJira, JiraStartError> {
        let context = &settings.context_path;
        if !context.is_empty() && (!context.starts_with('/') || context.ends_with('/')) {
            return Err(JiraStartError::ContextPath(context.clone()));
        }
        let (directory, temporary) = directory(&settings)?;
        let attachments = directory.join("attachments");
        std::fs::create_dir_all(&attachments).map_err(|source| JiraStartError::Directory {
            path: attachments.clone(),
            source,
        })?;
        let listener =
            TcpListener::bind(settings.listen)
                .await
                .map_err(|source| JiraStartError::Listen {
                    addr: settings.listen,
                    source,
                })?;
        let addr = listener
            .local_addr()
            .map_err(|source| JiraStartError::Listen {
                addr: settings.listen,
                source,
            })?;

        let scheme = if settings.https.is_some() {
            "https"
        } else {
            "http"
        };
        let url = format!("{scheme}://{addr}{context}");
        let base_url = match &settings.base_url {
            Some(configured) => configured.trim_end_matches('/').to_owned(),
            None => url.clone(),
        };
        let (authority, acceptor) = match &settings.https {
            None => (None, None),
            Some(https) => {
                let authority = CertificateAuthority::in_directory(&directory)?;
                let leaf = authority.server(&server_names(addr, &base_url, &https.names))?;
                let config = authority.server_config(&leaf, https.client_certificate)?;
                (Some(authority), Some(TlsAcceptor::from(Arc::new(config))))
            }
        };
        let shared = Arc::new(JiraState::new(settings, base_url.clone(), attachments)?);
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(server::run(
            listener,
            acceptor,
            rest::router(shared.clone()),
            stopped,
        ));
        tracing::info!(%url, %base_url, "imitation Jira started");
        Ok(RunningJira {
            addr,
            url,
            base_url,
            ca_pem: authority.as_ref().map(|ca| ca.certificate_pem().to_owned()),
            ca_path: authority.as_ref().map(|_| directory.join(CERTIFICATE_FILE)),
            authority,
            shared,
            stop,
            serving,
            _temporary: temporary,
        })
    }
}

impl RunningJira {
    /// Ends every connection and frees the address.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let _ = (&mut self.serving).await;
    }

    /// The last 1,024 requests, oldest first.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.request_log.snapshot()
    }

    /// Clears the record of received requests.
    pub fn clear_requests(&self) {
        self.shared.request_log.clear();
    }

    /// Waits until `count` requests have arrived since the start. A request counts once its head is read.
    pub async fn received(&self, count: u64) {
        let _ = self
            .shared
            .request_log
            .count()
            .wait_for(|n| *n >= count)
            .await;
    }

    /// Number of requests since the start.
    pub fn received_count(&self) -> u64 {
        *self.shared.request_log.count().borrow()
    }

    /// Sets the state that `/status` reports. Other requests are served only while it is `Running`.
    pub fn set_state(&self, state: ServerState) {
        self.shared.controls.lock().state = state;
    }

    /// Switches Basic authentication on or off.
    pub fn set_basic(&self, enabled: bool) {
        self.shared.controls.lock().basic = enabled;
        // Sessions would stay valid without it.
        self.end_sessions();
    }

    /// Replaces the faults that are injected.
    pub fn set_faults(&self, faults: Vec<InjectedFault>) {
        self.shared.controls.lock().faults = faults;
    }

    /// Replaces the rate limit.
    pub fn set_rate_limit(&self, limit: RateLimit) {
        self.shared.controls.lock().rate_limit = limit;
    }

    /// Changes a user's password and ends all sessions.
    pub fn set_password(&self, user: &str, password: &str) {
        self.shared.model.lock().users.set_password(user, password);
        self.end_sessions();
    }

    /// Changes a user's password; existing sessions stay valid.
    pub fn set_password_and_keep_sessions(&self, user: &str, password: &str) {
        self.shared.model.lock().users.set_password(user, password);
    }

    /// Ends all sessions, so that their cookies become invalid.
    pub fn end_sessions(&self) {
        self.shared.sessions.lock().close_all();
    }

    /// Expires a personal access token.
    pub fn expire_token(&self, token: &str) {
        self.shared.model.lock().users.expire_token(token);
    }

    /// Registers a client of the OAuth 2.0 provider, or replaces the one with its id.
    pub fn register_oauth2_client(&self, client: OAuth2Client) {
        self.shared.grants.lock().register(client);
    }

    /// Expires every OAuth 2.0 access token, and every refresh token if `refresh_too`.
    pub fn expire_oauth2_tokens(&self, refresh_too: bool) {
        let now = self.shared.now();
        self.shared.grants.lock().expire(refresh_too, now);
    }

    /// Sets the lifetime, in seconds, of OAuth 2.0 access tokens issued from now on.
    pub fn set_oauth2_access_lifetime(&self, seconds: u32) {
        self.shared.grants.lock().set_access_lifetime(seconds);
    }

    /// How often OAuth 2.0 tokens were issued since the start.
    pub fn oauth2_counts(&self) -> OAuth2Counts {
        self.shared.grants.lock().counts()
    }

    /// Registers a consumer of the OAuth 1.0a provider, or replaces the one with its key.
    ///
    /// # Errors
    /// When its public key is invalid.
    pub fn register_oauth1_consumer(&self, consumer: OAuth1Consumer) -> Result<(), PublicKeyError> {
        self.shared.consumers.lock().register(consumer)
    }

    /// Expires every OAuth 1.0a access token, and their sessions if `sessions_too`.
    pub fn expire_oauth1_tokens(&self, sessions_too: bool) {
        let now = self.shared.now();
        self.shared.consumers.lock().expire(sessions_too, now);
    }

    /// Sets Jira's clock ahead by this many seconds.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.controls.lock().clock_offset = seconds;
    }

    /// The last 1,024 attempts to deliver webhooks, oldest first.
    pub fn webhook_attempts(&self) -> Vec<WebhookAttempt> {
        self.shared.webhooks.attempts()
    }

    /// Waits until `count` attempts to deliver webhooks have ended since the start.
    pub async fn webhooks_attempted(&self, count: u64) {
        let mut attempts = self.shared.webhooks.attempt_count();
        let _ = attempts.wait_for(|n| *n >= count).await;
    }

    /// Resets the failed logins of a user, as solving the CAPTCHA does.
    pub fn clear_captcha(&self, user: &str) {
        self.shared.lockouts.lock().clear(user);
    }

    /// A client certificate that this Jira accepts; `None` without https.
    ///
    /// # Errors
    /// When the name is invalid in certificates.
    pub fn client_certificate(
        &self,
        name: &str,
    ) -> Option<Result<LeafCertificate, CertificateAuthorityError>> {
        self.authority
            .as_ref()
            .map(|authority| authority.client(name))
    }

    /// The CA that signed this Jira's certificate and signs client certificates; `None` without https.
    pub fn authority(&self) -> Option<&CertificateAuthority> {
        self.authority.as_ref()
    }

    /// The directory of the attachments, one file each.
    pub fn attachments(&self) -> &Path {
        self.shared.attachments()
    }
}

impl Drop for RunningJira {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.serving.abort();
    }
}

fn directory(settings: &Settings) -> Result<(PathBuf, Option<tempfile::TempDir>), JiraStartError> {
    if let Some(path) = &settings.directory {
        return Ok((path.clone(), None));
    }
    let temporary = tempfile::tempdir().map_err(|source| JiraStartError::Directory {
        path: std::env::temp_dir(),
        source,
    })?;
    Ok((temporary.path().to_owned(), Some(temporary)))
}
