//! The agent's end: asks for two forwards and serves their channels.

use super::{Below, Options, Service, above, below};
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
pub struct Client {
    handle: Handle<Forwards>,
    _below: Option<Box<dyn super::Duplex>>,
    /// Port on the gateway that leads to the HTTP service.
    pub http: u16,
    /// Port on the gateway that leads to the raw service.
    pub raw: u16,
    /// The account of the channels; its meter is the transport's.
    pub budget: Arc<SessionBudget>,
    /// What answers.
    pub service: Arc<Service>,
    kexes: Arc<AtomicUsize>,
}

impl Client {
    /// Connects, logs in, asks for the forwards. The host key is not judged here.
    pub async fn connect(
        address: &str,
        user: &str,
        key: PrivateKey,
        options: &Options,
    ) -> Result<Self> {
        let Below {
            stream,
            budget,
            _idle,
        } = below(TcpStream::connect(address).await?, options)?;
        let service = Arc::new(Service::default());
        let kexes = Arc::new(AtomicUsize::new(0));
        let raw_port = Arc::new(OnceLock::new());
        let forwards = Forwards {
            budget: Arc::clone(&budget),
            service: Arc::clone(&service),
            raw_port: Arc::clone(&raw_port),
            kexes: Arc::clone(&kexes),
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
            _below: _idle,
            http: http.try_into()?,
            raw: raw.try_into()?,
            budget,
            service,
            kexes,
        })
    }

    /// A probe that the far side must answer.
    pub async fn probe(&self) -> Result<()> {
        Ok(self.handle.send_ping().await?)
    }

    /// Asks for new keys.
    pub async fn rekey(&self) -> Result<()> {
        Ok(self.handle.rekey_soon().await?)
    }

    /// Key exchanges done, the first included.
    pub fn kexes(&self) -> usize {
        self.kexes.load(Relaxed)
    }

    /// Has the session ended?
    pub fn is_closed(&self) -> bool {
        self.handle.is_closed()
    }

    /// Waits for the session's end and says how long that took.
    pub async fn ended(&self, limit: Duration) -> Result<Duration> {
        let begun = Instant::now();
        while !self.is_closed() {
            ensure!(begun.elapsed() < limit, "still connected after {limit:?}");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(begun.elapsed())
    }
}

fn config(options: &Options) -> Arc<client::Config> {
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

struct Forwards {
    budget: Arc<SessionBudget>,
    service: Arc<Service>,
    raw_port: Arc<OnceLock<u32>>,
    kexes: Arc<AtomicUsize>,
}

impl client::Handler for Forwards {
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
        self.kexes.fetch_add(1, Relaxed);
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
        let stream = above(Arc::clone(&self.budget), channel);
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
