//! A small SSH client and a small SSH gateway around `agent::tunnel::{transport, channel}`, to test both modules
//! against each other and against OpenSSH without the rest of the product: the gate for every version of russh.
//!
//! `SSH_GATE_WITHOUT=transport`, `=channel` or `=window` (or several, with commas) disables a workaround, to see the
//! tests for it fail.

mod client;
mod gateway;
mod packet_injector;
mod service;
pub mod vendor;

pub use client::SshClient;
pub use gateway::SshGateway;
pub use packet_injector::PacketInjector;
pub(crate) use service::hash;
pub use service::{EchoService, digest, pattern};

use agent::tunnel::{
    channel::{self, ChannelStream, SessionBudget},
    transport::{self, SshTransport, TransportHandle, socket},
};
use russh::{Channel, ChannelId, ChannelMsg, Limits, Preferred, cipher};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex, split},
    net::TcpStream,
};

/// How one end of a session is set up.
#[derive(Clone, Debug)]
pub struct EndOptions {
    /// russh's own keep-alive; three unanswered ones end the session.
    pub keepalive: Option<Duration>,
    /// The stall timer outside russh.
    pub stall_timeout: Option<Duration>,
    /// Bytes after which this end starts a key exchange.
    pub rekey_after: usize,
    /// No encryption, so that a [`PacketInjector`] can read and add packets.
    pub unencrypted: bool,
    /// Bounds of the channels.
    pub channel: channel::ChannelLimits,
}

impl Default for EndOptions {
    fn default() -> Self {
        Self {
            keepalive: Some(Duration::from_secs(5)),
            stall_timeout: None,
            rekey_after: 1 << 30,
            unencrypted: false,
            channel: channel::ChannelLimits::default(),
        }
    }
}

impl EndOptions {
    fn limits(&self) -> Limits {
        Limits {
            rekey_write_limit: self.rekey_after,
            rekey_read_limit: self.rekey_after,
            rekey_time_limit: Duration::from_secs(3600),
        }
    }

    fn preferred(&self) -> Preferred {
        let ciphers: &[cipher::Name] = if self.unencrypted {
            &[cipher::NONE]
        } else {
            &[cipher::AES_128_GCM, cipher::AES_256_GCM]
        };
        Preferred {
            cipher: Cow::Owned(ciphers.to_vec()),
            ..Preferred::DEFAULT
        }
    }

    fn window(&self) -> u32 {
        if is_disabled("window") {
            2 << 20
        } else {
            32 << 20
        }
    }
}

/// Whether this workaround is disabled.
pub fn is_disabled(answer: &str) -> bool {
    std::env::var("SSH_GATE_WITHOUT").is_ok_and(|list| list.split(',').any(|out| out == answer))
}

/// The stream for russh, with the budget of its channels.
struct SessionTransport {
    stream: Box<dyn ByteStream>,
    budget: Arc<SessionBudget>,
    /// If the transport is disabled: an unused one, which the budget needs.
    _idle: Option<Box<dyn ByteStream>>,
}

/// Any bidirectional stream of bytes.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

fn wrap_socket(socket: TcpStream, options: &EndOptions) -> anyhow::Result<SessionTransport> {
    socket::configure(&socket, &socket::SocketOptions::default())?;
    let limits = transport::TransportLimits::default();
    let (stream, meter, idle): (Box<dyn ByteStream>, _, Option<Box<dyn ByteStream>>) =
        if is_disabled("transport") {
            let (read_half, write_half) = split(duplex(1).0);
            let (idle, meter) = SshTransport::new(read_half, write_half, limits);
            (Box::new(socket), meter, Some(Box::new(idle)))
        } else {
            let (read_half, write_half) = socket.into_split();
            let (transport, meter) = SshTransport::new(read_half, write_half, limits);
            (Box::new(transport), meter, None)
        };
    if let Some(stall) = options.stall_timeout {
        watch(Arc::clone(&meter), stall, options.keepalive.is_some());
    }
    Ok(SessionTransport {
        stream,
        budget: SessionBudget::new(meter, options.channel.clone()),
        _idle: idle,
    })
}

fn watch(meter: Arc<TransportHandle>, stall: Duration, peer_must_speak: bool) {
    tokio::spawn(async move { meter.watch(stall, peer_must_speak).await });
}

fn wrap_channel<S>(budget: Arc<SessionBudget>, channel: Channel<S>) -> Box<dyn ByteStream>
where
    S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    if is_disabled("channel") {
        #[expect(clippy::disallowed_methods, reason = "to see the tests fail with it")]
        Box::new(channel.into_stream())
    } else {
        Box::new(ChannelStream::new(budget, channel))
    }
}
