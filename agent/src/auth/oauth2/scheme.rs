//! The access token of each request: held in memory, looked up anew when its file changes (`look`), renewed
//! ahead of its end by one task at a time (`renewing`).
//!
//! Nothing runs in the background for it: traffic and the login probe come by at least twice a minute,
//! and whoever comes when the time has come starts the renewal.

use super::{
    GrantType, OAuth2Endpoints, Settings, accessible_resources::SiteAccess, refresh::logged_out,
    state::OAuth2State, token_files::TokenFilesReading,
};
use crate::{
    auth::{AuthScheme, Concern, CredentialUnavailable, RequestCredential},
    disk::SingleFlight,
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    tokens::TokenSet,
};
use futures_util::future::BoxFuture;
use http::{HeaderValue, request};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The login of one forward.
pub struct OAuth2Scheme(Arc<OAuth2Inner>);

pub(super) struct OAuth2Inner {
    pub(super) settings: Settings,
    pub(super) endpoint: OAuth2Endpoints,
    pub(super) state: Mutex<OAuth2State>,
    /// Held by the one task that renews.
    pub(super) refresh_lock: Arc<tokio::sync::Mutex<()>>,
    /// Held by the one task that looks at the files.
    pub(super) single_flight: tokio::sync::Mutex<SingleFlight<TokenFilesReading>>,
    /// Cloud: whether the token reaches the site.
    pub(super) site_access: SiteAccess,
}

impl OAuth2Scheme {
    /// Prepares the scheme; reads no file yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(OAuth2Inner {
            endpoint: OAuth2Endpoints::new(settings.clone()),
            settings,
            state: Mutex::default(),
            refresh_lock: Arc::default(),
            single_flight: tokio::sync::Mutex::default(),
            site_access: SiteAccess::default(),
        }))
    }
}

impl AuthScheme for OAuth2Scheme {
    fn mode(&self) -> &'static str {
        "oauth2"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<RequestCredential, CredentialUnavailable>> {
        Box::pin(self.0.authorization())
    }

    /// Jira counts no failed logins for tokens.
    fn locks_out(&self) -> bool {
        false
    }

    fn remedy(&self) -> String {
        let settings = &self.0.settings;
        match settings.grant {
            GrantType::AuthorizationCode => format!(
                "look whether the user may still log in to Jira; then log in again: {}",
                settings.login_command()
            ),
            GrantType::ClientCredentials => {
                "look in Jira whether the service account is active and may use this application link".to_owned()
            }
        }
    }

    fn expiries(&self) -> Vec<CredentialExpiry> {
        self.0.expiries()
    }

    fn concern(&self) -> Option<Concern> {
        self.0.lock().concern()
    }

    fn can_refresh(&self) -> bool {
        true
    }

    fn refresh(
        &self,
        refused: u64,
        proven: bool,
    ) -> BoxFuture<'_, Result<bool, CredentialUnavailable>> {
        Box::pin(self.0.refresh_rejected(refused, proven))
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>> {
        self.0.lock().checked_at = None;
        Box::pin(self.0.reload_if_due())
    }

    fn version(&self) -> u64 {
        self.0.lock().version
    }

    fn invalidate(&self) {
        let mut state = self.0.lock();
        state.checked_at = None;
        state.retry_at = None;
    }

    fn wait_idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { drop(self.0.refresh_lock.lock().await) })
    }
}

/// What a request is to do now.
enum SendDecision {
    Send(RequestCredential),
    /// Wait for a renewal, then look again.
    Wait,
    Fail(CredentialUnavailable),
}

impl OAuth2Inner {
    pub(super) async fn authorization(
        self: &Arc<Self>,
    ) -> Result<RequestCredential, CredentialUnavailable> {
        self.reload_if_due().await?;
        let deadline = Instant::now() + REFRESH_WAIT;
        loop {
            match self.step() {
                SendDecision::Send(credential) => {
                    let tokens = self.lock().tokens.clone();
                    if let Some(access) = tokens.as_ref().and_then(|t| t.access.as_ref()) {
                        let generation = credential.generation;
                        self.site_access
                            .check(&self.settings, access, generation)
                            .await?;
                    }
                    return Ok(credential);
                }
                SendDecision::Fail(why) => return Err(why),
                SendDecision::Wait => {}
            }
            if !self.wait_for_refresh(deadline).await {
                return Err(refresh_timed_out());
            }
        }
    }

