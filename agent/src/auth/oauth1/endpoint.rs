//! Jira's OAuth 1.0a endpoints: the steps of the dance (RFC 5849 §2), and the refresh of a token by its session (OAuth
//! Session extension).

use super::{
    OAuth1Context, OAuth1Problem, RejectedPart, RequestSigner, Settings, SigningKey, encode,
    signing::{UnsignedRequest, sign},
};
use crate::printable::printable;
use crate::{
    auth::{CredentialUnavailable, rotation::OldToken},
    secret::Secret,
    tokens::TokenSet,
    upstream::{ControlAnswer, ControlClient},
};
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use serde::Deserialize;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

/// The endpoints of one Jira, for one consumer.
pub struct OAuth1Endpoints {
    settings: Settings,
    signer: RequestSigner,
}

/// A request token: what a person is sent to Jira with.
pub struct RequestToken {
    /// Goes into the authorize address; no secret by itself.
    pub token: String,
    /// Whether Jira speaks 1.0a here, so that a verifier is needed.
    pub needs_verifier: bool,
}

/// Why Jira issued no token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", .why.cause, .why.remedy)]
pub struct OAuth1Error {
    /// Cause and remedy of the failure.
    pub why: CredentialUnavailable,
    /// What became of the token that was sent.
    pub old_token: OldToken,
}

impl OAuth1Endpoints {
    /// Prepares the client; sends no request yet.
    pub fn new(settings: Settings, key: Arc<SigningKey>) -> Self {
        let signer = RequestSigner::new(&settings.consumer_key, key);
        Self { settings, signer }
    }

    /// A request token (§2.1). `callback` is where Jira sends the browser, or `oob`; `None` asks as OAuth 1.0
    /// did, without verifier.
    pub async fn request_token(&self, callback: Option<&str>) -> Result<RequestToken, OAuth1Error> {
        let extra = callback
            .map(|to| ("oauth_callback", Zeroizing::new(to.to_owned())))
            .into_iter()
            .collect();
        let answer = self
            .post("/plugins/servlet/oauth/request-token", None, extra)
            .await?;
        Ok(RequestToken {
            token: answer.text("oauth_token")?.to_string(),
            needs_verifier: answer.find("oauth_callback_confirmed") == Some("true"),
        })
    }

    /// The address a person opens (§2.2). It is Jira's own, which only browsers inside the network reach.
    pub fn authorize_url(&self, token: &RequestToken) -> String {
        format!(
            "{}/plugins/servlet/oauth/authorize?oauth_token={}",
            self.settings.signed_text(),
            encode::encode(&token.token)
        )
    }

    /// Swaps an authorized request token for an access token (§2.3).
    pub async fn access_token(
        &self,
        token: &RequestToken,
        verifier: Option<&str>,
    ) -> Result<TokenSet, OAuth1Error> {
        let extra = verifier
            .map(|text| ("oauth_verifier", Zeroizing::new(text.to_owned())))
            .into_iter()
            .collect();
        let token = Zeroizing::new(token.token.clone());
        self.post(ACCESS_TOKEN, Some(token), extra).await?.tokens()
    }

    /// Exchanges an access token for the next one, by its session.
    pub async fn refresh(
        &self,
        access: &Secret,
        session: &Secret,
    ) -> Result<TokenSet, OAuth1Error> {
        let session = vec![("oauth_session_handle", text(session))];
        self.post(ACCESS_TOKEN, Some(text(access)), session)
            .await?
            .tokens()
    }

    /// The name of the user that an access token belongs to.
    pub async fn user(&self, access: &Secret) -> Result<String, OAuth1Error> {
        let answer = self
            .send(Method::GET, MYSELF, Some(text(access)), Vec::new())
            .await?;
        let user: Option<TokenUser> = serde_json::from_slice(&answer.body).ok();
        let name = user.and_then(|user| user.name.or(user.email_address).or(user.display_name));
        match name {
            Some(name) if answer.head.status == StatusCode::OK => Ok(printable(&name, MAX_NAME)),
            _ => Err(self.refusal(&answer)),
        }
    }

