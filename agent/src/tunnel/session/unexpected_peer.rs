//! Recognizes what answers instead of SSH by its first bytes: sshd's own message in place of its banner, or another protocol.

use super::{KeyExchangeFault, SessionOpenError, UnexpectedPeer, error::retry_hint};
use russh::{AlgorithmKind, Error};

/// The error for a far side that did not send an SSH banner; `first_line` is its answer, printable.
pub(super) fn without_banner(
    gateway: String,
    bytes: &[u8],
    first_line: String,
) -> SessionOpenError {
    let answer = first_line;
    // sshd sends either in place of a banner (srclimit.c, sshd.c), and closes the connection.
    if bytes.starts_with(BARRED) {
        return SessionOpenError::AddressBarred { gateway, answer };
    }
    if bytes.starts_with(FULL) || retry_hint(&answer).is_some() {
        return SessionOpenError::GatewayFull { gateway, answer };
    }
    SessionOpenError::NotSsh {
        gateway,
        answer,
        peer: unexpected_peer(bytes),
    }
}

fn unexpected_peer(bytes: &[u8]) -> UnexpectedPeer {
    match bytes {
        // RFC 8446 §5.1: alert or handshake, and the version of a record.
        [0x15 | 0x16, 3, ..] => UnexpectedPeer::Tls,
        _ if bytes.starts_with(b"HTTP/") || is_html(bytes) => UnexpectedPeer::Http,
        _ if bytes.starts_with(b"SSH-1.") && !bytes.starts_with(b"SSH-1.99") => {
            UnexpectedPeer::OldSsh
        }
        _ if bytes.starts_with(b"SSH-") => UnexpectedPeer::InvalidBanner,
        _ => UnexpectedPeer::Other,
    }
}

fn is_html(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start().get(..5).unwrap_or_default();
    start.eq_ignore_ascii_case(b"<html") || start.eq_ignore_ascii_case(b"<!doc")
}

/// What broke a key exchange, and the error as text. Where text was received, russh reports it as a packet length.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these errors of russh have a text of their own"
)]
pub(super) fn of_exchange(error: &Error) -> (KeyExchangeFault, String) {
    let fault = match error {
        Error::NoCommonAlgo { kind, ours, theirs } => {
            let (fault, what) = match kind {
                AlgorithmKind::Kex => (KeyExchangeFault::Exchange, "key exchange"),
                AlgorithmKind::Key => (KeyExchangeFault::HostKeyType, "host key type"),
                AlgorithmKind::Cipher => (KeyExchangeFault::Cipher, "cipher"),
                AlgorithmKind::Mac => (KeyExchangeFault::Mac, "MAC"),
                AlgorithmKind::Compression => (KeyExchangeFault::Compression, "compression"),
            };
            let (ours, theirs) = (listed(ours), listed(theirs));
            let problem =
                format!("no {what} in common; the agent has {ours}, the gateway {theirs}");
            return (fault, problem);
        }
        Error::PacketSize(size) => {
            if let Some(text) = text_of(*size) {
                let problem = format!("after its banner came text ({text:?}…) instead of SSH");
                return (KeyExchangeFault::Text, problem);
            }
            KeyExchangeFault::Damaged
        }
        Error::Version => KeyExchangeFault::Version,
        Error::PacketAuth
        | Error::DecryptionError
        | Error::WrongServerSig
        | Error::StrictKeyExchangeViolation { .. } => KeyExchangeFault::Damaged,
        _ => KeyExchangeFault::Other,
    };
    (fault, error.to_string())
}

