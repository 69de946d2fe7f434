//! Channels that an agent opens to its own forwards (`direct-tcpip`, RFC 4254 §7.2; `direct-streamlocal@openssh.com`),
//! so that `agent check` can send a request as the vendor does, and the agent can prove its places. Other agents' forwards
//! and other ports of this host are refused.

use super::AgentSession;
use crate::{
    GatewayState,
    forward::{ListenAddress, Originator, RequestedBind},
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

/// Connects to the forward, then accepts and relays the channel until either side ends it. `own`: the caller's session, if
/// it serves the forward itself. Several sessions share a listener here, and the caller asks for its own place.
pub(super) async fn serve_direct_channel(
    shared: Arc<GatewayState>,
    address: ListenAddress,
    own: Option<(Arc<AgentSession>, RequestedBind)>,
    budget: Arc<SessionBudget>,
    channel: Channel<Msg>,
    reply: ChannelOpenHandle,
    _permit: OwnedSemaphorePermit,
) {
    // A task: opening a channel must not be cancelled.
    let connecting = tokio::spawn(connect(address.clone(), own));
    let connected = timeout(CONNECT_TIMEOUT, connecting).await;
    let Ok(Ok(Ok(mut stream))) = connected else {
        tracing::debug!(%address, "direct channel failed: the listener of the forward does not accept");
        return reply.reject(ChannelOpenFailure::ConnectFailed).await;
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
    own: Option<(Arc<AgentSession>, RequestedBind)>,
) -> io::Result<Box<dyn ReadWrite>> {
    Ok(match (own, address) {
        (Some((session, bind)), address) => {
            // The listener is this process's own; only its path can be taken from it.
            if let ListenAddress::Socket(path) = address {
                tokio::fs::symlink_metadata(path).await?;
            }
            let originator = Originator {
                host: "127.0.0.1".to_owned(),
                port: 0,
            };
            let opened = session.open(&bind, &originator).await;
            Box::new(opened.map_err(io::Error::other)?)
        }
        (None, ListenAddress::Tcp(address)) => Box::new(TcpStream::connect(address).await?),
        (None, ListenAddress::Socket(path)) => Box::new(UnixStream::connect(path).await?),
    })
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
