//! The hops between this host and a forward that is bound. Errors, status and check name them by the same words.

use crate::upstream::TlsHandshakeInfo;
use std::{fmt, net::SocketAddr, sync::Arc};

/// One hop, in the order in which they are passed. Behind a proxy `Dns` and `Tcp` lead to the proxy.
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
    /// A name gives an address.
    Dns,
    /// An address takes a TCP connection.
    Tcp,
    /// The proxy lets us through to the gateway.
    Proxy,
    /// TLS with a gateway inside TLS; interception shows here.
    Tls,
    /// An SSH server greets (RFC 4253 §4.2).
    Banner,
    /// Algorithms and keys are agreed on.
    KeyExchange,
    /// The gateway is the one that we were told of.
    HostKey,
    /// The gateway lets us in.
    Login,
    /// The gateway listens for us.
    Forward,
}

impl Hop {
    /// As in the status document and in the steps of a check.
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

/// A hop that has just been passed, and what was seen there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HopEvent {
    /// The addresses, in the order in which they are tried.
    Dns(Vec<SocketAddr>),
    /// The address that took the connection.
    Tcp(SocketAddr),
    /// The proxy has opened the way.
    Proxy,
    /// Version, issuer and end of the gateway's certificate.
    Tls(TlsHandshakeInfo),
    /// The gateway's banner, without `SSH-2.0-`; printable.
    Banner(String),
    /// The gateway holds the key that it has shown.
    KeyExchange,
    /// `SHA256:…` of the host key that was found trusted.
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

/// Is told of each hop as it is passed. Must return at once: the session stands still meanwhile.
pub type HopObserver = Arc<dyn Fn(HopEvent) + Send + Sync>;

/// An observer that ignores all events.
pub fn ignore() -> HopObserver {
    Arc::new(|_| {})
}
