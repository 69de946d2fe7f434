//! Consumers, their tokens, and the nonces that they have used. The time is an argument, the number of
//! entries is bounded.

use std::collections::HashSet;

use rsa::RsaPublicKey;
use time::OffsetDateTime;

use super::problem::OAuth1Problem;
use super::settings::{OAuth1Consumer, OAuth1Settings, PublicKeyError};
use crate::token_store::{TokenStore, expires_at, random_token, secrets_match};

/// The consumers, tokens and nonces of the provider.
pub(in crate::jira) struct OAuth1Store {
    settings: OAuth1Settings,
    consumers: Vec<(OAuth1Consumer, RsaPublicKey)>,
    request_tokens: TokenStore<RequestToken>,
    access_tokens: TokenStore<AccessToken>,
    nonces: HashSet<UsedNonce>,
}

/// Timestamp, nonce, consumer key and token of a signed request.
type UsedNonce = (i64, String, String, String);

/// A request token, and the user's decision about it.
#[derive(Clone)]
pub(super) struct RequestToken {
    pub token: String,
    pub secret: String,
    pub consumer: String,
    /// `None` for OAuth 1.0, which has no verifier.
    pub callback: Option<OAuthCallback>,
    expires: OffsetDateTime,
    decision: Option<TokenDecision>,
}

/// Where the user is sent after the decision.
#[derive(Clone)]
pub(super) enum OAuthCallback {
    /// Nowhere: the page shows the verifier.
    OutOfBand,
    To(url::Url),
}

#[derive(Clone)]
enum TokenDecision {
    Denied,
    Allowed { user: String, verifier: String },
}

/// An access token, its session handle and its user.
#[derive(Clone)]
pub(super) struct AccessToken {
    pub token: String,
    pub secret: String,
    pub session: String,
    /// Lifetime of the access token in seconds.
    pub lifetime: u32,
    /// Lifetime of the session handle in seconds.
    pub authorization_lifetime: u32,
    consumer: String,
    user: String,
    expires: OffsetDateTime,
    session_expires: OffsetDateTime,
}

impl OAuth1Store {
    pub(crate) fn new(settings: OAuth1Settings) -> Result<Self, PublicKeyError> {
        let mut consumers = Self {
            consumers: Vec::new(),
            request_tokens: TokenStore::default(),
            access_tokens: TokenStore::default(),
            nonces: HashSet::new(),
            settings: settings.clone(),
        };
        for consumer in settings.consumers {
            consumers.register(consumer)?;
        }
        Ok(consumers)
    }

    /// Registers a consumer, or replaces the one with its key.
    pub(crate) fn register(&mut self, consumer: OAuth1Consumer) -> Result<(), PublicKeyError> {
        let rsa_key = consumer.rsa_key()?;
        self.consumers
            .retain(|(known, _)| known.key != consumer.key);
        self.consumers.push((consumer, rsa_key));
        Ok(())
    }

    pub(super) fn consumer(&self, key: &str) -> Option<(OAuth1Consumer, RsaPublicKey)> {
        self.consumers
            .iter()
            .find(|(consumer, _)| consumer.key == key)
            .cloned()
    }

    /// Records a nonce; `false` if it was used before. Nonces older than `since` are dropped.
    pub(super) fn is_new_nonce(&mut self, nonce: UsedNonce, since: i64) -> bool {
        if self.nonces.len() >= MAX_NONCES {
            self.nonces.retain(|(timestamp, ..)| *timestamp >= since);
        }
        self.nonces.len() < MAX_NONCES && self.nonces.insert(nonce)
    }

    pub(super) fn request(
        &mut self,
        consumer: &str,
        callback: Option<OAuthCallback>,
        now: OffsetDateTime,
    ) -> RequestToken {
        let token = RequestToken {
            token: random_token(TOKEN_LENGTH),
            secret: random_token(TOKEN_LENGTH),
            consumer: consumer.to_owned(),
            callback,
            expires: expires_at(now, self.settings.request_lifetime),
            decision: None,
        };
        self.request_tokens.push(token.clone());
        token
    }

