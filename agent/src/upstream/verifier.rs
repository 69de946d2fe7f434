//! rustls' own certificate verification, with refusals an administrator can act on.

use super::{
    TlsPeer, TrustRoots, certificate,
    chain::{self, PresentedCertificate},
    explain::in_chain,
    tls::TlsConfigError,
};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{io, sync::Arc};

/// Decides nothing itself: when rustls refuses, it names the missing issuer and keeps what was presented.
#[derive(Debug)]
pub(super) struct ExplainingVerifier {
    inner: Arc<WebPkiServerVerifier>,
    kind: TrustRoots,
    peer: TlsPeer,
    /// Verified instead of the name the connection was made for.
    name: Option<ServerName<'static>>,
}

/// A refusal with the certificates that were presented.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub(super) struct CertificateRefusal {
    pub(super) reason: CertificateRefusalReason,
    /// The server's own certificate first.
    pub(super) chain: Vec<PresentedCertificate>,
}

/// Why certificates were refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum CertificateRefusalReason {
    #[error(transparent)]
    UnknownIssuer(UnknownIssuer),
    /// Bits of an RSA key that is too short for any signature to be accepted.
    #[error(
        "its certificate, or that of its CA, has an RSA key of {0} bits, which is too short to be trusted; issue it with a new key of 2048 bits or more"
    )]
    ShortKey(usize),
    /// Any other reason of rustls'.
    #[error("{0}")]
    Other(CertificateError),
}

/// The refusal behind a failed handshake.
pub(super) fn find_refusal(error: &io::Error) -> Option<&CertificateRefusal> {
    match in_chain::<Error>(error) {
        Some(Error::InvalidCertificate(problem)) => refusal_of(problem),
        _ => None,
    }
}

/// The refusal behind a certificate error of rustls'.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors; these are the ones with a text of their own"
)]
pub(super) fn refusal_of(problem: &CertificateError) -> Option<&CertificateRefusal> {
    match problem {
        CertificateError::Other(other) => other.0.downcast_ref(),
        _ => None,
    }
}

/// The chain ends at an issuer that is not trusted.
#[derive(Debug, thiserror::Error)]
#[error("its certificate is {origin}, which is not trusted here ({trusted}){remedy}")]
pub(super) struct UnknownIssuer {
    origin: String,
    trusted: String,
    remedy: &'static str,
}

impl UnknownIssuer {
    fn new(origin: String, kind: TrustRoots, peer: TlsPeer) -> Self {
        let key = peer.ca_key();
        Self {
            origin,
            trusted: match (kind, peer) {
                (TrustRoots::System, TlsPeer::Gateway) => {
                    "trusted is the system's store".to_owned()
                }
                (TrustRoots::System, _) => format!("trusted are the system's store and {key}"),
                (TrustRoots::Webpki, _) => format!("trusted are Mozilla's list and {key}"),
                (TrustRoots::None, _) => format!("trusted is {key} alone"),
            },
            remedy: match peer {
                TlsPeer::Jira => {
                    "; if that is right, put the CA's certificate (PEM) into ca_file of this forward"
                }
                TlsPeer::VendorHost => {
                    "; if that is right, put the CA's certificate (PEM) into ca_file of this outlet"
                }
                // The error of the gateway's TLS has its own remedy.
                TlsPeer::Gateway => "",
            },
        }
    }
}

impl ExplainingVerifier {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        kind: TrustRoots,
        peer: TlsPeer,
    ) -> Result<Self, TlsConfigError> {
        let inner = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(|_| TlsConfigError::NoRoots)?;
        Ok(Self {
            inner,
            kind,
            peer,
            name: None,
        })
    }

    /// Verifies this name, whatever name the connection is made for.
    pub(super) fn with_name(self, name: ServerName<'static>) -> Self {
        Self {
            name: Some(name),
            ..self
        }
    }
}

