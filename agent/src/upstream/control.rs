//! The HTTP client of control traffic (probes, token endpoints): reaches a site as the data path does, with the same trust
//! roots, client certificate and address, one bounded answer at a time.

use super::{
    AnswerSource, HttpTarget, RequestedUri, Settings, TlsConfigError, cloud::CloudGateway, explain,
    probe_tls, tls::no_tls,
};
use crate::profile::ServiceProfile;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header, request, response};
use reqwest::{
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::lookup_host;
use zeroize::Zeroizing;

/// An HTTP client for one site.
pub struct ControlClient {
    http: reqwest::Client,
    /// `https://name:port` as reqwest needs it: the name that TLS asks for, the port that is dialed.
    origin: String,
    host: HeaderValue,
    context_path: String,
    profile: Arc<ServiceProfile>,
    /// Cloud's API gateway, where requests go through it.
    gateway: Option<Box<CloudGateway>>,
    /// Adds cookies to each request without a credential.
    cookies: Option<AddCookies>,
}

/// Adds the cookies of a node and its session to a request.
pub type AddCookies = Box<dyn Fn(&mut request::Parts) + Send + Sync>;

/// An answer with the first 64 KiB of its body, zeroed on drop: it may hold tokens.
pub struct ControlAnswer {
    /// Status and headers of the answer.
    pub head: response::Parts,
    /// The body, cut at 64 KiB.
    pub body: Zeroizing<Vec<u8>>,
}

/// Why a request of our own got no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct ControlFailure {
    /// What failed, in one sentence without a URL.
    pub detail: String,
    /// Whether no byte of the request can have arrived.
    pub not_sent: bool,
    /// Whether the certificate of the other side was refused.
    pub is_certificate: bool,
}

/// Why no client could be made.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The HTTP client cannot be built.
    #[error("the HTTP client: {0}")]
    Client(String),
}

impl ControlClient {
    /// For the target itself. May read the system's certificates, so call it where blocking is allowed.
    pub fn new(settings: &Settings, target: &HttpTarget) -> Result<Self, ControlError> {
        let unusable = |e: &dyn std::fmt::Display| ControlError::Client(e.to_string());
        let builder = reqwest::Client::builder()
            // The environment's proxy is for the Internet; Jira is reached as the path reaches it.
            .no_proxy()
            .redirect(redirect::Policy::none())
            .retry(reqwest::retry::never())
            // As on the data path.
            .http1_ignore_invalid_headers_in_responses(true)
            .http1_allow_spaces_after_header_name_in_responses(true)
            .http1_allow_obsolete_multiline_headers_in_responses(true)
            .referer(false)
            .http1_only()
            .user_agent(USER_AGENT)
            .connect_timeout(settings.connect_timeout)
            .timeout(Self::longest(settings))
            // Probes are further apart than Jira keeps a connection.
            .pool_max_idle_per_host(0)
            .dns_resolver(FixedResolver {
                host: target.host.clone(),
                port: target.port,
                address: settings.address,
            });
        let mut name = PLACEHOLDER.to_owned();
        let tls = if target.tls {
            let (config, asked) = probe_tls(settings)?;
            name = asked.unwrap_or(name);
            config
        } else {
            no_tls()?
        };
        let builder = builder.tls_backend_preconfigured(tls);
        let scheme = if target.tls { "https" } else { "http" };
        let port = settings.address.map_or(target.port, |a| a.port());
        Ok(Self {
            http: builder.build().map_err(|e| unusable(&e))?,
            origin: format!("{scheme}://{name}:{port}"),
            host: HeaderValue::from_str(&target.authority).map_err(|e| unusable(&e))?,
            context_path: target.context_path.clone(),
            profile: Arc::clone(&settings.profile),
            gateway: None,
            cookies: None,
        })
    }

    /// The longest time that one request takes.
    pub fn longest(settings: &Settings) -> Duration {
        settings.connect_timeout + ANSWER_TIMEOUT
    }

    /// For a site that belongs to the upstream; see [`Settings::for_host`].
    pub fn for_host(settings: &Settings, target: &HttpTarget) -> Result<Self, ControlError> {
        Self::new(&settings.for_host(target), target)
    }

    /// For the upstream as requests reach it: through the API gateway where they go through that.
    pub fn like_data_path(settings: &Settings, target: &HttpTarget) -> Result<Self, ControlError> {
        let Some(gateway) = CloudGateway::of(settings, target)? else {
            return Self::new(settings, target);
        };
        let mut client = Self::for_host(settings, &gateway.api)?;
        client.context_path = target.context_path.clone();
        client.gateway = Some(Box::new(gateway));
        Ok(client)
    }

