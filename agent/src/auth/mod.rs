//! Who the request is toward Jira: the vendor's own credential untouched, or ours put in its place.
//!
//! One file per mode. What is common to the injecting modes is written once: `strip` takes the
//! vendor's identity away, `circuit` stops a refused login from being tried again, `identity`
//! reads from Jira's answer whom it took us for, `inject` joins them around a [`Scheme`]. A new
//! injecting mode is one new file with a `Scheme`, its settings here, and a line in [`Login::new`].

mod api_token;
mod basic;
mod circuit;
mod credential;
mod form;
mod identity;
mod inject;
pub mod oauth1;
pub mod oauth2;
mod pass_through;
mod pat;
mod strip;
mod watched;

pub use form::{FormBody, MAX_FORM};

use crate::{expiry::Expiry, secret::SecretFile, status::Layer};
use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode, request, response};
use std::{sync::Arc, time::SystemTime};

/// `[forward.auth]`.
#[derive(Clone)]
pub enum Settings {
    /// Every scheme of the vendor goes through untouched.
    PassThrough,
    /// User name and password, held by the agent.
    Basic {
        /// Jira user name; no colon (RFC 7617 §2).
        username: String,
        /// File with the password.
        password_file: SecretFile,
    },
    /// Email address and API token of an Atlassian account, held by the agent.
    ApiToken {
        /// Email address; no colon (RFC 7617 §2).
        email: String,
        /// File with the token.
        token_file: SecretFile,
        /// Whether it is one with scopes, which Cloud takes behind its API gateway alone.
        scoped: bool,
        /// When it ends, as the configuration says.
        expires: Option<SystemTime>,
    },
    /// Personal access token, held by the agent.
    Pat {
        /// File with the token.
        token_file: SecretFile,
        /// When it ends, where the configuration says so; else Jira is asked.
        expires: Option<SystemTime>,
    },
    /// OAuth 2.0, tokens held and renewed by the agent.
    OAuth2(Box<oauth2::Settings>),
    /// Requests signed by OAuth 1.0a, with a key held by the agent.
    OAuth1(Box<oauth1::Settings>),
}

impl Settings {
    /// As in the configuration.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::PassThrough => "pass-through",
            Self::Basic { .. } => "basic",
            Self::Pat { .. } => "pat",
            Self::ApiToken { .. } => "api-token",
            Self::OAuth2(_) => "oauth2",
            Self::OAuth1(_) => "oauth1",
        }
    }

    /// The files that hold its secrets, as configured.
    pub fn secret_files(&self) -> Vec<SecretFile> {
        match self {
            Self::PassThrough => Vec::new(),
            Self::Basic { password_file, .. } => vec![password_file.clone()],
            Self::Pat { token_file, .. } | Self::ApiToken { token_file, .. } => {
                vec![token_file.clone()]
            }
            Self::OAuth2(settings) => std::iter::once(settings.client_secret_file.clone())
                .chain(settings.refresh_token_file.clone())
                .collect(),
            Self::OAuth1(settings) => match &settings.token {
                oauth1::TokenFrom::File(token) => {
                    vec![settings.private_key_file.clone(), token.clone()]
                }
                _ => vec![settings.private_key_file.clone()],
            },
        }
    }

    /// Whether `agent login` is what gives it its tokens.
    pub fn stores_tokens(&self) -> bool {
        match self {
            Self::OAuth2(settings) => settings.grant == oauth2::Grant::AuthorizationCode,
            Self::OAuth1(settings) => matches!(settings.token, oauth1::TokenFrom::Login(_)),
            Self::PassThrough | Self::Basic { .. } | Self::Pat { .. } | Self::ApiToken { .. } => {
                false
            }
        }
    }
}

