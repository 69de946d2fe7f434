//! Codes and tokens: what was issued, to whom, for how long. The time is an argument, the number of
//! entries is bounded.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::refusal::OAuth2Error;
use super::scope::OAuth2Scope;
use super::settings::{OAuth2Client, OAuth2Settings};
use crate::token_store::{TokenStore, expires_at, random_token, secrets_match};

/// The clients, codes and tokens of the provider.
pub(in crate::jira) struct OAuth2Grants {
    settings: OAuth2Settings,
    codes: TokenStore<OAuth2AuthCode>,
    grants: TokenStore<OAuth2Grant>,
    next_grant: u64,
    counts: OAuth2Counts,
}

/// How often tokens were issued since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OAuth2Counts {
    /// Tokens issued for an authorization code.
    pub codes: u64,
    /// Tokens issued for a refresh token.
    pub refreshes: u64,
    /// Tokens issued for client credentials.
    pub client_credentials: u64,
    /// Token requests that were refused.
    pub refused: u64,
}

/// What a user has consented to.
pub(super) struct OAuth2Consent {
    pub client: String,
    pub redirect: String,
    pub user: String,
    pub scope: OAuth2Scope,
    pub challenge: Option<CodeChallenge>,
}

/// The challenge of PKCE (RFC 7636 §4.3).
#[derive(Clone)]
pub(super) enum CodeChallenge {
    Plain(String),
    S256(String),
}

/// A pair of tokens, as sent to the client.
pub(super) struct OAuth2Tokens {
    pub access: String,
    pub refresh: Option<String>,
    pub created: OffsetDateTime,
    pub lifetime: u32,
}

struct OAuth2AuthCode {
    code: String,
    expires: OffsetDateTime,
    consent: OAuth2Consent,
    /// The grant that it was redeemed for.
    redeemed: Option<u64>,
}

struct OAuth2Grant {
    id: u64,
    client: String,
    user: String,
    scope: OAuth2Scope,
    access: String,
    access_expires: OffsetDateTime,
    refresh: Option<String>,
    refresh_expires: OffsetDateTime,
}

impl OAuth2Grants {
    pub(crate) fn new(settings: OAuth2Settings) -> Self {
        Self {
            settings,
            codes: TokenStore::default(),
            grants: TokenStore::default(),
            next_grant: 1,
            counts: OAuth2Counts::default(),
        }
    }

    pub(super) fn client(&self, id: &str) -> Option<&OAuth2Client> {
        self.settings.clients.iter().find(|client| client.id == id)
    }

    /// Registers a client, or replaces the one with its id.
    pub(crate) fn register(&mut self, client: OAuth2Client) {
        self.settings.clients.retain(|known| known.id != client.id);
        self.settings.clients.push(client);
    }

    pub(crate) fn counts(&self) -> OAuth2Counts {
        self.counts
    }

    pub(super) fn count_refused(&mut self) {
        self.counts.refused += 1;
    }

    pub(crate) fn set_access_lifetime(&mut self, seconds: u32) {
        self.settings.access_lifetime = seconds;
    }

    /// Issues a code for a consent.
    pub(super) fn code(&mut self, consent: OAuth2Consent, now: OffsetDateTime) -> String {
        let code = random_token(CODE_LENGTH);
        self.codes.push(OAuth2AuthCode {
            code: code.clone(),
            expires: expires_at(now, self.settings.code_lifetime),
            consent,
            redeemed: None,
        });
        code
    }

    /// `grant_type=authorization_code`. Reuse of a code revokes the tokens that were issued for it.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        client: &str,
        redirect: Option<&str>,
        verifier: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<OAuth2Tokens, OAuth2Error> {
        let invalid = || OAuth2Error::bad("invalid_grant", "Invalid or expired code");
        let index = self
            .codes
            .iter()
            .position(|known| secrets_match(&known.code, code) && known.consent.client == client)
            .ok_or_else(invalid)?;
        let known = &mut self.codes[index];
        if let Some(grant) = known.redeemed {
            self.grants.retain(|known| known.id != grant);
            return Err(invalid());
        }
        if known.expires <= now {
            return Err(invalid());
        }
        if redirect != Some(known.consent.redirect.as_str()) {
            return Err(OAuth2Error::bad("invalid_grant", "Invalid redirect_uri"));
        }
        verify(known.consent.challenge.as_ref(), verifier)?;
        known.redeemed = Some(self.next_grant);
        let (user, scope) = (known.consent.user.clone(), known.consent.scope);
        self.counts.codes += 1;
        Ok(self.issue(client, &user, scope, true, now))
    }

