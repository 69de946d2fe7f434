//! Keys and certificates for this room's unit tests. Generated each time; none is stored.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use russh::keys::{
    Algorithm, Certificate, HashAlg, PrivateKey, key::safe_rng, ssh_key::certificate::Builder,
    ssh_key::certificate::CertType,
};

pub(super) fn ed25519() -> PrivateKey {
    PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap()
}

pub(super) fn fingerprint(key: &PrivateKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

pub(super) fn user_certificate(key: &PrivateKey, ca: &PrivateKey, user: &str) -> Certificate {
    let mut builder = builder(key, 0, u64::MAX);
    builder.cert_type(CertType::User).unwrap();
    builder.key_id(user).unwrap();
    builder.valid_principal(user).unwrap();
    builder.sign(ca).unwrap()
}

pub(super) fn builder(key: &PrivateKey, after: u64, before: u64) -> Builder {
    Builder::new_with_random_nonce(&mut safe_rng(), key.public_key(), after, before).unwrap()
}
