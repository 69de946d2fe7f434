//! The connection to a Jira, one hop at a time, for a check that names the hop that fails. The data path takes the same
//! steps with the same dialer.

use super::{
    SendError, Settings, TlsConfigError, certificate,
    dial::{HandshakeFailure, UpstreamDialer},
};
use rustls::ClientConnection;
use std::{net::SocketAddr, time::SystemTime};
use tokio::{net::TcpStream, time::Instant};

/// The hops from this host to one Jira.
pub struct UpstreamHops {
    dialer: UpstreamDialer,
    settings: Settings,
}

/// What a TLS handshake showed of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsHandshakeInfo {
    /// Negotiated TLS version, such as `TLSv1.3`.
    pub version: String,
    /// Issuer of the server's certificate; empty where it cannot be read.
    pub issuer: String,
    /// When the server's certificate expires.
    pub ends: Option<SystemTime>,
}

impl TlsHandshakeInfo {
    /// Reads a finished handshake.
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

    /// Connects to the first address that accepts.
    pub async fn connect(&self, addresses: Vec<SocketAddr>) -> Result<TcpStream, SendError> {
        self.dialer.connect(addresses, self.deadline()).await
    }

    /// The TLS handshake on a connection; `None` for an upstream without TLS.
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