    /// Decides by what is in memory; starts a renewal where its time has come.
    fn step(self: &Arc<Self>) -> SendDecision {
        let state = self.lock();
        if let Some(reason) = &state.ended {
            return SendDecision::Fail(self.ended(reason));
        }
        if state.tokens.is_none() && self.settings.grant == GrantType::AuthorizationCode {
            return SendDecision::Fail(logged_out(&self.settings));
        }
        let now = SystemTime::now();
        let may_try = state.retry_at.is_none_or(|at| at <= Instant::now());
        let held = state
            .tokens
            .as_ref()
            .filter(|tokens| !state.rejected && usable_until(tokens).is_none_or(|at| now < at));
        let credential = held.and_then(|tokens| credential(tokens, state.generation));
        match (credential, state.refresh_error.clone()) {
            (Some(credential), _) if !state.refresh_interrupted => {
                let due = state.refresh_at.is_some_and(|at| at <= now);
                drop(state);
                if due && may_try {
                    self.start();
                }
                SendDecision::Send(credential)
            }
            (None, Some(trouble)) if !may_try => SendDecision::Fail(trouble),
            _ => SendDecision::Wait,
        }
    }

    fn ended(&self, reason: &str) -> CredentialUnavailable {
        let from_file = self.settings.refresh_token_file.is_some();
        CredentialUnavailable {
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

    fn expiries(&self) -> Vec<CredentialExpiry> {
        let state = self.lock();
        let Some(tokens) = &state.tokens else {
            return Vec::new();
        };
        let again = format!("log in again: {}", self.settings.login_command());
        let end = |at: Option<SystemTime>, why: &str| match at {
            Some(at) => ExpiryTime::At(at),
            None => ExpiryTime::Unknown(why.to_owned()),
        };
        let mut known = Vec::new();
        if tokens.access.is_some() {
            let at = end(tokens.access_expires, "the provider did not say");
            let access = CredentialExpiry::new(CredentialKind::AccessToken, at, again.clone());
            let access = access.issued(Some(tokens.obtained));
            known.push(match state.ended {
                None => access.auto_refreshed(),
                Some(_) => access,
            });
        }
        if tokens.refresh.is_some() {
            let why = "the provider does not say; 90 days without use is its default";
            let at = end(tokens.refresh_expires, why);
            let refresh = CredentialExpiry::new(CredentialKind::RefreshToken, at, again);
            known.push(refresh.issued(Some(tokens.obtained)).auto_refreshed());
        }
        known
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, OAuth2State> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn credential(tokens: &TokenSet, generation: u64) -> Option<RequestCredential> {
    let token = tokens.access.as_ref()?.expose();
    let mut value = zeroize::Zeroizing::new(Vec::with_capacity(7 + token.len()));
    // Exactly this case and one space: Jira compares the prefix as it is.
    value.extend_from_slice(b"Bearer ");
    value.extend_from_slice(token);
    let mut authorization = HeaderValue::from_bytes(&value).ok()?;
    authorization.set_sensitive(true);
    Some(RequestCredential {
        authorization,
        generation,
    })
}

/// A token that ends while it travels would be refused: a little before its end.
fn usable_until(tokens: &TokenSet) -> Option<SystemTime> {
    let expires = tokens.access_expires?;
    let life = expires.duration_since(tokens.obtained).unwrap_or_default();
    expires.checked_sub(MARGIN.min(life / 20))
}

fn refresh_timed_out() -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!("the access token could not be renewed within {REFRESH_WAIT:?}"),
        remedy: "look at the agent's log; the token endpoint or the disk is slow".to_owned(),
    }
}

/// The longest that a request may take to Jira's own look at the token.
const MARGIN: Duration = Duration::from_secs(5);
/// How long a request waits for a renewal: longer than one request to the endpoint may take.
const REFRESH_WAIT: Duration = Duration::from_secs(30);
