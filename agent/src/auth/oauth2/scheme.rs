//! The access token of each request as a bearer token (RFC 6750), out of a [`TokenCache`].

use super::{
    GrantType, Settings,
    accessible_resources::{SiteAccess, site_scopes},
    granted_scopes,
    refresh::logged_out,
    token_provider::OAuth2TokenProvider,
};
use crate::{
    auth::{
        AuthScheme, Concern, CredentialUnavailable, RequestCredential,
        credential::{bearer, sensitive},
        token_cache::TokenCache,
    },
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    tokens::TokenSet,
};
use futures_util::future::BoxFuture;
use http::request;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// `mode = "oauth2"` of one forward.
pub struct OAuth2Scheme {
    cache: Arc<TokenCache<OAuth2TokenProvider>>,
    /// Cloud: whether the token gives access to the forward's site.
    site_access: SiteAccess,
}

impl OAuth2Scheme {
    /// Prepares the scheme; reads no file yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            cache: TokenCache::new(OAuth2TokenProvider::new(settings)),
            site_access: SiteAccess::default(),
        }
    }

    fn settings(&self) -> &Settings {
        &self.cache.provider().settings
    }

    /// Atlassian ends a login a year after the consent, and 90 days after its last refresh. The agent refreshes many times a
    /// day, so the second counts only where that has failed for long.
    pub(super) fn refresh_token_expiry(
        &self,
        tokens: &TokenSet,
        remedy: String,
        now: SystemTime,
    ) -> CredentialExpiry {
        let new = |end| CredentialExpiry::new(CredentialKind::RefreshToken, end, remedy);
        let Some(life) = self.settings().provider.login_life() else {
            let why = "the provider does not report it; 90 days without use is its default";
            let end = tokens
                .refresh_expires
                .map_or_else(|| ExpiryTime::Unknown(why.to_owned()), ExpiryTime::At);
            return new(end).issued(Some(tokens.obtained)).auto_refreshed();
        };
        let unused = tokens.obtained.checked_add(UNUSED_LIFE);
        let idle = now.duration_since(tokens.obtained).unwrap_or_default();
        match (tokens.refresh_expires, unused.filter(|_| idle > LONG_UNUSED)) {
            (Some(end), Some(unused)) if unused < end => new(ExpiryTime::At(unused)),
            (None, Some(unused)) => new(ExpiryTime::At(unused)),
            (Some(end), _) => new(ExpiryTime::At(end)).issued(end.checked_sub(life)),
            (None, None) => new(ExpiryTime::Unknown(
                "Atlassian ends a login 365 days after the consent, whose date is not stored; agent login stores it"
                    .to_owned(),
            )),
        }
    }

    async fn credential(&self) -> Result<RequestCredential, CredentialUnavailable> {
        let current = self.cache.current().await?;
        // The cache gives no tokens without one.
        let access = current
            .tokens
            .access
            .as_ref()
            .ok_or_else(|| logged_out(self.settings()))?;
        self.site_access
            .check(self.settings(), access, current.generation)
            .await?;
        let value = sensitive(bearer(access).expose())?;
        Ok(RequestCredential::authorization(value, current.generation))
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
        Box::pin(self.credential())
    }

    /// Jira counts no failed logins for tokens.
    fn locks_out(&self) -> bool {
        false
    }

    fn remedy(&self) -> String {
        let settings = self.settings();
        match settings.grant {
            GrantType::AuthorizationCode => format!(
                "check whether the user may still log in to Jira; then log in again: {}",
                settings.login_command()
            ),
            GrantType::ClientCredentials => {
                "check in Jira whether the service account is active and may use this application link".to_owned()
            }
        }
    }

    fn expiries(&self) -> Vec<CredentialExpiry> {
        let Some((tokens, is_ended)) = self.cache.peek() else {
            return Vec::new();
        };
        let again = format!("log in again: {}", self.settings().login_command());
        let end = |at: Option<SystemTime>, why: &str| match at {
            Some(at) => ExpiryTime::At(at),
            None => ExpiryTime::Unknown(why.to_owned()),
        };
        let mut known = Vec::new();
        if tokens.access.is_some() {
            let at = end(tokens.access_expires, "the provider did not report it");
            let access = CredentialExpiry::new(CredentialKind::AccessToken, at, again.clone());
            let access = access.issued(Some(tokens.obtained));
            known.push(match is_ended {
                false => access.auto_refreshed(),
                true => access,
            });
        }
        if tokens.refresh.is_some() {
            known.push(self.refresh_token_expiry(&tokens, again, SystemTime::now()));
        }
        known
    }

    fn concern(&self) -> Option<Concern> {
        self.cache.concern()
    }

    /// Cloud is asked, because a person may take scopes back without a new token. Data Center cannot be asked.
    fn granted_scopes(&self) -> BoxFuture<'_, Option<Vec<String>>> {
        Box::pin(async {
            let tokens = self.cache.current().await.ok()?.tokens;
            if let Some(scopes) = site_scopes(self.settings(), tokens.access.as_ref()?).await {
                return Some(scopes);
            }
            tokens.scope.as_deref().map(granted_scopes::split)
        })
    }

    fn can_refresh(&self) -> bool {
        true
    }

    fn refresh(
        &self,
        refused: u64,
        proven: bool,
    ) -> BoxFuture<'_, Result<bool, CredentialUnavailable>> {
        Box::pin(async move {
            let is_new = self.cache.refresh_rejected(refused, proven).await?;
            if is_new {
                self.credential().await?;
            }
            Ok(is_new)
        })
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>> {
        Box::pin(self.cache.reload())
    }

    fn version(&self) -> u64 {
        self.cache.version()
    }

    fn invalidate(&self) {
        self.cache.invalidate();
    }

    fn wait_idle(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.cache.wait_idle())
    }
}

/// After this without a refresh, a refresh token is dead.
const UNUSED_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// A running agent refreshes far more often.
const LONG_UNUSED: Duration = Duration::from_secs(7 * 86_400);
