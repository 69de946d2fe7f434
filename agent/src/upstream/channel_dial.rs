//! Connections that lead through an SSH session instead of a socket of this host. This room knows no SSH: it asks a
//! [`ChannelDialer`] for a stream and does everything else as for a socket.

use super::{Delivery, FailedStep, SendError};
use futures_util::future::BoxFuture;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// Bytes in both directions.
pub trait ByteStream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ByteStream for T {}

/// Whether a connection without a request on it can take one: it is open, nothing waits to be read, and the session below
/// it answers.
pub type QuietCheck = Box<dyn Fn() -> bool + Send + Sync>;

/// A connection through a channel.
pub struct DialedChannel {
    /// Its bytes.
    pub stream: Box<dyn ByteStream>,
    /// Asked before the connection is used once more.
    pub is_quiet: QuietCheck,
}

/// Why a channel was not opened. The text names the gateway's side, for the administrator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelDialError {
    /// No session to a gateway is open and answers.
    #[error("{0}")]
    NoSession(String),
    /// The gateway does not permit the target.
    #[error("{0}")]
    Prohibited(String),
    /// The gateway cannot connect to the target.
    #[error("{0}")]
    Failed(String),
    /// The gateway has no channel left.
    #[error("{0}")]
    Busy(String),
}

/// Opens channels to the host and port of one upstream.
pub trait ChannelDialer: Send + Sync + 'static {
    /// Opens one. Gives up within `limit`.
    fn dial(&self, limit: Duration) -> BoxFuture<'_, Result<DialedChannel, ChannelDialError>>;
}

/// The way to an upstream.
#[derive(Clone)]
pub(super) enum DialRoute {
    /// A socket of this host.
    Tcp,
    /// A channel of an SSH session.
    Channel(Arc<dyn ChannelDialer>),
}

/// A connection below TLS.
pub(super) enum DialedStream {
    Tcp(TcpStream),
    Channel(Box<dyn ByteStream>),
}

impl From<ChannelDialError> for SendError {
    fn from(error: ChannelDialError) -> Self {
        let kind = match &error {
            ChannelDialError::NoSession(_) => FailedStep::NoSession,
            ChannelDialError::Prohibited(_) => FailedStep::Prohibited,
            ChannelDialError::Failed(_) => FailedStep::Connect,
            ChannelDialError::Busy(_) => FailedStep::PoolExhausted,
        };
        Self {
            kind,
            detail: error.to_string(),
            delivery: Delivery::NotSent,
            retry_after: None,
        }
    }
}

impl AsyncRead for DialedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Channel(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for DialedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Channel(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Channel(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_write_vectored(),
            Self::Channel(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Channel(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Channel(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
