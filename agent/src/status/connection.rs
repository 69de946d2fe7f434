//! One SSH connection in the status document.

use super::LayerReport;
use crate::tunnel::Hop;
use std::fmt;

/// One SSH connection of the agent.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ConnectionView {
    /// Number of the connection, from 0.
    pub index: usize,
    /// Its current gateway: `host:port`, or `tls://host:port` for SSH inside TLS.
    pub gateway: String,
    /// The proxy to the gateway, `http://host:port` or `socks5://host:port`.
    #[serde(default)]
    pub via: Option<String>,
    /// Address of the gateway that the session is connected to; absent behind a proxy, and without a session.
    #[serde(default)]
    pub address: Option<String>,
    /// SSH user name that the connection logs in with.
    pub user: String,
    /// What the connection is doing.
    pub phase: ConnectionPhase,
    /// Seconds in this phase.
    pub since_seconds: f64,
    /// Attempts since the last session that stayed up.
    pub attempt: u32,
    /// Seconds until the next attempt, while it waits for one.
    pub next_retry_seconds: Option<f64>,
    /// Whether the gateway answers: TCP connection, by way of the proxy if there is one, and SSH banner.
    pub network: LayerReport,
    /// Whether the session answers probes.
    pub tunnel: LayerReport,
    /// The hop at which the last attempt failed; absent once one has led to a session.
    #[serde(default)]
    pub failed_hop: Option<Hop>,
    /// Seconds since an answer of the gateway is missing; absent while it answers. Such a session gets no new requests
    /// where another one can serve.
    #[serde(default)]
    pub suspect_seconds: Option<f64>,
    /// Round-trip time of the last probe, milliseconds.
    pub rtt_ms: Option<f64>,
    /// Number of sessions so far, including the current one.
    pub generation: u64,
    /// `SHA256:…` of the host key that was verified.
    pub host_key: Option<String>,
    /// Key exchange algorithm that was negotiated.
    pub key_exchange: Option<String>,
    /// Cipher that was negotiated.
    pub cipher: Option<String>,
    /// Whether the key exchange was strict (protection against prefix truncation, CVE-2023-48795).
    #[serde(default)]
    pub strict_key_exchange: Option<bool>,
    /// Forwarded channels open now.
    pub channels: usize,
    /// Bytes received on the wire in this session.
    pub bytes_received: u64,
    /// Bytes sent on the wire in this session.
    pub bytes_sent: u64,
    /// Bytes that wait for the kernel to accept them.
    pub backlog: usize,
    /// Channels that this side had to close first; each costs memory until the session is replaced.
    pub closed_first: u64,
    /// Channels of this session that were reset because they were over a bound or their spool failed.
    #[serde(default)]
    pub channel_resets: u64,
    /// The forwards that it requests from the gateway.
    pub forwards: Vec<ForwardView>,
}

/// What a connection is doing.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Phase")]
pub enum ConnectionPhase {
    /// Name resolution, TCP, SSH handshake and login.
    Connecting,
    /// Logged in; holds every forward that it asked for.
    Serving,
    /// Logged in; at least one forward is held by another connection or refused.
    Standby,
    /// Waiting for the next attempt.
    Waiting,
    /// Waiting until requests in progress finish.
    Draining,
    /// Stopped: the agent is shutting down.
    Stopped,
}

impl fmt::Display for ConnectionPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connecting => "connecting",
            Self::Serving => "serving",
            Self::Standby => "standby",
            Self::Waiting => "waiting",
            Self::Draining => "draining",
            Self::Stopped => "stopped",
        })
    }
}

/// One remote forward on one connection.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ForwardView {
    /// Name of the `[[forward]]`.
    pub name: String,
    /// The address that was requested from the gateway.
    pub bind: String,
    /// How the gateway answered.
    pub state: ForwardState,
    /// What requests through the place have shown, while bound.
    #[serde(default)]
    pub proof: Option<PlaceState>,
    /// Why no request can prove the place, if that is known.
    #[serde(default)]
    pub unproven: Option<String>,
    /// The requested address with the port that the gateway chose, while bound. The protocol does not report the address
    /// that it really listens on; for OpenSSH, GatewayPorts decides.
    pub bound: Option<String>,
    /// Why it is not bound, or what is wrong while it is.
    pub cause: Option<String>,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl ForwardView {
    /// Whether requests at the place that the gateway granted do not reach this agent.
    pub fn is_broken(&self) -> bool {
        matches!(self.proof, Some(PlaceState::Taken | PlaceState::Lost))
    }
}

/// What requests through a place have shown.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum PlaceState {
    /// The gateway has granted it, and no request has shown more.
    Granted,
    /// A request through it reached the session.
    Proven,
    /// Another connection of this agent answers there.
    Shared,
    /// Another agent or another program answers there.
    Taken,
    /// Nothing answers there any more.
    Lost,
}

/// How the gateway answered a request for a remote forward.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ForwardState {
    /// Not requested yet, or not answered yet.
    Pending,
    /// The gateway listens for this forward.
    Bound,
    /// Refused while another connection of this agent holds it; requested again when that one ends.
    Standby,
    /// Refused: the port is taken, or this user may not listen there.
    Refused,
}