/// An injecting mode: gives the `Authorization` value for one request.
pub trait Scheme: Send + Sync {
    /// As in the configuration: `basic`, `pat`, …
    fn mode(&self) -> &'static str;
    /// The header to send. Reads or refreshes the credential as needed, with a deadline of its own.
    /// `head` is the request as it goes to Jira, the vendor's identity already taken out.
    fn authorization<'a>(
        &'a self,
        head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<Credential, Unavailable>>;
    /// The user Jira must name in its answers, where the configuration names one.
    fn expected_user(&self) -> Option<&str> {
        None
    }
    /// Whether Jira locks the account after a few refusals. If so, a refused credential is never
    /// tried again by itself.
    fn locks_out(&self) -> bool;
    /// What an administrator does when Jira refuses the credential.
    fn remedy(&self) -> String;
    /// Refuses a request that this mode cannot log in for.
    fn accept(&self, _head: &request::Parts) -> Result<(), Refusal> {
        Ok(())
    }
    /// What a refusal of Jira's means, where this mode has words of its own for it; `None` leaves the
    /// answer to be read as in every mode. `body` may be empty.
    fn told(&self, _head: &response::Parts, _body: &[u8]) -> Option<Told> {
        None
    }
    /// When what it holds ends, as far as that is known: one for each credential. Called by status,
    /// so it neither waits nor reads a file.
    fn expiries(&self) -> Vec<Expiry> {
        Vec::new()
    }
    /// Whether a refused credential can be replaced by another one at once, without a person.
    fn renews(&self) -> bool {
        false
    }
    /// Jira refused the credential of this generation; `proven` is whether it had taken it before.
    /// True: there is another one now. An error says why there is none although there should be. With a
    /// deadline of its own.
    fn renew(&self, _refused: u64, _proven: bool) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Completes when nothing is under way that would be lost with the process.
    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    /// Where Jira itself tells the end of the credential: a path below the context path, to be asked
    /// for with that credential. `None` where there is no such place, or while it is not time to ask.
    fn expiry_question(&self) -> Option<&'static str> {
        None
    }
    /// Jira's answer to it; `generation` is that of the credential it was asked with.
    fn expiry_answer(&self, generation: u64, status: StatusCode, body: &[u8]) {
        let _ = (generation, status, body);
    }
}

/// What a [`Scheme`] gives for one request.
#[derive(Clone)]
pub struct Credential {
    /// The `Authorization` value, marked sensitive.
    pub authorization: HeaderValue,
    /// Rises whenever the credential itself is another one, and never falls: a refusal of one
    /// generation says nothing about the next.
    pub generation: u64,
}

/// A refusal of Jira's in the words of a [`Scheme`].
pub struct Told {
    /// Cause and remedy.
    pub why: Unavailable,
    /// What was refused.
    pub blame: Blame,
}

/// What was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The credential: no other request fares better.
    Credential,
    /// The token in it, which may be renewed.
    Token,
    /// This request or the credential: one that Jira has taken before is not to blame.
    Signature,
    /// This request alone.
    Request,
}

/// The agent has no credential to send right now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct Unavailable {
    /// What is wrong, without the secret.
    pub cause: String,
    /// What an administrator does about it.
    pub remedy: String,
}

/// A request that must not be sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The query or a form tries to choose another identity; names the parameter, never its value.
    ForeignIdentity(String),
    /// A form-encoded body, which can choose another identity, that cannot be looked through; says why.
    FormBody(&'static str),
    /// The query can be read in more than one way, and so not be signed; says why.
    AmbiguousQuery(&'static str),
    /// No credential, or the circuit is open.
    Unavailable(Unavailable),
}

/// What Jira's answer says about our login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing wrong.
    Fine,
    /// Jira took us for somebody else or nobody: the answer must not reach the vendor as a success.
    LoginFailed {
        /// What Jira said, one sentence.
        cause: String,
        /// What an administrator does about it.
        remedy: String,
    },
}

/// The login of one forward. Clones share circuit and credential.
#[derive(Clone)]
pub struct Login(Mode);

#[derive(Clone)]
enum Mode {
    PassThrough(Arc<pass_through::PassThrough>),
    Inject(Arc<inject::Inject>),
}

