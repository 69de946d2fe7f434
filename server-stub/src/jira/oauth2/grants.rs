//! Codes and tokens: what was issued, to whom, for how long. Time is an argument; bounded.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::refusal::Refusal;
use super::scope::Scope;
use super::settings::{OAuth2, OAuth2Client};
use crate::issued::{Issued, after, random, same};

/// Everything that was issued and may still be of use.
pub(in crate::jira) struct Grants {
    settings: OAuth2,
    codes: Issued<Code>,
    grants: Issued<Grant>,
    next_grant: u64,
    counts: OAuth2Counts,
}

/// How often tokens were issued since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct OAuth2Counts {
    /// By authorization code.
    pub codes: u64,
    /// By refresh token.
    pub refreshes: u64,
    /// By client credentials.
    pub client_credentials: u64,
    /// Token requests refused.
    pub refused: u64,
}

/// What a user has consented to.
pub(super) struct Consent {
    pub client: String,
    pub redirect: String,
    pub user: String,
    pub scope: Scope,
    pub challenge: Option<Challenge>,
}

/// RFC 7636 §4.3.
#[derive(Clone)]
pub(super) enum Challenge {
    Plain(String),
    S256(String),
}

/// A pair of tokens, as the client gets it.
pub(super) struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
    pub created: OffsetDateTime,
    pub lifetime: u32,
}

struct Code {
    code: String,
    until: OffsetDateTime,
    consent: Consent,
    /// The grant that it was redeemed for.
    spent: Option<u64>,
}

struct Grant {
    id: u64,
    client: String,
    user: String,
    scope: Scope,
    access: String,
    access_until: OffsetDateTime,
    refresh: Option<String>,
    refresh_until: OffsetDateTime,
}

impl Grants {
    pub fn new(settings: OAuth2) -> Self {
        Self {
            settings,
            codes: Issued::default(),
            grants: Issued::default(),
            next_grant: 1,
            counts: OAuth2Counts::default(),
        }
    }

    pub(super) fn client(&self, id: &str) -> Option<&OAuth2Client> {
        self.settings.clients.iter().find(|client| client.id == id)
    }

    /// Registers a client, or replaces the one with its id.
    pub fn register(&mut self, client: OAuth2Client) {
        self.settings.clients.retain(|known| known.id != client.id);
        self.settings.clients.push(client);
    }

    pub fn counts(&self) -> OAuth2Counts {
        self.counts
    }

    pub(super) fn count_refused(&mut self) {
        self.counts.refused += 1;
    }

    pub fn set_access_lifetime(&mut self, seconds: u32) {
        self.settings.access_lifetime = seconds;
    }

    /// A code for what was consented to.
    pub(super) fn code(&mut self, consent: Consent, now: OffsetDateTime) -> String {
        let code = random(CODE_LENGTH);
        self.codes.keep(Code {
            code: code.clone(),
            until: after(now, self.settings.code_lifetime),
            consent,
            spent: None,
        });
        code
    }

