//! The RSA key of the consumer: read, made, shown, and signed with (RFC 5849 §3.4.3).
//!
//! `rsa` in pure Rust on purpose: some distributions' OpenSSL refuses SHA-1 signatures by policy, and
//! aws-lc-rs makes none. Every signature is blinded, so that its duration reveals nothing about the key.

use crate::{secret::Secret, upstream::pem};
use rand::RngCore;
use rsa::{
    Pkcs1v15Sign, RsaPrivateKey,
    pkcs1::DecodeRsaPrivateKey,
    pkcs8::{DecodePrivateKey, EncodePrivateKey, EncodePublicKey, LineEnding},
    rand_core::{TryCryptoRng, TryRng},
    traits::PublicKeyParts,
};
use rustls::pki_types::PrivateKeyDer;
use sha1::{Digest, Sha1};
use std::convert::Infallible;

/// An RSA private key that Jira knows the public half of. Zeroed when dropped.
pub struct SigningKey(RsaPrivateKey);

/// Why there is no key, or none that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// No PEM, an encrypted one, or a cut off one.
    #[error("{0}")]
    Pem(#[from] pem::PemError),
    /// An elliptic-curve or Ed25519 key, or a broken RSA key.
    #[error(
        "the private key in it is no usable RSA key; OAuth 1.0a with Jira needs RSA (agent login --new-key makes one)"
    )]
    NotRsa,
    /// Shorter than `SHORTEST` bits.
    #[error(
        "the RSA key has {0} bits, and less than {SHORTEST} are broken with ease; make a new one with agent login --new-key"
    )]
    Short(usize),
    /// The library could not make a key or a signature.
    #[error("the RSA key cannot be used ({0}); make a new one with agent login --new-key")]
    Unusable(&'static str),
}

impl SigningKey {
    /// From PEM, PKCS#1 (`RSA PRIVATE KEY`) or PKCS#8 (`PRIVATE KEY`), unencrypted.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the crate adds formats")]
    pub fn from_pem(text: &[u8]) -> Result<Self, SigningKeyError> {
        let key = match pem::private_key(text)? {
            PrivateKeyDer::Pkcs1(der) => RsaPrivateKey::from_pkcs1_der(der.secret_pkcs1_der()).ok(),
            PrivateKeyDer::Pkcs8(der) => RsaPrivateKey::from_pkcs8_der(der.secret_pkcs8_der()).ok(),
            _ => None,
        };
        let key = Self(key.ok_or(SigningKeyError::NotRsa)?);
        match key.bits() {
            bits if bits < SHORTEST => Err(SigningKeyError::Short(bits)),
            _ => Ok(key),
        }
    }

    /// A new one, `bits` long: 2048 or 3072. Takes seconds of computing.
    pub fn generate(bits: usize) -> Result<Self, SigningKeyError> {
        RsaPrivateKey::new(&mut RngAdapter, bits)
            .map(Self)
            .map_err(|_| SigningKeyError::Unusable("it could not be made"))
    }

    /// Length of the modulus.
    pub fn bits(&self) -> usize {
        self.0.n().bits() as usize
    }

    /// The private key as PKCS#8 PEM.
    pub fn private_pem(&self) -> Result<Secret, SigningKeyError> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        let pem = pem.map_err(|_| SigningKeyError::Unusable("it cannot be written"))?;
        Ok(Secret::new(pem.as_bytes().to_vec()))
    }

    /// The public key as an application link takes it: X.509 `PUBLIC KEY` PEM.
    pub fn public_pem(&self) -> Result<String, SigningKeyError> {
        let pem = self.0.to_public_key().to_public_key_pem(LineEnding::LF);
        pem.map_err(|_| SigningKeyError::Unusable("its public half cannot be written"))
    }

    /// RSASSA-PKCS1-v1_5 with SHA-1 over `text`. About a millisecond of computing for 2048 bits: call it off
    /// the asynchronous workers.
    pub fn sign(&self, text: &[u8]) -> Result<Vec<u8>, SigningKeyError> {
        let padding = Pkcs1v15Sign::new::<Sha1>();
        let digest = Sha1::digest(text);
        self.0
            .sign_with_rng(&mut RngAdapter, padding, &digest)
            .map_err(|_| SigningKeyError::Unusable("it cannot sign"))
    }
}

/// The thread's cryptographic generator, for a crate that speaks a newer `rand_core`.
struct RngAdapter;

impl TryRng for RngAdapter {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(rand::rng().next_u32())
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(rand::rng().next_u64())
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        rand::rng().fill_bytes(bytes);
        Ok(())
    }
}

impl TryCryptoRng for RngAdapter {}

/// Bits. Atlassian's older instructions made keys of 1024, and application links with them are still in use.
pub(super) const SHORTEST: usize = 1024;
