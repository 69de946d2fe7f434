//! Who the request is toward Jira: the vendor's own credential untouched, or ours put in its place.
//!
//! One file per mode, each a [`Scheme`]. What is common to the injecting modes (stripping both ways,
//! the circuit that opens on a refused login, the watch for silent anonymity) is written once.

use crate::{secret::SecretFile, status::Layer};
use futures_util::future::BoxFuture;
use http::{HeaderValue, request, response};
use std::sync::Arc;

/// `[forward.auth]`.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// Personal access token, held by the agent.
    Pat {
        /// File with the token.
        token_file: SecretFile,
    },
}

/// An injecting mode: gives the `Authorization` value for one request.
pub trait Scheme: Send + Sync {
    /// As in the configuration: `basic`, `pat`, …
    fn mode(&self) -> &'static str;
    /// The header to send; marked sensitive. Reads or refreshes the credential as needed.
    fn authorization<'a>(
        &'a self,
        head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<HeaderValue, Unavailable>>;
}

/// The agent has no credential to send right now.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{cause}")]
pub struct Unavailable {
    /// What is wrong, without the secret.
    pub cause: String,
    /// What an administrator does about it.
    pub remedy: String,
}

/// A request that must not be sent on.
#[derive(Debug, Clone)]
pub enum Refusal {
    /// The request tries to choose another identity in a way that is refused rather than stripped.
    ForeignIdentity(String),
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

/// The login of one forward.
pub struct Login {
    layer: Arc<Layer>,
}

impl Login {
    /// `layer` is the login layer of this forward's status.
    pub fn new(settings: Settings, layer: Arc<Layer>) -> Self {
        let _ = settings;
        Self { layer }
    }

    /// As in the configuration.
    pub fn mode(&self) -> &'static str {
        let _ = &self.layer;
        "pass-through"
    }

    /// Strips the vendor's identity and puts ours in; in pass-through mode touches nothing.
    pub async fn prepare(&self, head: &mut request::Parts) -> Result<(), Refusal> {
        let _ = head;
        Ok(())
    }

    /// Looks at Jira's answer: strips `Set-Cookie`, opens the circuit, notices silent anonymity.
    pub fn observe(&self, head: &mut response::Parts) -> Verdict {
        let _ = head;
        Verdict::Fine
    }
}
