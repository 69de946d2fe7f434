//! The one place that reads PEM: certificates and private keys (PKCS#8, PKCS#1, SEC1).

use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls_pemfile::Item;

/// Why a PEM text was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PemError {
    /// A section is cut off or not base64.
    #[error("broken PEM: {0}; export the file again as PEM")]
    Broken(String),
    /// Nothing of the wanted kind in it; DER files end here too.
    #[error(
        "no certificate in it; expected PEM with \"-----BEGIN CERTIFICATE-----\" (a DER file is converted with openssl x509 -inform der)"
    )]
    NoCertificate,
    /// No private key in it, or one that is encrypted.
    #[error(
        "no private key in it; expected unencrypted PEM: PKCS#8, PKCS#1 (RSA) or SEC1 (EC) (an encrypted key is decrypted with openssl pkey)"
    )]
    NoKey,
}

/// All certificates of a PEM text, in its order; other sections are skipped.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let mut found = Vec::new();
    for item in items(text) {
        if let Item::X509Certificate(certificate) = item? {
            found.push(certificate);
        }
    }
    match found.is_empty() {
        true => Err(PemError::NoCertificate),
        false => Ok(found),
    }
}

/// The first private key of a PEM text.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the crate adds kinds of PEM items"
)]
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    for item in items(text) {
        match item? {
            Item::Pkcs8Key(key) => return Ok(key.into()),
            Item::Pkcs1Key(key) => return Ok(key.into()),
            Item::Sec1Key(key) => return Ok(key.into()),
            _ => {}
        }
    }
    Err(PemError::NoKey)
}

fn items(mut rest: &[u8]) -> impl Iterator<Item = Result<Item, PemError>> {
    std::iter::from_fn(move || match rustls_pemfile::read_one_from_slice(rest) {
        Ok(Some((item, remaining))) => {
            rest = remaining;
            Some(Ok(item))
        }
        Ok(None) => None,
        Err(error) => {
            rest = &[];
            Some(Err(PemError::Broken(describe(&error))))
        }
    })
}

/// Names the kind of damage without repeating a line of what may be a key.
fn describe(error: &rustls_pemfile::Error) -> String {
    match error {
        rustls_pemfile::Error::MissingSectionEnd { .. } => "a section has no END line".to_owned(),
        rustls_pemfile::Error::IllegalSectionStart { .. } => "a BEGIN line is malformed".to_owned(),
        rustls_pemfile::Error::Base64Decode(_) => "a section is not base64".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use rcgen::{KeyPair, generate_simple_self_signed};

    #[test]
    fn certificates_come_in_order_and_a_key_beside_them_is_skipped() {
        let one = generate_simple_self_signed(vec!["one".into()]).unwrap();
        let two = generate_simple_self_signed(vec!["two".into()]).unwrap();
        let text = format!(
            "# a comment\n{}{}{}",
            one.cert.pem(),
            one.signing_key.serialize_pem(),
            two.cert.pem()
        );
        let found = certificates(text.as_bytes()).unwrap();
        assert_eq!(found, [one.cert.der().clone(), two.cert.der().clone()]);
        assert!(matches!(
            private_key(text.as_bytes()).unwrap(),
            PrivateKeyDer::Pkcs8(_)
        ));
    }

    #[test]
    fn every_form_of_private_key_is_read() {
        // The label decides; the bytes inside are judged by rustls when the key is used.
        for (label, form) in [("RSA PRIVATE KEY", "pkcs1"), ("EC PRIVATE KEY", "sec1")] {
            let (begin, end) = (
                format!("-----{} {label}-----", "BEGIN"),
                format!("-----END {label}-----"),
            );
            let text = format!("{begin}\nAAAA\n{end}\n");
            let key = private_key(text.as_bytes()).unwrap();
            match form {
                "pkcs1" => assert!(matches!(key, PrivateKeyDer::Pkcs1(_))),
                _ => assert!(matches!(key, PrivateKeyDer::Sec1(_))),
            }
        }
    }

    #[test]
    fn what_is_missing_or_broken_is_named() {
        let key = KeyPair::generate().unwrap().serialize_pem();
        assert_eq!(certificates(key.as_bytes()), Err(PemError::NoCertificate));
        assert_eq!(certificates(b"\x30\x82\x01"), Err(PemError::NoCertificate));
        let encrypted =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert_eq!(
            private_key(encrypted.as_bytes()).err(),
            Some(PemError::NoKey)
        );
        let cut = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        let error = certificates(cut.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("no END line"), "{error}");
    }
}
