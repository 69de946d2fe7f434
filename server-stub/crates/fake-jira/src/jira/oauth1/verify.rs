//! Verifies a signed request: consumer, version, method, timestamp, nonce, signature, and for a
//! resource the token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsa::pkcs1v15::{Signature, VerifyingKey};
use rsa::signature::Verifier;
use sha1::Sha1;
use time::OffsetDateTime;

use super::message::OAuth1Message;
use super::problem::OAuth1Problem;
use super::settings::OAuth1Consumer;
use super::tokens::OAuth1Store;

/// The consumer that signed the request.
pub(super) fn verify_consumer(
    consumers: &mut OAuth1Store,
    message: &OAuth1Message,
    now: OffsetDateTime,
) -> Result<OAuth1Consumer, OAuth1Problem> {
    required(message, &["oauth_consumer_key"])?;
    for name in SINGLE {
        if message.all(name).count() > 1 {
            return Err(
                OAuth1Problem::new("parameter_rejected").with("oauth_parameters_rejected", *name)
            );
        }
    }
    let key = message.get("oauth_consumer_key").unwrap_or_default();
    let (consumer, rsa_key) = consumers
        .consumer(key)
        .ok_or_else(|| OAuth1Problem::new("consumer_key_unknown"))?;
    required(
        message,
        &[
            "oauth_signature_method",
            "oauth_signature",
            "oauth_timestamp",
            "oauth_nonce",
        ],
    )?;
    if message.get("oauth_version").is_some_and(|v| v != "1.0") {
        return Err(
            OAuth1Problem::new("version_rejected").with("oauth_acceptable_versions", "1.0-1.0")
        );
    }
    if message.get("oauth_signature_method") != Some(METHOD) {
        return Err(OAuth1Problem::new("signature_method_rejected")
            .with("oauth_acceptable_signature_methods", METHOD));
    }
    check_freshness(consumers, message, now)?;
    let base_string = message.base_string();
    let signature = message.get("oauth_signature").unwrap_or_default();
    let good = STANDARD
        .decode(signature)
        .ok()
        .and_then(|bytes| Signature::try_from(bytes.as_slice()).ok())
        .is_some_and(|signature| {
            VerifyingKey::<Sha1>::new(rsa_key)
                .verify(base_string.as_bytes(), &signature)
                .is_ok()
        });
    if good {
        return Ok(consumer);
    }
    Err(OAuth1Problem::new("signature_invalid")
        .with("oauth_signature", signature)
        .with("oauth_signature_base_string", base_string)
        .with("oauth_signature_method", METHOD))
}

/// The user of a signed request for a resource.
pub(in crate::jira) fn verify_access(
    consumers: &mut OAuth1Store,
    message: &OAuth1Message,
    now: OffsetDateTime,
) -> Result<String, OAuth1Problem> {
    let consumer = verify_consumer(consumers, message, now)?;
    match message.get("oauth_token").unwrap_or_default() {
        "" => two_legged(&consumer, message),
        token => consumers.user(token, &consumer.key, now),
    }
}

/// The user that a two-legged request asks for, by the newer parameter or the older one. The older one
/// is ignored without permission to impersonate.
fn impersonated<'a>(consumer: &OAuth1Consumer, message: &'a OAuth1Message) -> Option<&'a str> {
    message
        .get("xoauth_requestor_id")
        .or_else(|| message.get("user_id").filter(|_| consumer.impersonation))
}

fn two_legged(consumer: &OAuth1Consumer, message: &OAuth1Message) -> Result<String, OAuth1Problem> {
    let denied = || OAuth1Problem::new("permission_denied");
    let user = consumer.two_legged_user.as_ref().ok_or_else(denied)?;
    match impersonated(consumer, message) {
        None => Ok(user.clone()),
        Some(other) if consumer.impersonation => Ok(other.to_owned()),
        Some(_) => Err(denied()),
    }
}

/// RFC 5849 §3.3: a timestamp near the server's, and a nonce that was not used before.
fn check_freshness(
    consumers: &mut OAuth1Store,
    message: &OAuth1Message,
    now: OffsetDateTime,
) -> Result<(), OAuth1Problem> {
    let timestamp: i64 = message
        .get("oauth_timestamp")
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            OAuth1Problem::new("parameter_rejected")
                .with("oauth_parameters_rejected", "oauth_timestamp")
        })?;
    let now = now.unix_timestamp();
    if timestamp.abs_diff(now) > WINDOW.unsigned_abs() {
        return Err(OAuth1Problem::new("timestamp_refused").with(
            "oauth_acceptable_timestamps",
            format!("{}-{}", now - WINDOW, now + WINDOW),
        ));
    }
    let key = |name| message.get(name).unwrap_or_default().to_owned();
    let nonce = (
        timestamp,
        key("oauth_nonce"),
        key("oauth_consumer_key"),
        key("oauth_token"),
    );
    if consumers.is_new_nonce(nonce, now - WINDOW) {
        Ok(())
    } else {
        Err(OAuth1Problem::new("nonce_used"))
    }
}

