//! Toward Jira: pooled connections over rustls, streaming both ways; or plain bytes for `tcp://`. Also the TLS client of
//! a gateway. Knows no rule, no credential and no SSH.
//!
//! | files | what |
//! |---|---|
//! | `settings`, `target`, `cloud` | where an upstream is, and what is trusted there |
//! | `channel_dial` | connections through an SSH session, for what goes to the vendor |
//! | `dial`, `hops`, `tls`, `verifier`, `chain`, `certificate`, `pem` | the connection; certificates and why one is refused |
//! | `pool`, `exchange`, `stream`, `raw_target`, `answer_head`, `activity` | one request of the vendor on a pooled connection |
//! | `tcp` | bytes in both directions for `tcp://` |
//! | `control` | the agent's own requests: health, credential, tokens |
//! | `protection` | which request may be sent now: breaker, rate limits, queue |
//! | `answer_source` | whether an answer is Jira's or that of something in front of it |
//! | `explain` | causes and remedies of failed connections |

mod activity;
mod answer_head;
mod answer_source;
pub(crate) mod certificate;
mod chain;
mod channel_dial;
mod cloud;
mod control;
mod dial;
mod exchange;
mod explain;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_properties;
mod hops;
pub mod pem;
mod pool;
mod protection;
mod raw_target;
mod settings;
mod stream;
mod target;
pub mod tcp;
mod tls;
mod verifier;

pub use activity::{ActivityClock, ExpectedFlow, StallLimits, StallReason};
pub(crate) use answer_source::is_login_path;
pub use answer_source::{AnswerSource, Diagnosis, Intermediary, RequestedUri};
pub use chain::PresentedCertificate;
pub(crate) use chain::refused_chain;
pub use channel_dial::{ByteStream, ChannelDialError, ChannelDialer, DialedChannel, QuietCheck};
pub use cloud::CloudRoute;
pub use control::{AddCookies, ControlAnswer, ControlClient, ControlError, ControlFailure};
pub use dial::HandshakeFailure;
pub(crate) use explain::{TlsPeer, handshake, is_unknown_issuer};
pub use hops::{TlsHandshakeInfo, UpstreamHops};
pub use protection::{ProbeOutcome, ProtectionSnapshot, RequesterKey};
pub use raw_target::RawTarget;
pub use settings::{ClientCertificate, Settings, TlsSettings, TrustRoots};
pub use target::{HttpTarget, UpstreamTarget, UpstreamTargetError};
pub(crate) use tls::gateway_config;
pub use tls::{TlsConfigError, client_config, probe_tls};

use crate::profile::ServiceProfile;
use bytes::Bytes;
use cloud::CloudGateway;
use dial::UpstreamDialer;
use exchange::ExchangeFailure;
use http::{HeaderValue, Request, Response};
use pool::{ConnectionLease, ConnectionPool, PooledConnection};
use protection::{ProtectedRequest, UpstreamPermit, UpstreamProtection};
use std::{sync::Arc, time::Duration};

/// Error of a body that streams, whichever side broke.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body that streams; never collected.
pub type UpstreamBody = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// What is known about a request that failed (the write-safety contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Not one byte of the request head reached Jira: safe to send again.
    NotSent,
    /// Some of it may have reached Jira: check before sending again.
    MaybeSent,
    /// Jira answered the request.
    Answered,
}

/// Why Jira gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct SendError {
    /// The step toward Jira that failed.
    pub kind: FailedStep,
    /// One sentence, without secrets or query values.
    pub detail: String,
    /// Whether Jira may have seen the request.
    pub delivery: Delivery,
    /// After which it can be sent, where the agent knows that.
    pub retry_after: Option<Duration>,
}

impl SendError {
    /// The same in words about the tool of this profile.
    fn about(self, profile: &ServiceProfile) -> Self {
        Self {
            detail: profile.reword(&self.detail).into_owned(),
            ..self
        }
    }
}

