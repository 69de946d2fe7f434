//! Toward Jira: pooled connections over rustls, streaming both ways; or plain bytes for `tcp://`.

mod settings;

pub use settings::{ClientCertificate, HttpTarget, Settings, Target, TlsSettings, TrustRoots};

use bytes::Bytes;
use http::{Request, Response};

/// Errors of a body on its way, whichever side broke.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A body that streams; never collected.
pub type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, BodyError>;

/// What is known about a request that failed (the write-safety contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Not one byte of the request head reached Jira: safe to send again.
    NotSent,
    /// Some of it may have reached Jira: look before sending again.
    MaybeSent,
    /// Jira answered.
    Answered,
}

/// Why Jira gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{kind}: {detail}")]
pub struct SendError {
    /// Which step failed.
    pub kind: FailedStep,
    /// One sentence, without secrets or query values.
    pub detail: String,
    /// Whether Jira may have seen the request.
    pub delivery: Delivery,
}

/// The step toward Jira that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum FailedStep {
    Resolve,
    Connect,
    Tls,
    /// All pooled connections busy until the deadline.
    PoolExhausted,
    /// The response head did not come in time.
    ResponseTimeout,
    /// Connection lost, or an answer that is no HTTP.
    Exchange,
    /// The vendor's own body broke off.
    RequestBody,
}

impl std::fmt::Display for FailedStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolve => "name resolution",
            Self::Connect => "connect",
            Self::Tls => "TLS",
            Self::PoolExhausted => "connection pool",
            Self::ResponseTimeout => "response head",
            Self::Exchange => "exchange",
            Self::RequestBody => "request body",
        })
    }
}

/// One Jira, with its pool.
pub struct Upstream {}

impl Upstream {
    /// Sends one request. Its URI is origin-form, exactly as it goes on the wire; `Host` is set here.
    pub async fn send(&self, request: Request<Body>) -> Result<Response<Body>, SendError> {
        let _ = request;
        Err(SendError {
            kind: FailedStep::Connect,
            detail: String::new(),
            delivery: Delivery::NotSent,
        })
    }
}
