//! What the way to one Jira needs to know.

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

/// `upstream` and its companions in one `[[forward]]` section.
#[derive(Clone)]
pub struct Settings {
    /// HTTP to a Jira, or bytes to a TCP port.
    pub target: Target,
    /// How its TLS certificate is judged and how we present ours.
    pub tls: TlsSettings,
    /// Connect to this address instead of resolving the host.
    pub address: Option<SocketAddr>,
    /// Connections open at once to this upstream, 1..=1024.
    pub max_connections: usize,
    /// How long a request may wait for one of them.
    pub pool_wait: Duration,
    /// An idle connection is closed after this; below Tomcat's keepAliveTimeout of 20 s.
    pub idle_timeout: Duration,
    /// Resolving, TCP and TLS together.
    pub connect_timeout: Duration,
    /// From the last byte of the request to the head of the answer.
    pub response_timeout: Duration,
}

/// Where a forward leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// `http://` or `https://`.
    Http(HttpTarget),
    /// `tcp://host:port`: bytes as they are, no policy, no login.
    Tcp {
        /// Host name or address.
        host: String,
        /// Port.
        port: u16,
    },
}

/// A Jira's own URL, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpTarget {
    /// `https`?
    pub tls: bool,
    /// Host name or address, without brackets.
    pub host: String,
    /// Port; 80 or 443 where the URL names none.
    pub port: u16,
    /// The `Host` header Jira expects: host, and the port unless it is the scheme's own.
    pub authority: String,
    /// `""` or like `/jira`; never ends in a slash.
    pub context_path: String,
}

/// TLS toward Jira.
#[derive(Clone, Default)]
pub struct TlsSettings {
    /// Which roots are trusted.
    pub roots: TrustRoots,
    /// Certificates of `ca_file`, trusted besides the roots.
    pub extra_roots: Vec<CertificateDer<'static>>,
    /// Client certificate and key.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// Name to ask for and to verify instead of the URL's host.
    pub server_name: Option<String>,
}

/// The trust roots to start from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrustRoots {
    /// The operating system's store.
    #[default]
    System,
    /// Mozilla's list, built in.
    Webpki,
    /// Only `ca_file`.
    None,
}

/// A client certificate chain with its private key.
pub struct ClientCertificate {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// Why an upstream URL was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub String);

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, TargetError> {
        Err(TargetError(format!("{text:?} is no URL")))
    }
}
