//! The settings and limits of the gateway.

use super::AgentName;
use agent_ssh::{channel, transport};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Addresses, files and limits of the gateway.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the SSH server; port 0 takes a free port.
    pub ssh: SocketAddr,
    /// Address of the HTTP listener; port 0 takes a free port.
    pub http: SocketAddr,
    /// Folder of the host key, of `agents/NAME/` and of the optional `user_ca.pub` and `revoked_keys`.
    pub data: PathBuf,
    /// Services call agents as `NAME.<domain>`.
    pub domain: String,
    /// Additional authorized_keys files by agent, beside `agents/NAME/authorized_keys`.
    pub authorized_keys: Vec<(AgentName, PathBuf)>,
    /// Limits and deadlines of the gateway.
    pub limits: GatewayLimits,
}

impl Settings {
    /// The default addresses and limits with the folder `data`.
    pub fn new(data: impl Into<PathBuf>) -> Self {
        Self {
            ssh: SocketAddr::from(([127, 0, 0, 1], 2222)),
            http: SocketAddr::from(([127, 0, 0, 1], 8088)),
            data: data.into(),
            domain: "gateway.localhost".to_owned(),
            authorized_keys: Vec::new(),
            limits: GatewayLimits::default(),
        }
    }
}

/// Limits and deadlines of the gateway.
#[derive(Clone, Debug)]
pub struct GatewayLimits {
    /// Time limit for banner, key exchange and login together.
    pub login_grace: Duration,
    /// Connections before login; beyond it the oldest is closed.
    pub max_unauthenticated: usize,
    /// Sessions per agent; beyond it the session that was silent longest is aborted.
    pub max_sessions_per_agent: usize,
    /// How long the agents are asked to wait before they log in again when the gateway stops.
    pub retry_after: Option<Duration>,
    /// Remote forwards per session.
    pub max_forwards: usize,
    /// Channels per session, open or being opened.
    pub max_channels: usize,
    /// Time limit for opening a channel over all sessions tried; must exceed a slow link's round trip.
    pub open_deadline: Duration,
    /// How long one session may take to answer a channel open before the next one is asked as well.
    /// Grows with the session's round-trip time.
    pub open_patience: Duration,
    /// How long a request, and the listener of a forward, wait for an agent that has just left.
    pub reconnect_wait: Duration,
    /// Requests and raw connections that wait so at once; further ones are answered at once.
    pub max_reconnect_waits: usize,
    /// A session at rest is probed after this long without a byte from the agent; one that owes an
    /// answer, sooner.
    pub probe_interval: Duration,
    /// Shortest time for the answer to a probe. After it the session is suspect, after twice as long dead.
    pub probe_timeout: Duration,
    /// The session is aborted when the kernel takes nothing that waits to be sent for this long.
    pub stall_timeout: Duration,
    /// Bytes each way before a new key exchange. High, since a key exchange that the server starts is the
    /// risky one (docs/dev/ssh.md, D3).
    pub rekey_bytes: usize,
    /// Time before a new key exchange.
    pub rekey_interval: Duration,
    /// Largest SSH packet in bytes.
    pub max_packet: u32,
    /// Limits of the transport below russh.
    pub transport: transport::TransportLimits,
    /// Limits of the channels above russh.
    pub channel: channel::ChannelLimits,
    /// Idle HTTP channels kept open per session and forward. 0 for upstreams that serve one connection
    /// at a time.
    pub preopened: usize,
    /// Most idle HTTP channels per session and forward.
    pub max_idle: usize,
    /// Connections on the HTTP listener; further ones wait in the kernel's queue.
    pub max_http_connections: usize,
    /// Time limit for a request head, including the wait for the next request.
    pub head_timeout: Duration,
    /// Largest request head in bytes.
    pub max_head: usize,
    /// Time limit from the last byte sent to the agent to the head of its response. Long, because the
    /// agent has shorter deadlines and better errors.
    pub answer_timeout: Duration,
    /// A request or response body that transfers nothing for this long fails.
    pub body_stall: Duration,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(20),
            max_unauthenticated: 64,
            max_sessions_per_agent: 32,
            retry_after: None,
            max_forwards: 16,
            max_channels: 1024,
            open_deadline: Duration::from_secs(10),
            open_patience: Duration::from_millis(250),
            reconnect_wait: Duration::from_secs(2),
            // A few KiB each.
            max_reconnect_waits: 1024,
            // Longer than the agent's, whose probes are signs of life too.
            probe_interval: Duration::from_secs(3),
            probe_timeout: Duration::from_millis(1600),
            stall_timeout: Duration::from_secs(120),
            rekey_bytes: 1 << 30,
            rekey_interval: Duration::from_secs(3600),
            max_packet: 32768,
            transport: transport::TransportLimits::default(),
            channel: channel::ChannelLimits {
                // Large, because this side starts key exchanges (docs/dev/ssh.md, D3).
                window: Some(32 << 20),
                close_wait: Duration::from_millis(250),
                ..channel::ChannelLimits::default()
            },
            preopened: 2,
            max_idle: 32,
            max_http_connections: 2048,
            head_timeout: Duration::from_secs(60),
            max_head: 256 << 10,
            answer_timeout: Duration::from_secs(300),
            body_stall: Duration::from_secs(300),
        }
    }
}
