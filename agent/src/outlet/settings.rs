//! One `[[outlet]]`, validated.

use super::{EventScope, SourceList};
use crate::{
    http::HttpLimits,
    policy,
    profile::ServiceProfile,
    secret::Secret,
    upstream::{self, HttpTarget, UpstreamTarget},
};
use agent_events::{QueueLimits, SigningSecrets};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
    server::WebPkiClientVerifier,
};
use sha2::{Digest, Sha256};
use std::{net::SocketAddr, str::FromStr, sync::Arc, time::Duration};

/// One outlet.
#[derive(Clone)]
pub struct Settings {
    /// Unique name, also among the forwards.
    pub name: Arc<str>,
    /// Where Jira calls.
    pub listen: SocketAddr,
    /// The vendor's host, as the gateway sees it.
    pub upstream: upstream::Settings,
    /// What may leave.
    pub policy: policy::Settings,
    /// Who may call.
    pub sources: SourceList,
    /// What the path must begin with.
    pub path_secret: Option<PathSecret>,
    /// Media types of bodies that may leave, in lower case; empty: all.
    pub content_types: Vec<String>,
    /// Largest body in bytes.
    pub max_body: u64,
    /// For TLS on the listener.
    pub tls: Option<Arc<ServerConfig>>,
    /// Of mode `store`; `None`: mode `pass`.
    pub store: Option<StoreSettings>,
    /// Limits of the requests.
    pub http: HttpLimits,
}

/// What only an outlet of mode `store` has.
#[derive(Clone)]
pub struct StoreSettings {
    /// Sign events; `None` only where a command shows the configuration to a user who may not read them.
    pub secrets: Option<Arc<SigningSecrets>>,
    /// The secret of the webhook in Jira, if its signature is required.
    pub jira_secret: Option<Arc<Secret>>,
    /// Which events may leave.
    pub scope: EventScope,
    /// Bounds of the queue.
    pub limits: QueueLimits,
}

/// The settings of connections to the vendor's host.
impl Settings {
    /// The defaults of an outlet for one target.
    pub fn upstream(target: HttpTarget) -> upstream::Settings {
        upstream::Settings {
            idle_timeout: IDLE_TIMEOUT,
            pool_wait: POOL_WAIT,
            profile: ServiceProfile::vendor_host(),
            ..upstream::Settings::new(UpstreamTarget::Http(target))
        }
    }
}

/// `host:port`, or an `http://` or `https://` URL without a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutletTarget(pub HttpTarget);

/// Why a target was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OutletTargetError(String);

impl FromStr for OutletTarget {
    type Err = OutletTargetError;

    fn from_str(text: &str) -> Result<Self, OutletTargetError> {
        let refuse = |why: &str| Err(OutletTargetError(why.to_owned()));
        let url = match text.contains("://") {
            true => text.to_owned(),
            false if !text.contains(':') => return refuse(NO_PORT),
            false => format!("http://{text}"),
        };
        match url.parse::<UpstreamTarget>() {
            Ok(UpstreamTarget::Http(target)) if target.context_path.is_empty() => Ok(Self(target)),
            Ok(UpstreamTarget::Http(_)) => {
                refuse("has no path: the path of each request passes unchanged")
            }
            Ok(UpstreamTarget::Tcp { .. }) => {
                refuse("carries HTTP only; write host:port, or https://host:port")
            }
            Err(error) => Err(OutletTargetError(error.to_string())),
        }
    }
}

/// The secret before the path, as a digest.
#[derive(Clone, PartialEq, Eq)]
pub struct PathSecret([u8; 32]);

/// A secret that cannot be a path segment.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be {SHORTEST_SECRET} to {LONGEST_SECRET} letters, digits, \"-\" or \"_\"; make one with: openssl rand -hex 24"
)]
pub struct PathSecretError;

impl PathSecret {
    /// Takes the content of the file.
    pub fn new(secret: &Secret) -> Result<Self, PathSecretError> {
        let bytes = secret.expose();
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        let fits = (SHORTEST_SECRET..=LONGEST_SECRET).contains(&bytes.len());
        match fits && bytes.iter().all(is_plain) {
            true => Ok(Self(Sha256::digest(bytes).into())),
            false => Err(PathSecretError),
        }
    }

    /// Whether this is the secret. Digests are compared, so that the time tells nothing of the secret.
    pub fn matches(&self, segment: &str) -> bool {
        let digest: [u8; 32] = Sha256::digest(segment).into();
        digest == self.0
    }
}

/// Why the listener cannot speak TLS.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// Certificate and key do not belong together, or are unusable.
    #[error("{0}; check that certificate and key belong together")]
    Certificate(rustls::Error),
    /// A certificate of `client_ca_file` is no CA certificate.
    #[error("{0}")]
    ClientCa(String),
}

/// TLS of a listener: TLS 1.2 and 1.3, with client certificates of `client_ca` if it names any.
pub fn server_config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_ca: Option<Vec<CertificateDer<'static>>>,
) -> Result<ServerConfig, ServerTlsError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(ServerTlsError::Certificate)?;
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(certificates) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates {
                let added = roots.add(certificate);
                added.map_err(|error| ServerTlsError::ClientCa(error.to_string()))?;
            }
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            let verifier = verifier.map_err(|error| ServerTlsError::ClientCa(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(ServerTlsError::Certificate)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// A kept connection is a channel, which keeps a session that is being replaced from ending.
const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
/// Jira waits for webhooks only seconds.
const POOL_WAIT: Duration = Duration::from_secs(5);
const SHORTEST_SECRET: usize = 16;
const LONGEST_SECRET: usize = 128;
const NO_PORT: &str = "names no port; write host:port as the gateway sees it, or https://host where TLS ends at the vendor";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_target_is_a_host_and_port_or_a_url_without_a_path() {
        for (text, tls, authority, port) in [
            (
                "events.vendor.internal:80",
                false,
                "events.vendor.internal",
                80,
            ),
            ("127.0.0.1:8080", false, "127.0.0.1:8080", 8080),
            ("[::1]:9", false, "[::1]:9", 9),
            (
                "https://events.vendor.example",
                true,
                "events.vendor.example",
                443,
            ),
            (
                "https://events.vendor.example:8443/",
                true,
                "events.vendor.example:8443",
                8443,
            ),
            ("http://events:8080", false, "events:8080", 8080),
        ] {
            let OutletTarget(target) = text.parse().unwrap();
            let seen = (target.tls, target.authority.as_str(), target.port);
            assert_eq!(seen, (tls, authority, port), "{text}");
        }
        for (text, why) in [
            ("events.vendor.internal", "no port"),
            ("https://events/hooks", "no path"),
            ("tcp://events:80", "HTTP only"),
            ("https://user:pw@events", "user name"),
            ("events:0", "port 0"),
        ] {
            let error = text.parse::<OutletTarget>().unwrap_err();
            assert!(error.0.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn a_path_secret_is_long_and_plain() {
        let secret = |text: &str| PathSecret::new(&Secret::new(text.as_bytes().to_vec()));
        let good = secret("0123456789abcdef-_").unwrap();
        assert!(good.matches("0123456789abcdef-_"));
        assert!(!good.matches("0123456789abcdef-") && !good.matches(""));
        for bad in ["short", "0123456789abcde/f", "0123456789abcdef ", ""] {
            assert!(secret(bad).is_err(), "{bad}");
        }
    }
}