    /// `grant_type=refresh_token`. Both old tokens become invalid.
    pub(super) fn refresh(
        &mut self,
        refresh: &str,
        client: &str,
        scope: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<OAuth2Tokens, OAuth2Error> {
        let index = self
            .grants
            .iter()
            .position(|grant| {
                grant.client == client
                    && grant.refresh_expires > now
                    && grant
                        .refresh
                        .as_deref()
                        .is_some_and(|r| secrets_match(r, refresh))
            })
            .ok_or_else(|| OAuth2Error::bad("invalid_grant", "Invalid refresh token"))?;
        let scope = OAuth2Scope::requested(scope, self.grants[index].scope)?;
        let Some(old) = self.grants.remove(index) else {
            return Err(OAuth2Error::bad("invalid_grant", "Invalid refresh token"));
        };
        for code in self.codes.iter_mut() {
            if code.redeemed == Some(old.id) {
                code.redeemed = Some(self.next_grant);
            }
        }
        self.counts.refreshes += 1;
        Ok(self.issue(client, &old.user, scope, true, now))
    }

    /// `grant_type=client_credentials`, for a client with a service account.
    pub(super) fn client_credentials(
        &mut self,
        client: &OAuth2Client,
        scope: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<OAuth2Tokens, OAuth2Error> {
        let Some(user) = &client.service_account else {
            return Err(OAuth2Error::bad(
                "unauthorized_client",
                "The client has no service account",
            ));
        };
        let scope = OAuth2Scope::requested(scope, client.scope)?;
        self.counts.client_credentials += 1;
        Ok(self.issue(&client.id, user, scope, false, now))
    }

    /// Revokes a token (RFC 7009). A refresh token revokes its access token; an unknown token is not an error.
    pub(super) fn revoke(&mut self, token: &str, client: &str, now: OffsetDateTime) {
        self.grants.retain(|grant| {
            grant.client != client
                || !grant
                    .refresh
                    .as_deref()
                    .is_some_and(|r| secrets_match(r, token))
        });
        for grant in self.grants.iter_mut() {
            if grant.client == client && secrets_match(&grant.access, token) {
                grant.access_expires = now;
            }
        }
    }

    /// The user and scope of a valid access token.
    pub(crate) fn owner(&self, access: &str, now: OffsetDateTime) -> Option<(&str, OAuth2Scope)> {
        self.grants
            .iter()
            .find(|grant| secrets_match(&grant.access, access))
            .filter(|grant| grant.access_expires > now)
            .map(|grant| (grant.user.as_str(), grant.scope))
    }

    /// Expires every access token, and every refresh token if `refresh_too`.
    pub(crate) fn expire(&mut self, refresh_too: bool, now: OffsetDateTime) {
        for grant in self.grants.iter_mut() {
            grant.access_expires = now;
            if refresh_too {
                grant.refresh_expires = now;
            }
        }
    }

    fn issue(
        &mut self,
        client: &str,
        user: &str,
        scope: OAuth2Scope,
        refreshable: bool,
        now: OffsetDateTime,
    ) -> OAuth2Tokens {
        let tokens = OAuth2Tokens {
            access: random_token(TOKEN_LENGTH),
            refresh: refreshable.then(|| random_token(TOKEN_LENGTH)),
            created: now,
            lifetime: self.settings.access_lifetime,
        };
        self.grants.push(OAuth2Grant {
            id: self.next_grant,
            client: client.to_owned(),
            user: user.to_owned(),
            scope,
            access: tokens.access.clone(),
            access_expires: expires_at(now, self.settings.access_lifetime),
            refresh: tokens.refresh.clone(),
            refresh_expires: expires_at(now, self.settings.refresh_lifetime),
        });
        self.next_grant += 1;
        tokens
    }
}

/// RFC 7636 §4.6; the verifier's length is that of §4.1, but at most Jira's 127.
fn verify(challenge: Option<&CodeChallenge>, verifier: Option<&str>) -> Result<(), OAuth2Error> {
    let Some(challenge) = challenge else {
        return Ok(());
    };
    let verifier =
        verifier.ok_or_else(|| OAuth2Error::bad("invalid_request", "Missing code_verifier"))?;
    if !VERIFIER_LENGTH.contains(&verifier.len()) {
        return Err(OAuth2Error::bad("invalid_request", "Invalid code_verifier"));
    }
    let good = match challenge {
        CodeChallenge::Plain(expected) => secrets_match(expected, verifier),
        CodeChallenge::S256(expected) => {
            secrets_match(expected, &URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)))
        }
    };
    if good {
        Ok(())
    } else {
        Err(OAuth2Error::bad("invalid_grant", "Invalid code_verifier"))
    }
}

const CODE_LENGTH: usize = 32;
const TOKEN_LENGTH: usize = 128;
const VERIFIER_LENGTH: std::ops::RangeInclusive<usize> = 43..=127;