/// The step toward Jira that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FailedStep {
    /// This process may open no more files.
    Descriptors,
    Resolve,
    Connect,
    /// Through a gateway: no session to one answers.
    NoSession,
    /// Through a gateway: it does not permit this target.
    Prohibited,
    Tls,
    /// All connections busy, and no turn before the deadline.
    PoolExhausted,
    /// Jira does not answer now; not tried.
    HeldBack,
    /// Jira asked for a pause (503 with `Retry-After`); not tried.
    JiraPause,
    /// Jira's rate limit is reached (429); not tried.
    RateLimit,
    /// The response head did not come in time.
    ResponseTimeout,
    /// Connection lost, or an answer that is no HTTP.
    Exchange,
    /// A kept-alive connection was lost before a byte of the answer came: mostly Jira's side had closed it already.
    KeptConnection,
    AnswerHead,
    /// The vendor's own body broke off.
    RequestBody,
}

impl std::fmt::Display for FailedStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Descriptors => "file descriptors",
            Self::Resolve => "name resolution",
            Self::Connect => "connect",
            Self::NoSession => "tunnel",
            Self::Prohibited => "permission",
            Self::Tls => "TLS",
            Self::PoolExhausted => "connection pool",
            Self::HeldBack => "breaker",
            Self::JiraPause => "pause",
            Self::RateLimit => "rate limit",
            Self::ResponseTimeout => "response head",
            Self::Exchange | Self::KeptConnection => "exchange",
            Self::AnswerHead => "answer head",
            Self::RequestBody => "request body",
        })
    }
}

/// Why settings make no upstream.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamSettingsError {
    /// TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsConfigError),
    /// The client that asks a Cloud site for its id cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// `tcp://` speaks no HTTP; see [`tcp::pump`].
    #[error("a tcp:// upstream carries bytes, not HTTP requests")]
    NotHttp,
    /// The authority is no valid `Host` header.
    #[error("{0:?} cannot be sent as Host")]
    Authority(String),
}

/// One Jira, with its pool of kept-alive connections.
pub struct Upstream {
    dialer: UpstreamDialer,
    pool: Arc<ConnectionPool>,
    protection: Arc<UpstreamProtection>,
    host: HeaderValue,
    /// Cloud's API gateway, where requests go through it.
    gateway: Option<CloudGateway>,
    response_timeout: Duration,
    profile: Arc<ServiceProfile>,
}

/// Which connection a request gets.
#[derive(Clone, Copy)]
enum ConnectionChoice {
    /// A kept-alive one, if there is one.
    KeptFirst,
    New,
}

impl Upstream {
    /// Opens no connection yet. Reads the system's certificate store where that is trusted (once
    /// per process), so call it where blocking is allowed.
    pub fn new(settings: Settings) -> Result<Self, UpstreamSettingsError> {
        let UpstreamTarget::Http(target) = &settings.target else {
            return Err(UpstreamSettingsError::NotHttp);
        };
        let gateway = CloudGateway::of(&settings, target)?;
        let (target, dialed) = match &gateway {
            None => (target, settings.clone()),
            Some(CloudGateway { api, .. }) => (api, settings.for_host(api)),
        };
        let host = HeaderValue::from_str(&target.authority)
            .map_err(|_| UpstreamSettingsError::Authority(target.authority.clone()))?;
        Ok(Self {
            dialer: UpstreamDialer::new(&dialed)?,
            pool: Arc::new(ConnectionPool::new(settings.idle_timeout)),
            protection: Arc::new(
                UpstreamProtection::new(settings.max_connections, settings.pool_wait)
                    .of_tool(&settings.profile),
            ),
            host,
            gateway,
            response_timeout: settings.response_timeout,
            profile: settings.profile,
        })
    }

    /// The same upstream, through the channels of this dialer instead of sockets of this host.
    pub fn new_through(
        settings: Settings,
        dialer: Arc<dyn ChannelDialer>,
    ) -> Result<Self, UpstreamSettingsError> {
        let upstream = Self::new(settings)?;
        Ok(Self {
            dialer: upstream.dialer.through(dialer),
            ..upstream
        })
    }

    /// Closes the connections that no request uses.
    pub fn close_idle(&self) {
        self.pool.close_idle();
    }

