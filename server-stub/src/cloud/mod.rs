//! An imitation of Jira Cloud, as far as a client's login goes: `auth` is auth.atlassian.com (consent
//! and the token service), `api` is api.atlassian.com (accessible resources, and the sites behind
//! `/ex/jira/{cloudid}`), `site` is one customer's URL. `grants` holds what was issued, `scope` says
//! which one a request wants, `settings` names users, apps, tokens and sites. Each has a listener of
//! its own; all are https with certificates of one authority. The sites hold the same world as the
//! imitation [`jira`](crate::jira).

mod api;
mod auth;
mod grants;
mod scope;
mod settings;
mod state;
mod site;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

pub use grants::CloudCounts;
pub use settings::{ApiToken, AtlassianAccount, DeadTokenAnswer, OAuthApp, Settings, SiteSettings};

use crate::certificate_authority::{
    CERTIFICATE_FILE, CertificateAuthority, CertificateAuthorityError,
};
use crate::jira::{
    EmbeddedJira, InjectedFault, JiraStartError as JiraError, OAuth1Consumer, PublicKeyError,
    ReceivedRequest, UserSettings, server,
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
    /// What stands for `https://auth.atlassian.com`.
    pub auth_url: String,
    /// What stands for `https://api.atlassian.com`.
    pub api_url: String,
    /// In the order of the settings.
    pub sites: Vec<RunningSite>,
    /// The certificate of the authority that signed all certificates, PEM.
    pub ca_pem: String,
    /// The same as a file.
    pub ca_path: PathBuf,
    shared: Arc<CloudState>,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
    /// Removed when dropped.
    _temporary: Option<tempfile::TempDir>,
}

/// One site of a running Cloud.
#[derive(Clone, Debug)]
pub struct RunningSite {
    /// The site's `cloudid` in API gateway paths.
    pub cloud_id: String,
    /// As accessible resources and links name it.
    pub url: String,
    /// Address on which the site listens.
    pub addr: SocketAddr,
}

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum CloudStartError {
    /// The address is taken or not ours.
    #[error("cannot listen on {addr}: {source}; choose another address")]
    Listen {
        /// Which address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The directory cannot be made.
    #[error("cannot make a directory: {0}; choose another --data")]
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
            let leaf = authority.server(&names(addr, url))?;
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
        tracing::info!(%auth_addr, %api_addr, sites = sites.len(), "imitation Cloud serves");
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

    /// The last requests for resources of the site of this number, however they came: below
    /// `/ex/jira/{cloudid}` without that prefix.
    pub fn requests(&self, site: usize) -> Vec<ReceivedRequest> {
        let site = self.shared.sites.get(site);
        site.map(|site| site.jira.requests()).unwrap_or_default()
    }

    /// The raw targets that the API gateway got, oldest first; at most 1,024.
    pub fn api_targets(&self) -> Vec<String> {
        self.shared.api_targets().iter().cloned().collect()
    }

    /// Forgets the requests received so far.
    pub fn clear_requests(&self) {
        self.shared.api_targets().clear();
        for site in &self.shared.sites {
            site.jira.clear_requests();
        }
    }

    /// Replaces the faults of a site, however it is reached.
    pub fn set_faults(&self, site: usize, faults: Vec<InjectedFault>) {
        if let Some(site) = self.shared.sites.get(site) {
            site.jira.set_faults(faults);
        }
    }

    /// Has the next so many answers of the token service break off unsent, after all that follows
    /// from the request has happened.
    pub fn drop_token_responses(&self, count: usize) {
        self.shared.drop_token_responses(count);
    }

    /// Registers an app, or replaces the one with its id.
    pub fn register_app(&self, app: OAuthApp) {
        self.shared.grants().register(app);
    }

    /// Ends the life of every access token, and that of every refresh token if told so.
    pub fn expire_tokens(&self, refresh_too: bool) {
        let now = self.shared.now();
        self.shared.grants().expire(refresh_too, now);
    }

    /// Ends the life of an API token.
    pub fn revoke_api_token(&self, token: &str) {
        self.shared.grants().revoke_api_token(token);
    }

    /// Registers the consumer of an application link on every site, or replaces the one with its key.
    ///
    /// # Errors
    /// When its public key is none.
    pub fn register_oauth1_consumer(&self, consumer: OAuth1Consumer) -> Result<(), PublicKeyError> {
        let mut cloud_sites = self.shared.sites.iter();
        cloud_sites.try_for_each(|site| site.jira.register_oauth1_consumer(consumer.clone()))
    }

    /// Ends the life of every access token of an application link, and that of their sessions if told so.
    pub fn expire_oauth1_tokens(&self, sessions_too: bool) {
        for site in &self.shared.sites {
            site.jira.expire_oauth1_tokens(sessions_too);
        }
    }

    /// How a dead refresh token is told.
    pub fn set_dead_token(&self, shape: DeadTokenAnswer) {
        self.shared.grants().set_dead_token(shape);
    }

    /// Sets Cloud's clock off by so many seconds.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.set_clock_offset(seconds);
        for site in &self.shared.sites {
            site.jira.set_clock_offset(seconds);
        }
    }

    /// How often tokens were issued since the start.
    pub fn counts(&self) -> CloudCounts {
        self.shared.grants().counts()
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

/// What stands in a certificate.
fn names(addr: SocketAddr, url: &str) -> Vec<String> {
    let mut names = vec!["localhost".to_owned(), addr.ip().to_string()];
    if let Ok(uri) = url.parse::<http::Uri>()
        && let Some(host) = uri.host()
        && !names.iter().any(|name| name == host)
    {
        names.push(host.to_owned());
    }
    names
}

const AUTH: &str = "https://auth.atlassian.com";
const API: &str = "https://api.atlassian.com";
