//! The agent's end: asks for two forwards and serves their channels.

use super::{EchoService, EndOptions, SessionTransport, wrap_channel, wrap_socket};
use agent::tunnel::channel::SessionBudget;
use anyhow::{Result, ensure};
use russh::{
    Channel,
    client::{self, ChannelOpenHandle, Handle, Msg, Session},
    keys::{PrivateKey, PrivateKeyWithHashAlg, PublicKeyOrCertificate},
};
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::sleep};

/// A session with two forwards: one serves HTTP, one raw bytes.
pub struct SshClient {
    handle: Handle<ClientHandler>,
    _idle_transport: Option<Box<dyn super::ByteStream>>,
    /// Port on the gateway that leads to the HTTP service.
    pub http: u16,
    /// Port on the gateway that leads to the raw service.
    pub raw: u16,
    /// Budget of the session's channels.
    pub budget: Arc<SessionBudget>,
    /// The service behind the HTTP and raw forwards.
    pub service: Arc<EchoService>,
    key_exchanges: Arc<AtomicUsize>,
}

impl SshClient {
    /// Connects, logs in and requests the forwards. Any host key is accepted.
    pub async fn connect(
        address: &str,
        user: &str,
        key: PrivateKey,
        options: &EndOptions,
    ) -> Result<Self> {
        let SessionTransport {
            stream,
            budget,
            _idle,
        } = wrap_socket(TcpStream::connect(address).await?, options)?;
        let service = Arc::new(EchoService::default());
        let kexes = Arc::new(AtomicUsize::new(0));
        let raw_port = Arc::new(OnceLock::new());
        let forwards = ClientHandler {
            budget: Arc::clone(&budget),
            service: Arc::clone(&service),
            raw_port: Arc::clone(&raw_port),
            key_exchanges: Arc::clone(&kexes),
        };
        let mut handle = client::connect_stream(config(options), stream, forwards).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let login = handle.authenticate_publickey(user, key).await?;
        ensure!(login.success(), "login refused: {login:?}");
        let raw = handle.tcpip_forward("127.0.0.1", 0).await?;
        let _ = raw_port.set(raw);
        let http = handle.tcpip_forward("127.0.0.1", 0).await?;
        Ok(Self {
            handle,
            _idle_transport: _idle,
            http: http.try_into()?,
            raw: raw.try_into()?,
            budget,
            service,
            key_exchanges: kexes,
        })
    }

    /// A probe that the far side must answer.
    pub async fn probe(&self) -> Result<()> {
        Ok(self.handle.send_ping().await?)
    }

    /// Starts a key exchange.
    pub async fn rekey(&self) -> Result<()> {
        Ok(self.handle.rekey_soon().await?)
    }

    /// Key exchanges done, the first included.
    pub fn key_exchanges(&self) -> usize {
        self.key_exchanges.load(Relaxed)
    }

    /// Has the session ended?
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Waits for the session's end; returns how long that took.
    pub async fn wait_closed(&self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        while !self.is_closed() {
            ensure!(begun.elapsed() < limit, "still connected after {limit:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(begun.elapsed())
    }
}

fn config(options: &EndOptions) -> Arc<client::Config> {
    Arc::new(client::Config {
        limits: options.limits(),
        window_size: options.window(),
        maximum_packet_size: 32 << 10,
        channel_buffer_size: 100,
        keepalive_interval: options.keepalive,
        keepalive_max: 3,
        preferred: options.preferred(),
        ..client::Config::default()
    })
}

struct ClientHandler {
    budget: Arc<SessionBudget>,
    service: Arc<EchoService>,
    raw_port: Arc<OnceLock<u32>>,
    key_exchanges: Arc<AtomicUsize>,
}

impl client::Handler for ClientHandler {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _: Option<&[u8]>,
        _: &russh::Names,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.key_exchanges.fetch_add(1, Relaxed);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _: &str,
        port: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        let stream = wrap_channel(Arc::clone(&self.budget), channel);
        let service = Arc::clone(&self.service);
        let is_raw = self.raw_port.get() == Some(&port);
        tokio::spawn(async move {
            if is_raw {
                service.raw(stream).await;
            } else {
                service.http(stream).await;
            }
        });
        Ok(())
    }
}
