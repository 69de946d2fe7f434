//! Channels that an agent opens to its own forwards (`direct-tcpip`, RFC 4254 §7.2; `direct-streamlocal@openssh.com`),
//! so that its check can send a request the vendor's way. Nowhere else does a channel of an agent's lead: not to
//! another agent's forward, not to another port of this host.

use crate::gateway::{GatewayState, forward::ListenAddress};
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

/// Connects to where we listen for the agent, then accepts and carries the channel until either side ends it.
pub(super) async fn serve_direct_channel(
    shared: Arc<GatewayState>,
    place: ListenAddress,
    budget: Arc<SessionBudget>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    _one_of_few: OwnedSemaphorePermit,
) {
    let connected = timeout(CONNECT, async {
        let stream: Box<dyn ReadWrite> = match &place {
            ListenAddress::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            ListenAddress::Socket(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok::<_, io::Error>(stream)
    });
    let mut stream = match connected.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(%place, "an agent's call to its own forward failed");
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    };
    reply.accept().await;
    let mut channel = ChannelStream::new(budget, channel);
    let carried =
        copy_bidirectional_with_sizes(&mut stream, &mut channel, COPY_BUFFER, COPY_BUFFER);
    tokio::select! {
        () = shared.stop.cancelled() => {}
        // A call is one request; a channel that stays open would keep a place.
        _ = timeout(LONGEST, carried) => {}
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ReadWrite for T {}

/// Calls of one session at once: a check makes one per forward, one after the other.
pub(super) const MAX_DIRECT_CHANNELS: usize = 4;
/// The listener is on this host.
const CONNECT: Duration = Duration::from_secs(5);
/// Above the agent's own limit for a step of its check.
const LONGEST: Duration = Duration::from_secs(60);
const COPY_BUFFER: usize = 16 << 10;
