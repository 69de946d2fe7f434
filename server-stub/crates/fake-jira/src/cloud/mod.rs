//! An imitation of Jira Cloud's logins. Three listeners serve https with certificates of one CA.
//!
//! | module | what it holds |
//! |---|---|
//! | `auth` | auth.atlassian.com: the consent page and the token service |
//! | `api` | api.atlassian.com: accessible resources, and the sites below `/ex/jira/{cloudid}` |
//! | `site` | the URL of one customer, with the same issues as the imitation [`jira`](crate::jira) |
//! | `grants` | the codes and tokens that were issued |
//! | `scope` | the scopes that a request requires |
//! | `settings` | users, apps, tokens and sites |

mod api;
mod auth;
mod grants;
mod scope;
mod settings;
mod site;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use grants::CloudCounts;
pub use scope::RequiredScopes;
pub use settings::{ApiToken, AtlassianAccount, DeadTokenAnswer, OAuthApp, Settings, SiteSettings};

use crate::certificate_authority::{
    CERTIFICATE_FILE, CertificateAuthority, CertificateAuthorityError, server_names,
};
use crate::jira::{
    EmbeddedJira, InjectedFault, JiraStartError as JiraError, OAuth1Consumer, PublicKeyError,
    ReceivedRequest, UserSettings, WebhookAttempt, server,
};
use state::{CloudSite, CloudState};

/// The imitation of Jira Cloud and its token service.
pub struct CloudStub;

