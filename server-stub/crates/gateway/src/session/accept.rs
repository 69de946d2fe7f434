//! The SSH accept loop and the life of one connection: login grace, stall timer, disconnect.

use super::{
    direct_channel::MAX_DIRECT_CHANNELS,
    handler::ServerHandler,
    login_queue::{LoginQueue, LoginSlot},
    permitted_target::MAX_TARGET_CHANNELS,
};
use crate::GatewayState;
use agent_ssh::{
    channel::SessionBudget,
    transport::{SshTransport, TcpPair, socket},
};
use russh::{Disconnect, server};
use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, OnceLock},
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{Instant, sleep, sleep_until, timeout},
};

/// Listens so that a restarted gateway can bind the address again at once.
pub(crate) fn listener(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until the gateway stops, and pauses while file descriptors are exhausted. Beyond the limit
/// of connections before login the oldest one is closed.
pub(crate) async fn connections(
    shared: Arc<GatewayState>,
    config: Arc<server::Config>,
    listener: TcpListener,
) {
    let logins = LoginQueue::new(shared.settings.limits.max_unauthenticated);
    loop {
        let accepted = tokio::select! {
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((socket, remote)) => {
                let one = connection(
                    Arc::clone(&shared),
                    Arc::clone(&config),
                    socket,
                    remote,
                    logins.acquire(),
                );
                shared.tasks.spawn(one);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept an SSH connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(
    shared: Arc<GatewayState>,
    config: Arc<server::Config>,
    socket: TcpStream,
    remote: SocketAddr,
    login_slot: LoginSlot,
) {
    let limits = &shared.settings.limits;
    let grace = Instant::now() + limits.login_grace;
    let options = socket::SocketOptions::default();
    if let Err(error) = socket::configure(&socket, &options) {
        tracing::debug!(%remote, %error, "cannot set socket options");
        return;
    }
    // The kernel knows the round trip, but only unsafe code can ask it: the monitor measures it after the login.
    let is_near = remote.ip().to_canonical().is_loopback();
    socket::adapt_to_distance(&socket, &options, is_near);
    let tcp = TcpPair::of(&socket);
    let resettable = socket::ResettableSocket::of(&socket);
    let (reader, writer) = socket.into_split();
    let (transport, transport_handle) = SshTransport::new(
        socket::PromptReader::new(reader),
        writer,
        limits.transport.clone(),
    );
    if let Some(tcp) = tcp {
        transport_handle.set_tcp_pair(tcp);
    }
    if let Some(socket) = resettable {
        transport_handle.set_resettable(socket);
    }
    let budget = SessionBudget::new(Arc::clone(&transport_handle), limits.channel.clone());
    let logged_in = Arc::new(OnceLock::new());
    let evicted = login_slot.evicted();
    let handler = ServerHandler {
        shared: Arc::clone(&shared),
        remote,
        transport: Arc::clone(&transport_handle),
        budget,
        login_slot: Some(login_slot),
        logged_in: Arc::clone(&logged_in),
        granted: None,
        registration: None,
        direct_channel_permits: Arc::new(Semaphore::new(MAX_DIRECT_CHANNELS)),
        target_channel_permits: Arc::new(Semaphore::new(MAX_TARGET_CHANNELS)),
    };
    let handshake = timeout(
        limits.login_grace,
        server::run_stream(config, transport, handler),
    );
    let handshake = tokio::select! { biased;
        handshake = handshake => handshake,
        () = evicted.cancelled() => {
            tracing::debug!(%remote, "connection closed for a newer one: too many connections before login");
            return;
        }
    };
    let running = match handshake {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => {
            tracing::debug!(%remote, %error, "SSH handshake failed");
            return;
        }
        Err(_) => {
            tracing::debug!(%remote, "SSH handshake timed out");
            return;
        }
    };
    let handle = running.handle();
    let mut running = pin!(running);
    let guard = async {
        tokio::select! {
            () = sleep_until(grace) => {
                if logged_in.get().is_none() {
                    transport_handle.abort("no login in time");
                }
            }
            () = evicted.cancelled() => {
                if logged_in.get().is_none() {
                    transport_handle.abort("too many connections before login");
                }
            }
        }
        transport_handle.watch(limits.stall_timeout, false).await;
    };
    let ended = tokio::select! { biased;
        ended = &mut running => Some(ended),
        () = guard => timeout(DISCONNECT_TIMEOUT, running).await.ok(),
        () = shared.stop.cancelled() => {
            disconnect_all(&handle, goodbye(limits.retry_after));
            match timeout(DISCONNECT_TIMEOUT, &mut running).await {
                Ok(ended) => Some(ended),
                Err(_) => {
                    transport_handle.abort("the gateway stops");
                    timeout(DISCONNECT_TIMEOUT, running).await.ok()
                }
            }
        }
    };
    let Some(session) = logged_in.get() else {
        let cause = transport_handle
            .death_reason()
            .unwrap_or("closed by the far side");
        tracing::debug!(%remote, cause, "connection ended before a login");
        return;
    };
    // The handler has done this already unless russh's task is stuck.
    shared.registry.remove_session(session);
    let cause = match ended {
        Some(Ok(())) => "closed by the agent".to_owned(),
        Some(Err(error)) => error.to_string(),
        None => transport_handle
            .death_reason()
            .unwrap_or("did not end in time")
            .to_owned(),
    };
    tracing::info!(agent = %session.agent, session = session.id, cause, "agent disconnected");
}

/// The text of the disconnect: an agent keeps the wait that it asks for (docs/vendor-guide.md).
fn goodbye(retry_after: Option<Duration>) -> String {
    match retry_after {
        Some(wait) => format!("the gateway stops; retry-after: {}", wait.as_secs()),
        None => "the gateway stops".to_owned(),
    }
}

fn disconnect_all(handle: &server::Handle, text: String) {
    let handle = handle.clone();
    // In a task, because the session may be too busy to take it.
    tokio::spawn(async move {
        let disconnecting = handle.disconnect(Disconnect::ByApplication, text, String::new());
        let _ = timeout(DISCONNECT_TIMEOUT, disconnecting).await;
    });
}

/// Connections that the kernel queues while the loop is busy.
const BACKLOG: u32 = 1024;
/// Pause after a failed accept, so that exhausted descriptors do not make the loop spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a session may take to disconnect, and then to end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(1);
