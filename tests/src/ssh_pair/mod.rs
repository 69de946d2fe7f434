//! A small SSH client and a small SSH gateway around `agent::tunnel::{transport, channel}`, so that these two rooms
//! are tried against each other and against OpenSSH without the rest of the product: the gate for every version of
//! russh.
//!
//! `SSH_GATE_WITHOUT=transport`, `=channel` or `=window` (or several, with commas) takes an answer out, to see the
//! tests that ask for it fail.

mod client;
mod gateway;
mod service;
mod tap;
pub mod vendor;

pub use client::Client;
pub use gateway::Gateway;
pub(crate) use service::hash;
pub use service::{Service, digest, pattern};
pub use tap::Tap;

use agent::tunnel::{
    channel::{self, ChannelStream, SessionBudget},
    transport::{self, Meter, Transport, socket},
};
use russh::{Channel, ChannelId, ChannelMsg, Limits, Preferred, cipher};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, duplex, split},
    net::TcpStream,
};

/// How one end of a session is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// russh's own keep-alive; three unanswered ones end the session.
    pub keepalive: Option<Duration>,
    /// The stall timer outside russh.
    pub stall: Option<Duration>,
    /// Bytes after which this end asks for new keys.
    pub rekey_after: usize,
    /// No encryption, so that a [`Tap`] can read and add packets.
    pub in_clear: bool,
    /// Bounds of the channels.
    pub channel: channel::Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            keepalive: Some(Duration::from_secs(5)),
            stall: None,
            rekey_after: 1 << 30,
            in_clear: false,
            channel: channel::Limits::default(),
        }
    }
}

impl Options {
    fn limits(&self) -> Limits {
        Limits {
            rekey_write_limit: self.rekey_after,
            rekey_read_limit: self.rekey_after,
            rekey_time_limit: Duration::from_secs(3600),
        }
    }

    fn preferred(&self) -> Preferred {
        let ciphers: &[cipher::Name] = if self.in_clear {
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
        if without("window") { 2 << 20 } else { 32 << 20 }
    }
}

/// Is this answer taken out?
pub fn without(answer: &str) -> bool {
    std::env::var("SSH_GATE_WITHOUT").is_ok_and(|list| list.split(',').any(|out| out == answer))
}

/// What russh is given, with the account of its channels.
struct Below {
    stream: Box<dyn Duplex>,
    budget: Arc<SessionBudget>,
    /// Where the transport is taken out: the one that the account needs all the same.
    _idle: Option<Box<dyn Duplex>>,
}

/// Any byte stream.
pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

fn below(socket: TcpStream, options: &Options) -> anyhow::Result<Below> {
    socket::configure(&socket, &socket::Options::default())?;
    let limits = transport::Limits::default();
    let (stream, meter, idle): (Box<dyn Duplex>, _, Option<Box<dyn Duplex>>) =
        if without("transport") {
            let (read_half, write_half) = split(duplex(1).0);
            let (idle, meter) = Transport::new(read_half, write_half, limits);
            (Box::new(socket), meter, Some(Box::new(idle)))
        } else {
            let (read_half, write_half) = socket.into_split();
            let (transport, meter) = Transport::new(read_half, write_half, limits);
            (Box::new(transport), meter, None)
        };
    if let Some(stall) = options.stall {
        watch(Arc::clone(&meter), stall, options.keepalive.is_some());
    }
    Ok(Below {
        stream,
        budget: SessionBudget::new(meter, options.channel.clone()),
        _idle: idle,
    })
}

fn watch(meter: Arc<Meter>, stall: Duration, peer_must_speak: bool) {
    tokio::spawn(async move { meter.watch(stall, peer_must_speak).await });
}

fn above<S>(budget: Arc<SessionBudget>, channel: Channel<S>) -> Box<dyn Duplex>
where
    S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    if without("channel") {
        #[expect(clippy::disallowed_methods, reason = "to see the tests fail with it")]
        Box::new(channel.into_stream())
    } else {
        Box::new(ChannelStream::new(budget, channel))
    }
}
