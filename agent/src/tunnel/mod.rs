//! Knows SSH, knows no HTTP: from the socket to the byte stream of one forwarded channel.
//!
//! `egress` (the way out: TCP, proxy, TLS) → `transport` (below russh: writes never wait) → `session` (russh: host key, login, remote
//! forwards, probe) → `channel` (above russh: always drains, holds back, closes without leaking).

pub mod channel;
pub mod egress;
mod hop;
pub mod session;
pub mod settings;
pub mod transport;

pub use hop::{Hop, HopEvent, HopObserver, ignore};
pub use settings::{BindAddress, GatewayAddress, RemoteForward, Settings};

use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A channel the gateway has opened on one of our forwards, as bytes.
pub struct InboundChannel {
    /// Name of the forward it came by.
    pub forward: Arc<str>,
    /// Index of the SSH connection, from 0.
    pub connection: usize,
    /// `address:port` of the vendor's side as the gateway tells it; `unix` for a socket forward.
    pub originator: String,
    /// Cancelled when the session is left for a successor: what ends of itself should, so that the vendor's next
    /// connection comes by that one. What is under way may finish.
    pub replaced: CancellationToken,
    /// The channel's data, in both directions.
    pub stream: channel::ChannelStream,
}

/// Takes inbound channels. Called from within the session: it must return at once (spawn, then work).
pub trait ChannelAcceptor: Send + Sync + 'static {
    /// Takes over one inbound channel.
    fn accept(&self, inbound: InboundChannel);
}
