//! The token endpoint (RFC 6749 §3.2, RFC 7009): what is asked there, and what its answers mean.

use super::{GrantType, Settings, TokenIssuer, granted_scopes};
use crate::printable::printable;
use crate::{
    auth::rotation::OldToken,
    secret::Secret,
    tokens::TokenSet,
    upstream::{ControlAnswer, ControlClient, ControlFailure, HttpTarget},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use serde_json::Value;
use std::time::{Duration, SystemTime};
use url::form_urlencoded::Serializer;
use zeroize::{Zeroize, Zeroizing};

/// The provider's endpoints, asked one thing at a time.
pub struct OAuth2Endpoints {
    settings: Settings,
}

/// Why no token was issued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuth2Error {
    /// One sentence without secrets.
    pub cause: String,
    /// What an administrator does about it.
    pub remedy: String,
    /// State of the code or refresh token that was sent.
    pub old_token: OldToken,
}

impl OAuth2Endpoints {
    /// Prepares the client; sends no request yet.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Tokens for the code that a person's consent gave.
    pub async fn redeem(
        &self,
        code: &str,
        verifier: Option<&Secret>,
    ) -> Result<TokenSet, OAuth2Error> {
        let mut form = TokenRequestForm::new("authorization_code");
        form.add("code", code.as_bytes());
        form.add("redirect_uri", self.settings.redirect_uri.as_bytes());
        if let Some(verifier) = verifier {
            form.add("code_verifier", verifier.expose());
        }
        let tokens = self.tokens(form).await?;
        let life = self.settings.provider.login_life();
        let tokens = self.with_requested_scope(tokens);
        Ok(TokenSet {
            refresh_expires: life.and_then(|life| tokens.obtained.checked_add(life)),
            ..tokens
        })
    }

    /// The next tokens. If the provider rotates, the old refresh token is no longer valid.
    pub async fn refresh(&self, token: &Secret) -> Result<TokenSet, OAuth2Error> {
        let mut form = TokenRequestForm::new("refresh_token");
        form.add("refresh_token", token.expose());
        self.tokens(form).await
    }

    /// A token for the client itself.
    pub async fn client_credentials(&self) -> Result<TokenSet, OAuth2Error> {
        let mut form = TokenRequestForm::new("client_credentials");
        form.add("scope", self.settings.scope.as_bytes());
        Ok(self.with_requested_scope(self.tokens(form).await?))
    }

    /// An answer without a scope grants what was requested (RFC 6749 §5.1).
    fn with_requested_scope(&self, tokens: TokenSet) -> TokenSet {
        TokenSet {
            scope: tokens.scope.or_else(|| Some(self.settings.scope.clone())),
            ..tokens
        }
    }

    /// Takes a refresh token, and what was issued with it, back (RFC 7009).
    pub async fn revoke(&self, token: &Secret) -> Result<(), OAuth2Error> {
        let Some(url) = &self.settings.revoke_url else {
            return Err(OAuth2Error {
                cause: "this provider has no way to revoke a token".to_owned(),
                remedy: "the person who consented removes the app under https://id.atlassian.com/manage-profile/apps".to_owned(),
                old_token: OldToken::Valid,
            });
        };
        let mut form = TokenRequestForm::empty();
        form.add("token", token.expose());
        form.add("token_type_hint", b"refresh_token");
        let answer = self.post(url, form).await?;
        match answer.head.status {
            StatusCode::OK => Ok(()),
            _ => Err(self.refusal(&answer)),
        }
    }

    async fn tokens(&self, form: TokenRequestForm) -> Result<TokenSet, OAuth2Error> {
        let answer = self.post(&self.settings.token_url, form).await?;
        if answer.head.status != StatusCode::OK {
            return Err(self.refusal(&answer));
        }
        let now = SystemTime::now();
        let Some(tokens) = TokenResponse::read(&answer.body).map(|read| read.tokens(now)) else {
            return Err(OAuth2Error {
                cause: format!(
                    "{} answered 200 without a usable bearer token",
                    self.issuer_name()
                ),
                remedy: "check token_url: something else than the token endpoint may answer there"
                    .to_owned(),
                // If it was the token endpoint after all, the old token is gone.
                old_token: OldToken::Unknown,
            });
        };
        Ok(tokens)
    }

    async fn post(
        &self,
        url: &HttpTarget,
        mut form: TokenRequestForm,
    ) -> Result<ControlAnswer, OAuth2Error> {
        let settings = self.settings.clone();
        let target = url.clone();
        // Reads a file, and at the first time the system's certificates.
        let disk = self.settings.store.disk();
        let ready = disk.run(move || {
            let secret = settings.client_secret_file.read();
            let client = ControlClient::for_host(&settings.upstream, &target);
            (secret, client)
        });
        let (secret, client) = ready.await.map_err(|error| self.unsent(&error))?;
        let secret = secret.map_err(|error| self.unsent(&error))?;
        let client = client.map_err(|error| self.unsent(&error))?;
        form.add("client_id", self.settings.client_id.as_bytes());
        form.add("client_secret", secret.expose());
        let mut head = client.head("");
        head.method = Method::POST;
        head.headers.insert(header::CONTENT_TYPE, FORM_TYPE);
        client.send(head, form.finish()).await.map_err(|failure| {
            let ControlFailure {
                detail, not_sent, ..
            } = failure;
            OAuth2Error {
                cause: format!("the token endpoint {url} gave no answer: {detail}"),
                remedy: "check that this host reaches it: curl -v with the same address".to_owned(),
                old_token: match not_sent {
                    true => OldToken::Valid,
                    false => OldToken::Unknown,
                },
            }
        })
    }

