//! The status page: agents, sessions, forwards and traffic, as HTML and as JSON.

mod page;

use super::{GatewayState, forward::ListenAddress, proxy::ResponseBody, registry::RegisteredAgent};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use serde::Serialize;
use std::{
    sync::atomic::Ordering::Relaxed,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// The state of the gateway at one moment. JSON has these names; `version` counts incompatible changes.
#[derive(Clone, Debug, Serialize)]
pub struct GatewaySnapshot {
    /// Version of this JSON form, now 1.
    pub version: u32,
    /// Seconds since 1970 at which the gateway started.
    pub started_at: u64,
    /// Where the SSH server listens.
    pub ssh: String,
    /// Where the HTTP listener is.
    pub http: String,
    /// Services call agents as `NAME.<domain>`.
    pub domain: String,
    /// Fingerprint of the gateway's host key, `SHA256:…`.
    pub host_key: String,
    /// Every agent that has logged in since the start, by name.
    pub agents: Vec<AgentStatus>,
}

/// Status of one agent, with its sessions and forwards.
#[derive(Clone, Debug, Serialize)]
pub struct AgentStatus {
    /// The agent's name and SSH user.
    pub name: String,
    /// Whether it has a session.
    pub online: bool,
    /// URL of its first forward on the HTTP listener.
    pub url: String,
    /// Seconds since 1970 at which its last session ended; `null` while it is online.
    pub left_at: Option<u64>,
    /// Bytes from the agent since the gateway started.
    pub bytes_from_agent: u64,
    /// Bytes to the agent since the gateway started.
    pub bytes_to_agent: u64,
    /// Its sessions, oldest first.
    pub sessions: Vec<SessionStatus>,
    /// Its forwards, oldest first.
    pub forwards: Vec<ForwardStatus>,
}

/// Status of one SSH session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// Unique over the life of the gateway.
    pub id: u64,
    /// Address of the client.
    pub remote: String,
    /// SSH identification of the client.
    pub client: String,
    /// Key fingerprint or certificate of the login.
    pub login: String,
    /// Time of the login, in seconds since 1970.
    pub connected_at: u64,
    /// Seconds since the agent sent anything.
    pub silent_seconds: u64,
    /// Whether a channel open is overdue and the agent has sent nothing since.
    pub owes_answer: bool,
    /// Whether an answer of the agent to a probe is missing. Such a session gets no new requests where
    /// another one can serve.
    pub suspect: bool,
    /// Number of channels open now.
    pub channels: usize,
    /// Number of channels opened since the login.
    pub opened: u64,
    /// HTTP requests sent by this session.
    pub requests: u64,
    /// Number of open requests and raw connections.
    pub busy: usize,
    /// Bytes from the agent in channels.
    pub bytes_from_agent: u64,
    /// Bytes to the agent in channels.
    pub bytes_to_agent: u64,
}

/// Status of one forward of an agent.
#[derive(Clone, Debug, Serialize)]
pub struct ForwardStatus {
    /// Address that the gateway listens on.
    pub bind: String,
    /// Label in the host name `<label>--<agent>.<domain>`.
    pub label: String,
    /// URL of the forward on the HTTP listener.
    pub url: String,
    /// TCP port; `null` for a socket.
    pub port: Option<u16>,
    /// IDs of the sessions that serve it.
    pub sessions: Vec<u64>,
    /// HTTP channels open and idle.
    pub idle: usize,
    /// Number of channels open now.
    pub channels: usize,
    /// Number of channels opened since the forward began.
    pub opened: u64,
    /// Number of HTTP requests sent.
    pub requests: u64,
    /// Bytes from the agent.
    pub bytes_from_agent: u64,
    /// Bytes to the agent.
    pub bytes_to_agent: u64,
}

impl GatewaySnapshot {
    /// The agent of this name, if it has ever logged in.
    pub fn agent(&self, name: &str) -> Option<&AgentStatus> {
        self.agents.iter().find(|agent| agent.name == name)
    }
}

