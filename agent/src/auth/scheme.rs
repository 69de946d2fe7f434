//! The interface of an injecting mode.

use super::AuthRefusal;
use crate::expiry::CredentialExpiry;
use futures_util::future::BoxFuture;
use http::{HeaderName, HeaderValue, StatusCode, header, request, response};
use tokio::time::Instant;

/// An injecting mode: gives the credential for one request.
pub trait AuthScheme: Send + Sync {
    /// As in the configuration: `basic`, `pat`, …
    fn mode(&self) -> &'static str;
    /// The headers to send. Reads or refreshes the credential as needed, within a bounded time.
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
    /// Refuses a request that this mode cannot authenticate.
    fn check_request(&self, _head: &request::Parts) -> Result<(), AuthRefusal> {
        Ok(())
    }
    /// What Jira's rejection means, where its answer uses terms of this mode; `None` leaves the answer to the
    /// interpretation that all modes share. `body` may be empty.
    fn classify_rejection(&self, _head: &response::Parts, _body: &[u8]) -> Option<AuthRejection> {
        None
    }
    /// When each of its credentials ends, as far as that is known. Status calls it, so it neither waits nor reads a file.
    fn expiries(&self) -> Vec<CredentialExpiry> {
        Vec::new()
    }
    /// What is wrong although Jira still accepts the credential. Status calls it, so it neither waits nor reads a file.
    fn concern(&self) -> Option<Concern> {
        None
    }
    /// The scopes of the credential, in order, where its issuer reports them. May ask the issuer, within a bounded time. `None`:
    /// they are not known, or it has none.
    fn granted_scopes(&self) -> BoxFuture<'_, Option<Vec<String>>> {
        Box::pin(std::future::ready(None))
    }
    /// Whether a refused credential can be replaced by another one at once, without a person.
    fn can_refresh(&self) -> bool {
        false
    }
    /// Jira rejected the credential of this generation; `proven` is whether it had accepted it before. True: there is
    /// another one now. An error is why there is none although there should be. Takes a bounded time.
    fn refresh(
        &self,
        _refused: u64,
        _proven: bool,
    ) -> BoxFuture<'_, Result<bool, CredentialUnavailable>> {
        Box::pin(std::future::ready(Ok(false)))
    }
    /// Checks now whether a person has written another credential: a file, a login. Called once a second; takes a bounded
    /// time. An error: there is no credential.
    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>>;
    /// The number of the credential that a person wrote, as of the last check; 0 before the first. A new number is
    /// unproven. A refresh by the agent does not change it.
    fn version(&self) -> u64;
    /// An administrator has changed something about the credential: forgets what was read a moment ago.
    fn invalidate(&self) {}
    /// Completes when nothing runs that would be lost with the process, such as a refresh.
    fn wait_idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
    /// The path below the context path where Jira reports the end of the credential it is requested with. `None` if there
    /// is no such path, or it is not time to ask.
    fn expiry_probe_path(&self) -> Option<&'static str> {
        None
    }
    /// Takes Jira's answer to the expiry probe; `generation` is that of the credential it was sent with.
    fn on_expiry_response(&self, generation: u64, status: StatusCode, body: &[u8]) {
        let _ = (generation, status, body);
    }
}

/// What a [`AuthScheme`] gives for one request.
#[derive(Clone)]
pub struct RequestCredential {
    /// The header fields, their values marked sensitive.
    pub fields: Vec<(HeaderName, HeaderValue)>,
    /// Rises with each other credential and never falls: a rejection of one generation is none of the next.
    pub generation: u64,
}

impl RequestCredential {
    /// One `Authorization` field; `value` is marked sensitive.
    pub fn authorization(value: HeaderValue, generation: u64) -> Self {
        Self {
            fields: vec![(header::AUTHORIZATION, value)],
            generation,
        }
    }
}

/// What is wrong with a credential that is still valid, but not for long: a client secret that is rejected while the
/// access token has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Concern {
    /// Cause and remedy of the rejection.
    pub why: CredentialUnavailable,
    /// When it was first noticed.
    pub since: Instant,
}

/// Jira's rejection, explained in the terms of an [`AuthScheme`].
pub struct AuthRejection {
    /// Cause and remedy of the rejection.
    pub why: CredentialUnavailable,
    /// The part of the request that Jira rejected.
    pub rejected: RejectedPart,
}

/// The part of a request that Jira rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RejectedPart {
    /// The credential: every other request would be rejected as well.
    Credential,
    /// The token in it, which a refresh may replace.
    Token,
    /// This request or the credential; a credential that Jira has accepted before is not the reason.
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
