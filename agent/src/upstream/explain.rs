//! What a failure of TCP, TLS or HTTP means, for the administrator who has to fix it.

use super::{
    FailedStep, Settings,
    verifier::{self, CertificateRefusalReason},
};
use crate::{descriptors, printable::printable};
use rustls::{AlertDescription, CertificateError, Error as TlsError, pki_types::ServerName};
use std::{error::Error as StdError, io};

/// The other side of TLS: its name in messages, and its configuration keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TlsPeer {
    /// The upstream of a forward.
    Jira,
    /// A gateway inside TLS.
    Gateway,
    /// The vendor's host of an outlet, through the gateway.
    VendorHost,
}

impl TlsPeer {
    /// That of connections with these settings.
    pub(super) fn of(settings: &Settings) -> Self {
        match settings.profile.is_vendor_host() {
            true => Self::VendorHost,
            false => Self::Jira,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Jira => "Jira",
            Self::Gateway => "the gateway",
            Self::VendorHost => "the vendor's host",
        }
    }

    /// The configuration key of trusted CAs.
    pub(super) fn ca_key(self) -> &'static str {
        match self {
            Self::Jira | Self::VendorHost => "ca_file",
            Self::Gateway => "gateway_ca_file",
        }
    }

    /// How to ask for another name.
    fn rename(self) -> &'static str {
        match self {
            Self::Jira => "use a name it covers in upstream, or set server_name",
            Self::Gateway => "use a name it covers in tunnel.gateways",
            Self::VendorHost => "use a name it covers in to of the outlet, or set server_name",
        }
    }
}

/// A failed TCP connect, after the address.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std adds kinds of errors; these are the ones with a text of their own"
)]
pub(super) fn connect(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "refused the connection".to_owned(),
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            "cannot be reached from here".to_owned()
        }
        io::ErrorKind::TimedOut => "did not answer".to_owned(),
        io::ErrorKind::PermissionDenied => "is forbidden by this host's own firewall".to_owned(),
        _ => format!("failed ({})", descriptors::describe(error)),
    }
}

fn is_connect(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::TimedOut
            | io::ErrorKind::PermissionDenied
    )
}

/// A failed TLS handshake.
pub(crate) fn handshake(error: &io::Error, peer: TlsPeer) -> String {
    match in_chain::<TlsError>(error) {
        Some(error) => tls(error, peer),
        None if matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
        ) =>
        {
            "the connection was closed during the handshake; is this a TLS port, and does it want a client certificate?".to_owned()
        }
        None => error.to_string(),
    }
}

/// Whether a handshake failed because the issuer of the certificate is not trusted.
pub(crate) fn is_unknown_issuer(error: &io::Error) -> bool {
    verifier::find_refusal(error)
        .is_some_and(|refused| matches!(refused.reason, CertificateRefusalReason::UnknownIssuer(_)))
}