pub(super) fn snapshot(shared: &GatewayState) -> GatewaySnapshot {
    GatewaySnapshot {
        version: 1,
        started_at: seconds(shared.started_at),
        ssh: shared.ssh_addr.to_string(),
        http: shared.http_addr.to_string(),
        domain: shared.settings.domain.clone(),
        host_key: shared.fingerprint.clone(),
        agents: shared
            .registry
            .all()
            .iter()
            .map(|(name, agent)| agent_status(shared, name.as_str(), agent))
            .collect(),
    }
}

/// `GET /` as HTML, `GET /?format=json` and `GET /status.json` as JSON.
pub(super) fn page<B>(shared: &GatewayState, request: &Request<B>) -> Response<ResponseBody> {
    let html = ("text/html; charset=utf-8", StatusCode::OK);
    let plain = "text/plain; charset=utf-8";
    let json = request.uri().query() == Some("format=json");
    let (text, (kind, status)) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/") if !json => (page::html(&snapshot(shared)), html),
        (&Method::GET | &Method::HEAD, "/" | "/status.json") => (
            serde_json::to_string_pretty(&snapshot(shared)).unwrap_or_default(),
            ("application/json", StatusCode::OK),
        ),
        (&Method::GET | &Method::HEAD, _) => (
            "not found; the pages are / and /status.json\n".to_owned(),
            (plain, StatusCode::NOT_FOUND),
        ),
        _ => (
            "this page is read-only\n".to_owned(),
            (plain, StatusCode::METHOD_NOT_ALLOWED),
        ),
    };
    let mut response = Response::new(ResponseBody::own(text));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'"),
    );
    response
}

fn agent_status(shared: &GatewayState, name: &str, agent: &RegisteredAgent) -> AgentStatus {
    let sessions: Vec<_> = agent
        .sessions
        .iter()
        .map(|session| SessionStatus {
            id: session.id,
            remote: session.remote.to_string(),
            client: session.client.clone(),
            login: session.login.clone(),
            connected_at: seconds(session.connected_at),
            silent_seconds: session.silent_for().as_secs(),
            owes_answer: session.owes_answer(),
            suspect: session.is_suspect(),
            channels: session.traffic.channels.load(Relaxed),
            opened: session.traffic.opened.load(Relaxed),
            requests: session.traffic.requests.load(Relaxed),
            busy: session.busy(),
            bytes_from_agent: session.traffic.from_agent.load(Relaxed),
            bytes_to_agent: session.traffic.to_agent.load(Relaxed),
        })
        .collect();
    let forwards = agent
        .forwards
        .iter()
        .filter(|forward| !forward.is_unserved())
        .map(|forward| {
            let serving = forward.serving().clone();
            let label = serving
                .first()
                .map(|serving| serving.bind.label())
                .unwrap_or_default();
            ForwardStatus {
                bind: forward.address.to_string(),
                url: url(shared, &format!("{label}--{name}")),
                label,
                port: match &forward.address {
                    ListenAddress::Tcp(address) => Some(address.port()),
                    ListenAddress::Socket(_) => None,
                },
                sessions: serving.iter().map(|s| s.session.id).collect(),
                idle: serving
                    .iter()
                    .map(|s| shared.pool.idle(s.session.id, forward.id))
                    .sum(),
                channels: forward.traffic.channels.load(Relaxed),
                opened: forward.traffic.opened.load(Relaxed),
                requests: forward.traffic.requests.load(Relaxed),
                bytes_from_agent: forward.traffic.from_agent.load(Relaxed),
                bytes_to_agent: forward.traffic.to_agent.load(Relaxed),
            }
        })
        .collect();
    AgentStatus {
        name: name.to_owned(),
        online: !sessions.is_empty(),
        url: url(shared, name),
        left_at: agent.left_at.filter(|_| sessions.is_empty()).map(seconds),
        bytes_from_agent: agent.ended_bytes.0
            + sessions.iter().map(|s| s.bytes_from_agent).sum::<u64>(),
        bytes_to_agent: agent.ended_bytes.1
            + sessions.iter().map(|s| s.bytes_to_agent).sum::<u64>(),
        sessions,
        forwards,
    }
}

fn url(shared: &GatewayState, label: &str) -> String {
    format!(
        "http://{label}.{}:{}",
        shared.settings.domain,
        shared.http_addr.port()
    )
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO)
        .as_secs()
}