/// The four bytes that were read as a packet length, if they are text.
fn text_of(size: usize) -> Option<String> {
    let bytes = u32::try_from(size).ok()?.to_be_bytes();
    let printable = |b: &u8| matches!(b, b' '..=b'~' | b'\r' | b'\n' | b'\t');
    bytes
        .iter()
        .all(printable)
        .then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// At most [`MAX_NAMES`] names: a peer's list is bounded only by the packet size.
fn listed(names: &[String]) -> String {
    let shown: Vec<_> = names.iter().take(MAX_NAMES).map(String::as_str).collect();
    let more = if names.len() > MAX_NAMES { ", …" } else { "" };
    match shown.is_empty() {
        true => "none".to_owned(),
        false => super::error::printable(&format!("{}{more}", shown.join(", "))),
    }
}

const BARRED: &[u8] = b"Not allowed at this time";
const FULL: &[u8] = b"Exceeded MaxStartups";
const MAX_NAMES: usize = 12;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::tunnel::session::RetryPace;

    fn answered(bytes: &[u8]) -> SessionOpenError {
        without_banner("gw:22".to_owned(), bytes, "its answer".to_owned())
    }

    #[test]
    fn each_stranger_has_a_remedy_of_its_own() {
        let mut wrong = Vec::new();
        for (bytes, remedy, retry) in [
            (
                b"Not allowed at this time\r\n".as_slice(),
                "PerSourcePenalties",
                RetryPace::Slow,
            ),
            (b"Exceeded MaxStartups\r\n", "MaxStartups", RetryPace::Soon),
            (
                b"HTTP/1.1 400 Bad Request\r\n",
                "web server",
                RetryPace::Soon,
            ),
            (b"<!DOCTYPE html>", "web server", RetryPace::Soon),
            (b"\x15\x03\x01\x00\x02\x02\x46", "tls://", RetryPace::Soon),
            (b"SSH-1.5-Cisco-1.25\n", "SSH version 2", RetryPace::Soon),
            (
                b"220 mail.corp ESMTP\r\n",
                "another service",
                RetryPace::Soon,
            ),
        ] {
            let error = answered(bytes);
            if !error.remedy().contains(remedy) || error.retry() != retry {
                wrong.push(format!("{bytes:?}: {}", error.remedy()));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn each_fault_of_a_key_exchange_has_a_remedy_of_its_own() {
        let mut wrong = Vec::new();
        let no_common = |kind| Error::NoCommonAlgo {
            kind,
            ours: vec!["ours".to_owned()],
            theirs: vec!["theirs".to_owned()],
        };
        for (error, words, remedy) in [
            (
                no_common(AlgorithmKind::Kex),
                "no key exchange",
                "KexAlgorithms",
            ),
            (no_common(AlgorithmKind::Cipher), "no cipher", "Ciphers"),
            (no_common(AlgorithmKind::Mac), "no MAC", "MACs"),
            (
                no_common(AlgorithmKind::Key),
                "no host key type",
                "HostKeyAlgorithms",
            ),
            (
                no_common(AlgorithmKind::Compression),
                "no compression",
                "without compression",
            ),
            (Error::Version, "version", "VersionAddendum"),
            (
                Error::PacketSize(1_231_976_033),
                "\"Inva\"…",
                "PROXY protocol",
            ),
            (Error::PacketAuth, "authentication code", "network team"),
        ] {
            let (fault, problem) = of_exchange(&error);
            if !problem.contains(words) || !fault.remedy().contains(remedy) {
                wrong.push(format!("{words}: {problem}; {}", fault.remedy()));
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn a_size_that_is_no_text_is_damage() {
        assert_eq!(
            of_exchange(&Error::PacketSize(1 << 30)).0,
            KeyExchangeFault::Damaged
        );
    }

    #[test]
    fn a_long_offer_is_cut() {
        let theirs: Vec<_> = (0..1000).map(|n| format!("alg{n}\u{1b}")).collect();
        let kind = AlgorithmKind::Kex;
        let (_, problem) = of_exchange(&Error::NoCommonAlgo {
            kind,
            ours: vec![],
            theirs,
        });
        assert!(
            problem.len() < 400 && !problem.contains('\u{1b}'),
            "{problem}"
        );
    }
}
