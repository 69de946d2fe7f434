//! What a delivery proves itself with: an HMAC over the body, or a token of the app.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;

/// Value of `X-Hub-Signature` for a webhook with a secret: `sha256=` and the HMAC of the body in hexadecimal.
pub(super) fn hub_signature(secret: &str, body: &[u8]) -> String {
    let digest: String = hmac(secret.as_bytes(), body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256={digest}")
}

/// The token in `Authorization: Bearer` for a webhook of an app: a JWT signed with the app's secret by HS256.
/// Atlassian documents only that the app's secret signs it; which claims it has was not compared with a real delivery.
pub(super) fn app_token(app: &str, secret: &str, now: i64) -> String {
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "alg": "HS256", "typ": "JWT" }));
    let claims = part(json!({ "iss": app, "iat": now, "exp": now + TOKEN_LIFETIME }));
    let signed = format!("{head}.{claims}");
    let signature = URL_SAFE_NO_PAD.encode(hmac(secret.as_bytes(), signed.as_bytes()));
    format!("{signed}.{signature}")
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    // A key of any length is valid.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        return Vec::new();
    };
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

/// Seconds.
const TOKEN_LIFETIME: i64 = 180;

#[cfg(test)]
mod tests {
    use super::*;

    /// The example in Atlassian's page on webhooks.
    #[test]
    fn the_signature_is_the_one_in_atlassians_page() {
        assert_eq!(
            hub_signature("It's a Secret to Everybody", b"Hello World!"),
            "sha256=a4771c39fbe90f317c7824e83ddef3caae9cb3d976c214ace1f2937e133263c9"
        );
    }

    #[test]
    fn an_apps_token_has_three_parts_and_depends_on_the_secret() {
        let token = app_token("app", "one", 1000);
        assert_eq!(token.split('.').count(), 3);
        assert_ne!(token, app_token("app", "two", 1000));
    }
}