    /// What is behind it.
    pub fn profile(&self) -> &Arc<ServiceProfile> {
        &self.profile
    }

    /// With cookies for each request that carries no credential.
    pub fn with_cookies(self, cookies: AddCookies) -> Self {
        Self {
            cookies: Some(cookies),
            ..self
        }
    }

    /// The head of a GET below the context path, in origin-form.
    pub fn head(&self, path: &str) -> request::Parts {
        let (mut head, ()) = http::Request::new(()).into_parts();
        head.method = Method::GET;
        // A context path holds nothing that a URI could not.
        head.uri = format!("{}{path}", self.context_path)
            .parse()
            .unwrap_or_default();
        head
    }

    /// Sends a request and reads the answer, whose extensions hold its [`AnswerSource`].
    pub async fn send(
        &self,
        mut head: request::Parts,
        body: Bytes,
    ) -> Result<ControlAnswer, ControlFailure> {
        if let Some(cookies) = &self.cookies
            // The credential's own values, and nothing else, are marked.
            && !head.headers.values().any(HeaderValue::is_sensitive)
        {
            cookies(&mut head);
        }
        let prefix = match &self.gateway {
            None => "",
            Some(gateway) => gateway.prefix().await.map_err(|detail| ControlFailure {
                detail,
                not_sent: true,
                is_certificate: false,
            })?,
        };
        let path = head.uri.path().to_owned();
        let mut headers: HeaderMap = head.headers;
        headers.insert(header::HOST, self.host.clone());
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        let mut request = self
            .http
            .request(head.method, format!("{}{prefix}{}", self.origin, head.uri))
            .headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let sent = request.send().await;
        let mut response = sent.map_err(|e| ControlFailure {
            not_sent: e.is_connect() || e.is_builder(),
            is_certificate: explain::is_refused_certificate(&e),
            detail: explained(e.without_url()),
        })?;
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.status = response.status();
        parts.headers = std::mem::take(response.headers_mut());
        let authority = self.host.to_str().unwrap_or_default();
        let path = &path;
        AnswerSource::note(&self.profile, RequestedUri { path, authority }, &mut parts);
        // Room for everything at once: growing would leave unzeroed copies behind.
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_BODY));
        while body.len() < MAX_BODY {
            match response.chunk().await {
                Ok(Some(chunk)) => {
                    let room = MAX_BODY - body.len();
                    body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                }
                Ok(None) => break,
                Err(e) => {
                    return Err(ControlFailure {
                        not_sent: false,
                        is_certificate: false,
                        detail: explained(e.without_url()),
                    });
                }
            }
        }
        Ok(ControlAnswer { head: parts, body })
    }
}

fn explained(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no answer in time".to_owned();
    }
    let unresolved = std::iter::successors(std::error::Error::source(&error), |e| e.source())
        .find_map(|e| e.downcast_ref::<ResolveFailure>());
    match unresolved {
        Some(unresolved) => unresolved.to_string(),
        None => explain::control(&error),
    }
}

/// Resolves every name to the address of this client's site: the name in the URL is the one for TLS, which may differ
/// from the one that is dialed.
struct FixedResolver {
    host: String,
    port: u16,
    address: Option<SocketAddr>,
}

#[derive(Debug, thiserror::Error)]
#[error("{host:?} does not resolve: {why}; check the upstream's host name and this host's DNS")]
struct ResolveFailure {
    host: String,
    why: String,
}

impl Resolve for FixedResolver {
    fn resolve(&self, _name: Name) -> Resolving {
        let (host, port, address) = (self.host.clone(), self.port, self.address);
        Box::pin(async move {
            if let Some(address) = address {
                return Ok(Box::new(std::iter::once(address)) as Addrs);
            }
            let found = match lookup_host((host.as_str(), port)).await {
                Ok(found) => Ok(found.collect::<Vec<_>>()),
                Err(error) => Err(error.to_string()),
            };
            match found {
                Ok(found) => Ok(Box::new(found.into_iter()) as Addrs),
                Err(why) => Err(ResolveFailure { host, why }.into()),
            }
        })
    }
}

/// Host of the URL where TLS asks for no name; it is neither resolved nor sent.
const PLACEHOLDER: &str = "jira.invalid";
/// Not a browser's: Jira's XSRF check refuses those.
const USER_AGENT: &str = concat!("jira-tunnel-agent/", env!("CARGO_PKG_VERSION"));
/// From the connection to the end of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// `myself`, `serverInfo` and a token answer are a few KiB; a login page may be more, and is not read
/// to its end.
const MAX_BODY: usize = 64 << 10;
