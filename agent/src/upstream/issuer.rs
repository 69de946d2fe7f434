//! Reads issuer and subject out of a certificate, for messages alone: nothing is decided by them.

/// Readable names: the common name, else the organisation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) issuer: String,
    pub(super) subject: String,
}

/// `None` where the DER is not what RFC 5280 §4.1 says.
pub(super) fn names(certificate: &[u8]) -> Option<Names> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    rest = element(rest)?.2; // serial number
    rest = element(rest)?.2; // signature algorithm
    let (_, issuer, rest) = element(rest)?;
    let (_, _validity, rest) = element(rest)?;
    let (_, subject, _) = element(rest)?;
    Some(Names {
        issuer: readable(issuer)?,
        subject: readable(subject)?,
    })
}

/// One name: a sequence of sets of (type, value) pairs.
fn readable(mut name: &[u8]) -> Option<String> {
    let mut fallback = None;
    while !name.is_empty() {
        let (_, set, rest) = element(name)?;
        name = rest;
        let (_, pair, _) = element(set)?;
        let (_, kind, value) = element(pair)?;
        let (tag, value, _) = element(value)?;
        match kind {
            COMMON_NAME => return Some(text(tag, value)),
            ORGANISATION => fallback = Some(text(tag, value)),
            _ => {}
        }
    }
    fallback
}

fn text(tag: u8, value: &[u8]) -> String {
    let decoded = if tag == BMP_STRING {
        let units = value
            .chunks_exact(2)
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
        char::decode_utf16(units)
            .map(|c| c.unwrap_or('\u{fffd}'))
            .collect()
    } else {
        String::from_utf8_lossy(value).into_owned()
    };
    decoded
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_NAME)
        .collect()
}

/// Splits the first DER element off: tag, contents, what follows.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x83 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = digits
                .iter()
                .fold(0usize, |sum, d| (sum << 8) | usize::from(*d));
            (length, rest)
        }
        _ => return None,
    };
    let (contents, rest) = rest.split_at_checked(length)?;
    Some((tag, contents, rest))
}

/// Context tag 0, constructed: the version field, absent in version 1 certificates.
const VERSION: u8 = 0xa0;
const BMP_STRING: u8 = 0x1e;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.4.10
const ORGANISATION: &[u8] = &[0x55, 0x04, 0x0a];
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
    fn the_common_name_is_read_and_the_organisation_stands_in_for_it() {
        let both = certificate(&[
            (DnType::OrganizationName, "Corp"),
            (DnType::CommonName, "Corp Root CA ä"),
        ]);
        assert_eq!(names(&both).unwrap().issuer, "Corp Root CA ä");
        let organisation = certificate(&[(DnType::OrganizationName, "Corp")]);
        assert_eq!(names(&organisation).unwrap().subject, "Corp");
    }

    #[test]
    fn damaged_der_gives_nothing_instead_of_a_panic() {
        let whole = certificate(&[(DnType::CommonName, "Corp")]);
        for cut in 0..whole.len().min(200) {
            let _ = names(&whole[..cut]);
            let mut flipped = whole.clone();
            flipped[cut] ^= 0xff;
            let _ = names(&flipped);
        }
        assert_eq!(names(&[]), None);
        assert_eq!(names(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