/// One prepared request on its way. Dropped unobserved (nothing came back) it says nothing about the
/// login, and lets the next request try it.
pub struct Attempt(Way);

enum Way {
    PassThrough(Arc<pass_through::PassThrough>),
    Inject(inject::Attempt),
}

impl Login {
    /// `layer` is the login layer of this forward's status.
    pub fn new(settings: Settings, layer: Arc<Layer>) -> Self {
        let scheme: Box<dyn Scheme> = match settings {
            Settings::PassThrough => {
                let way = pass_through::PassThrough::new(layer);
                return Self(Mode::PassThrough(Arc::new(way)));
            }
            Settings::Basic {
                username,
                password_file,
            } => Box::new(basic::Basic::new(username, password_file)),
            Settings::ApiToken {
                email,
                token_file,
                scoped,
                expires,
            } => Box::new(api_token::ApiToken::new(email, token_file, scoped, expires)),
            Settings::Pat {
                token_file,
                expires,
            } => Box::new(pat::Pat::new(token_file, expires)),
            Settings::OAuth2(settings) => Box::new(oauth2::OAuth2::new(*settings)),
            Settings::OAuth1(settings) => Box::new(oauth1::OAuth1::new(*settings)),
        };
        Self(Mode::Inject(Arc::new(inject::Inject::new(scheme, layer))))
    }

    /// As in the configuration.
    pub fn mode(&self) -> &'static str {
        match &self.0 {
            Mode::PassThrough(_) => "pass-through",
            Mode::Inject(inject) => inject.mode(),
        }
    }

    /// Whether the agent puts a credential of its own into requests.
    pub fn injects(&self) -> bool {
        matches!(self.0, Mode::Inject(_))
    }

    /// When its credentials end, as far as that is known. In pass-through they are the vendor's.
    pub fn expiries(&self) -> Vec<Expiry> {
        match &self.0 {
            Mode::PassThrough(_) => Vec::new(),
            Mode::Inject(inject) => inject.expiries(),
        }
    }

    /// Whether the body is a form that has to be read ahead, up to [`MAX_FORM`], and put into the head's
    /// extensions as a [`FormBody`] before [`prepare`](Self::prepare). Never in pass-through mode.
    pub fn reads_form(&self, head: &request::Parts) -> Result<bool, Refusal> {
        match &self.0 {
            Mode::PassThrough(_) => Ok(false),
            Mode::Inject(_) => form::must_be_read(head),
        }
    }

    /// The refusal of a form that turned out longer than [`MAX_FORM`] while it was read.
    pub fn form_too_long(&self) -> Refusal {
        form::too_long()
    }

    /// What to ask Jira for with the credential, below the context path, to learn when it ends. `None`
    /// where there is nothing to ask, or while it is not time to. The answer goes to
    /// [`Attempt::learn`].
    pub fn expiry_question(&self) -> Option<&'static str> {
        match &self.0 {
            Mode::PassThrough(_) => None,
            Mode::Inject(inject) => inject.expiry_question(),
        }
    }

    /// Why nothing is sent, where Jira refused the credential and nothing has changed since.
    pub fn refused(&self) -> Option<Unavailable> {
        match &self.0 {
            Mode::PassThrough(_) => None,
            Mode::Inject(inject) => inject.refused(),
        }
    }

    /// Strips the vendor's identity and puts ours in; in pass-through mode touches nothing.
    ///
    /// Until Jira has accepted a credential that can lock the account once, one request at a time is let
    /// through and the others wait for its outcome, half a minute at most: several at once with a wrong
    /// password would lock it. Tokens, which lock nothing, are tried by all at once.
    pub async fn prepare(&self, head: &mut request::Parts) -> Result<Attempt, Refusal> {
        match &self.0 {
            Mode::PassThrough(way) => Ok(Attempt(Way::PassThrough(way.clone()))),
            Mode::Inject(inject) => {
                let attempt = inject.clone().prepare(head).await?;
                Ok(Attempt(Way::Inject(attempt)))
            }
        }
    }

    /// Like [`prepare`](Self::prepare) for a probe of our own, which alone may try a refused
    /// credential again, where that is harmless and its time has come. It never waits for another
    /// request. In pass-through mode there is nothing to probe with: `None`.
    pub async fn prepare_probe(
        &self,
        head: &mut request::Parts,
    ) -> Result<Option<Attempt>, Refusal> {
        match &self.0 {
            Mode::PassThrough(_) => Ok(None),
            Mode::Inject(inject) => {
                let attempt = inject.clone().prepare_probe(head).await?;
                Ok(attempt.map(|attempt| Attempt(Way::Inject(attempt))))
            }
        }
    }

    /// Whether a refused credential can be replaced at once, so that keeping a request for a second
    /// sending is worth it.
    pub fn renews(&self) -> bool {
        match &self.0 {
            Mode::PassThrough(_) => false,
            Mode::Inject(inject) => inject.renews(),
        }
    }

    /// Completes when nothing is under way that would be lost with the process.
    pub async fn settle(&self) {
        if let Mode::Inject(inject) = &self.0 {
            inject.finish().await;
        }
    }

    /// An administrator says that the credential may be tried again.
    pub fn reset(&self) {
        if let Mode::Inject(inject) = &self.0 {
            inject.reset();
        }
    }
}

