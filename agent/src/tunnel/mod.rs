//! The SSH tunnel, from the socket to the byte stream of one forwarded channel. Knows no HTTP.
//!
//! `egress` (TCP, proxy, TLS) → `transport` (below russh: writes never wait) → `session` (russh: host key, login, remote
//! forwards, probe) → `channel` (above russh: always receives, limits writers, closes without leaking).

pub mod egress;
mod hop;
mod place;
mod place_proof;
pub mod session;
pub mod settings;

pub use agent_ssh::address::{AddressError, BindAddress, GatewayAddress};
pub use agent_ssh::bind_template::{BindTemplate, SlotRange};
pub use agent_ssh::{channel, transport};
pub use hop::{Hop, HopEvent, HopObserver, ignore};
pub use place::{ListeningPlace, instance};
pub use place_proof::{LostSign, PlaceProof, PlaceTaker, UnprovenReason};
pub use settings::{ForwardTemplate, RemoteForward, Settings};

use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// A channel that the gateway has opened on one of our forwards.
pub struct InboundChannel {
    /// Name of the forward that it belongs to.
    pub forward: Arc<str>,
    /// Index of the SSH connection, from 0.
    pub connection: usize,
    /// `address:port` of the vendor's client as the gateway reports it; `unix` for a socket forward.
    pub originator: String,
    /// Cancelled when a new session replaces this one. An idle HTTP connection should end then, so that the vendor's next
    /// one uses the new session; requests in flight may finish.
    pub replaced: CancellationToken,
    /// Where the gateway listens for it.
    pub place: Arc<ListeningPlace>,
    /// The channel's data, in both directions.
    pub stream: channel::ChannelStream,
}

/// Receives inbound channels. Called by the session, in the span of the channel. The session waits for it, so it must
/// return at once (spawn, then work).
pub trait ChannelAcceptor: Send + Sync + 'static {
    /// Takes over one inbound channel.
    fn accept(&self, inbound: InboundChannel);
}

/// The span of one SSH connection, whose lines name its number and gateway. An error span, so that every log level keeps it.
pub fn connection_span(connection: usize, gateway: &str) -> Span {
    tracing::error_span!("connection", connection, gateway)
}