impl ServerCertVerifier for ExplainingVerifier {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "rustls adds errors; these are the ones with a text of their own"
    )]
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            self.name.as_ref().unwrap_or(server_name),
            ocsp_response,
            now,
        );
        match verdict {
            Err(Error::InvalidCertificate(problem)) => {
                let chain = chain::describe(end_entity, intermediates, &problem, now);
                let why = match problem {
                    CertificateError::UnknownIssuer => {
                        let origin = origin(end_entity, intermediates);
                        CertificateRefusalReason::UnknownIssuer(UnknownIssuer::new(
                            origin, self.kind, self.peer,
                        ))
                    }
                    CertificateError::BadSignature => short_key(end_entity, intermediates).map_or(
                        CertificateRefusalReason::Other(CertificateError::BadSignature),
                        CertificateRefusalReason::ShortKey,
                    ),
                    other => CertificateRefusalReason::Other(other),
                };
                let refused = OtherError(Arc::new(CertificateRefusal { reason: why, chain }));
                Err(Error::InvalidCertificate(CertificateError::Other(refused)))
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.inner.verify_tls12_signature(message, cert, dss);
        verdict.map_err(|error| of_short_key(error, cert))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let verdict = self.inner.verify_tls13_signature(message, cert, dss);
        verdict.map_err(|error| of_short_key(error, cert))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

/// A signature that fails because the key is too short for any to be accepted.
fn of_short_key(error: Error, cert: &CertificateDer<'_>) -> Error {
    match (&error, short_key(cert, &[])) {
        (Error::InvalidCertificate(CertificateError::BadSignature), Some(bits)) => {
            let chain =
                chain::describe(cert, &[], &CertificateError::BadSignature, UnixTime::now());
            let why = CertificateRefusalReason::ShortKey(bits);
            let refused = OtherError(Arc::new(CertificateRefusal { reason: why, chain }));
            Error::InvalidCertificate(CertificateError::Other(refused))
        }
        _ => error,
    }
}

/// The length of a key that is too short, in bits.
fn short_key(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Option<usize> {
    let all = std::iter::once(leaf).chain(intermediates);
    all.filter_map(|one| certificate::rsa_bits(one))
        .find(|bits| *bits < SHORTEST_RSA)
}

/// Bits; what the crypto provider takes at least.
const SHORTEST_RSA: usize = 2048;

/// Who issued the end of the chain that was sent: that is the certificate to be trusted.
fn origin(leaf: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> String {
    let last = intermediates.last().unwrap_or(leaf);
    match certificate::names(last) {
        Some(names) if names.issuer == names.subject && intermediates.is_empty() => {
            format!("self-signed ({:?})", names.subject)
        }
        Some(names) => format!("issued by {:?}", names.issuer),
        None => "issued by a CA whose name cannot be read".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::upstream::explain::handshake;
    use rustls::pki_types::pem::PemObject;

    fn certificate(pem: &str) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()
    }

    fn verifier() -> ExplainingVerifier {
        let mut roots = RootCertStore::empty();
        roots.add(certificate(CA)).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        ExplainingVerifier::new(roots.into(), provider, TrustRoots::None, TlsPeer::Jira).unwrap()
    }

    /// What an administrator is told of it.
    fn told(pem: &str, name: &str) -> String {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let leaf = certificate(pem);
        let verdict = verifier().verify_server_cert(&leaf, &[], &name, &[], UnixTime::now());
        text(verdict.unwrap_err())
    }

    fn text(error: Error) -> String {
        let text = handshake(&io::Error::other(error), TlsPeer::Jira);
        assert!(text.len() < 400, "{text}");
        text
    }

    #[test]
    fn each_refusal_says_what_is_wrong_with_the_certificate() {
        let mut wrong = Vec::new();
        for (pem, name, part) in [
            (SHA1, "jira.test", "signed with SHA-1"),
            (COMMON_NAME, "jira.test", "no subject alternative name"),
            (COMMON_NAME, "jira.test", "-ext san=dns:NAME"),
            (COMMON_NAME, "jira.test", "\"jira.test\""),
            (ADDRESS, "192.0.2.1", "as if it were a DNS name"),
            (
                ADDRESS,
                "jira.test",
                "is for 192.0.2.1, not for \"jira.test\"",
            ),
        ] {
            let text = told(pem, name);
            if !text.contains(part) {
                wrong.push(text);
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// The certificate is signed well; the server's own signature is by a key that none is taken by.
    #[test]
    fn a_short_key_is_called_short_and_no_other_fault_is() {
        let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
        let short = text(of_short_key(bad(), &certificate(SHORT)));
        assert!(short.contains("RSA key of 1024 bits"), "{short}");
        assert!(!short.contains("ca_file"), "{short}");
        let other = text(of_short_key(bad(), &certificate(SHA1)));
        assert!(other.contains("not signed by the key of the CA"), "{other}");
    }

    const CA: &str = include_str!("tests/certificates/ca.pem");
    const SHORT: &str = include_str!("tests/certificates/short.pem");
    const SHA1: &str = include_str!("tests/certificates/sha1.pem");
    const COMMON_NAME: &str = include_str!("tests/certificates/cn.pem");
    const ADDRESS: &str = include_str!("tests/certificates/ip.pem");
}