    fn unsent(&self, why: &dyn std::fmt::Display) -> OAuth2Error {
        OAuth2Error {
            cause: why.to_string(),
            remedy: "see: agent config show".to_owned(),
            old_token: OldToken::Valid,
        }
    }

    /// What an answer other than 200 means.
    fn refusal(&self, answer: &ControlAnswer) -> OAuth2Error {
        let status = answer.head.status;
        let reported: TokenErrorResponse = serde_json::from_slice(&answer.body).unwrap_or_default();
        let who = self.issuer_name();
        let code = printable_error(&reported.error);
        let description = printable_error(&reported.error_description);
        let detail = match (code.as_str(), description.as_str()) {
            ("", _) => format!("{status}"),
            (code, "") => format!("{code}, {status}"),
            (code, description) => format!("{code}, {status}: {description}"),
        };
        let error = |cause: String, remedy: String, old_token| OAuth2Error {
            cause,
            remedy,
            old_token,
        };
        let is_about_refresh_token = description.to_ascii_lowercase().contains("refresh_token");
        match code.as_str() {
            "invalid_grant" => error(
                format!("{who} rejected the token or code ({detail})"),
                format!("log in again: {}", self.settings.login_command()),
                OldToken::Invalid,
            ),
            // Atlassian's Cloud reports the same this way.
            "unauthorized_client" if is_about_refresh_token => error(
                format!("{who} rejected the refresh token ({detail})"),
                format!("log in again: {}", self.settings.login_command()),
                OldToken::Invalid,
            ),
            "unauthorized_client" if self.settings.grant == GrantType::ClientCredentials => error(
                format!("{who} does not let this client log in by itself ({detail})"),
                "grant = \"client_credentials\" needs a service account on the application link (Data Center); set one there, or use grant = \"authorization_code\"".to_owned(),
                OldToken::Valid,
            ),
            "invalid_client" | "unauthorized_client" | "access_denied" => error(
                format!(
                    "{who} does not know the client {:?}, or the secret is wrong ({detail})",
                    self.settings.client_id
                ),
                format!(
                    "compare client_id and {} with what {}; a changed file is picked up by itself",
                    self.settings.client_secret_file.path().display(),
                    self.credentials_page()
                ),
                OldToken::Valid,
            ),
            "invalid_scope" => error(
                format!(
                    "{who} does not grant the scope {:?} ({detail})",
                    self.settings.scope
                ),
                match self.settings.provider {
                    TokenIssuer::DataCenter => "set scope to READ or WRITE, not above what the application link allows",
                    TokenIssuer::Cloud => "give the app these permissions in the developer console, or correct scope",
                }
                .to_owned(),
                OldToken::Valid,
            ),
            "unsupported_grant_type" | "unsupported_response_type" => error(
                format!("{who} does not know this grant ({detail})"),
                "grant = \"client_credentials\" needs a Data Center with service accounts; use \"authorization_code\"".to_owned(),
                OldToken::Valid,
            ),
            "" => self.unexpected_response(status, &detail),
            _ => error(
                format!("{who} refuses the request ({detail})"),
                match description.to_ascii_lowercase().contains("https") {
                    true => "Jira insists on HTTPS: its base URL and redirect_uri must begin with https://",
                    false => "compare redirect_uri and scope with the application link",
                }
                .to_owned(),
                OldToken::Valid,
            ),
        }
    }

    /// What answered did not speak OAuth.
    fn unexpected_response(&self, status: StatusCode, detail: &str) -> OAuth2Error {
        let url = &self.settings.token_url;
        let (what, remedy, old_token) = match status {
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => (
                "there is no token endpoint",
                "OAuth 2.0 needs Jira 8.22 or later; check upstream and its context path, or set token_url",
                OldToken::Valid,
            ),
            StatusCode::TOO_MANY_REQUESTS => (
                "the provider limits the rate",
                "wait; the agent retries by itself",
                OldToken::Valid,
            ),
            status if status.is_redirection() => (
                "what answers redirects elsewhere",
                "write the address that it redirects to into upstream or token_url",
                OldToken::Valid,
            ),
            status if status.is_server_error() => (
                "Jira, or a proxy before it, failed",
                "check Jira's log; the agent retries by itself",
                // It may have failed after it had rotated.
                OldToken::Unknown,
            ),
            _ => (
                "what answers is no token endpoint",
                "check token_url, and whether a proxy in front of Jira demands its own login",
                OldToken::Valid,
            ),
        };
        OAuth2Error {
            cause: format!("{url}: {what} ({detail})"),
            remedy: remedy.to_owned(),
            old_token,
        }
    }

