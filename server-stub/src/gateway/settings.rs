//! What the gateway is told, and the bounds of everything in it.

use super::AgentName;
use agent_ssh::{channel, transport};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Where the gateway listens, where it keeps its files, and its bounds.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Address of the SSH server; port 0 for any.
    pub ssh: SocketAddr,
    /// Address of the HTTP listener; port 0 for any.
    pub http: SocketAddr,
    /// Folder of the host key, of `agents/NAME/` and of the optional `user_ca.pub` and `revoked_keys`.
    pub data: PathBuf,
    /// Agents are called as `NAME.<domain>`.
    pub domain: String,
    /// Further authorized_keys files by agent, beside `agents/NAME/authorized_keys`.
    pub authorized_keys: Vec<(AgentName, PathBuf)>,
    /// Bounds and deadlines of the gateway.
    pub limits: GatewayLimits,
}

impl Settings {
    /// The usual addresses and bounds over the folder `data`.
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

/// Bounds and deadlines of the gateway.
#[derive(Clone, Debug)]
pub struct GatewayLimits {
    /// Banner, key exchange and login together; then the connection is cut.
    pub login_grace: Duration,
    /// Connections that have not logged in yet; more are closed at once.
    pub max_unauthenticated: usize,
    /// Sessions of one agent; past it the one that has been silent longest makes room.
    pub max_sessions_per_agent: usize,
    /// Remote forwards of one session.
    pub max_forwards: usize,
    /// Channels of one session, open or being opened.
    pub max_channels: usize,
    /// Opening a channel, over all sessions tried; must be above a slow link's round trip.
    pub open_deadline: Duration,
    /// How long one session may take to answer an open before the next one is asked as well. Grows
    /// with the session's own round-trip time.
    pub open_patience: Duration,
    /// Keep-alive interval of SSH.
    pub keepalive_interval: Duration,
    /// Unanswered keep-alives before the session counts as lost.
    pub keepalive_max: usize,
    /// Nothing received, or nothing taken by the kernel, for this long: the session is cut. Above the
    /// keep-alive interval, since an idle agent says something only when asked.
    pub stall_timeout: Duration,
    /// Bytes each way before the keys are exchanged anew. High, since an exchange that we start is the
    /// delicate one.
    pub rekey_bytes: usize,
    /// Time before the keys are exchanged anew.
    pub rekey_interval: Duration,
    /// Largest SSH packet in bytes.
    pub max_packet: u32,
    /// Bounds of the transport below russh.
    pub transport: transport::TransportLimits,
    /// Bounds of the channels above russh.
    pub channel: channel::ChannelLimits,
    /// Idle HTTP channels kept ready per session and forward. 0 for origins that serve one connection
    /// at a time.
    pub preopened: usize,
    /// Idle HTTP channels kept at most per session and forward.
    pub max_idle: usize,
    /// Connections on the HTTP listener; more wait in the kernel's queue.
    pub max_http_connections: usize,
    /// Reading a request head, waiting for the next one included.
    pub head_timeout: Duration,
    /// A request head in bytes; its body is not counted.
    pub max_head: usize,
    /// From the last byte sent to the agent to the head of its answer. Long: the agent has its own,
    /// shorter deadlines and better errors.
    pub answer_timeout: Duration,
    /// A request or response body that moves nothing for this long is cut.
    pub body_stall: Duration,
}

impl Default for GatewayLimits {
    fn default() -> Self {
        Self {
            login_grace: Duration::from_secs(20),
            max_unauthenticated: 64,
            max_sessions_per_agent: 32,
            max_forwards: 16,
            max_channels: 1024,
            open_deadline: Duration::from_secs(10),
            open_patience: Duration::from_millis(250),
            keepalive_interval: Duration::from_secs(15),
            keepalive_max: 3,
            stall_timeout: Duration::from_secs(60),
            rekey_bytes: 1 << 30,
            rekey_interval: Duration::from_secs(3600),
            max_packet: 32768,
            transport: transport::TransportLimits::default(),
            channel: channel::ChannelLimits {
                // Large, because this side starts key exchanges (docs/dev/ssh.md, D3).
                window: 32 << 20,
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
