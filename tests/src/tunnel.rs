//! The agent's tunnel without its HTTP side: every forwarded channel sends back what it receives.

use crate::sshd::Sshd;
use agent::{
    secret::SecretFile,
    status::ConnectionView,
    supervisor::{Supervisor, SupervisorHandle},
    tunnel::{
        ChannelAcceptor, ForwardTemplate, InboundChannel, Settings, SlotRange, channel,
        session::{HostKeys, SshIdentity},
        transport,
    },
};
use anyhow::{Context, Result};
use parking_lot::Mutex;
use std::{path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Sends back what it receives, and records the forward and connection of each channel.
#[derive(Default)]
pub struct EchoForwards {
    seen: Mutex<Vec<(String, usize, String)>>,
}

impl EchoForwards {
    /// Forward, connection and originator of each channel so far.
    pub fn seen(&self) -> Vec<(String, usize, String)> {
        self.seen.lock().clone()
    }
}

impl ChannelAcceptor for EchoForwards {
    fn accept(&self, inbound: InboundChannel) {
        let seen = (
            inbound.forward.to_string(),
            inbound.connection,
            inbound.originator.clone(),
        );
        self.seen.lock().push(seen);
        tokio::spawn(async move {
            let (mut reader, mut writer) = tokio::io::split(inbound.stream);
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
            let _ = writer.shutdown().await;
        });
    }
}

/// Settings for one connection to this sshd, with its host key pinned and timeouts for a busy machine.
pub fn settings(sshd: &Sshd, binds: &[&str]) -> Result<Settings> {
    let key = identity(&sshd.identity())?;
    settings_for(
        &sshd.address(),
        &sshd.user(),
        key,
        sshd.fingerprint()?,
        binds,
    )
}

/// As [`settings`], for any gateway.
pub fn settings_for(
    gateway: &str,
    user: &str,
    identity: Arc<SshIdentity>,
    host_key: String,
    binds: &[&str],
) -> Result<Settings> {
    let forwards = binds.iter().enumerate().map(|(n, bind)| {
        Ok(ForwardTemplate {
            name: format!("f{n}").into(),
            bind: bind.parse()?,
        })
    });
    Ok(Settings {
        gateways: vec![gateway.parse()?],
        egress: Default::default(),
        user: user.to_owned(),
        identity,
        host_keys: Arc::new(HostKeys::new(vec![host_key], None)?),
        connections: 1,
        connect_timeout: PATIENCE,
        login_timeout: PATIENCE,
        stall_timeout: Duration::from_secs(30),
        probe_interval: Duration::from_secs(1),
        probe_timeout: Duration::from_secs(4),
        congestion_control: None,
        drain_limit: Duration::from_secs(30),
        max_channels: 100,
        transport: transport::TransportLimits::default(),
        channel: channel::ChannelLimits::default(),
        forwards: forwards.collect::<Result<_>>()?,
        slots: SlotRange::for_connections(1),
    })
}

/// Loads a key file as an identity.
pub fn identity(path: &Path) -> Result<Arc<SshIdentity>> {
    Ok(Arc::new(SshIdentity::load(&SecretFile::new(path), None)?))
}

/// Sends `text` through an echoing forward, half-closes, and expects it back.
pub async fn echo(stream: impl AsyncRead + AsyncWrite + Unpin, text: &str) -> Result<()> {
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut back = String::new();
    timeout(PATIENCE, async {
        writer.write_all(text.as_bytes()).await?;
        writer.shutdown().await?;
        reader.read_to_string(&mut back).await
    })
    .await
    .context("no echo")??;
    anyhow::ensure!(back == text, "{back:?} came back for {text:?}");
    Ok(())
}

/// [`echo`] through a TCP forward at `address`.
pub async fn echo_at(address: &str, text: &str) -> Result<()> {
    echo(TcpStream::connect(address).await?, text).await
}

/// Starts a supervisor whose forwards echo.
pub fn supervise(settings: Settings) -> SupervisorHandle {
    let accept = Arc::new(EchoForwards::default());
    Supervisor::spawn(Arc::new(settings), accept, CancellationToken::new())
}

/// Waits until the supervisor's connections are as wanted.
///
/// # Panics
/// If that takes longer than [`PATIENCE`].
pub async fn until_connections(
    handle: &SupervisorHandle,
    wanted: impl Fn(&[ConnectionView]) -> bool,
) {
    let mut changes = handle.changes();
    let watched = async {
        while !wanted(&handle.connections()) {
            if changes.changed().await.is_err() {
                return false;
            }
        }
        true
    };
    if !timeout(PATIENCE, watched).await.unwrap_or(false) {
        panic!("not as wanted: {:#?}", handle.connections());
    }
}

/// Limit for what is immediate on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
