//! An OAuth 1.0a consumer for the tests: a key pair, and requests signed with it.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use fake_jira::jira::RunningJira;
use rcgen::{KeyPair, PKCS_RSA_SHA256, PublicKeyData};
use reqwest::{Method, RequestBuilder, Url};
use rsa::RsaPrivateKey;
use rsa::pkcs1v15::SigningKey;
use rsa::pkcs8::DecodePrivateKey;
use rsa::signature::{SignatureEncoding, Signer as _};
use sha1::Sha1;

use crate::client::request;

/// A consumer.
pub(crate) struct Consumer {
    pub key: String,
    pub public_key: String,
    private_key: SigningKey<Sha1>,
}

/// A request to be signed; tests change its fields to make it invalid.
pub(crate) struct Signing<'a> {
    pub consumer: &'a Consumer,
    pub method: Method,
    /// The URL that the signature covers.
    pub url: String,
    /// Parameters of a form body.
    pub form: Vec<(String, String)>,
    /// Parameters of the header.
    pub oauth: Vec<(String, String)>,
}

impl Consumer {
    pub(crate) fn new(key: &str) -> Self {
        let pair = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
        let private = RsaPrivateKey::from_pkcs8_der(&pair.serialize_der()).unwrap();
        Self {
            key: key.into(),
            public_key: STANDARD.encode(pair.subject_public_key_info()),
            private_key: SigningKey::new(private),
        }
    }

    /// A request below the context path, over the URL where Jira listens, with an empty token.
    pub(crate) fn sign(&self, jira: &RunningJira, method: Method, path: &str) -> Signing<'_> {
        static NONCE: AtomicU32 = AtomicU32::new(0);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let oauth = [
            ("oauth_consumer_key", self.key.clone()),
            ("oauth_token", String::new()),
            ("oauth_signature_method", "RSA-SHA1".into()),
            ("oauth_timestamp", now.as_secs().to_string()),
            (
                "oauth_nonce",
                NONCE.fetch_add(1, Ordering::Relaxed).to_string(),
            ),
            ("oauth_version", "1.0".into()),
        ];
        Signing {
            consumer: self,
            method,
            url: format!("{}{path}", jira.url),
            form: Vec::new(),
            oauth: oauth.map(|(name, value)| (name.into(), value)).into(),
        }
    }
}

impl Signing<'_> {
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.oauth.retain(|(known, _)| known != name);
        self.oauth.push((name.into(), value.into()));
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.oauth.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn form(mut self, pairs: &[(&str, &str)]) -> Self {
        self.form
            .extend(pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())));
        self
    }

    /// The value of the `Authorization` header.
    pub(crate) fn header(&self) -> String {
        let fields: Vec<String> = self
            .oauth
            .iter()
            .chain([&("oauth_signature".to_owned(), self.signature())])
            .map(|(name, value)| format!("{name}=\"{}\"", strict(value)))
            .collect();
        format!("OAuth realm=\"not%20signed\", {}", fields.join(", "))
    }

    /// The oauth parameters and the signature, for a query or a form.
    pub(crate) fn pairs(&self) -> Vec<(String, String)> {
        let mut pairs = self.oauth.clone();
        pairs.push(("oauth_signature".into(), self.signature()));
        pairs
    }

    /// Sends the request to Jira, whatever URL was signed.
    pub(crate) fn request(&self, jira: &RunningJira, path: &str) -> RequestBuilder {
        let request =
            request(jira, self.method.clone(), path).header("authorization", self.header());
        if self.form.is_empty() {
            request
        } else {
            request.form(&self.form)
        }
    }

    fn signature(&self) -> String {
        let url = Url::parse(&self.url).unwrap();
        let mut pairs: Vec<(String, String)> = url
            .query_pairs()
            .map(|(name, value)| (name.into_owned(), value.into_owned()))
            .chain(self.form.iter().cloned())
            .chain(self.oauth.iter().cloned())
            .map(|(name, value)| (strict(&name), strict(&value)))
            .collect();
        pairs.sort();
        let pairs: Vec<String> = pairs.iter().map(|(n, v)| format!("{n}={v}")).collect();
        let bare = self.url.split('?').next().unwrap();
        let base = [self.method.as_str(), bare, &pairs.join("&")].map(strict);
        let signature = self.consumer.private_key.sign(base.join("&").as_bytes());
        STANDARD.encode(signature.to_bytes())
    }
}

/// Escapes all but unreserved characters.
fn strict(text: &str) -> String {
    let unreserved = |char: char| char.is_ascii_alphanumeric() || "-._~".contains(char);
    text.chars()
        .map(|char| {
            if unreserved(char) {
                char.to_string()
            } else {
                let mut bytes = [0; 4];
                let bytes = char.encode_utf8(&mut bytes).bytes();
                bytes.map(|byte| format!("%{byte:02X}")).collect()
            }
        })
        .collect()
}
