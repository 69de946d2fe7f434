//! Signatures of Standard Webhooks 1.0 (<https://www.standardwebhooks.com>), as a vendor verifies them: written apart from the
//! agent's own code, so that a fault in either shows.

use agent_base::secret::Secret;
use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Header with the id of the event.
pub(super) const WEBHOOK_ID: &str = "webhook-id";
/// Header with the time of the attempt, in seconds since 1970.
pub(super) const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// Header with the signatures, separated by spaces.
pub(super) const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// The secrets that may have signed an event, each an HMAC that has taken its key.
pub(super) struct EventSecrets(Vec<Hmac<Sha256>>);

/// A line of the file is not a signing secret. Never repeats its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "line {line} is not a signing secret; write whsec_ and the base64 of 24 to 64 random bytes"
)]
pub struct SecretLineError {
    /// Number of the line, counted from 1.
    pub line: usize,
}

impl EventSecrets {
    /// One secret a line; empty lines are skipped.
    ///
    /// # Errors
    /// When a line is not a secret, or there is none.
    pub(super) fn parse(secret: &Secret) -> Result<Self, SecretLineError> {
        let mut keyed = Vec::new();
        for (at, line) in secret.expose().split(|byte| *byte == b'\n').enumerate() {
            let line = line.trim_ascii();
            if !line.is_empty() {
                keyed.push(key(line).ok_or(SecretLineError { line: at + 1 })?);
            }
        }
        match keyed.is_empty() {
            true => Err(SecretLineError { line: 1 }),
            false => Ok(Self(keyed)),
        }
    }

    /// Whether one of the signatures in `header` was made with one of the secrets, in constant time each.
    pub(super) fn verify(&self, id: &str, timestamp: u64, body: &[u8], header: &str) -> bool {
        let signatures: Vec<Vec<u8>> = header
            .split(' ')
            .take(MAX_SIGNATURES)
            .filter_map(|one| BASE64_STANDARD.decode(one.strip_prefix("v1,")?).ok())
            .collect();
        self.0.iter().any(|keyed| {
            let made = keyed
                .clone()
                .chain_update(format!("{id}.{timestamp}."))
                .chain_update(body);
            signatures
                .iter()
                .any(|signature| made.clone().verify_slice(signature).is_ok())
        })
    }
}

fn key(line: &[u8]) -> Option<Hmac<Sha256>> {
    let key = BASE64_STANDARD.decode(line.strip_prefix(b"whsec_")?).ok()?;
    let key = Some(key).filter(|key| SECRET_LENGTH.contains(&key.len()))?;
    Hmac::<Sha256>::new_from_slice(&key).ok()
}

const SECRET_LENGTH: std::ops::RangeInclusive<usize> = 24..=64;
/// Signatures of one header that are looked at.
const MAX_SIGNATURES: usize = 16;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of the specification's reference libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const TIMESTAMP: u64 = 1_614_265_330;
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn secrets(text: &str) -> Result<EventSecrets, SecretLineError> {
        EventSecrets::parse(&Secret::new(text.into()))
    }

    #[test]
    fn the_published_example_is_genuine_and_nothing_else() {
        let known = secrets(SECRET).unwrap();
        assert!(known.verify(ID, TIMESTAMP, BODY, SIGNATURE));
        let several = format!("v1,AAAA v2,x {SIGNATURE}");
        assert!(known.verify(ID, TIMESTAMP, BODY, &several));
        assert!(!known.verify("msg_other", TIMESTAMP, BODY, SIGNATURE));
        assert!(!known.verify(ID, TIMESTAMP + 1, BODY, SIGNATURE));
        assert!(!known.verify(ID, TIMESTAMP, b"{}", SIGNATURE));
        for header in ["", "v1,", &SIGNATURE[3..], "v1,AAAA"] {
            assert!(!known.verify(ID, TIMESTAMP, BODY, header), "{header}");
        }
    }

    #[test]
    fn only_secrets_of_the_right_form_are_read() {
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = secrets(&format!("{other}\n\n{SECRET}\n")).unwrap();
        assert!(both.verify(ID, TIMESTAMP, BODY, SIGNATURE));
        for (text, line) in [
            ("", 1),
            ("secret", 1),
            ("whsec_AAAA", 1),
            ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\nwhsec_!", 2),
        ] {
            assert_eq!(
                secrets(text).err(),
                Some(SecretLineError { line }),
                "{text}"
            );
        }
    }
}
