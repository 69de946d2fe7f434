//! What an injecting mode is.

use super::AuthRefusal;
use crate::expiry::CredentialExpiry;
use futures_util::future::BoxFuture;
use http::{HeaderValue, StatusCode, request, response};
use tokio::time::Instant;

/// An injecting mode: gives the `Authorization` value for one request.
pub trait AuthScheme: Send + Sync {
    /// As in the configuration: `basic`, `pat`, …
    fn mode(&self) -> &'static str;
    /// The header to send. Reads or refreshes the credential as needed, with a deadline of its own.
    /// `head` is the request as it goes to Jira, the vendor's identity already taken out.
    fn authorization<'a>(
        &'a self,
        head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<RequestCredential, CredentialUnavailable>>;
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
    fn check_request(&self, _head: &request::Parts) -> Result<(), AuthRefusal> {
        Ok(())
    }
    /// What a refusal of Jira's means, where this mode has words of its own for it; `None` leaves the
    /// answer to be read as in every mode. `body` may be empty.
    fn classify_rejection(&self, _head: &response::Parts, _body: &[u8]) -> Option<AuthRejection> {
        None
    }
    /// When what it holds ends, as far as that is known: one for each credential. Called by status,
    /// so it neither waits nor reads a file.
    fn expiries(&self) -> Vec<CredentialExpiry> {
        Vec::new()
    }
    /// What is wrong although requests still get a credential that Jira takes. Called by status, so it neither waits
    /// nor reads a file.
    fn concern(&self) -> Option<Concern> {
        None
    }
    /// Whether a refused credential can be replaced by another one at once, without a person.
    fn can_refresh(&self) -> bool {
        false
    }
    /// Jira refused the credential of this generation; `proven` is whether it had taken it before.
    /// True: there is another one now. An error says why there is none although there should be. With a
    /// deadline of its own.
    fn refresh(
        &self,
        _refused: u64,
        _proven: bool,
    ) -> BoxFuture<'_, Result<bool, CredentialUnavailable>> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Looks now whether what a person put there is another one: a file that was written, a login. Once a second is
    /// how often this is called; with a deadline of its own. An error: there is nothing to log in with.
    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>>;
    /// The number of what a person put there, as of the last look; 0 before the first. Another one than before is
    /// unproven. What the agent renews by itself does not change it.
    fn version(&self) -> u64;
    /// An administrator has done something about the credential: what was seen a moment ago counts no more.
    fn invalidate(&self) {}
    /// Completes when nothing is under way that would be lost with the process.
    fn wait_idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    /// Where Jira itself tells the end of the credential: a path below the context path, to be asked
    /// for with that credential. `None` where there is no such place, or while it is not time to ask.
    fn expiry_probe_path(&self) -> Option<&'static str> {
        None
    }
    /// Jira's answer to it; `generation` is that of the credential it was asked with.
    fn on_expiry_response(&self, generation: u64, status: StatusCode, body: &[u8]) {
        let _ = (generation, status, body);
    }
}

/// What a [`AuthScheme`] gives for one request.
#[derive(Clone)]
pub struct RequestCredential {
    /// The `Authorization` value, marked sensitive.
    pub authorization: HeaderValue,
    /// Rises whenever the credential itself is another one, and never falls: a refusal of one
    /// generation says nothing about the next.
    pub generation: u64,
}

/// What is wrong with a login that still serves, and will not for long: a client secret that is refused while the
/// access token has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// Cause and remedy of the rejection.
    pub why: CredentialUnavailable,
    /// Since when.
    pub since: Instant,
}

/// A refusal of Jira's in the words of a [`AuthScheme`].
pub struct AuthRejection {
    /// Cause and remedy.
    pub why: CredentialUnavailable,
    /// The part of the request that Jira rejected.
    pub rejected: RejectedPart,
}

/// The part of a request that Jira rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedPart {
    /// The credential: no other request fares better.
    Credential,
    /// The token in it, which may be renewed.
    Token,
    /// This request or the credential: one that Jira has taken before is not to blame.
    Signature,
    /// Only this request, not the credential.
    Request,
}

/// The agent has no credential to send right now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct CredentialUnavailable {
    /// What is wrong, without the secret.
    pub cause: String,
    /// What an administrator does about it.
    pub remedy: String,
}
