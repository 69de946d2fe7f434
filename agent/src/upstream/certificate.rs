//! Reads names and validity out of a certificate, for messages and forecasts: whether it is trusted is
//! rustls' to decide.

use crate::printable::printable;
use std::time::{Duration, SystemTime};
use x509_parser::{
    asn1_rs::Tag,
    certificate::X509Certificate,
    prelude::FromDer,
    public_key::PublicKey,
    time::ASN1Time,
    x509::{AttributeTypeAndValue, X509Name},
};

/// Readable names: the common name, else the organization.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CertificateNames {
    pub(super) issuer: String,
    pub(super) subject: String,
}

/// `None` where the DER is not what RFC 5280 §4.1 says.
pub(super) fn names(certificate: &[u8]) -> Option<CertificateNames> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    Some(CertificateNames {
        issuer: printable_name(certificate.issuer())?,
        subject: printable_name(certificate.subject())?,
    })
}

/// When the certificate's validity begins and ends (RFC 5280 §4.1.2.5).
pub(crate) fn validity(certificate: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let validity = certificate.validity();
    Some((instant(validity.not_before)?, instant(validity.not_after)?))
}

/// Length of its RSA key in bits; `None` for other keys.
pub(super) fn rsa_bits(certificate: &[u8]) -> Option<usize> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    match certificate.public_key().parsed().ok()? {
        PublicKey::RSA(key) => Some(key.key_size()),
        PublicKey::EC(_)
        | PublicKey::DSA(_)
        | PublicKey::GostR3410(_)
        | PublicKey::GostR3410_2012(_)
        | PublicKey::Unknown(_) => None,
    }
}

fn instant(time: ASN1Time) -> Option<SystemTime> {
    let seconds = u64::try_from(time.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn printable_name(name: &X509Name<'_>) -> Option<String> {
    let mut common = name.iter_common_name();
    let mut organization = name.iter_organization();
    common
        .next()
        .or_else(|| organization.next())
        .map(printable_value)
}

fn printable_value(entry: &AttributeTypeAndValue<'_>) -> String {
    let value = entry.attr_value();
    let decoded: String = if value.tag() == Tag::BmpString {
        let units = value
            .data
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        char::decode_utf16(units)
            .map(|c| c.unwrap_or('\u{fffd}'))
            .collect()
    } else {
        String::from_utf8_lossy(value.data).into_owned()
    };
    printable(&decoded, MAX_NAME)
}

/// Characters of a name that go into a message; a hostile server could send a long one.
const MAX_NAME: usize = 120;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    fn certificate(entries: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["x.example".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in entries {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_read_or_else_the_organization() {
        let both = certificate(&[
            (DnType::OrganizationName, "Corp"),
            (DnType::CommonName, "Corp Root CA ä"),
        ]);
        assert_eq!(names(&both).unwrap().issuer, "Corp Root CA ä");
        let organization = certificate(&[(DnType::OrganizationName, "Corp")]);
        assert_eq!(names(&organization).unwrap().subject, "Corp");
    }

    #[test]
    fn validity_is_the_one_that_was_issued() {
        let mut params = CertificateParams::new(vec!["x.example".into()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2027, 1, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let (from, until) = validity(certificate.der()).unwrap();
        let day = |text| humantime::parse_rfc3339(text).unwrap();
        assert_eq!(from, day("2026-01-01T00:00:00Z"));
        assert_eq!(until, day("2027-01-31T00:00:00Z"));
    }

    #[test]
    fn damaged_der_gives_nothing_instead_of_a_panic() {
        let whole = certificate(&[(DnType::CommonName, "Corp")]);
        for cut in 0..whole.len().min(200) {
            let _ = names(&whole[..cut]);
            let mut flipped = whole.clone();
            flipped[cut] ^= 0xff;
            let _ = (names(&flipped), validity(&flipped));
        }
        assert_eq!(names(&[]), None);
        assert_eq!(names(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
