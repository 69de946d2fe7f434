//! A certificate authority and the certificates that it signs. No server uses the CA certificate
//! itself, so that a client has to build a chain as with a corporate CA.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;

/// A CA certificate and its signing key.
pub struct CertificateAuthority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

/// A certificate signed by a [`CertificateAuthority`], and its key.
pub struct LeafCertificate {
    /// The leaf's certificate alone, PEM.
    pub certificate_pem: String,
    /// The leaf's private key, PKCS#8 PEM.
    pub key_pem: String,
}

/// Why a certificate could not be created, read or used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateAuthorityError {
    /// A name is invalid in certificates, or a key is malformed.
    #[error("cannot create a certificate: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The directory cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// rustls refuses the certificate or the key.
    #[error("cannot use the certificate: {0}")]
    Tls(#[from] rustls::Error),
    /// The verifier for client certificates cannot be built.
    #[error("cannot verify client certificates: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

impl CertificateAuthority {
    /// A new CA that exists only in memory.
    ///
    /// # Errors
    /// When no key can be generated.
    pub fn new() -> Result<Self, CertificateAuthorityError> {
        Self::from_key(KeyPair::generate()?)
    }

    /// The CA in `directory` (`ca.pem`, `ca-key.pem`). The first call creates it, so that clients keep
    /// trusting it after a restart.
    ///
    /// # Errors
    /// When the files cannot be read, written or parsed.
    pub fn in_directory(directory: &Path) -> Result<Self, CertificateAuthorityError> {
        let key_path = directory.join(KEY_FILE);
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| CertificateAuthorityError::File { path, source }
        };
        if key_path.exists() {
            let key = std::fs::read_to_string(&key_path).map_err(at(&key_path))?;
            let mut authority = Self::from_key(KeyPair::from_pem(&key)?)?;
            let path = directory.join(CERTIFICATE_FILE);
            authority.certificate_pem = std::fs::read_to_string(&path).map_err(at(&path))?;
            return Ok(authority);
        }
        let authority = Self::new()?;
        std::fs::create_dir_all(directory).map_err(at(directory))?;
        let path = directory.join(CERTIFICATE_FILE);
        std::fs::write(&path, &authority.certificate_pem).map_err(at(&path))?;
        write_private(&key_path, authority.issuer.key().serialize_pem().as_bytes())
            .map_err(at(&key_path))?;
        Ok(authority)
    }

    /// The CA certificate, PEM, for a client's `ca_file`.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// A server certificate for these DNS names and IP addresses.
    ///
    /// # Errors
    /// When a name is neither a DNS name nor an IP address.
    pub fn server(&self, names: &[String]) -> Result<LeafCertificate, CertificateAuthorityError> {
        self.sign(names, ExtendedKeyUsagePurpose::ServerAuth, None)
    }

    /// A client certificate whose subject is `name`.
    ///
    /// # Errors
    /// When the name is invalid in certificates.
    pub fn client(&self, name: &str) -> Result<LeafCertificate, CertificateAuthorityError> {
        self.sign(
            &[name.to_owned()],
            ExtendedKeyUsagePurpose::ClientAuth,
            None,
        )
    }

    /// A client certificate that is valid from `since` to `end`.
    ///
    /// # Errors
    /// When the name is invalid in certificates.
    pub fn client_for(
        &self,
        name: &str,
        since: SystemTime,
        end: SystemTime,
    ) -> Result<LeafCertificate, CertificateAuthorityError> {
        let validity = Some((since, end));
        self.sign(
            &[name.to_owned()],
            ExtendedKeyUsagePurpose::ClientAuth,
            validity,
        )
    }

    /// A TLS server configuration with `leaf` and HTTP/1.1 by ALPN. With `require_client` a client must
    /// present a certificate of this CA.
    ///
    /// # Errors
    /// When rustls refuses the certificate or the key.
    pub fn server_config(
        &self,
        leaf: &LeafCertificate,
        require_client: bool,
    ) -> Result<rustls::ServerConfig, CertificateAuthorityError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?;
        let builder = if require_client {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(&self.certificate_pem) {
                roots.add(certificate)?;
            }
            builder.with_client_cert_verifier(
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?,
            )
        } else {
            builder.with_no_client_auth()
        };
        let mut config =
            builder.with_single_cert(certificates(&leaf.certificate_pem), key(&leaf.key_pem)?)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn from_key(key: KeyPair) -> Result<Self, CertificateAuthorityError> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, AUTHORITY_NAME);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate_pem = params.self_signed(&key)?.pem();
        Ok(Self {
            issuer: Issuer::new(params, key),
            certificate_pem,
        })
    }

    fn sign(
        &self,
        names: &[String],
        purpose: ExtendedKeyUsagePurpose,
        validity: Option<(SystemTime, SystemTime)>,
    ) -> Result<LeafCertificate, CertificateAuthorityError> {
        let mut params = CertificateParams::new(names)?;
        if let Some((since, end)) = validity {
            (params.not_before, params.not_after) = (since.into(), end.into());
        }
        if let Some(name) = names.first() {
            params
                .distinguished_name
                .push(DnType::CommonName, name.as_str());
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![purpose];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        Ok(LeafCertificate {
            certificate_pem: params.signed_by(&key, &self.issuer)?.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

/// The names of a listener's certificate: loopback, its address, the host of its URL, and `extra`.
pub(crate) fn server_names(addr: SocketAddr, url: &str, extra: &[String]) -> Vec<String> {
    let mut names = ["localhost", "127.0.0.1", "::1"]
        .map(str::to_owned)
        .to_vec();
    names.push(addr.ip().to_string());
    if let Ok(uri) = url.parse::<http::Uri>()
        && let Some(host) = uri.host()
    {
        names.push(host.trim_matches(['[', ']']).to_owned());
    }
    names.extend_from_slice(extra);
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    rustls_pemfile::certs(&mut pem.as_bytes())
        .filter_map(Result::ok)
        .collect()
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>, CertificateAuthorityError> {
    rustls_pemfile::private_key(&mut pem.as_bytes())
        .ok()
        .flatten()
        .ok_or_else(|| rustls::Error::General("no private key in the PEM".into()).into())
}

fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(bytes)
}

/// Name of the file in which [`CertificateAuthority::in_directory`] keeps the CA certificate.
pub const CERTIFICATE_FILE: &str = "ca.pem";
const KEY_FILE: &str = "ca-key.pem";
const AUTHORITY_NAME: &str = "server-stub CA";
