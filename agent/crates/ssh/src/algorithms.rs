//! The algorithms that agent and gateway offer: the post-quantum key exchange first, AES-GCM first (most throughput on
//! processors with AES), nothing with SHA-1, no compression.

use russh::{
    Preferred, cipher, compression,
    keys::{Algorithm, EcdsaCurve, HashAlg},
};
use std::borrow::Cow;

/// The lists to offer. Key exchange and MAC are russh's own: mlkem768x25519, curve25519, then finite-field groups with
/// SHA-2, and the four markers without which strict key exchange would be off.
pub fn preferred() -> Preferred {
    Preferred {
        key: Cow::Borrowed(HOST_KEYS),
        cipher: Cow::Borrowed(CIPHERS),
        compression: Cow::Borrowed(&[compression::NONE]),
        ..Preferred::DEFAULT
    }
}

const CIPHERS: &[cipher::Name] = &[
    cipher::AES_128_GCM,
    cipher::AES_256_GCM,
    cipher::CHACHA20_POLY1305,
    cipher::AES_256_CTR,
];
/// Types of host keys. A server sends them as `server-sig-algs` too (RFC 8308): plain `ssh-rsa` is not among them.
pub const HOST_KEYS: &[Algorithm] = &[
    Algorithm::Ed25519,
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP256,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP384,
    },
    Algorithm::Ecdsa {
        curve: EcdsaCurve::NistP521,
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha512),
    },
    Algorithm::Rsa {
        hash: Some(HashAlg::Sha256),
    },
];
