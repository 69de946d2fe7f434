//! Keys and whole headers. That others verify what is signed here is shown by the end-to-end tests, with
//! `oauthlib` and OpenSSL.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use rsa::{Pkcs1v15Sign, RsaPublicKey, pkcs8::DecodePublicKey};
use sha1::{Digest, Sha1};
use std::sync::{Arc, LazyLock};

/// Making one takes a while.
static KEY: LazyLock<Arc<SigningKey>> =
    LazyLock::new(|| Arc::new(SigningKey::generate(2048).unwrap()));

fn signed(parameters: &[OAuthParameter]) -> SignedParts<'_> {
    SignedParts {
        method: "GET",
        uri: "https://jira.corp.example/jira/rest/api/2/search",
        parameters,
    }
}

fn protocol(token: Option<&str>) -> ProtocolParameters<'_> {
    ProtocolParameters {
        token,
        timestamp: 1_700_000_000,
        nonce: "n0nce",
        extra: &[],
    }
}

/// Name and decoded value of each parameter of the header.
fn taken_apart(header: &str) -> Vec<OAuthParameter> {
    let list = header.strip_prefix("OAuth ").unwrap();
    let pair = |pair: &str| {
        let (name, value) = pair.split_once('=').unwrap();
        let value = value.strip_prefix('"').unwrap().strip_suffix('"').unwrap();
        // Values are form-decodable, for `+` is always encoded.
        let text = format!("{name}={value}");
        parse(text.as_bytes()).unwrap().remove(0)
    };
    list.split(", ").map(pair).collect()
}

#[test]
fn the_header_holds_the_protocol_and_a_signature_over_all_parameters() {
    let signer = RequestSigner::new("acme \"key\", 1", KEY.clone());
    let query = parse(b"jql=a+%26+b&x&x=1").unwrap();
    let header = signer
        .authorization(&signed(&query), &protocol(Some("t/k+n=")))
        .unwrap();
    let mut found = taken_apart(&header);
    let at = found.iter().position(|p| p.0 == "oauth_signature").unwrap();
    let (_, signature) = found.remove(at);
    let wanted = [
        ("oauth_consumer_key", "acme \"key\", 1"),
        ("oauth_nonce", "n0nce"),
        ("oauth_signature_method", "RSA-SHA1"),
        ("oauth_timestamp", "1700000000"),
        ("oauth_version", "1.0"),
        ("oauth_token", "t/k+n="),
    ];
    assert_eq!(found, wanted.map(|(n, v)| (n.to_owned(), v.to_owned())));
    let all: Vec<_> = found.into_iter().chain(query).collect();
    let base = base_string(
        "GET",
        "https://jira.corp.example/jira/rest/api/2/search",
        &all,
    );
    let public = RsaPublicKey::from_public_key_pem(&KEY.public_pem().unwrap()).unwrap();
    use base64::{Engine, engine::general_purpose::STANDARD};
    let signature = STANDARD.decode(signature).unwrap();
    let digest = Sha1::digest(base.as_bytes());
    public
        .verify(Pkcs1v15Sign::new::<Sha1>(), &digest, &signature)
        .unwrap();
    // Blinded, and yet the same signature each time: PKCS#1 v1.5 has no randomness of its own.
    assert_eq!(KEY.sign(base.as_bytes()).unwrap(), signature);
}

#[test]
fn a_two_legged_token_is_present_and_empty_and_a_missing_one_is_missing() {
    let signer = RequestSigner::new("acme", KEY.clone());
    let header = |token| {
        signer
            .authorization(&signed(&[]), &protocol(token))
            .unwrap()
    };
    assert!(header(Some("")).contains("oauth_token=\"\", "));
    assert!(!header(None).contains("oauth_token"));
}

#[test]
fn a_key_is_read_back_from_what_was_written() {
    let pem = KEY.private_pem().unwrap();
    assert!(pem.expose().starts_with(b"-----BEGIN PRIVATE KEY-----\n"));
    let again = SigningKey::from_pem(pem.expose()).unwrap();
    assert_eq!(again.bits(), 2048);
    assert_eq!(again.public_pem(), KEY.public_pem());
    assert!(
        again
            .public_pem()
            .unwrap()
            .starts_with("-----BEGIN PUBLIC KEY-----\n")
    );
}

#[test]
fn what_is_no_rsa_key_is_told_as_such() {
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    assert_eq!(
        SigningKey::from_pem(ec.as_bytes()).err(),
        Some(SigningKeyError::NotRsa)
    );
    let public = KEY.public_pem().unwrap();
    let error = SigningKey::from_pem(public.as_bytes()).err().unwrap();
    assert!(matches!(error, SigningKeyError::Pem(_)), "{error}");
    let broken = "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    assert_eq!(
        SigningKey::from_pem(broken.as_bytes()).err(),
        Some(SigningKeyError::NotRsa)
    );
}