    fn issuer_name(&self) -> &'static str {
        match self.settings.provider {
            TokenIssuer::DataCenter => "Jira",
            TokenIssuer::Cloud => "Atlassian",
        }
    }

    fn credentials_page(&self) -> &'static str {
        match self.settings.provider {
            TokenIssuer::DataCenter => {
                "Jira shows under Administration, Applications, Application links, View credentials"
            }
            TokenIssuer::Cloud => "the developer console shows under Settings",
        }
    }
}

/// A form with secrets in it, zeroed when it has been sent.
struct TokenRequestForm(Zeroizing<String>);

impl TokenRequestForm {
    /// Room for everything at once: growing would leave unzeroed copies behind.
    fn empty() -> Self {
        Self(Zeroizing::new(String::with_capacity(FORM)))
    }

    fn new(grant: &str) -> Self {
        let mut form = Self::empty();
        form.add("grant_type", grant.as_bytes());
        form
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        // A secret with bytes that are no text is none that a server gave.
        Serializer::new(&mut *self.0).append_pair(name, &String::from_utf8_lossy(value));
    }

    fn finish(mut self) -> Bytes {
        Bytes::from_owner(Zeroizing::new(std::mem::take(&mut *self.0).into_bytes()))
    }
}

/// RFC 6749 §5.1.
#[derive(Deserialize)]
struct TokenResponse {
    access_token: PlaintextToken,
    token_type: Option<String>,
    expires_in: Option<u64>,
    refresh_token: Option<PlaintextToken>,
    scope: Option<Value>,
}

impl TokenResponse {
    /// `None`: no usable bearer token.
    fn read(body: &[u8]) -> Option<Self> {
        let response: Self = serde_json::from_slice(body).ok()?;
        let is_usable = response.is_bearer() && response.access_token.is_header_text();
        is_usable.then_some(response)
    }

    fn tokens(self, now: SystemTime) -> TokenSet {
        TokenSet {
            access: Some(self.access_token.into_secret()),
            access_secret: None,
            access_expires: self
                .expires_in
                .filter(|life| *life >= SHORTEST_LIFE)
                .and_then(|life| now.checked_add(Duration::from_secs(life).min(LONGEST_LIFE))),
            refresh: self.refresh_token.map(PlaintextToken::into_secret),
            refresh_expires: None,
            obtained: now,
            user: None,
            scope: granted_scopes::reported(self.scope.as_ref()),
        }
    }

    fn is_bearer(&self) -> bool {
        let kind = self.token_type.as_deref().unwrap_or("bearer");
        kind.eq_ignore_ascii_case("bearer")
    }
}

/// A token on its way out of an answer.
#[derive(Deserialize)]
struct PlaintextToken(String);

impl PlaintextToken {
    fn is_header_text(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|b| b.is_ascii_graphic())
    }

    fn into_secret(mut self) -> Secret {
        Secret::new(std::mem::take(&mut self.0).into_bytes())
    }
}

impl Drop for PlaintextToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// RFC 6749 §5.2.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenErrorResponse {
    error: String,
    error_description: String,
}

/// The part of a foreign text that a message may contain. A long run without a space could be our token, echoed.
fn printable_error(text: &str) -> String {
    let words = text.split_whitespace().map(|word| match word.len() {
        0..=MAX_WORD => word,
        _ => "…",
    });
    let text = words.collect::<Vec<_>>().join(" ");
    printable(&text, MAX_TEXT)
}

const FORM_TYPE: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
/// Bytes; Cloud's tokens are 2 KiB each.
const FORM: usize = 16 << 10;
/// Seconds. A token that has expired on arrival would be refreshed back to back: one with a shorter lifetime is used
/// until it is rejected.
const SHORTEST_LIFE: u64 = 10;
/// Longer lifetimes are not meant, and the sum with the clock must not overflow.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Characters of a foreign text shown, and bytes of a word in it. The longest word that means
/// anything is `unsupported_response_type`.
const MAX_TEXT: usize = 200;
const MAX_WORD: usize = 32;

#[cfg(any(test, fuzzing))]
pub(in crate::auth) mod fuzz_properties {
    use super::*;
    use http::HeaderValue;

    /// The token fits into a header, and what the service says of an error is printable and has a bound.
    pub(in crate::auth) fn token_answer(body: &[u8]) {
        if let Some(response) = TokenResponse::read(body) {
            let tokens = response.tokens(SystemTime::now());
            let access = tokens.access.as_ref().map(|token| token.expose().to_vec());
            let fits = access.is_some_and(|token| HeaderValue::from_bytes(&token).is_ok());
            assert!(fits, "an access token that fits into no header");
        }
        let reported: TokenErrorResponse = serde_json::from_slice(body).unwrap_or_default();
        for text in [&reported.error, &reported.error_description] {
            let shown = printable_error(text);
            assert!(!shown.chars().any(char::is_control) && shown.len() < 4096);
        }
    }
}