    /// A request token that the user has not decided on.
    pub(super) fn undecided(
        &self,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<RequestToken, OAuth1Problem> {
        let found = self
            .request_tokens
            .iter()
            .find(|known| secrets_match(&known.token, token))
            .ok_or_else(|| OAuth1Problem::new("token_rejected"))?;
        if found.expires <= now {
            return Err(OAuth1Problem::new("token_expired"));
        }
        if found.decision.is_some() {
            return Err(OAuth1Problem::new("token_used"));
        }
        Ok(found.clone())
    }

    /// Records that `user` allowed the token, and returns the verifier.
    pub(super) fn allow(&mut self, token: &str, user: String) -> String {
        let verifier = random_token(VERIFIER_LENGTH);
        let decision = TokenDecision::Allowed {
            user,
            verifier: verifier.clone(),
        };
        self.decide(token, decision);
        verifier
    }

    pub(super) fn deny(&mut self, token: &str) {
        self.decide(token, TokenDecision::Denied);
    }

    fn decide(&mut self, token: &str, decision: TokenDecision) {
        if let Some(known) = self
            .request_tokens
            .iter_mut()
            .find(|known| known.token == token)
        {
            known.decision = Some(decision);
        }
    }

    /// Exchanges a request token that a user allowed for an access token.
    pub(super) fn exchange(
        &mut self,
        token: &str,
        consumer: &str,
        verifier: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<AccessToken, OAuth1Problem> {
        let rejected = || OAuth1Problem::new("token_rejected");
        let index = self
            .request_tokens
            .iter()
            .position(|known| secrets_match(&known.token, token) && known.consumer == consumer)
            .ok_or_else(rejected)?;
        let known = &self.request_tokens[index];
        if known.expires <= now {
            return Err(OAuth1Problem::new("token_expired"));
        }
        let user = match &known.decision {
            None => return Err(OAuth1Problem::new("permission_unknown")),
            Some(TokenDecision::Denied) => return Err(OAuth1Problem::new("permission_denied")),
            Some(TokenDecision::Allowed {
                user,
                verifier: expected,
            }) => {
                if known.callback.is_some() {
                    let verifier = verifier.ok_or_else(|| {
                        OAuth1Problem::new("parameter_absent")
                            .with("oauth_parameters_absent", "oauth_verifier")
                    })?;
                    if !secrets_match(expected, verifier) {
                        return Err(rejected());
                    }
                }
                user.clone()
            }
        };
        self.request_tokens.remove(index);
        Ok(self.issue(consumer, user, now))
    }

    /// Replaces an access token whose session is still valid.
    pub(super) fn refresh(
        &mut self,
        token: &str,
        consumer: &str,
        session: &str,
        now: OffsetDateTime,
    ) -> Result<AccessToken, OAuth1Problem> {
        let index = self
            .access_tokens
            .iter()
            .position(|known| {
                secrets_match(&known.token, token)
                    && known.consumer == consumer
                    && secrets_match(&known.session, session)
            })
            .ok_or_else(|| OAuth1Problem::new("token_rejected"))?;
        if self.access_tokens[index].session_expires <= now {
            return Err(OAuth1Problem::new("token_expired"));
        }
        let Some(old) = self.access_tokens.remove(index) else {
            return Err(OAuth1Problem::new("token_rejected"));
        };
        Ok(self.issue(consumer, old.user, now))
    }

    /// The user of a valid access token.
    pub(super) fn user(
        &self,
        token: &str,
        consumer: &str,
        now: OffsetDateTime,
    ) -> Result<String, OAuth1Problem> {
        let found = self
            .access_tokens
            .iter()
            .find(|known| secrets_match(&known.token, token) && known.consumer == consumer)
            .ok_or_else(|| OAuth1Problem::new("token_rejected"))?;
        if found.expires <= now {
            return Err(OAuth1Problem::new("token_expired"));
        }
        Ok(found.user.clone())
    }

    /// Expires every access token, and their sessions if `sessions_too`.
    pub(crate) fn expire(&mut self, sessions_too: bool, now: OffsetDateTime) {
        for token in self.access_tokens.iter_mut() {
            token.expires = now;
            if sessions_too {
                token.session_expires = now;
            }
        }
    }

    fn issue(&mut self, consumer: &str, user: String, now: OffsetDateTime) -> AccessToken {
        let lifetime = self.settings.access_lifetime;
        let authorization_lifetime = lifetime.saturating_add(self.settings.session_lifetime);
        let token = AccessToken {
            token: random_token(TOKEN_LENGTH),
            secret: random_token(TOKEN_LENGTH),
            session: random_token(TOKEN_LENGTH),
            lifetime,
            authorization_lifetime,
            consumer: consumer.to_owned(),
            user,
            expires: expires_at(now, lifetime),
            session_expires: expires_at(now, authorization_lifetime),
        };
        self.access_tokens.push(token.clone());
        token
    }
}

/// Within ten minutes; beyond it requests are refused until some nonces are old enough.
const MAX_NONCES: usize = 1 << 20;
const TOKEN_LENGTH: usize = 32;
const VERIFIER_LENGTH: usize = 6;