pub(super) fn required(message: &OAuth1Message, names: &[&str]) -> Result<(), OAuth1Problem> {
    let absent: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| message.get(name).is_none_or(str::is_empty))
        .collect();
    if absent.is_empty() {
        return Ok(());
    }
    Err(OAuth1Problem::new("parameter_absent").with("oauth_parameters_absent", absent.join("&")))
}

const METHOD: &str = "RSA-SHA1";
/// Seconds by which a timestamp may differ.
const WINDOW: i64 = 300;
const SINGLE: &[&str] = &[
    "oauth_consumer_key",
    "oauth_token",
    "oauth_token_secret",
    "oauth_callback",
    "oauth_signature_method",
    "oauth_signature",
    "oauth_timestamp",
    "oauth_nonce",
    "oauth_version",
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{HeaderMap, Method};

    use super::*;
    use crate::jira::oauth1::settings::OAuth1Settings;
    use crate::jira::settings::TomcatConnector;

    /// Made with `openssl dgst -sha1 -sign`, over a base string written by hand.
    const SIGNATURE: &str = "ENbWRySdIYUy/GR9KdkEnHnTUPPxVDVoTgz+nAYcEXJMADAnog8wLSvWYpKB5/uP9HLGBJx/gNrEZibY9K/a3dRR\
        0tXIEmTthCWn1w+Ls7Y6vGBJeC2Mh68dQoLUNTlmJLjn5Z8lyfXYIoC2bKuWu9wO2d/7ySrGkoml/KApwq8e+RRs\
        rB/fcAgn7hpiKgxdwOdqCkIfCuncMQNuEcW24klbt5A9kppMFa1oCTmhxTbLOyDt1KcG5RGZr1MjYH1FuhHh29E7\
        TxUR3hQo3S5N/SlCZ06jHZYi3K3RqDBGQ9i5+S4ejE+SqoZtOpi8JWkIx8vMxaUquwtm5G4CRrn+Ew==";
    const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA10tFl76Wp2cXteNaXKP4
LpeHPX54ZjgwgYWjvSioagfgYIRSin1hM9nSy3FdPO6ok0YbX400Ffcm0D6rfQ8Z
x1WFBGJdZ2ewyhedSncDV1JXthY7T3nKPGBjsYBHA9wK1TegabnXm9cIv7Nm4a+Q
Dt5yjTRX1KbqHjswLKSp78rF4pnG3epzjFrwNu6d5Gt3v06IpGYclRg5P99Xh1rO
CEjTxNeU2Tzq1MQE1zHHNeuXyQahuUSttEME0tStZ15On4w6Ag8x8UvTRE3KXZ8W
22g3+HODtLdqCfl/wCS5KcoFF7Cy6n09oAovvmyZGMoH70n+GKgE0jSmwau3oXs2
qwIDAQAB
-----END PUBLIC KEY-----";

    #[test]
    fn a_signature_that_openssl_made_is_good_and_for_this_request_alone() {
        let now = OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap();
        let verified_user = |query_value: &str, signature: &str| {
            let mut consumer = OAuth1Consumer::new("acme", PUBLIC_KEY);
            consumer.two_legged_user = Some("bot".into());
            let mut consumers = OAuth1Store::new(OAuth1Settings {
                consumers: vec![consumer],
                ..OAuth1Settings::default()
            })
            .unwrap();
            let parameters: Vec<(String, String)> = [
                ("a", "2"),
                ("a", query_value),
                ("oauth_consumer_key", "acme"),
                ("oauth_nonce", "n1"),
                ("oauth_signature", signature),
                ("oauth_signature_method", "RSA-SHA1"),
                ("oauth_timestamp", "1800000000"),
                ("oauth_token", ""),
            ]
            .map(|(name, value)| (name.into(), value.into()))
            .into();
            let host = [(http::header::HOST, "jira.example".parse().unwrap())];
            let message = OAuth1Message::new(
                &Method::GET,
                &"/jira/rest/api/2/myself?a=2&a=%20".parse().unwrap(),
                &HeaderMap::from_iter(host),
                &parameters,
                &TomcatConnector::default(),
                "http",
            );
            verify_access(&mut consumers, &message, now).map_err(|problem| problem.code)
        };
        assert_eq!(verified_user(" ", SIGNATURE), Ok("bot".into()));
        assert_eq!(verified_user("+", SIGNATURE), Err("signature_invalid"));
        let other = SIGNATURE.replacen('E', "F", 1);
        assert_eq!(verified_user(" ", &other), Err("signature_invalid"));
        assert_eq!(verified_user(" ", "no base64"), Err("signature_invalid"));
    }
}