/// A failed exchange on an open connection: the step, and one sentence.
pub(super) fn exchange(error: &(dyn StdError + 'static)) -> (FailedStep, String) {
    if let Some(tls_error) = in_chain::<TlsError>(error) {
        return (FailedStep::Tls, tls(tls_error, TlsPeer::Jira));
    }
    let detail = match in_chain::<hyper::Error>(error) {
        Some(e) if e.is_incomplete_message() => {
            "Jira closed the connection before its answer was complete".to_owned()
        }
        Some(e) if e.is_parse() => format!("Jira's answer is no valid HTTP ({e})"),
        Some(e) if e.is_canceled() || e.is_closed() => {
            "Jira closed the connection before the request".to_owned()
        }
        _ => match in_chain::<io::Error>(error) {
            Some(e) => format!(
                "the connection to Jira broke ({})",
                descriptors::describe(e)
            ),
            None => format!("the exchange with Jira failed ({error})"),
        },
    };
    (FailedStep::Exchange, detail)
}

/// A failed request of the control traffic, whose client nests errors differently.
pub(crate) fn control(error: &(dyn StdError + 'static)) -> String {
    if let Some(error) = in_chain::<TlsError>(error) {
        return tls(error, TlsPeer::Jira);
    }
    match in_chain::<io::Error>(error) {
        Some(error) if is_connect(error) => format!("Jira {}", connect(error)),
        _ => exchange(error).1,
    }
}

/// Whether the server refused us because it wants a client certificate. TLS 1.3 has this alert for the handshake alone
/// (RFC 8446 §6.2), so no request on that connection was accepted.
pub(super) fn wants_client_certificate(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        in_chain::<TlsError>(error),
        Some(TlsError::AlertReceived(
            AlertDescription::CertificateRequired
        ))
    )
}

/// Whether the other side's certificate was refused.
pub(super) fn is_refused_certificate(error: &(dyn StdError + 'static)) -> bool {
    matches!(
        in_chain::<TlsError>(error),
        Some(TlsError::InvalidCertificate(_))
    )
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors; these are the ones with a text of their own"
)]
fn tls(error: &TlsError, peer: TlsPeer) -> String {
    match error {
        TlsError::InvalidCertificate(problem) => certificate(problem, peer),
        TlsError::AlertReceived(alert) => alerted(*alert, peer),
        TlsError::InvalidMessage(_) => match peer {
            TlsPeer::Jira | TlsPeer::VendorHost => {
                "the answer is not TLS; is this a plain http port?".to_owned()
            }
            TlsPeer::Gateway => "the answer is not TLS".to_owned(),
        },
        TlsError::PeerIncompatible(_) => format!(
            "no common TLS version or cipher ({error}); TLS 1.2 with ECDHE or TLS 1.3 is needed"
        ),
        _ => error.to_string(),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors; these are the ones with a text of their own"
)]
fn certificate(problem: &CertificateError, peer: TlsPeer) -> String {
    match verifier::refusal_of(problem).map(|refused| &refused.reason) {
        Some(CertificateRefusalReason::UnknownIssuer(unknown)) => return unknown.to_string(),
        Some(CertificateRefusalReason::Other(other)) => return certificate(other, peer),
        Some(short @ CertificateRefusalReason::ShortKey(_)) => return short.to_string(),
        None => {}
    }
    let (name, ca_key, rename) = (peer.name(), peer.ca_key(), peer.rename());
    match problem {
        CertificateError::NotValidForNameContext { expected, presented } if presented.is_empty() => format!(
            "its certificate covers no name: it has no subject alternative name, and the common name does not count (keytool omits it without -ext san=dns:NAME); reissue it with the subject alternative name {:?}",
            expected.to_str()
        ),
        CertificateError::NotValidForNameContext {
            expected: ServerName::IpAddress(_),
            presented,
        } if is_among_dns_names(&presented_address(problem), presented) => format!(
            "its certificate names the address {} as if it were a DNS name; issue it with the address as an IP address (subjectAltName IP:…), or {rename}",
            presented_address(problem)
        ),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is for {}, not for {:?}; {rename}",
            list(presented),
            expected.to_str()
        ),
        CertificateError::NotValidForName => {
            format!("its certificate is for another name; {rename}")
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate expired {} ago; renew it on {name} (or check this host's clock)",
            span(time.as_secs().saturating_sub(not_after.as_secs()))
        ),
        CertificateError::Expired => {
            format!("its certificate has expired; renew it on {name} (or check this host's clock)")
        }
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is valid only in {}; check this host's clock",
            span(not_before.as_secs().saturating_sub(time.as_secs()))
        ),
        CertificateError::NotValidYet => {
            "its certificate is not valid yet; check this host's clock".to_owned()
        }
        CertificateError::BadSignature => format!(
            "its certificate is not signed by the key of the CA of that name that is trusted here; put the CA's present certificate into {ca_key}"
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not meant for TLS servers (extended key usage); issue a server certificate".to_owned()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: id,
            ..
        }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
            signature_algorithm_id: id,
            ..
        } => match OUTDATED.iter().find(|(oid, _)| contains(id, oid)) {
            Some((_, hash)) => format!(
                "its certificate, or one of its chain, is signed with {hash}, which is no longer trusted; reissue it with SHA-256"
            ),
            None => "its certificate, or one of its chain, is signed by an unsupported algorithm; reissue it with RSA or ECDSA and SHA-256".to_owned(),
        },
        // webpki's own text.
        CertificateError::Other(other) if other.0.to_string().contains("CaUsedAsEndEntity") => format!(
            "its certificate is a CA certificate used as the server's own; issue a server certificate by that CA and put the CA into {ca_key}"
        ),
        CertificateError::Other(other) => short(&other.0.to_string()),
other => format!("its certificate is refused ({})", short(&other.to_string())),
    }
}

/// The address that was asked for, as text.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds errors; these are the ones with a text of their own"
)]
fn presented_address(problem: &CertificateError) -> String {
    match problem {
        CertificateError::NotValidForNameContext { expected, .. } => expected.to_str().into_owned(),
        _ => String::new(),
    }
}