/// A Cloud that serves until [`RunningCloud::stop`] or until this is dropped.
pub struct RunningCloud {
    /// Where the token service listens.
    pub auth_addr: SocketAddr,
    /// Where the API gateway listens.
    pub api_addr: SocketAddr,
    /// URL that replaces `https://auth.atlassian.com`.
    pub auth_url: String,
    /// URL that replaces `https://api.atlassian.com`.
    pub api_url: String,
    /// The sites, in the order of the settings.
    pub sites: Vec<RunningSite>,
    /// Certificate of the CA that signed all certificates, PEM.
    pub ca_pem: String,
    /// The file with that CA certificate.
    pub ca_path: PathBuf,
    shared: Arc<CloudState>,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
    /// Removes the temporary directory when dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// One site of a running Cloud.
#[derive(Clone, Debug)]
pub struct RunningSite {
    /// The site's `cloudid` in API gateway paths.
    pub cloud_id: String,
    /// The site's URL in accessible resources and links.
    pub url: String,
    /// Address on which the site listens.
    pub addr: SocketAddr,
}

/// Why the imitation Cloud did not start.
#[derive(Debug, thiserror::Error)]
pub enum CloudStartError {
    /// The address is in use or not on this host.
    #[error("cannot listen on {addr}: {source}; choose another address")]
    Listen {
        /// The address to listen on.
        addr: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The directory cannot be created.
    #[error("cannot create a directory: {0}; choose another --data")]
    Directory(std::io::Error),
    /// The Jira of a site could not be set up.
    #[error(transparent)]
    Jira(#[from] JiraError),
    /// The certificates could not be made.
    #[error(transparent)]
    Authority(#[from] CertificateAuthorityError),
}

impl CloudStub {
    /// Listens, and serves in the background.
    ///
    /// # Errors
    /// See [`CloudStartError`].
    pub async fn start(settings: Settings) -> Result<RunningCloud, CloudStartError> {
        let (directory, temporary) = match &settings.directory {
            Some(path) => (path.clone(), None),
            None => {
                let made = tempfile::tempdir().map_err(CloudStartError::Directory)?;
                (made.path().to_owned(), Some(made))
            }
        };
        let authority = CertificateAuthority::in_directory(&directory)?;
        let (auth, auth_addr) = listen(settings.auth_listen).await?;
        let (api, api_addr) = listen(settings.api_listen).await?;

        let users: Vec<UserSettings> = settings
            .accounts
            .iter()
            .map(AtlassianAccount::user)
            .collect();
        let mut listeners = Vec::new();
        let mut cloud_sites = Vec::new();
        let mut sites = Vec::new();
        for site in &settings.sites {
            let (listener, addr) = listen(site.listen).await?;
            let url = match &site.url {
                Some(url) => url.trim_end_matches('/').to_owned(),
                None => format!("https://{addr}"),
            };
            let attachments = directory.join(&site.name).join("attachments");
            cloud_sites.push(CloudSite {
                name: site.name.clone(),
                cloud_id: site.cloud_id.clone(),
                jira: EmbeddedJira::new(
                    &url,
                    &site.name,
                    users.clone(),
                    settings.oauth1.clone(),
                    settings.webhooks.clone(),
                    attachments,
                )?,
                url: url.clone(),
            });
            sites.push(RunningSite {
                cloud_id: site.cloud_id.clone(),
                url,
                addr,
            });
            listeners.push(listener);
        }

        let shared = Arc::new(CloudState::new(settings, cloud_sites));
        let (stop, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        let mut serve = |listener, addr: SocketAddr, url: &str, router: Router| {
            let leaf = authority.server(&server_names(addr, url, &[]))?;
            let config = authority.server_config(&leaf, false)?;
            let acceptor = TlsAcceptor::from(Arc::new(config));
            serving.spawn(server::run(
                listener,
                Some(acceptor),
                router,
                stopped.clone(),
            ));
            Ok::<_, CloudStartError>(())
        };
        serve(auth, auth_addr, AUTH, auth::router(shared.clone()))?;
        serve(api, api_addr, API, api::router(shared.clone()))?;
        for (index, (listener, site)) in listeners.into_iter().zip(&sites).enumerate() {
            let router = site::router(shared.clone(), index);
            serve(listener, site.addr, &site.url, router)?;
        }
        tracing::info!(%auth_addr, %api_addr, sites = sites.len(), "imitation Cloud started");
        Ok(RunningCloud {
            auth_url: format!("https://{auth_addr}"),
            api_url: format!("https://{api_addr}"),
            auth_addr,
            api_addr,
            sites,
            ca_pem: authority.certificate_pem().to_owned(),
            ca_path: directory.join(CERTIFICATE_FILE),
            shared,
            stop,
            serving,
            _temporary: temporary,
        })
    }
}

impl RunningCloud {
    /// Ends every connection and frees the addresses.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while self.serving.join_next().await.is_some() {}
    }

    /// The last requests for resources of a site, by its index in the settings. Those through the API
    /// gateway come without `/ex/jira/{cloudid}`.
    pub fn requests(&self, site: usize) -> Vec<ReceivedRequest> {
        let site = self.shared.sites.get(site);
        site.map(|site| site.jira.requests()).unwrap_or_default()
    }

    /// The raw targets of the last 1,024 requests to the API gateway, oldest first.
    pub fn api_targets(&self) -> Vec<String> {
        self.shared.api_targets.lock().iter().cloned().collect()
    }

    /// The last attempts of a site to deliver webhooks.
    pub fn webhook_attempts(&self, site: usize) -> Vec<WebhookAttempt> {
        let site = self.shared.sites.get(site);
        site.map(|site| site.jira.webhook_attempts())
            .unwrap_or_default()
    }

    /// Clears the records of received requests.
    pub fn clear_requests(&self) {
        self.shared.api_targets.lock().clear();
        for site in &self.shared.sites {
            site.jira.clear_requests();
        }
    }

    /// Replaces the faults of a site, for both ways to reach it.
    pub fn set_faults(&self, site: usize, faults: Vec<InjectedFault>) {
        if let Some(site) = self.shared.sites.get(site) {
            site.jira.set_faults(faults);
        }
    }

    /// Breaks the connection instead of sending the next `count` responses of the token service. The
    /// requests themselves take effect.
    pub fn drop_token_responses(&self, count: usize) {
        self.shared.drop_token_responses(count);
    }

    /// Expires every access token, and every refresh token if `refresh_too`.
    pub fn expire_tokens(&self, refresh_too: bool) {
        let now = self.shared.now();
        self.shared.grants.lock().expire(refresh_too, now);
    }

    /// Revokes an API token.
    pub fn revoke_api_token(&self, token: &str) {
        self.shared.grants.lock().revoke_api_token(token);
    }

    /// Registers the consumer of an application link on every site, or replaces the one with its key.
    ///
    /// # Errors
    /// When its public key is invalid.
    pub fn register_oauth1_consumer(&self, consumer: OAuth1Consumer) -> Result<(), PublicKeyError> {
        let mut cloud_sites = self.shared.sites.iter();
        cloud_sites.try_for_each(|site| site.jira.register_oauth1_consumer(consumer.clone()))
    }

    /// Expires every access token of the application links, and their sessions if `sessions_too`.
    pub fn expire_oauth1_tokens(&self, sessions_too: bool) {
        for site in &self.shared.sites {
            site.jira.expire_oauth1_tokens(sessions_too);
        }
    }

    /// Sets the error for an invalid refresh token.
    pub fn set_dead_token(&self, shape: DeadTokenAnswer) {
        self.shared.grants.lock().set_dead_token(shape);
    }

    /// Sets Cloud's clock ahead by this many seconds.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.set_clock_offset(seconds);
        for site in &self.shared.sites {
            site.jira.set_clock_offset(seconds);
        }
    }

    /// How often tokens were issued since the start.
    pub fn counts(&self) -> CloudCounts {
        self.shared.grants.lock().counts()
    }
}

impl Drop for RunningCloud {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

async fn listen(addr: SocketAddr) -> Result<(TcpListener, SocketAddr), CloudStartError> {
    let failed = |source| CloudStartError::Listen { addr, source };
    let listener = TcpListener::bind(addr).await.map_err(failed)?;
    let addr = listener.local_addr().map_err(failed)?;
    Ok((listener, addr))
}

const AUTH: &str = "https://auth.atlassian.com";
const API: &str = "https://api.atlassian.com";
