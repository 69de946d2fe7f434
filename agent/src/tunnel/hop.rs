//! The hops between this host and a bound forward. Errors, status and check use the same names for them.

use crate::upstream::TlsHandshakeInfo;
use std::{fmt, net::SocketAddr, sync::Arc};

/// One hop, in the order in which they are passed. With a proxy, `Dns` and `Tcp` are those of the proxy.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Hop {
    /// The name resolves to an address.
    Dns,
    /// An address accepts a TCP connection.
    Tcp,
    /// The proxy connects us to the gateway.
    Proxy,
    /// TLS with a gateway inside TLS; interception shows here.
    Tls,
    /// An SSH server sends its identification string (RFC 4253 §4.2).
    Banner,
    /// Algorithms and keys are negotiated.
    KeyExchange,
    /// The gateway's host key is trusted.
    HostKey,
    /// The gateway accepts our key.
    Login,
    /// The gateway listens for a remote forward.
    Forward,
}

impl Hop {
    /// The name in the status document and in the steps of a check.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Banner => "banner",
            Self::KeyExchange => "key-exchange",
            Self::HostKey => "host-key",
            Self::Login => "login",
            Self::Forward => "forward",
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A hop that was just passed, and what was found there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopEvent {
    /// The addresses, in the order in which they are tried.
    Dns(Vec<SocketAddr>),
    /// The address that accepted the connection.
    Tcp(SocketAddr),
    /// The proxy has connected us to the gateway.
    Proxy,
    /// TLS version, and issuer and expiry of the gateway's certificate.
    Tls(TlsHandshakeInfo),
    /// The gateway's banner, without `SSH-2.0-`; printable.
    Banner(String),
    /// The gateway has proven that it holds the host key that it presented.
    KeyExchange,
    /// `SHA256:…` of the trusted host key.
    HostKey(String),
    /// The gateway accepted our login; the session is open.
    Login,
}

impl HopEvent {
    /// The hop that this event is about.
    pub const fn hop(&self) -> Hop {
        match self {
            Self::Dns(_) => Hop::Dns,
            Self::Tcp(_) => Hop::Tcp,
            Self::Proxy => Hop::Proxy,
            Self::Tls(_) => Hop::Tls,
            Self::Banner(_) => Hop::Banner,
            Self::KeyExchange => Hop::KeyExchange,
            Self::HostKey(_) => Hop::HostKey,
            Self::Login => Hop::Login,
        }
    }
}

/// Called for each hop as it is passed. It must return at once: the session waits for it.
pub type HopObserver = Arc<dyn Fn(HopEvent) + Send + Sync>;

/// An observer that ignores all events.
pub fn ignore() -> HopObserver {
    Arc::new(|_| {})
}
