//! `api-token`: email address and API token of an Atlassian account, sent as Basic (RFC 7617).

use super::{
    AuthScheme, Concern, CredentialUnavailable, RequestCredential, basic::render,
    credential::FileCredential,
};
use crate::{
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    secret::SecretFile,
};
use futures_util::future::BoxFuture;
use http::request;
use std::time::SystemTime;

pub(super) struct ApiTokenScheme {
    email: String,
    scoped: bool,
    /// From the configuration: Atlassian reports it by mail, but not on the wire.
    configured_expiry: Option<SystemTime>,
    credential: FileCredential,
}

impl ApiTokenScheme {
    pub(super) fn new(
        email: String,
        token_file: SecretFile,
        scoped: bool,
        stated: Option<SystemTime>,
    ) -> Self {
        let name = email.clone();
        let credential =
            FileCredential::new(token_file, move |token| render(&name, token.expose()));
        Self {
            email,
            scoped,
            configured_expiry: stated,
            credential,
        }
    }
}

impl AuthScheme for ApiTokenScheme {
    fn mode(&self) -> &'static str {
        "api-token"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<RequestCredential, CredentialUnavailable>> {
        Box::pin(self.credential.current())
    }

    /// On a site a CAPTCHA follows several failures, as with a password. The API gateway has none.
    fn locks_out(&self) -> bool {
        !self.scoped
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>> {
        Box::pin(self.credential.reload())
    }

    fn version(&self) -> u64 {
        self.credential.generation()
    }

    fn concern(&self) -> Option<Concern> {
        self.credential.concern()
    }

    fn remedy(&self) -> String {
        let kind = match self.scoped {
            true => "with scopes (without scopes it needs scoped = false)",
            false => "without scopes (with scopes it needs scoped = true)",
        };
        format!(
            "check under https://id.atlassian.com/manage-profile/security/api-tokens, as {}, whether the token expired or was revoked and whether it is one {kind}; write a new one into {}",
            self.email,
            self.credential.file().path().display()
        )
    }

    fn expiries(&self) -> Vec<CredentialExpiry> {
        let end = match self.configured_expiry {
            Some(at) => ExpiryTime::At(at),
            None => ExpiryTime::Unknown(
                "Atlassian does not report it; set expires in [forward.auth]".to_owned(),
            ),
        };
        let remedy = format!(
            "make a new API token under https://id.atlassian.com/manage-profile/security/api-tokens, as {}, write it into {}, then revoke the old one; no restart is needed",
            self.email,
            self.credential.file().path().display()
        );
        vec![CredentialExpiry::new(CredentialKind::ApiToken, end, remedy)]
    }
}
