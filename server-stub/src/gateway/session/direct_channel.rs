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
    address: ListenAddress,
    budget: Arc<SessionBudget>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    _permit: OwnedSemaphorePermit,
) {
    let connected = timeout(CONNECT_TIMEOUT, async {
        let stream: Box<dyn ReadWrite> = match &address {
            ListenAddress::Tcp(address) => Box::new(TcpStream::connect(address).await?),
            ListenAddress::Socket(path) => Box::new(UnixStream::connect(path).await?),
        };
        Ok::<_, io::Error>(stream)
    });
    let mut stream = match connected.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) | Err(_) => {
            tracing::debug!(%address, "an agent's call to its own forward failed");
            return reply.reject(ChannelOpenFailure::ConnectFailed).await;
        }
    };
    reply.accept().await;
    let mut channel = ChannelStream::new(budget, channel);
    let relayed =
        copy_bidirectional_with_sizes(&mut stream, &mut channel, COPY_BUFFER, COPY_BUFFER);
    tokio::select! {
        () = shared.stop.cancelled() => {}
        // A call is one request; a channel that stays open would keep a address.
        _ = timeout(MAX_LIFETIME, relayed) => {}
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> ReadWrite for T {}

/// Calls of one session at once: a check makes one per forward, one after the other.
pub(super) const MAX_DIRECT_CHANNELS: usize = 4;
/// The listener is on this host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Above the agent's own limit for a step of its check.
const MAX_LIFETIME: Duration = Duration::from_secs(60);
const COPY_BUFFER: usize = 16 << 10;
