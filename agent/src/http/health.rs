//! The health request: whether this place serves, asked by the gateway's balancer or by the agent itself. The agent answers
//! it alone: it reaches neither policy nor Jira, needs no credential, and leaves no audit record.

use super::{
    body::ResponseBody,
    exchange::{RequestContext, ResponseGuard},
    own_headers::{BY_AGENT, X_TUNNEL_ANSWERED_BY},
};
use crate::tunnel::instance;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::body::{Body, Incoming};
use serde::{Deserialize, Serialize};

/// The one target that is a health request, byte for byte. RFC 8615 keeps paths under `/.well-known/` for purposes like
/// this; Jira has none of this name.
pub const HEALTH_PATH: &str = "/.well-known/jira-tunnel-agent/health";

/// With the name of this process in it, the health request is the agent's own.
pub const SENDER: HeaderName = HeaderName::from_static("x-jira-tunnel-agent-instance");

/// The answer to a health request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthReport {
    /// Whether this place takes requests; only `serving` and `paused` do.
    pub state: HealthState,
    /// Name of the forward.
    pub forward: String,
    /// The address that the agent has asked for.
    pub place: String,
    /// Number of the SSH connection.
    pub connection: usize,
    /// Random name of the agent's process.
    pub instance: String,
}

/// Whether a place takes requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthState {
    /// Requests are answered.
    Serving,
    /// Requests are answered by the agent itself, which says that the administrator has paused the forward.
    Paused,
    /// The session ends soon, or another has replaced it.
    Draining,
    /// The gateway has not answered in time: the link may be broken.
    Suspect,
    /// A check runs in place of the agent.
    Checking,
    /// This process has not taken over yet from the one before it: requests wait.
    Starting,
}

impl HealthState {
    /// 200 where a request may be sent here, else 503.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Serving | Self::Paused => StatusCode::OK,
            Self::Draining | Self::Suspect | Self::Checking | Self::Starting => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }
}

/// Whether this is a health request and nothing else. A query, a body or another spelling of the path is a request like
/// any other, which policy judges.
pub(super) fn is_health_request(guard: &ResponseGuard, request: &Request<Incoming>) -> bool {
    guard.note.is_none()
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && request
            .uri()
            .path_and_query()
            .is_some_and(|target| target.as_str() == HEALTH_PATH)
        && request.body().is_end_stream()
}

/// Answers a health request.
pub(super) fn answer(
    context: &RequestContext,
    guard: ResponseGuard,
    request: &Request<Incoming>,
) -> Response<ResponseBody> {
    let forward = &context.forward;
    forward.traffic().count_health_request();
    let is_head = request.method() == Method::HEAD;
    let sender = request.headers().get(SENDER);
    let own = sender.is_some_and(|sender| sender.as_bytes() == instance().as_bytes());
    let place = context.place.as_deref();
    if let Some(place) = place {
        place.note_health_request(own);
    }
    let state = match () {
        () if forward.answers_only_expected() => HealthState::Checking,
        () if context.draining => HealthState::Draining,
        () if place.is_some_and(|place| place.is_suspect()) => HealthState::Suspect,
        () if !forward.are_pauses_known() => HealthState::Starting,
        () if forward.paused() => HealthState::Paused,
        () => HealthState::Serving,
    };
    let report = HealthReport {
        state,
        forward: forward.name().to_string(),
        place: place
            .map(|place| place.bind().to_string())
            .unwrap_or_default(),
        connection: context.connection,
        instance: instance().to_owned(),
    };
    // Strings and a number: nothing in it can fail to serialize.
    let text = Bytes::from(serde_json::to_vec(&report).unwrap_or_default());
    let length = HeaderValue::from(text.len());
    let bytes = if is_head { Bytes::new() } else { text };
    let mut response = Response::new(ResponseBody::own(bytes, guard.activity, guard.exchange));
    *response.status_mut() = state.status();
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_TUNNEL_ANSWERED_BY, BY_AGENT);
    response
}
