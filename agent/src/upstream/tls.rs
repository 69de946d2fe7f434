//! TLS toward Jira: trust roots, client certificate, protocol versions.

use super::{Settings, TlsPeer, TlsSettings, TrustRoots, UpstreamTarget, verifier};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer, pki_types::ServerName};
use std::sync::{Arc, OnceLock};

/// TLS settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum TlsConfigError {
    /// The operating system's store is empty or unreadable.
    #[error(
        "the system's certificate store has no usable certificate ({0}); install the package ca-certificates, or name a ca_file and set the roots to \"none\""
    )]
    NoSystemRoots(String),
    /// Nothing to trust at all.
    #[error("no certificate is trusted: roots are \"none\" and there is no ca_file; name one")]
    NoRoots,
    /// A certificate of `ca_file` cannot be a trust anchor.
    #[error("certificate {0} of ca_file is no usable CA certificate: {1}")]
    BadRoot(usize, String),
    /// Client certificate and key are unusable or do not belong together.
    #[error("client certificate: {0}; check that certificate and key belong together")]
    ClientCertificate(String),
    /// The name to verify is neither a DNS name nor an address.
    #[error("{0:?} is neither a DNS name nor an IP address; set server_name")]
    ServerName(String),
    /// The cryptography refuses its own protocol versions; not to be met in practice.
    #[error("TLS cannot be set up: {0}")]
    Provider(String),
}

/// The TLS client configuration for one upstream: TLS 1.2 and 1.3, `http/1.1` by ALPN.
///
/// May read the system's certificate store (once per process), so call it where blocking is allowed.
pub fn client_config(settings: &TlsSettings) -> Result<ClientConfig, TlsConfigError> {
    client_config_for(settings, TlsPeer::Jira)
}

/// The same, with errors that name this other side and its keys.
pub(super) fn client_config_for(
    settings: &TlsSettings,
    peer: TlsPeer,
) -> Result<ClientConfig, TlsConfigError> {
    build(settings, None, peer)
}

/// The same for gateways inside TLS, without ALPN, which has no name for SSH. With certificates of `gateway_ca_file` only
/// these are trusted: the vendor's CA is known then, and the CA of an inspecting proxy, which many companies put into the
/// system's store, is not accepted in its place.
pub(crate) fn gateway_config(
    ca_file: Option<Vec<CertificateDer<'static>>>,
) -> Result<ClientConfig, TlsConfigError> {
    let settings = TlsSettings {
        roots: match ca_file {
            Some(_) => TrustRoots::None,
            None => TrustRoots::System,
        },
        extra_roots: ca_file.unwrap_or_default(),
        ..TlsSettings::default()
    };
    let mut config = build(&settings, None, TlsPeer::Gateway)?;
    config.alpn_protocols = Vec::new();
    Ok(config)
}

/// The same for a client of control traffic, which takes the name for TLS from a URL: always verifies the upstream's own
/// name, and returns the DNS name to put into the URL. `None`: TLS asks for no name (the upstream is named by its address),
/// so any name works.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crate adds kinds of names"
)]
pub fn probe_tls(settings: &Settings) -> Result<(ClientConfig, Option<String>), TlsConfigError> {
    let name = server_name(settings)?;
    let mut config = build(&settings.tls, Some(name.clone()), TlsPeer::Jira)?;
    match name {
        ServerName::DnsName(name) => Ok((config, Some(name.as_ref().to_owned()))),
        _ => {
            config.enable_sni = false;
            Ok((config, None))
        }
    }
}

/// For a client without TLS. Trusts no certificate: by default it would read the system's certificate store.
pub(super) fn no_tls() -> Result<ClientConfig, TlsConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsConfigError::Provider(e.to_string()))?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    Ok(config)
}

fn build(
    settings: &TlsSettings,
    name: Option<ServerName<'static>>,
    peer: TlsPeer,
) -> Result<ClientConfig, TlsConfigError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let roots = root_store(settings)?;
    let mut verifier =
        verifier::ExplainingVerifier::new(roots, provider.clone(), settings.roots, peer)?;
    if let Some(name) = name {
        verifier = verifier.with_name(name);
    }
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| TlsConfigError::Provider(e.to_string()))?
        // "Dangerous" is rustls' word for any verifier but its own; ours calls rustls' own and only explains the refusal.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &settings.client_certificate {
        Some(own) => builder
            .with_client_auth_cert(own.chain.clone(), own.key.clone_key())
            .map_err(|e| TlsConfigError::ClientCertificate(e.to_string()))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The name sent as SNI and verified in the certificate.
pub(super) fn server_name(settings: &Settings) -> Result<ServerName<'static>, TlsConfigError> {
    let name = match (&settings.tls.server_name, &settings.target) {
        (Some(name), _) => name,
        (None, UpstreamTarget::Http(target)) => &target.host,
        (None, UpstreamTarget::Tcp { host, .. }) => host,
    };
    ServerName::try_from(name.clone()).map_err(|_| TlsConfigError::ServerName(name.clone()))
}

fn root_store(settings: &TlsSettings) -> Result<Arc<RootCertStore>, TlsConfigError> {
    let common = match settings.roots {
        TrustRoots::System => system_roots()?,
        TrustRoots::Webpki => Arc::new(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()),
        TrustRoots::None if settings.extra_roots.is_empty() => return Err(TlsConfigError::NoRoots),
        TrustRoots::None => Arc::new(RootCertStore::empty()),
    };
    if settings.extra_roots.is_empty() {
        return Ok(common);
    }
    let mut store = RootCertStore::clone(&common);
    for (index, root) in settings.extra_roots.iter().enumerate() {
        store
            .add(root.clone())
            .map_err(|e| TlsConfigError::BadRoot(index + 1, e.to_string()))?;
    }
    Ok(Arc::new(store))
}

/// The operating system's roots, read and parsed once per process: a few hundred files on some distributions, and
/// the most that a forward at rest would keep in memory if each had its own.
fn system_roots() -> Result<Arc<RootCertStore>, TlsConfigError> {
    static ROOTS: OnceLock<Result<Arc<RootCertStore>, String>> = OnceLock::new();
    let loaded = ROOTS.get_or_init(|| {
        let result = rustls_native_certs::load_native_certs();
        match (result.certs.is_empty(), result.errors.first()) {
            (false, _) => {
                let mut store = RootCertStore::empty();
                store.add_parsable_certificates(result.certs);
                Ok(Arc::new(store))
            }
            (true, Some(error)) => Err(error.to_string()),
            (true, None) => Err("it is empty".to_owned()),
        }
    });
    loaded.clone().map_err(TlsConfigError::NoSystemRoots)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn forwards_with_the_same_trust_share_what_it_takes_in_memory() {
        let settings = TlsSettings::default();
        let (first, second) = (root_store(&settings), root_store(&settings));
        assert!(Arc::ptr_eq(&first.unwrap(), &second.unwrap()));
    }
}
