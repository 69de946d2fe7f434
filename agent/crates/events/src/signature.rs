//! Signatures of Standard Webhooks 1.0.0
//! (<https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>), by which the vendor
//! knows that an event comes from this customer's agent, that it is unchanged, and which of its repeats it has seen.

use agent_base::secret::Secret;
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Header with the id of the event.
pub const WEBHOOK_ID: &str = "webhook-id";
/// Header with the time of the attempt, in seconds since 1970.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signatures, one for each secret, separated by a space.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// The secrets that the customer and the vendor share: one, or several while one replaces another. They cannot be printed,
/// and are zeroed on drop.
pub struct SigningSecrets(Vec<Zeroizing<Vec<u8>>>);

/// A file is not a list of signing secrets. Never repeats anything that was in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// No line holds one.
    #[error("it holds no secret; write one line: whsec_ and the base64 of 24 to 64 random bytes")]
    None,
    /// There are more than [`MAX_SECRETS`].
    #[error(
        "it holds more than {MAX_SECRETS} secrets; remove those that the vendor does not use any more"
    )]
    TooMany,
    /// A line is no secret.
    #[error("line {line} is not a secret: whsec_ and the base64 of 24 to 64 random bytes")]
    Malformed {
        /// Its number, counted from 1.
        line: usize,
    },
    /// A secret is too short or too long.
    #[error("the secret in line {line} has {bytes} bytes; 24 to 64 are allowed")]
    Length {
        /// Its number, counted from 1.
        line: usize,
        /// Bytes of the decoded secret.
        bytes: usize,
    },
}

impl SigningSecrets {
    /// One secret a line: `whsec_` and base64 with padding. Empty lines are skipped.
    ///
    /// # Errors
    /// See [`SecretError`].
    pub fn parse(secret: &Secret) -> Result<Self, SecretError> {
        let mut secrets = Vec::with_capacity(MAX_SECRETS);
        for (at, line) in secret.expose().split(|byte| *byte == b'\n').enumerate() {
            let (line, text) = (at + 1, line.trim_ascii());
            if text.is_empty() {
                continue;
            }
            if secrets.len() == MAX_SECRETS {
                return Err(SecretError::TooMany);
            }
            let malformed = SecretError::Malformed { line };
            let encoded = text
                .strip_prefix(SECRET_PREFIX.as_bytes())
                .ok_or(malformed)?;
            // Room for all of it: growing would leave unzeroed copies behind.
            let mut decoded = Zeroizing::new(Vec::with_capacity(encoded.len()));
            BASE64_STANDARD
                .decode_vec(encoded, &mut decoded)
                .map_err(|_| malformed)?;
            if !SECRET_BYTES.contains(&decoded.len()) {
                let bytes = decoded.len();
                return Err(SecretError::Length { line, bytes });
            }
            secrets.push(decoded);
        }
        match secrets.is_empty() {
            true => Err(SecretError::None),
            false => Ok(Self(secrets)),
        }
    }

    /// The value of [`WEBHOOK_SIGNATURE`]: one signature for each secret.
    pub fn sign(&self, id: &str, unix_seconds: u64, body: &[u8]) -> String {
        let mut header = String::new();
        for mac in self.macs(id, unix_seconds, body) {
            if !header.is_empty() {
                header.push(' ');
            }
            header.push_str(VERSION);
            BASE64_STANDARD.encode_string(mac.finalize().into_bytes(), &mut header);
        }
        header
    }

    /// Whether one of the signatures in `header` was made with one of the secrets. Takes the same time wherever a signature
    /// differs. Whether the time is recent is the receiver's to check.
    pub fn verify(&self, id: &str, unix_seconds: u64, body: &[u8], header: &str) -> bool {
        let made: Vec<_> = self.macs(id, unix_seconds, body).collect();
        let signatures = header.split(' ').take(MAX_SIGNATURES);
        let signatures = signatures.filter_map(|one| one.strip_prefix(VERSION));
        let mut genuine = false;
        for signature in signatures {
            let Ok(signature) = BASE64_STANDARD.decode(signature) else {
                continue;
            };
            for mac in &made {
                genuine |= mac.clone().verify_slice(&signature).is_ok();
            }
        }
        genuine
    }

    fn macs(&self, id: &str, unix_seconds: u64, body: &[u8]) -> impl Iterator<Item = Hmac<Sha256>> {
        let signed = format!("{id}.{unix_seconds}.");
        // HMAC takes keys of any length.
        let keyed = self
            .0
            .iter()
            .filter_map(|key| Hmac::<Sha256>::new_from_slice(key).ok());
        keyed.map(move |mac| mac.chain_update(signed.as_bytes()).chain_update(body))
    }
}

/// Three parties may hold an old, a current and a next one.
pub const MAX_SECRETS: usize = 3;
/// Of the symmetric kind, in the specification.
const SECRET_PREFIX: &str = "whsec_";
/// Bytes of a secret, by the specification.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Of a symmetric signature.
const VERSION: &str = "v1,";
/// Signatures of one header that are looked at; a sender makes no more than it has secrets.
const MAX_SIGNATURES: usize = 16;

#[cfg(test)]
mod tests;