    /// `grant_type=authorization_code`. A code that comes again takes the tokens that it gave.
    pub(super) fn redeem(
        &mut self,
        code: &str,
        client: &str,
        redirect: Option<&str>,
        verifier: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Tokens, Refusal> {
        let invalid = || Refusal::bad("invalid_grant", "Invalid or expired code");
        let index = self
            .codes
            .iter()
            .position(|known| same(&known.code, code) && known.consent.client == client)
            .ok_or_else(invalid)?;
        let known = &mut self.codes[index];
        if let Some(grant) = known.spent {
            self.grants.retain(|known| known.id != grant);
            return Err(invalid());
        }
        if known.until <= now {
            return Err(invalid());
        }
        if redirect != Some(known.consent.redirect.as_str()) {
            return Err(Refusal::bad("invalid_grant", "Invalid redirect_uri"));
        }
        verify(known.consent.challenge.as_ref(), verifier)?;
        known.spent = Some(self.next_grant);
        let (user, scope) = (known.consent.user.clone(), known.consent.scope);
        self.counts.codes += 1;
        Ok(self.issue(client, &user, scope, true, now))
    }

    /// `grant_type=refresh_token`. Both old tokens are dead from here on.
    pub(super) fn refresh(
        &mut self,
        refresh: &str,
        client: &str,
        scope: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Tokens, Refusal> {
        let index = self
            .grants
            .iter()
            .position(|grant| {
                grant.client == client
                    && grant.refresh_until > now
                    && grant.refresh.as_deref().is_some_and(|r| same(r, refresh))
            })
            .ok_or_else(|| Refusal::bad("invalid_grant", "Invalid refresh token"))?;
        let scope = Scope::asked(scope, self.grants[index].scope)?;
        let Some(old) = self.grants.remove(index) else {
            return Err(Refusal::bad("invalid_grant", "Invalid refresh token"));
        };
        for code in self.codes.iter_mut() {
            if code.spent == Some(old.id) {
                code.spent = Some(self.next_grant);
            }
        }
        self.counts.refreshes += 1;
        Ok(self.issue(client, &old.user, scope, true, now))
    }

    /// `grant_type=client_credentials`, for a client with a service account.
    pub(super) fn service(
        &mut self,
        client: &OAuth2Client,
        scope: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<Tokens, Refusal> {
        let Some(user) = &client.service_account else {
            return Err(Refusal::bad(
                "unauthorized_client",
                "The client has no service account",
            ));
        };
        let scope = Scope::asked(scope, client.scope)?;
        self.counts.client_credentials += 1;
        Ok(self.issue(&client.id, user, scope, false, now))
    }

    /// RFC 7009: a refresh token takes its access token along; an unknown one is no error.
    pub(super) fn revoke(&mut self, token: &str, client: &str, now: OffsetDateTime) {
        self.grants.retain(|grant| {
            grant.client != client || !grant.refresh.as_deref().is_some_and(|r| same(r, token))
        });
        for grant in self.grants.iter_mut() {
            if grant.client == client && same(&grant.access, token) {
                grant.access_until = now;
            }
        }
    }

    /// Whose a live access token is, and what it may do.
    pub fn owner(&self, access: &str, now: OffsetDateTime) -> Option<(&str, Scope)> {
        self.grants
            .iter()
            .find(|grant| same(&grant.access, access))
            .filter(|grant| grant.access_until > now)
            .map(|grant| (grant.user.as_str(), grant.scope))
    }

    /// Ends the life of every access token now, and that of every refresh token if told so.
    pub fn expire(&mut self, refresh_too: bool, now: OffsetDateTime) {
        for grant in self.grants.iter_mut() {
            grant.access_until = now;
            if refresh_too {
                grant.refresh_until = now;
            }
        }
    }

    fn issue(
        &mut self,
        client: &str,
        user: &str,
        scope: Scope,
        refreshable: bool,
        now: OffsetDateTime,
    ) -> Tokens {
        let tokens = Tokens {
            access: random(TOKEN_LENGTH),
            refresh: refreshable.then(|| random(TOKEN_LENGTH)),
            created: now,
            lifetime: self.settings.access_lifetime,
        };
        self.grants.keep(Grant {
            id: self.next_grant,
            client: client.to_owned(),
            user: user.to_owned(),
            scope,
            access: tokens.access.clone(),
            access_until: after(now, self.settings.access_lifetime),
            refresh: tokens.refresh.clone(),
            refresh_until: after(now, self.settings.refresh_lifetime),
        });
        self.next_grant += 1;
        tokens
    }
}

/// RFC 7636 §4.6; the verifier's length is §4.1's, but for Jira's 127 at the most.
fn verify(challenge: Option<&Challenge>, verifier: Option<&str>) -> Result<(), Refusal> {
    let Some(challenge) = challenge else {
        return Ok(());
    };
    let verifier =
        verifier.ok_or_else(|| Refusal::bad("invalid_request", "Missing code_verifier"))?;
    if !VERIFIER_LENGTH.contains(&verifier.len()) {
        return Err(Refusal::bad("invalid_request", "Invalid code_verifier"));
    }
    let good = match challenge {
        Challenge::Plain(expected) => same(expected, verifier),
        Challenge::S256(expected) => {
            same(expected, &URL_SAFE_NO_PAD.encode(Sha256::digest(verifier)))
        }
    };
    if good {
        Ok(())
    } else {
        Err(Refusal::bad("invalid_grant", "Invalid code_verifier"))
    }
}

const CODE_LENGTH: usize = 32;
const TOKEN_LENGTH: usize = 128;
const VERIFIER_LENGTH: std::ops::RangeInclusive<usize> = 43..=127;