impl Attempt {
    /// Whether Jira refused our credential and there is another one now, renewed just now or by
    /// somebody else meanwhile: the request may be prepared and sent anew, if nothing else forbids it.
    /// `body` may be empty. Ask before [`observe`](Self::observe), which then calls the refusal by that name.
    pub async fn renewed(&mut self, head: &response::Parts, body: &[u8]) -> bool {
        match &mut self.0 {
            Way::PassThrough(_) => false,
            Way::Inject(attempt) => attempt.renewed(head, body).await,
        }
    }

    /// Looks at the head of Jira's answer: strips `Set-Cookie`, opens the circuit, notices silent
    /// anonymity. In pass-through mode changes nothing and finds nothing wrong.
    pub fn observe(self, head: &mut response::Parts) -> Verdict {
        self.observe_with(head, &[])
    }

    /// Takes the answer to [`Login::expiry_question`]. It says nothing about the login: a Jira that keeps
    /// its list of tokens to itself is no reason to stop.
    pub fn learn(self, status: StatusCode, body: &[u8]) {
        if let Way::Inject(attempt) = self.0 {
            attempt.learn(status, body);
        }
    }

    /// Like [`observe`](Self::observe), for an answer whose body was read too.
    pub fn observe_with(self, head: &mut response::Parts, body: &[u8]) -> Verdict {
        match self.0 {
            Way::PassThrough(way) => {
                way.observe(head);
                Verdict::Fine
            }
            Way::Inject(attempt) => attempt.observe(head, body),
        }
    }
}

impl Refusal {
    /// A stable word for it: `foreign-identity`, `form-body`, `ambiguous-query`, `login-unavailable`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ForeignIdentity(_) => "foreign-identity",
            Self::FormBody(_) => "form-body",
            Self::AmbiguousQuery(_) => "ambiguous-query",
            Self::Unavailable(_) => "login-unavailable",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ForeignIdentity(parameter) => write!(
                f,
                "the parameter {parameter} chooses an identity, which is the customer's to choose here; leave it out"
            ),
            Self::FormBody(why) => write!(
                f,
                "a form-encoded body can choose an identity, which is the customer's to choose here, and this one cannot be looked through: {why}"
            ),
            Self::AmbiguousQuery(why) => write!(
                f,
                "the query can be read in more than one way, so that a signature over it would not verify: {why}"
            ),
            Self::Unavailable(why) => f.write_str(&why.cause),
        }
    }
}

#[cfg(test)]
mod tests;
