//! The imitation Jira Server / Data Center: it answers in Jira's shapes and refuses what Jira
//! refuses; every login is really verified.
//!
//! A request walks `server` (connections, TLS) → `middleware` (record, faults, context path, login, rate
//! limit, XSRF) → `rest` (one file per group of resources), which reads and changes the `model`.
//! `login` has one file per way to log in; `oauth1` and `oauth2` issue what it checks. Searching
//! is `jql`.

mod aborted_response;
mod response;
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
mod rest;
pub(crate) mod server;
mod settings;
mod state;
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

use crate::certificate_authority::{
    CERTIFICATE_FILE, CertificateAuthority, CertificateAuthorityError, LeafCertificate,
};
use state::JiraState;

/// The imitation of Jira; start it with `start`.
pub struct JiraStub;

/// A Jira that serves until [`RunningJira::stop`] or until this is dropped.
pub struct RunningJira {
    /// Address on which Jira listens.
    pub addr: SocketAddr,
    /// Where to reach it: scheme, address, context path, no trailing slash. With https the address
    /// is in the certificate.
    pub url: String,
    /// Jira's own idea of its URL, as in `serverInfo` and every link.
    pub base_url: String,
    /// The certificate of the authority that signed its certificate, PEM; with https only.
    pub ca_pem: Option<String>,
    /// The same as a file.
    pub ca_path: Option<PathBuf>,
    authority: Option<CertificateAuthority>,
    shared: Arc<JiraState>,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
    /// Removed with its attachments when dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum JiraStartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source}; choose another --listen")]
    Listen {
        /// Which address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The directory cannot be made.
    #[error("cannot use the directory {path}: {source}; choose another --data")]
    Directory {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A context path that is neither empty nor `/…` without a slash at its end.
    #[error(
        "context path {0:?}: write \"\" or a path such as \"/jira\", without a slash at its end"
    )]
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
                let leaf = authority.server(&names(https, addr, &base_url))?;
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
        tracing::info!(%url, %base_url, "imitation Jira serves");
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

    /// The last requests it received, oldest first; at most 1,024.
    pub fn requests(&self) -> Vec<ReceivedRequest> {
        self.shared.request_log.snapshot()
    }

    /// Forgets the requests received so far.
    pub fn clear_requests(&self) {
        self.shared.request_log.clear();
    }

    /// Returns once `count` requests have come in since the start, each noted as soon as its head was
    /// read.
    pub async fn received(&self, count: u64) {
        let _ = self
            .shared
            .request_log
            .count()
            .wait_for(|n| *n >= count)
            .await;
    }

    /// How many requests have come in since the start.
    pub fn received_count(&self) -> u64 {
        *self.shared.request_log.count().borrow()
    }

    /// What `/status` says, and whether anything else is served.
    pub fn set_state(&self, state: ServerState) {
        self.shared.controls().state = state;
    }

    /// Switches Basic authentication on or off.
    pub fn set_basic(&self, enabled: bool) {
        self.shared.controls().basic = enabled;
        // They would go on without it.
        self.end_sessions();
    }

    /// Replaces the faults that are injected.
    pub fn set_faults(&self, faults: Vec<InjectedFault>) {
        self.shared.controls().faults = faults;
    }

    /// Replaces the rate limit.
    pub fn set_rate_limit(&self, limit: RateLimit) {
        self.shared.controls().rate_limit = limit;
    }

    /// Changes a user's password, and ends all sessions, which would otherwise go on without it.
    pub fn set_password(&self, user: &str, password: &str) {
        self.shared.model().users.set_password(user, password);
        self.end_sessions();
    }

    /// Changes a user's password; who has a session goes on by it.
    pub fn set_password_and_keep_sessions(&self, user: &str, password: &str) {
        self.shared.model().users.set_password(user, password);
    }

    /// Ends all sessions: whoever comes by one has to log in again.
    pub fn end_sessions(&self) {
        self.shared.sessions().close_all();
    }

    /// Ends the life of a personal access token.
    pub fn expire_token(&self, token: &str) {
        self.shared.model().users.expire_token(token);
    }

    /// Registers a client of the OAuth 2.0 provider, or replaces the one with its id.
    pub fn register_oauth2_client(&self, client: OAuth2Client) {
        self.shared.grants().register(client);
    }

    /// Ends the life of every OAuth 2.0 access token, and that of every refresh token if told so.
    pub fn expire_oauth2_tokens(&self, refresh_too: bool) {
        let now = self.shared.now();
        self.shared.grants().expire(refresh_too, now);
    }

    /// Seconds that OAuth 2.0 access tokens issued from now on live.
    pub fn set_oauth2_access_lifetime(&self, seconds: u32) {
        self.shared.grants().set_access_lifetime(seconds);
    }

    /// How often OAuth 2.0 tokens were issued since the start.
    pub fn oauth2_counts(&self) -> OAuth2Counts {
        self.shared.grants().counts()
    }

    /// Registers a consumer of the OAuth 1.0a provider, or replaces the one with its key.
    ///
    /// # Errors
    /// When its public key is none.
    pub fn register_oauth1_consumer(&self, consumer: OAuth1Consumer) -> Result<(), PublicKeyError> {
        self.shared.consumers().register(consumer)
    }

    /// Ends the life of every OAuth 1.0a access token, and that of their sessions if told so.
    pub fn expire_oauth1_tokens(&self, sessions_too: bool) {
        let now = self.shared.now();
        self.shared.consumers().expire(sessions_too, now);
    }

    /// Sets Jira's clock off by so many seconds.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.controls().clock_offset = seconds;
    }

    /// Lets a user log in again, as solving the CAPTCHA does.
    pub fn clear_captcha(&self, user: &str) {
        self.shared.lockouts().clear(user);
    }

    /// A client certificate that this Jira accepts when it asks for one; with https only.
    ///
    /// # Errors
    /// When the name cannot stand in a certificate.
    pub fn client_certificate(
        &self,
        name: &str,
    ) -> Option<Result<LeafCertificate, CertificateAuthorityError>> {
        self.authority
            .as_ref()
            .map(|authority| authority.client(name))
    }

    /// Who signed this Jira's certificate, and whose client certificates it takes; with https only.
    pub fn authority(&self) -> Option<&CertificateAuthority> {
        self.authority.as_ref()
    }

    /// The directory in which attachments are kept, one file each.
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

fn names(https: &HttpsSettings, addr: SocketAddr, base_url: &str) -> Vec<String> {
    let mut names = vec!["localhost".into(), "127.0.0.1".into(), "::1".into()];
    names.push(addr.ip().to_string());
    if let Ok(uri) = base_url.parse::<http::Uri>()
        && let Some(host) = uri.host()
    {
        names.push(host.trim_matches(['[', ']']).to_owned());
    }
    names.extend(https.names.iter().cloned());
    let mut seen = std::collections::HashSet::new();
    names.retain(|name: &String| seen.insert(name.clone()));
    names
}
