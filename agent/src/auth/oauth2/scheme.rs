//! The access token of each request: held in memory, looked up anew when its file changes (`look`), renewed
//! ahead of its end by one task at a time (`renewing`).
//!
//! Nothing runs in the background for it: traffic and the login probe come by at least twice a minute,
//! and whoever comes when the time has come starts the renewal.

use super::{
    Endpoint, Grant, Settings, look::Look, reach::Reach, renewal::logged_out, state::State,
};
use crate::{
    auth::{Concern, Credential, Scheme, Unavailable},
    disk::Inquiry,
    expiry::{End, Expiry, Kind},
    tokens::Tokens,
};
use futures_util::future::BoxFuture;
use http::{HeaderValue, request};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The login of one forward.
pub struct OAuth2(Arc<Inner>);

pub(super) struct Inner {
    pub(super) settings: Settings,
    pub(super) endpoint: Endpoint,
    pub(super) state: Mutex<State>,
    /// Held by the one task that renews.
    pub(super) renewing: Arc<tokio::sync::Mutex<()>>,
    /// Held by the one task that looks at the files.
    pub(super) looking: tokio::sync::Mutex<Inquiry<Look>>,
    /// Cloud: whether the token reaches the site.
    pub(super) reach: Reach,
}

impl OAuth2 {
    /// Reads nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            endpoint: Endpoint::new(settings.clone()),
            settings,
            state: Mutex::default(),
            renewing: Arc::default(),
            looking: tokio::sync::Mutex::default(),
            reach: Reach::default(),
        }))
    }
}

impl Scheme for OAuth2 {
    fn mode(&self) -> &'static str {
        "oauth2"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<Credential, Unavailable>> {
        Box::pin(self.0.authorization())
    }

    /// Jira counts no failed logins for tokens.
    fn locks_out(&self) -> bool {
        false
    }

    fn remedy(&self) -> String {
        let settings = &self.0.settings;
        match settings.grant {
            Grant::AuthorizationCode => format!(
                "look whether the user may still log in to Jira; then log in again: {}",
                settings.login_command()
            ),
            Grant::ClientCredentials => {
                "look in Jira whether the service account is active and may use this application link".to_owned()
            }
        }
    }

    fn expiries(&self) -> Vec<Expiry> {
        self.0.expiries()
    }

    fn concern(&self) -> Option<Concern> {
        self.0.lock().concern()
    }

    fn renews(&self) -> bool {
        true
    }

    fn renew(&self, refused: u64, proven: bool) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.0.renew_refused(refused, proven))
    }

    fn look(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        self.0.lock().looked_at = None;
        Box::pin(self.0.look())
    }

    fn version(&self) -> u64 {
        self.0.lock().version
    }

    fn look_again(&self) {
        let mut state = self.0.lock();
        state.looked_at = None;
        state.retry_at = None;
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { drop(self.0.renewing.lock().await) })
    }
}

/// What a request is to do now.
enum Step {
    Send(Credential),
    /// Wait for a renewal, then look again.
    Wait,
    Fail(Unavailable),
}

impl Inner {
    pub(super) async fn authorization(self: &Arc<Self>) -> Result<Credential, Unavailable> {
        self.look().await?;
        let deadline = Instant::now() + RENEWAL_WAIT;
        loop {
            match self.step() {
                Step::Send(credential) => {
                    let tokens = self.lock().tokens.clone();
                    if let Some(access) = tokens.as_ref().and_then(|t| t.access.as_ref()) {
                        let generation = credential.generation;
                        self.reach.check(&self.settings, access, generation).await?;
                    }
                    return Ok(credential);
                }
                Step::Fail(why) => return Err(why),
                Step::Wait => {}
            }
            if !self.renewed(deadline).await {
                return Err(slow());
            }
        }
    }

    /// Decides by what is in memory; starts a renewal where its time has come.
    fn step(self: &Arc<Self>) -> Step {
        let state = self.lock();
        if let Some(reason) = &state.ended {
            return Step::Fail(self.ended(reason));
        }
        if state.tokens.is_none() && self.settings.grant == Grant::AuthorizationCode {
            return Step::Fail(logged_out(&self.settings));
        }
        let now = SystemTime::now();
        let may_try = state.retry_at.is_none_or(|at| at <= Instant::now());
        let held = state
            .tokens
            .as_ref()
            .filter(|tokens| !state.refused && serves_until(tokens).is_none_or(|at| now < at));
        let credential = held.and_then(|tokens| credential(tokens, state.generation));
        match (credential, state.trouble.clone()) {
            (Some(credential), _) if !state.doubtful => {
                let due = state.renew_at.is_some_and(|at| at <= now);
                drop(state);
                if due && may_try {
                    self.start();
                }
                Step::Send(credential)
            }
            (None, Some(trouble)) if !may_try => Step::Fail(trouble),
            _ => Step::Wait,
        }
    }

    fn ended(&self, reason: &str) -> Unavailable {
        let from_file = self.settings.refresh_token_file.is_some();
        Unavailable {
            cause: format!("the login for Jira has ended: {reason}"),
            remedy: match from_file {
                true => format!(
                    "log in again: {}, or write a new refresh token into refresh_token_file",
                    self.settings.login_command()
                ),
                false => format!("log in again: {}", self.settings.login_command()),
            },
        }
    }

    fn expiries(&self) -> Vec<Expiry> {
        let state = self.lock();
        let Some(tokens) = &state.tokens else {
            return Vec::new();
        };
        let again = format!("log in again: {}", self.settings.login_command());
        let end = |at: Option<SystemTime>, why: &str| match at {
            Some(at) => End::At(at),
            None => End::Unknown(why.to_owned()),
        };
        let mut known = Vec::new();
        if tokens.access.is_some() {
            let at = end(tokens.access_expires, "the provider did not say");
            let access = Expiry::new(Kind::AccessToken, at, again.clone());
            let access = access.issued(Some(tokens.obtained));
            known.push(match state.ended {
                None => access.renewed_by_itself(),
                Some(_) => access,
            });
        }
        if tokens.refresh.is_some() {
            let why = "the provider does not say; 90 days without use is its default";
            let at = end(tokens.refresh_expires, why);
            let refresh = Expiry::new(Kind::RefreshToken, at, again);
            known.push(refresh.issued(Some(tokens.obtained)).renewed_by_itself());
        }
        known
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credential(tokens: &Tokens, generation: u64) -> Option<Credential> {
    let token = tokens.access.as_ref()?.expose();
    let mut value = zeroize::Zeroizing::new(Vec::with_capacity(7 + token.len()));
    // Exactly this case and one space: Jira compares the prefix as it is.
    value.extend_from_slice(b"Bearer ");
    value.extend_from_slice(token);
    let mut authorization = HeaderValue::from_bytes(&value).ok()?;
    authorization.set_sensitive(true);
    Some(Credential {
        authorization,
        generation,
    })
}

/// A token that ends while it travels would be refused: a little before its end.
fn serves_until(tokens: &Tokens) -> Option<SystemTime> {
    let expires = tokens.access_expires?;
    let life = expires.duration_since(tokens.obtained).unwrap_or_default();
    expires.checked_sub(MARGIN.min(life / 20))
}

fn slow() -> Unavailable {
    Unavailable {
        cause: format!("the access token could not be renewed within {RENEWAL_WAIT:?}"),
        remedy: "look at the agent's log; the token endpoint or the disk is slow".to_owned(),
    }
}

/// The longest that a request may take to Jira's own look at the token.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a request waits for a renewal: longer than one request to the endpoint may take.
const RENEWAL_WAIT: Duration = Duration::from_secs(30);