    async fn post(
        &self,
        path: &str,
        token: Option<Zeroizing<String>>,
        extra: Vec<(&'static str, Zeroizing<String>)>,
    ) -> Result<FormResponse, OAuth1Error> {
        let answer = self.send(Method::POST, path, token, extra).await?;
        if answer.head.status != StatusCode::OK {
            return Err(self.refusal(&answer));
        }
        match encode::parse(answer.body.trim_ascii()) {
            Ok(pairs) => Ok(FormResponse(Zeroizing::new(pairs))),
            Err(_) => Err(unexpected_response(answer.head.status)),
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<Zeroizing<String>>,
        extra: Vec<(&'static str, Zeroizing<String>)>,
    ) -> Result<ControlAnswer, OAuth1Error> {
        let (upstream, target) = (self.settings.upstream.clone(), self.settings.target.clone());
        // Reads the system's certificates.
        let client = tokio::task::spawn_blocking(move || ControlClient::new(&upstream, &target));
        let client = match client.await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(no_response(&error.to_string(), true)),
            Err(_) => return Err(no_response("the agent is ending", true)),
        };
        let mut head = client.head(path);
        head.method = method;
        let request = UnsignedRequest {
            method: head.method.to_string(),
            uri: self.settings.signed_url().of(head.uri.path()),
            parameters: Vec::new(),
            token,
            extra,
        };
        let authorization =
            sign(self.signer.clone(), request)
                .await
                .map_err(|why| OAuth1Error {
                    why,
                    old_token: OldToken::Valid,
                })?;
        let mut authorization = HeaderValue::from_str(&authorization)
            .map_err(|_| no_response("a token is no text", true))?;
        authorization.set_sensitive(true);
        head.headers.insert(header::AUTHORIZATION, authorization);
        let sent = client.send(head, Bytes::new()).await;
        sent.map_err(|failure| no_response(&failure.detail, failure.not_sent))
    }

    fn refusal(&self, answer: &ControlAnswer) -> OAuth1Error {
        match OAuth1Problem::read(&answer.head.headers, &answer.body, SystemTime::now()) {
            Some(problem) => OAuth1Error {
                old_token: match problem.rejected_part() {
                    RejectedPart::Token => OldToken::Invalid,
                    RejectedPart::Credential | RejectedPart::Signature | RejectedPart::Request => {
                        OldToken::Valid
                    }
                },
                why: self.settings.explain(&problem),
            },
            None => unexpected_response(answer.head.status),
        }
    }
}

impl Settings {
    /// What a refusal of Jira's means for this forward.
    pub fn explain(&self, problem: &OAuth1Problem) -> CredentialUnavailable {
        problem.explain(&OAuth1Context {
            consumer_key: &self.consumer_key,
            signed_url: &self.signed_text(),
            key_file: &self.private_key_file.path().display().to_string(),
            new_token: self.new_token().as_deref(),
        })
    }
}

/// A form-encoded answer.
struct FormResponse(Zeroizing<Vec<encode::OAuthParameter>>);

impl FormResponse {
    fn find(&self, name: &str) -> Option<&str> {
        let mut pairs = self.0.iter();
        pairs
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }

    fn text(&self, name: &str) -> Result<Zeroizing<String>, OAuth1Error> {
        let found = self.find(name).filter(|value| !value.is_empty());
        found
            .map(|value| Zeroizing::new(value.to_owned()))
            .ok_or_else(|| unexpected_response(StatusCode::OK))
    }

    fn tokens(&self) -> Result<TokenSet, OAuth1Error> {
        let now = SystemTime::now();
        let secret = |name| {
            self.find(name)
                .filter(|value| !value.is_empty())
                .map(|value| Secret::new(value.as_bytes().to_vec()))
        };
        let after = |name| {
            let seconds = self.find(name)?.parse().ok()?;
            now.checked_add(Duration::from_secs(seconds).min(LONGEST_LIFE))
        };
        self.text("oauth_token")?;
        Ok(TokenSet {
            access: secret("oauth_token"),
            access_secret: secret("oauth_token_secret"),
            access_expires: after("oauth_expires_in"),
            refresh: secret("oauth_session_handle"),
            refresh_expires: after("oauth_authorization_expires_in"),
            obtained: now,
            user: None,
            scope: None,
        })
    }
}

/// Server and Data Center have a name, Cloud the other two.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenUser {
    name: Option<String>,
    email_address: Option<String>,
    display_name: Option<String>,
}

/// Tokens are text: only that is stored.
pub(super) fn text(secret: &Secret) -> Zeroizing<String> {
    Zeroizing::new(String::from_utf8_lossy(secret.expose()).into_owned())
}

fn no_response(detail: &str, not_sent: bool) -> OAuth1Error {
    OAuth1Error {
        why: CredentialUnavailable {
            cause: format!("Jira gave no answer to the token request: {detail}"),
            remedy: "check the jira layer in agent status; the agent retries by itself".to_owned(),
        },
        old_token: match not_sent {
            true => OldToken::Valid,
            false => OldToken::Unknown,
        },
    }
}

fn unexpected_response(status: StatusCode) -> OAuth1Error {
    let status = status.as_u16();
    OAuth1Error {
        why: CredentialUnavailable {
            cause: format!("what answered the token request ({status}) does not speak OAuth 1.0a"),
            remedy: "check upstream and its context path, that application links are not disabled in Jira, and that no single sign-on intercepts /plugins/servlet/oauth".to_owned(),
        },
        old_token: OldToken::Unknown,
    }
}

const ACCESS_TOKEN: &str = "/plugins/servlet/oauth/access-token";
const MYSELF: &str = "/rest/api/2/myself";
/// Characters of a user name shown; Jira allows 255.
const MAX_NAME: usize = 255;
/// A century: longer lifetimes mean never, and must not overflow.
const LONGEST_LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);
