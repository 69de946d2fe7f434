//! The settings of the tunnel, in types that cannot hold an invalid value.

use super::{
    BindAddress, BindTemplate, GatewayAddress, SlotRange, channel, egress, session, transport,
};
use std::{sync::Arc, time::Duration};

/// The settings of the `[tunnel]` section, and the remote forwards to request.
#[derive(Clone)]
pub struct Settings {
    /// Gateways to spread the connections over; never empty.
    pub gateways: Vec<GatewayAddress>,
    /// How gateways are reached: directly, through a proxy, inside TLS.
    pub egress: Arc<egress::Egress>,
    /// SSH user name to log in with.
    pub user: String,
    /// Private key, and the OpenSSH user certificate where there is one.
    pub identity: Arc<session::SshIdentity>,
    /// Which host keys are accepted; anything else is refused.
    pub host_keys: Arc<session::HostKeys>,
    /// Number of SSH sessions, 1..=16.
    pub connections: usize,
    /// Time limit of name resolution, TCP connect (per address), the proxy's answer and TLS, each.
    pub connect_timeout: Duration,
    /// Time limit of SSH banner, key exchange and login together.
    pub login_timeout: Duration,
    /// A session is aborted when the kernel took nothing that waits to be sent for this long.
    pub stall_timeout: Duration,
    /// Time without a byte from the gateway after which a session at rest is probed.
    pub probe_interval: Duration,
    /// Shortest time for the answer to a probe; after it the session is suspect, after twice as long dead.
    pub probe_timeout: Duration,
    /// TCP congestion control toward distant gateways, as the kernel names it; `None`: the kernel's choice.
    pub congestion_control: Option<String>,
    /// How long requests in flight may continue when the agent stops.
    pub drain_limit: Duration,
    /// Forwarded channels open at once per session; more are refused with `ResourceShortage`.
    pub max_channels: usize,
    /// Bounds of the transport below russh.
    pub transport: transport::TransportLimits,
    /// Bounds of the channel adapter above russh.
    pub channel: channel::ChannelLimits,
    /// The remote forwards to request from each gateway.
    pub forwards: Vec<ForwardTemplate>,
    /// The slot numbers of this host, for binds that name the slot.
    pub slots: SlotRange,
}

/// One remote forward as it is configured: each slot may have an address of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardTemplate {
    /// Name of the `[[forward]]` section, unique.
    pub name: Arc<str>,
    /// Where the gateway should listen.
    pub bind: BindTemplate,
}

impl ForwardTemplate {
    /// The forward of this slot, to be requested.
    pub fn at(&self, slot: u16) -> RemoteForward {
        RemoteForward {
            name: Arc::clone(&self.name),
            bind: self.bind.at(slot),
        }
    }
}

/// One remote forward to request (RFC 4254 §7.1, or `streamlocal-forward@openssh.com`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteForward {
    /// Name of the `[[forward]]` section, unique.
    pub name: Arc<str>,
    /// Where the gateway should listen.
    pub bind: BindAddress,
}
