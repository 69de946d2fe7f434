//! Settings of the connections to one Jira.

use super::{CloudRoute, HttpTarget, UpstreamTarget, certificate};
use crate::{
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    profile::ServiceProfile,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// `upstream` and its companions in one `[[forward]]` section.
#[derive(Clone)]
pub struct Settings {
    /// HTTP to a Jira, or bytes to a TCP port.
    pub target: UpstreamTarget,
    /// What is behind it.
    pub profile: Arc<ServiceProfile>,
    /// How its TLS certificate is judged and how we present ours.
    pub tls: TlsSettings,
    /// How the target is called if it is a site of Jira Cloud.
    pub cloud: Option<CloudRoute>,
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
    /// How long Jira may take for the head of its answer, counted from the last byte of the request that it took. An upload
    /// that moves extends the deadline.
    pub response_timeout: Duration,
    /// `tcp://` only: the connection ends when neither side has moved a byte for this long.
    pub tcp_idle_timeout: Duration,
}

impl Settings {
    /// The default settings for one target.
    pub fn new(target: UpstreamTarget) -> Self {
        Self {
            target,
            profile: ServiceProfile::jira(),
            tls: TlsSettings::default(),
            cloud: None,
            address: None,
            max_connections: 64,
            pool_wait: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(10),
            response_timeout: Duration::from_secs(120),
            tcp_idle_timeout: Duration::from_secs(3600),
        }
    }

    /// For a site that belongs to the upstream, like its token endpoint: on the upstream's own host
    /// reached exactly as that is; on another one with the same trust and client certificate, but by
    /// its own name and address.
    pub fn for_host(&self, target: &HttpTarget) -> Self {
        let own = matches!(
            &self.target,
            UpstreamTarget::Http(own) if (own.tls, &own.host, own.port) == (target.tls, &target.host, target.port)
        );
        let mut settings = self.clone();
        if !own {
            settings.address = None;
            settings.tls.server_name = None;
        }
        settings.target = UpstreamTarget::Http(target.clone());
        settings
    }
}

/// TLS settings for the connection to Jira.
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
    /// No roots besides the certificates of `ca_file`.
    None,
}

/// A client certificate chain with its private key.
pub struct ClientCertificate {
    /// The chain in DER, the client's own certificate first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the client's own certificate.
    pub key: PrivateKeyDer<'static>,
}

impl ClientCertificate {
    /// When the leaf ends.
    pub fn expiry(&self) -> CredentialExpiry {
        let validity = self
            .chain
            .first()
            .and_then(|leaf| certificate::validity(leaf));
        let remedy = "have a new client certificate issued and put it into client_certificate_file, its key into client_key_file";
        match validity {
            Some((since, end)) => CredentialExpiry::new(
                CredentialKind::ClientCertificate,
                ExpiryTime::At(end),
                remedy,
            )
            .issued(Some(since)),
            None => {
                let why =
                    ExpiryTime::Unknown("the certificate's validity cannot be read".to_owned());
                CredentialExpiry::new(CredentialKind::ClientCertificate, why, remedy)
            }
        }
    }
}