    /// Sends one request and returns the head of the answer as soon as it is there, even while the request's body still
    /// streams; the answer's body streams.
    ///
    /// The answer's extensions hold its [`AnswerSource`].
    ///
    /// Path and query go on the wire exactly as the URI has them, or a [`RawTarget`]; through Cloud's API gateway after the
    /// prefix of the site. `Host` is set here. The caller removes hop-by-hop headers. A request whose kept-alive connection
    /// turned out to be closed before a byte was written is sent once more on a new one; nothing else is repeated.
    /// Dropping the future or the answer's body closes that connection.
    pub async fn send(
        &self,
        request: Request<UpstreamBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let sent = self.send_over(request, ConnectionChoice::KeptFirst).await;
        sent.map_err(|error| error.about(&self.profile))
    }

    /// Sends one request as [`Upstream::send`] does, but not over a kept-alive connection.
    pub async fn send_over_new_connection(
        &self,
        request: Request<UpstreamBody>,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let sent = self.send_over(request, ConnectionChoice::New).await;
        sent.map_err(|error| error.about(&self.profile))
    }

    async fn send_over(
        &self,
        request: Request<UpstreamBody>,
        choice: ConnectionChoice,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let request = match &self.gateway {
            None => request,
            Some(gateway) => gateway.route(request).await?,
        };
        let requester = request.extensions().get::<RequesterKey>();
        let requester = requester.copied().unwrap_or_default();
        let path = request.uri().path().to_owned();
        let asked = ProtectedRequest {
            requester,
            method: request.method().clone(),
            path: path.clone(),
        };
        let permit = self.protection.permit(asked).await?;
        let mut request = exchange::outgoing(request, &self.host);
        let idle = match choice {
            ConnectionChoice::KeptFirst => self.pool.take_idle(),
            ConnectionChoice::New => None,
        };
        let mut reused = idle.is_some();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect(&permit).await?,
        };
        let mut lease = ConnectionLease::new(self.pool.clone(), permit, connection);
        loop {
            match exchange::run(lease, request, self.response_timeout).await {
                Ok(response) => return Ok(self.with_source(&path, response)),
                Err(ExchangeFailure::Lost(error)) => return Err(error),
                Err(ExchangeFailure::Unanswered(mut error)) => {
                    if reused {
                        error.kind = FailedStep::KeptConnection;
                    }
                    return Err(error);
                }
                Err(ExchangeFailure::Unsent(unsent)) if reused => {
                    reused = false;
                    lease = unsent.lease;
                    request = unsent.request;
                    let connection = self.connect(lease.permit()).await?;
                    lease.replace(connection);
                }
                Err(ExchangeFailure::Unsent(unsent)) => return Err(unsent.error),
            }
        }
    }

    /// What is behind it.
    pub fn profile(&self) -> &Arc<ServiceProfile> {
        &self.profile
    }

    /// What the protection of this Jira does now. Ask about once a second.
    pub fn protection(&self) -> ProtectionSnapshot {
        self.protection.snapshot()
    }

    /// The agent's own probe was sent to Jira, and ended so.
    pub fn probe_ended(&self, outcome: ProbeOutcome) {
        self.protection.probe_ended(outcome);
    }

    /// Notes who gave the answer in its extensions.
    fn with_source(&self, path: &str, response: Response<UpstreamBody>) -> Response<UpstreamBody> {
        let (mut head, body) = response.into_parts();
        let authority = self.host.to_str().unwrap_or_default();
        AnswerSource::note(&self.profile, RequestedUri { path, authority }, &mut head);
        Response::from_parts(head, body)
    }

    async fn connect(&self, permit: &UpstreamPermit) -> Result<PooledConnection, SendError> {
        let connected = match self.dialer.dial().await {
            Ok(stream) => PooledConnection::new(stream)
                .await
                .map_err(|error| SendError {
                    kind: FailedStep::Exchange,
                    detail: explain::exchange(&error).1,
                    delivery: Delivery::NotSent,
                    retry_after: None,
                }),
            Err(error) => Err(error),
        };
        connected.inspect_err(|error| {
            // This process's own limit, or the tunnel, says nothing about the far side.
            if !matches!(error.kind, FailedStep::Descriptors | FailedStep::NoSession) {
                permit.connect_failed(error);
            }
        })
    }
}

#[cfg(test)]
mod tests;
