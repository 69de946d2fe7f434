//! The way to a Jira one hop at a time, for a check that names the one that fails. The path itself takes
//! the same steps through the same dialer.

use super::{
    SendError, Settings, TlsConfigError, certificate,
    dial::{HandshakeFailure, UpstreamDialer},
};
use rustls::ClientConnection;
use std::{net::SocketAddr, time::SystemTime};
use tokio::{net::TcpStream, time::Instant};

/// The way to one Jira.
pub struct UpstreamHops {
    dialer: UpstreamDialer,
    settings: Settings,
}

/// What the TLS handshake showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsHandshakeInfo {
    /// Negotiated TLS version, such as `TLSv1.3`.
    pub version: String,
    /// Who issued the server's certificate; empty where it cannot be read.
    pub issuer: String,
    /// When the server's certificate expires.
    pub ends: Option<SystemTime>,
}

impl TlsHandshakeInfo {
    /// What a finished handshake showed.
    pub(crate) fn of(session: &ClientConnection) -> Self {
        let leaf = session.peer_certificates().and_then(<[_]>::first);
        let version = session.protocol_version();
        Self {
            version: version
                .map(|v| format!("{v:?}").replace('_', "."))
                .unwrap_or_default(),
            issuer: leaf
                .and_then(|leaf| certificate::names(leaf))
                .map(|names| names.issuer)
                .unwrap_or_default(),
            ends: leaf
                .and_then(|leaf| certificate::validity(leaf))
                .map(|(_, end)| end),
        }
    }
}

impl UpstreamHops {
    /// May read the system's certificates: call it where blocking is allowed.
    pub fn new(settings: Settings) -> Result<Self, TlsConfigError> {
        Ok(Self {
            dialer: UpstreamDialer::new(&settings)?,
            settings,
        })
    }

    /// The addresses that are tried in turn.
    pub async fn resolve(&self) -> Result<Vec<SocketAddr>, SendError> {
        self.dialer.resolve(self.deadline()).await
    }

    /// The first of them that takes a connection.
    pub async fn connect(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, SendError> {
        self.dialer.connect(addresses, self.deadline()).await
    }

    /// `None` where the upstream is plain.
    pub async fn handshake(
        &self,
        tcp: TcpStream,
    ) -> Option<Result<TlsHandshakeInfo, HandshakeFailure>> {
        let done = self.dialer.handshake(tcp, self.deadline()).await?;
        Some(done.map(|stream| TlsHandshakeInfo::of(stream.get_ref().1)))
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.settings.connect_timeout
    }
}
