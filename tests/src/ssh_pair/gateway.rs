//! The vendor's end: an SSH server that accepts every login and forwards each connection to a port of a forward over a
//! channel.

use super::{EndOptions, SessionTransport, SshClient, wrap_channel, wrap_socket};
use crate::tcp_server::TcpServer;
use agent::tunnel::channel::SessionBudget;
use anyhow::{Result, bail};
use parking_lot::Mutex;
use russh::{
    MethodKind, MethodSet,
    keys::{Algorithm, PrivateKey, key::safe_rng},
    server::{self, Auth, Handler, Session, VerifiedPublicKey},
};
use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::copy_bidirectional_with_sizes,
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// A running gateway; stops when dropped.
pub struct SshGateway {
    server: TcpServer,
    sessions: Arc<Mutex<Vec<Arc<SessionBudget>>>>,
}

impl SshGateway {
    /// Listens on a free port of 127.0.0.1. Closes channels first after 250 ms: of two ends that wait for the other's
    /// CLOSE, one must begin.
    pub async fn start(mut options: EndOptions) -> Result<Self> {
        options.channel.close_wait = Duration::from_millis(250);
        let config = config(&options)?;
        let sessions = Arc::new(Mutex::new(Vec::new()));
        let known = Arc::clone(&sessions);
        let server = TcpServer::start(move |socket| {
            let config = Arc::clone(&config);
            let transport = wrap_socket(socket, &options);
            if let Ok(transport) = &transport {
                let budget = Arc::clone(&transport.budget);
                known.lock().push(budget);
            }
            async move {
                if let Ok(transport) = transport {
                    serve(config, transport).await;
                }
            }
        })
        .await?;
        Ok(Self { server, sessions })
    }

    /// Address of the gateway as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.server.addr.to_string()
    }

    /// Connects an agent's end with a new key.
    pub async fn connect(&self, options: &EndOptions) -> Result<SshClient> {
        self.connect_through(&self.address(), options).await
    }

    /// Connects an agent's end by way of another address.
    pub async fn connect_through(&self, address: &str, options: &EndOptions) -> Result<SshClient> {
        SshClient::connect(address, "agent", key()?, options).await
    }

    /// Channel budget of the newest session.
    pub fn budget(&self) -> Result<Arc<SessionBudget>> {
        let sessions = self.sessions.lock();
        match sessions.last() {
            Some(budget) => Ok(Arc::clone(budget)),
            None => bail!("no session yet"),
        }
    }
}

fn key() -> Result<PrivateKey> {
    Ok(PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519)?)
}

fn config(options: &EndOptions) -> Result<Arc<server::Config>> {
    Ok(Arc::new(server::Config {
        keys: vec![key()?],
        methods: MethodSet::from(&[MethodKind::PublicKey][..]),
        limits: options.limits(),
        window_size: options.window(),
        maximum_packet_size: 32 << 10,
        channel_buffer_size: 100,
        keepalive_interval: options.keepalive,
        keepalive_max: 3,
        preferred: options.preferred(),
        ..server::Config::default()
    }))
}

async fn serve(config: Arc<server::Config>, transport: SessionTransport) {
    let SessionTransport {
        stream,
        budget,
        _idle,
    } = transport;
    let handler = GatewayHandler {
        budget,
        open: HashMap::new(),
    };
    match server::run_stream(config, stream, handler).await {
        Ok(session) => {
            if let Err(error) = session.await {
                eprintln!("gateway: session ended: {error:#}");
            }
        }
        Err(error) => eprintln!("gateway: handshake: {error:#}"),
    }
}

/// The ports of one session; closed with it.
struct GatewayHandler {
    budget: Arc<SessionBudget>,
    open: HashMap<u32, AbortHandle>,
}

impl Drop for GatewayHandler {
    fn drop(&mut self) {
        self.open.values().for_each(AbortHandle::abort);
    }
}

impl Handler for GatewayHandler {
    type Error = anyhow::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth> {
        Ok(Auth::Accept)
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        session: &mut Session,
    ) -> Result<bool> {
        let listener = TcpListener::bind(("127.0.0.1", u16::try_from(*port)?)).await?;
        *port = listener.local_addr()?.port().into();
        let forward = ForwardedPort {
            handle: session.handle(),
            address: address.to_owned(),
            port: *port,
            budget: Arc::clone(&self.budget),
        };
        let task = tokio::spawn(forward.accept(listener));
        self.open.insert(*port, task.abort_handle());
        Ok(true)
    }
}

#[derive(Clone)]
struct ForwardedPort {
    handle: server::Handle,
    address: String,
    port: u32,
    budget: Arc<SessionBudget>,
}

impl ForwardedPort {
    async fn accept(self, listener: TcpListener) {
        while let Ok((socket, from)) = listener.accept().await {
            let forward = self.clone();
            tokio::spawn(async move {
                // After an early answer the copy ends with an error, as intended.
                let _ = forward.join(socket, from).await;
            });
        }
    }

    async fn join(self, mut socket: TcpStream, from: SocketAddr) -> io::Result<(u64, u64)> {
        socket.set_nodelay(true)?;
        let channel = self
            .handle
            .channel_open_forwarded_tcpip(
                self.address,
                self.port,
                from.ip().to_string(),
                from.port().into(),
            )
            .await
            .map_err(io::Error::other)?;
        let mut stream = wrap_channel(self.budget, channel);
        copy_bidirectional_with_sizes(&mut socket, &mut stream, COPY, COPY).await
    }
}

const COPY: usize = 64 << 10;
