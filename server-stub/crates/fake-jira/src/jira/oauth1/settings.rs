//! The settings of the provider.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rsa::RsaPublicKey;
use rsa::pkcs8::DecodePublicKey;
use serde::Deserialize;

/// The consumers and lifetimes of the OAuth 1.0a provider.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth1Settings {
    /// Consumers of the incoming application links.
    pub consumers: Vec<OAuth1Consumer>,
    /// Lifetime of a request token in seconds. Jira: ten minutes.
    pub request_lifetime: u32,
    /// Lifetime of an access token in seconds. Jira: five years.
    pub access_lifetime: u32,
    /// How long after that the session handle can still refresh it, in seconds. Jira: 30 days.
    pub session_lifetime: u32,
}

/// A consumer, as an administrator registers it in an application link.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth1Consumer {
    /// The consumer key, sent as `oauth_consumer_key`.
    pub key: String,
    /// RSA key as SubjectPublicKeyInfo: PEM, or only its base64, as some screens expect it.
    pub public_key: String,
    /// "Execute as": the user of two-legged requests; absent forbids them.
    #[serde(default)]
    pub two_legged_user: Option<String>,
    /// "Allow user impersonation through 2-legged OAuth".
    #[serde(default)]
    pub impersonation: bool,
}

/// The public key of a consumer is invalid.
#[derive(Debug, thiserror::Error)]
#[error(
    "the public key of the OAuth 1.0a consumer {0} is not an RSA key in PEM (BEGIN PUBLIC KEY); create \
     one with `openssl rsa -in key.pem -pubout`"
)]
pub struct PublicKeyError(String);

impl OAuth1Consumer {
    /// A consumer that may only make three-legged requests.
    pub fn new(key: &str, public_key: &str) -> Self {
        Self {
            key: key.into(),
            public_key: public_key.into(),
            two_legged_user: None,
            impersonation: false,
        }
    }

    pub(super) fn rsa_key(&self) -> Result<RsaPublicKey, PublicKeyError> {
        let base64: String = self
            .public_key
            .lines()
            .filter(|line| !line.starts_with("-----"))
            .flat_map(str::chars)
            .filter(|char| !char.is_ascii_whitespace())
            .collect();
        STANDARD
            .decode(base64)
            .ok()
            .and_then(|der| RsaPublicKey::from_public_key_der(&der).ok())
            .ok_or_else(|| PublicKeyError(self.key.clone()))
    }
}

impl Default for OAuth1Settings {
    fn default() -> Self {
        Self {
            consumers: Vec::new(),
            request_lifetime: 600,
            access_lifetime: 5 * 365 * 86_400,
            session_lifetime: 30 * 86_400,
        }
    }
}
