//! What `mode = "oauth1"` needs to know.

use super::SignedUrl;
use crate::{
    secret::SecretFile,
    tokens::{TokenOwner, TokenStore},
    upstream::{self, HttpTarget},
};

/// `[forward.auth]` with `mode = "oauth1"`.
#[derive(Clone)]
pub struct Settings {
    /// The agent's name in Jira's application link.
    pub consumer_key: String,
    /// PEM file with the RSA private key; its public half is in the application link.
    pub private_key_file: SecretFile,
    /// Where the access token comes from.
    pub token: AccessTokenSource,
    /// `signed_base_url`: how Jira sees its own address, where a proxy between changes that.
    pub signed_base: Option<HttpTarget>,
    /// Jira, as the configuration names it.
    pub target: HttpTarget,
    /// The way there, which token requests share.
    pub upstream: upstream::Settings,
}

/// Where the access token comes from.
#[derive(Clone)]
pub enum AccessTokenSource {
    /// `agent login` stored it.
    Login(TokenStore),
    /// The token is read from `access_token_file`.
    File(SecretFile),
    /// `two_legged = true`: there is none, and Jira's link names the user.
    TwoLegged,
}

impl Settings {
    /// What signatures are made over.
    pub fn signed_url(&self) -> SignedUrl {
        SignedUrl::new(&self.target, self.signed_base.as_ref())
    }

    /// Whose tokens are to be used: those of another consumer or Jira are not ours.
    pub fn owner(&self) -> TokenOwner {
        TokenOwner {
            mode: "oauth1".to_owned(),
            client: self.consumer_key.clone(),
            issuer: self.target.to_string(),
        }
    }

    /// How an administrator gets another access token; `None` for two-legged requests.
    pub fn new_token(&self) -> Option<String> {
        match &self.token {
            AccessTokenSource::Login(store) => Some(format!("run agent login {}", store.forward())),
            AccessTokenSource::File(file) => {
                Some(format!("write a new one into {}", file.path().display()))
            }
            AccessTokenSource::TwoLegged => None,
        }
    }

    /// The signed address for people: `https://jira.corp.example/jira`.
    pub fn signed_text(&self) -> String {
        self.signed_base
            .as_ref()
            .unwrap_or(&self.target)
            .to_string()
    }
}
