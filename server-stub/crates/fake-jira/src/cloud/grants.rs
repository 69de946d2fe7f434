//! Codes, tokens and API tokens: what was issued, to whom, for how long. Refresh tokens rotate with a
//! leeway; reuse after the leeway revokes the whole family. The time is an argument, the number of
//! entries is bounded.

use time::OffsetDateTime;

use super::settings::{ApiToken, DeadTokenAnswer, OAuthApp, Settings};
use crate::token_store::{TokenStore, expires_at, random_token, secrets_match};

pub(super) struct CloudGrants {
    settings: Settings,
    codes: TokenStore<CloudAuthCode>,
    refresh_tokens: TokenStore<CloudRefreshToken>,
    access_tokens: TokenStore<CloudAccessToken>,
    next_family: u64,
    counts: CloudCounts,
}

/// How often tokens were issued since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloudCounts {
    /// Tokens issued for an authorization code.
    pub codes: u64,
    /// Tokens issued for a refresh token.
    pub refreshes: u64,
    /// Token requests that were refused.
    pub refused: u64,
}

/// What a user has consented to.
#[derive(Clone)]
pub(super) struct CloudConsent {
    pub app: String,
    pub account: String,
    pub scopes: Vec<String>,
    /// Cloud ids of the sites consented to.
    pub sites: Vec<String>,
}

/// The tokens of a successful response.
#[derive(Debug)]
pub(super) struct CloudTokens {
    pub access: String,
    pub refresh: Option<String>,
    pub lifetime: u32,
    pub scopes: Vec<String>,
}

/// HTTP status, `error` and `error_description`. The status is 403, or 401 for a wrong secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CloudTokenError(pub u16, pub &'static str, pub &'static str);

struct CloudAuthCode {
    code: String,
    redirect: String,
    expires: OffsetDateTime,
    consent: CloudConsent,
}

struct CloudRefreshToken {
    token: String,
    family: u64,
    consent: CloudConsent,
    expires: OffsetDateTime,
    /// When the login ends, a fixed time after the consent.
    login_ends: OffsetDateTime,
    /// When it was first used.
    used: Option<OffsetDateTime>,
}

struct CloudAccessToken {
    token: String,
    family: u64,
    consent: CloudConsent,
    expires: OffsetDateTime,
}

