//! The signature of a webhook that an administrator registered in Jira with a secret: `X-Hub-Signature: sha256=` and the
//! HMAC-SHA256 of the raw body in hexadecimal digits (the form of WebSub, <https://www.w3.org/TR/websub/#signature-validation>).

use agent_base::secret::Secret;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use std::fmt::Write;

/// Name of the header, in lower case.
pub const HUB_SIGNATURE: &str = "x-hub-signature";

/// Whether Jira signed this body with the secret. `header` is the value of the one header field; with several, or none, the
/// body is not signed. Takes the same time wherever the digits differ.
pub fn verify(secret: &Secret, body: &[u8], header: &[u8]) -> bool {
    let Some(digits) = header.strip_prefix(b"sha256=") else {
        return false;
    };
    let Some(signature) = from_hex(digits) else {
        return false;
    };
    // HMAC takes keys of any length.
    Hmac::<Sha256>::new_from_slice(secret.expose())
        .is_ok_and(|mac| mac.chain_update(body).verify_slice(&signature).is_ok())
}

/// The header's value, as Jira makes it.
pub fn sign(secret: &Secret, body: &[u8]) -> String {
    let mut header = "sha256=".to_owned();
    // HMAC takes keys of any length.
    if let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.expose()) {
        for byte in mac.chain_update(body).finalize().into_bytes() {
            // A string takes everything.
            let _ = write!(header, "{byte:02x}");
        }
    }
    header
}

/// The 32 bytes of 64 digits. Jira writes lower case; both mean the same.
fn from_hex(digits: &[u8]) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = digits.try_into().ok()?;
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        let value = |digit: &u8| char::from(*digit).to_digit(16);
        *byte = u8::try_from((value(high)? << 4) | value(low)?).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The example of GitHub's documentation, which uses the same form:
    /// <https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries>.
    const SECRET: &str = "It's a Secret to Everybody";
    const SIGNATURE: &[u8] =
        b"sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";

    fn secret() -> Secret {
        Secret::new(SECRET.into())
    }

    #[test]
    fn the_published_example_is_genuine() {
        assert!(verify(&secret(), b"Hello, World!", SIGNATURE));
        assert_eq!(sign(&secret(), b"Hello, World!").as_bytes(), SIGNATURE);
        let upper = SIGNATURE[7..].to_ascii_uppercase();
        let upper = [&b"sha256="[..], &upper].concat();
        assert!(verify(&secret(), b"Hello, World!", &upper));
    }

    #[test]
    fn another_body_secret_algorithm_or_length_is_not() {
        assert!(!verify(&secret(), b"Hello, World?", SIGNATURE));
        assert!(!verify(
            &Secret::new(b"other".to_vec()),
            b"Hello, World!",
            SIGNATURE
        ));
        for wrong in [
            &b""[..],
            b"sha256=",
            b"sha1=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            &SIGNATURE[..SIGNATURE.len() - 2],
            &[SIGNATURE, b"00"].concat(),
            &SIGNATURE[7..],
            b"sha256=g57107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            b"sha256=+57107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        ] {
            assert!(!verify(&secret(), b"Hello, World!", wrong));
        }
    }
}
