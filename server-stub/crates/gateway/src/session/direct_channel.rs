//! Channels that an agent opens to its own forwards (`direct-tcpip`, RFC 4254 §7.2; `direct-streamlocal@openssh.com`),
//! so that `agent check` can send a request as the vendor does, and the agent can prove its places. Other agents' forwards
//! and other ports of this host are refused.

use crate::{
    GatewayState,
    forward::{ChannelOpenError, ListenAddress, OpenCandidate, Originator},
};
use agent_ssh::channel::{ChannelStream, SessionBudget};
use russh::{
    Channel, ChannelOpenFailure,
    server::{ChannelOpenHandle, Msg},
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional_with_sizes},
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
    time::timeout,
};

/// Connects to the forward, then accepts and relays the channel until either side ends it. `own`: with the caller's session, if
/// it serves the forward itself. Several sessions share a listener here, and the caller asks for its own place.
pub(super) async fn serve_direct_channel(
    shared: Arc<GatewayState>,
    address: ListenAddress,
    own: Option<OpenCandidate>,
    budget: Arc<SessionBudget>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    _permit: OwnedSemaphorePermit,
) {
    // A task: opening a channel must not be cancelled.
    let connecting = tokio::spawn(connect(address.clone(), own));
    let connected = match timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(connected)) => connected,
        Ok(Err(_)) | Err(_) => Err(DirectConnectError::TimedOut),
    };
    let mut stream = match connected {
        Ok(stream) => stream,
        Err(error) => {
            tracing::debug!(%address, %error, "direct channel failed: the forward is not reached");
            return reply.reject(error.refusal()).await;
        }
    };
    reply.accept().await;
    let mut channel = ChannelStream::new(budget, channel);
    let relayed =
        copy_bidirectional_with_sizes(&mut stream, &mut channel, COPY_BUFFER, COPY_BUFFER);
    tokio::select! {
        () = shared.stop.cancelled() => {}
        // A check is one request; a channel that stays open would keep its permit.
        _ = timeout(MAX_LIFETIME, relayed) => {}
    }
}

async fn connect(
    address: ListenAddress,
    own: Option<OpenCandidate>,
) -> Result<Box<dyn ReadWrite>, DirectConnectError> {
    // A client does not reach the session where another program has replaced the path.
    let own = tokio::task::spawn_blocking(|| own.filter(|own| own.forward.has_its_address()));
    let own = own.await.map_err(io::Error::from)?;
    Ok(match (own, address) {
        (Some(own), _) => {
            let originator = Originator {
                host: "127.0.0.1".to_owned(),
                port: 0,
            };
            let serving = own.serving;
            Box::new(serving.session.open(&serving.bind, &originator).await?)
        }
        (None, ListenAddress::Tcp(address)) => Box::new(TcpStream::connect(address).await?),
        (None, ListenAddress::Socket(path)) => Box::new(UnixStream::connect(path).await?),
    })
}

/// Why a direct channel did not reach its forward.
#[derive(Debug, thiserror::Error)]
enum DirectConnectError {
    #[error("{0}")]
    Listener(#[from] io::Error),
    #[error("{0}")]
    Channel(#[from] ChannelOpenError),
    #[error("it did not accept in time")]
    TimedOut,
}

impl DirectConnectError {
    /// The agent takes `ConnectFailed` as the loss of its place. A session that is full, slow or ended, or a gateway that
    /// lacks something, is no loss.
    fn refusal(&self) -> ChannelOpenFailure {
        match self {
            Self::Listener(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::ConnectionRefused
                        | io::ErrorKind::PermissionDenied
                ) =>
            {
                ChannelOpenFailure::ConnectFailed
            }
            Self::Channel(ChannelOpenError::Refused | ChannelOpenError::NoSession) => {
                ChannelOpenFailure::ConnectFailed
            }
            Self::Listener(_)
            | Self::Channel(
                ChannelOpenError::Busy | ChannelOpenError::SessionLost | ChannelOpenError::TimedOut,
            )
            | Self::TimedOut => ChannelOpenFailure::ResourceShortage,
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ReadWrite for T {}

/// Per session. A check opens one channel per forward, one after the other.
pub(super) const MAX_DIRECT_CHANNELS: usize = 4;
/// Ample, because the listener is on this host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Above the agent's limit for a step of its check.
const MAX_LIFETIME: Duration = Duration::from_secs(60);
const COPY_BUFFER: usize = 16 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_absent_listener_and_a_refusing_agent_are_a_failed_connection() {
        let listener = |kind: io::ErrorKind| DirectConnectError::Listener(kind.into());
        for lost in [
            listener(io::ErrorKind::NotFound),
            listener(io::ErrorKind::ConnectionRefused),
            ChannelOpenError::Refused.into(),
        ] {
            assert_eq!(lost.refusal(), ChannelOpenFailure::ConnectFailed, "{lost}");
        }
        for full_or_slow in [
            // The queue of the listener is full.
            listener(io::ErrorKind::WouldBlock),
            io::Error::from_raw_os_error(24).into(),
            ChannelOpenError::Busy.into(),
            ChannelOpenError::SessionLost.into(),
            DirectConnectError::TimedOut,
        ] {
            let refusal = full_or_slow.refusal();
            assert_eq!(
                refusal,
                ChannelOpenFailure::ResourceShortage,
                "{full_or_slow}"
            );
        }
    }
}