impl CloudGrants {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            settings,
            codes: TokenStore::default(),
            refresh_tokens: TokenStore::default(),
            access_tokens: TokenStore::default(),
            next_family: 1,
            counts: CloudCounts::default(),
        }
    }

    pub(super) fn app(&self, id: &str) -> Option<&OAuthApp> {
        self.settings.apps.iter().find(|app| app.id == id)
    }

    /// Checks the secret of an app; the token service never does without it.
    pub(super) fn authenticate(&self, id: &str, secret: &str) -> Result<(), CloudTokenError> {
        self.app(id)
            .filter(|app| secrets_match(&app.secret, secret))
            .map(drop)
            .ok_or(CloudTokenError(401, "access_denied", "Unauthorized"))
    }

    pub(super) fn set_dead_token(&mut self, shape: DeadTokenAnswer) {
        self.settings.dead_token = shape;
    }

    pub(super) fn counts(&self) -> CloudCounts {
        self.counts
    }

    pub(super) fn count_refused(&mut self) {
        self.counts.refused += 1;
    }

    pub(super) fn code(
        &mut self,
        consent: CloudConsent,
        redirect: &str,
        now: OffsetDateTime,
    ) -> String {
        let code = random_token(TOKEN_LENGTH);
        let expires = expires_at(now, self.settings.code_lifetime);
        self.codes.push(CloudAuthCode {
            code: code.clone(),
            redirect: redirect.to_owned(),
            expires,
            consent,
        });
        code
    }

    /// `grant_type=authorization_code`; a code works once.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        app: &str,
        redirect: &str,
        now: OffsetDateTime,
    ) -> Result<CloudTokens, CloudTokenError> {
        let invalid = CloudTokenError(403, "invalid_grant", "Invalid authorization code");
        let found = self
            .codes
            .iter()
            .position(|known| secrets_match(&known.code, code) && known.consent.app == app);
        let Some(code) = found.and_then(|index| self.codes.remove(index)) else {
            return Err(invalid);
        };
        if code.expires <= now || code.redirect != redirect {
            return Err(invalid);
        }
        self.counts.codes += 1;
        self.next_family += 1;
        let login_ends = expires_at(now, self.settings.login_lifetime);
        Ok(self.issue(self.next_family, code.consent, login_ends, now))
    }

    /// `grant_type=refresh_token`: issues a new one each time; the old one works until the leeway ends.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        app: &str,
        now: OffsetDateTime,
    ) -> Result<CloudTokens, CloudTokenError> {
        let dead = match self.settings.dead_token {
            DeadTokenAnswer::InvalidGrant => {
                CloudTokenError(403, "invalid_grant", "Unknown or invalid refresh token.")
            }
            DeadTokenAnswer::UnauthorizedClient => {
                CloudTokenError(403, "unauthorized_client", "refresh_token is invalid")
            }
        };
        let leeway = self.settings.refresh_leeway;
        let known = self
            .refresh_tokens
            .iter_mut()
            .find(|known| secrets_match(&known.token, token) && known.consent.app == app);
        let Some(known) = known.filter(|known| known.expires > now) else {
            return Err(dead);
        };
        let (family, consent) = (known.family, known.consent.clone());
        let login_ends = known.login_ends;
        let first = *known.used.get_or_insert(now);
        if expires_at(first, leeway) < now {
            // Someone else has a copy: revoke the whole family.
            self.refresh_tokens.retain(|known| known.family != family);
            self.access_tokens.retain(|known| known.family != family);
            return Err(dead);
        }
        self.counts.refreshes += 1;
        Ok(self.issue(family, consent, login_ends, now))
    }

    /// The consent behind a valid access token.
    pub(super) fn access(&self, token: &str, now: OffsetDateTime) -> Option<CloudConsent> {
        self.access_tokens
            .iter()
            .find(|known| secrets_match(&known.token, token) && known.expires > now)
            .map(|known| known.consent.clone())
    }

    /// The account of an email address and API token, and the scopes of the token.
    pub(super) fn api_token(
        &self,
        email: &str,
        token: &str,
    ) -> Option<(String, Option<Vec<String>>)> {
        let known = self.settings.api_tokens.iter().find(|known| {
            known.email.eq_ignore_ascii_case(email) && secrets_match(&known.token, token)
        })?;
        let ApiToken { email, scopes, .. } = known;
        let mut accounts = self.settings.accounts.iter();
        let account = accounts.find(|account| account.email == *email)?;
        Some((account.id.clone(), scopes.clone()))
    }

    pub(super) fn revoke_api_token(&mut self, token: &str) {
        self.settings
            .api_tokens
            .retain(|known| known.token != token);
    }

    pub(super) fn expire(&mut self, refresh_too: bool, now: OffsetDateTime) {
        for access in self.access_tokens.iter_mut() {
            access.expires = now;
        }
        for refresh in self.refresh_tokens.iter_mut().filter(|_| refresh_too) {
            refresh.expires = now;
        }
    }

    fn issue(
        &mut self,
        family: u64,
        consent: CloudConsent,
        login_ends: OffsetDateTime,
        now: OffsetDateTime,
    ) -> CloudTokens {
        let offline = consent.scopes.iter().any(|scope| scope == OFFLINE);
        let tokens = CloudTokens {
            access: random_token(TOKEN_LENGTH),
            refresh: offline.then(|| random_token(TOKEN_LENGTH)),
            lifetime: self.settings.access_lifetime,
            scopes: consent.scopes.clone(),
        };
        if let Some(token) = tokens.refresh.clone() {
            let refresh = CloudRefreshToken {
                token,
                family,
                consent: consent.clone(),
                expires: expires_at(now, self.settings.refresh_lifetime).min(login_ends),
                login_ends,
                used: None,
            };
            self.refresh_tokens.push(refresh);
        }
        let access = CloudAccessToken {
            token: tokens.access.clone(),
            family,
            consent,
            expires: expires_at(now, self.settings.access_lifetime),
        };
        self.access_tokens.push(access);
        tokens
    }
}

/// The scope that asks for a refresh token.
pub(super) const OFFLINE: &str = "offline_access";
/// Real tokens are JWTs and far longer.
const TOKEN_LENGTH: usize = 512;
