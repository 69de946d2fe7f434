//! One signed request: the `Authorization` header of OAuth 1.0a (RFC 5849 §3.1, §3.5.1). Pure: time and nonce
//! are arguments.

use super::{
    base_string::base_string,
    encode::{OAuthParameter, encode},
    key::{SigningKey, SigningKeyError},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{fmt::Write, sync::Arc};
use zeroize::Zeroizing;

/// Signs for one consumer.
#[derive(Clone)]
pub struct RequestSigner {
    consumer_key: Arc<str>,
    key: Arc<SigningKey>,
}

/// What is signed of a request besides the protocol's own parameters.
pub struct SignedParts<'a> {
    /// HTTP method of the request, as sent.
    pub method: &'a str,
    /// The base string URI, [`SignedUrl::of`](super::SignedUrl::of).
    pub uri: &'a str,
    /// Those of the whole query and of a form-encoded body, decoded.
    pub parameters: &'a [OAuthParameter],
}

/// The protocol's parameters that differ from request to request (§3.1).
pub struct ProtocolParameters<'a> {
    /// `Some("")` where two-legged requests want it present and empty; `None` where there is none yet.
    pub token: Option<&'a str>,
    /// The `oauth_timestamp`, in seconds since 1970.
    pub timestamp: u64,
    /// Never used before with this timestamp.
    pub nonce: &'a str,
    /// Further parameters: `oauth_callback`, `oauth_verifier`, `oauth_session_handle`.
    pub extra: &'a [(&'static str, &'a str)],
}

impl RequestSigner {
    /// `consumer_key` is the name under which Jira's application link knows the public key.
    pub fn new(consumer_key: &str, key: Arc<SigningKey>) -> Self {
        Self {
            consumer_key: consumer_key.into(),
            key,
        }
    }

    /// The value of `Authorization`. It contains the token, so it is zeroed on drop.
    pub fn authorization(
        &self,
        signed: &SignedParts<'_>,
        protocol: &ProtocolParameters<'_>,
    ) -> Result<Zeroizing<String>, SigningKeyError> {
        let own = self.parameters(protocol);
        let base = base_string(
            signed.method,
            signed.uri,
            own.iter().chain(signed.parameters),
        );
        let base = Zeroizing::new(base);
        let signature = STANDARD.encode(self.key.sign(base.as_bytes())?);
        let mut value = Zeroizing::new(String::with_capacity(VALUE_ROOM + signature.len()));
        value.push_str("OAuth ");
        for (name, text) in own.iter() {
            // Writing to a string does not fail.
            let _ = write!(value, "{name}=\"{}\", ", encode(text));
        }
        let _ = write!(value, "oauth_signature=\"{}\"", encode(&signature));
        Ok(value)
    }

    fn parameters(&self, protocol: &ProtocolParameters<'_>) -> Zeroizing<Vec<OAuthParameter>> {
        let mut own = vec![
            (
                "oauth_consumer_key".to_owned(),
                self.consumer_key.to_string(),
            ),
            ("oauth_nonce".to_owned(), protocol.nonce.to_owned()),
            ("oauth_signature_method".to_owned(), METHOD.to_owned()),
            ("oauth_timestamp".to_owned(), protocol.timestamp.to_string()),
            ("oauth_version".to_owned(), "1.0".to_owned()),
        ];
        if let Some(token) = protocol.token {
            own.push(("oauth_token".to_owned(), token.to_owned()));
        }
        for (name, value) in protocol.extra {
            own.push(((*name).to_owned(), (*value).to_owned()));
        }
        Zeroizing::new(own)
    }
}

/// The only method that Jira takes.
const METHOD: &str = "RSA-SHA1";
/// Room for all but the signature, so that the value seldom moves while it grows.
const VALUE_ROOM: usize = 1024;