fn is_among_dns_names(address: &str, presented: &[String]) -> bool {
    let mut dns = presented.iter().filter(|name| name.starts_with("DnsName"));
    dns.any(|name| printable_name(name) == address)
}

/// A library's own text, cut.
fn short(text: &str) -> String {
    printable(text, MAX_NAME)
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "rustls adds alerts; these are the ones with a text of their own"
)]
fn alerted(alert: AlertDescription, peer: TlsPeer) -> String {
    let name = peer.name();
    match alert {
        AlertDescription::CertificateRequired => match peer {
            TlsPeer::Jira => "Jira requires a client certificate; set client_certificate_file and client_key_file",
            TlsPeer::Gateway => "the gateway requires a client certificate, which the agent does not have for gateways; ask the vendor to switch that off",
            TlsPeer::VendorHost => "the vendor's host requires a client certificate, which the agent does not have for outlets; ask the vendor to switch that off",
        }
        .to_owned(),
        AlertDescription::BadCertificate
        | AlertDescription::UnknownCA
        | AlertDescription::CertificateUnknown
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateRevoked
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => format!(
            "{name}'s side refused our client certificate ({alert:?}); check which CA it expects"
        ),
        AlertDescription::HandshakeFailure => match peer {
            TlsPeer::Jira => "Jira's side refused the handshake: it may require a client certificate (client_certificate_file, client_key_file) or older ciphers than TLS 1.2 with ECDHE",
            TlsPeer::Gateway => "the gateway's side refused the handshake; it must speak TLS 1.2 with ECDHE or TLS 1.3",
            TlsPeer::VendorHost => "the vendor's side refused the handshake; it must speak TLS 1.2 with ECDHE or TLS 1.3, and require no client certificate",
        }
        .to_owned(),
        AlertDescription::UnrecognisedName => {
            format!("{name}'s side does not know the name we asked for; {}", peer.rename())
        }
        AlertDescription::ProtocolVersion => {
            format!("{name}'s side speaks neither TLS 1.2 nor 1.3")
        }
other => format!("{name}'s side ended TLS with {other:?}"),
    }
}

/// A few names for a message; a certificate may hold a hundred.
fn list(names: &[String]) -> String {
    let shown: Vec<String> = names
        .iter()
        .take(MAX_LISTED_NAMES)
        .map(|name| printable_name(name))
        .collect();
    match (names.len(), names.len().saturating_sub(MAX_LISTED_NAMES)) {
        (0, _) => "no name at all (no subject alternative name)".to_owned(),
        (_, 0) => shown.join(", "),
        (_, more) => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The name alone: webpki writes `DnsName("a.example")`.
fn printable_name(presented: &str) -> String {
    let inner = presented
        .split_once("(\"")
        .and_then(|(_, rest)| rest.strip_suffix("\")"))
        .unwrap_or(presented);
    printable(inner, MAX_NAME)
}

fn span(seconds: u64) -> String {
    match seconds / 86_400 {
        0 => format!("{} min", seconds / 60),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

/// Finds an error type among an error and its sources. An [`io::Error`] hides from `source()` what it wraps, so that is
/// read by `get_ref`.
pub(super) fn in_chain<'a, E: StdError + 'static>(
    error: &'a (dyn StdError + 'static),
) -> Option<&'a E> {
    let mut next = Some(error);
    for _ in 0..MAX_DEPTH {
        let current = next?;
        if let Some(found) = current.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = current
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref);
        next = match wrapped {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => current.source(),
        };
    }
    None
}

/// Errors are nested at most four or five deep; a cycle must not hang the agent.
const MAX_DEPTH: usize = 16;
/// Object identifiers (DER, without tag and length) of signatures by broken hashes.
const OUTDATED: [(&[u8], &str); 4] = [
    // sha1WithRSAEncryption, 1.2.840.113549.1.1.5
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05],
        "SHA-1",
    ),
    // ecdsa-with-SHA1, 1.2.840.10045.4.1
    (&[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01], "SHA-1"),
    // dsa-with-sha1, 1.2.840.10040.4.3
    (&[0x2a, 0x86, 0x48, 0xce, 0x38, 0x04, 0x03], "SHA-1"),
    // md5WithRSAEncryption, 1.2.840.113549.1.1.4
    (
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04],
        "MD5",
    ),
];
const MAX_LISTED_NAMES: usize = 4;
const MAX_NAME: usize = 120;
