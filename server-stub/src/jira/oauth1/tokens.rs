//! Consumers, and the tokens and nonces that they have used. Time is an argument; bounded.

use std::collections::HashSet;

use rsa::RsaPublicKey;
use time::OffsetDateTime;

use super::problem::Problem;
use super::settings::{OAuth1, OAuth1Consumer, PublicKeyError};
use crate::issued::{Issued, after, random, same};

/// Everything that the provider holds.
pub(in crate::jira) struct Consumers {
    settings: OAuth1,
    consumers: Vec<(OAuth1Consumer, RsaPublicKey)>,
    requests: Issued<RequestToken>,
    accesses: Issued<AccessToken>,
    nonces: HashSet<Nonce>,
}

/// Timestamp, nonce, consumer, token.
type Nonce = (i64, String, String, String);

/// A request token.
#[derive(Clone)]
pub(super) struct RequestToken {
    pub token: String,
    pub secret: String,
    pub consumer: String,
    /// Absent: OAuth 1.0, whose access token needs no verifier.
    pub callback: Option<Callback>,
    until: OffsetDateTime,
    decided: Option<Decision>,
}

/// Where the user goes after deciding.
#[derive(Clone)]
pub(super) enum Callback {
    /// Nowhere: the verifier is shown.
    OutOfBand,
    To(url::Url),
}

#[derive(Clone)]
enum Decision {
    Denied,
    Allowed { user: String, verifier: String },
}

/// An access token.
#[derive(Clone)]
pub(super) struct AccessToken {
    pub token: String,
    pub secret: String,
    pub session: String,
    /// Seconds.
    pub lifetime: u32,
    /// Seconds.
    pub authorization_lifetime: u32,
    consumer: String,
    user: String,
    until: OffsetDateTime,
    session_until: OffsetDateTime,
}

impl Consumers {
    pub fn new(settings: OAuth1) -> Result<Self, PublicKeyError> {
        let mut consumers = Self {
            consumers: Vec::new(),
            requests: Issued::default(),
            accesses: Issued::default(),
            nonces: HashSet::new(),
            settings: settings.clone(),
        };
        for consumer in settings.consumers {
            consumers.register(consumer)?;
        }
        Ok(consumers)
    }

    /// Registers a consumer, or replaces the one with its key.
    pub fn register(&mut self, consumer: OAuth1Consumer) -> Result<(), PublicKeyError> {
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

    /// Whether a nonce is seen for the first time; those older than `since` are forgotten.
    pub(super) fn first_use(&mut self, nonce: Nonce, since: i64) -> bool {
        if self.nonces.len() >= MAX_NONCES {
            self.nonces.retain(|(timestamp, ..)| *timestamp >= since);
        }
        self.nonces.len() < MAX_NONCES && self.nonces.insert(nonce)
    }

    pub(super) fn request(
        &mut self,
        consumer: &str,
        callback: Option<Callback>,
        now: OffsetDateTime,
    ) -> RequestToken {
        let token = RequestToken {
            token: random(TOKEN_LENGTH),
            secret: random(TOKEN_LENGTH),
            consumer: consumer.to_owned(),
            callback,
            until: after(now, self.settings.request_lifetime),
            decided: None,
        };
        self.requests.keep(token.clone());
        token
    }

    /// A request token that a user may still decide on.
    pub(super) fn undecided(
        &self,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<RequestToken, Problem> {
        let found = self
            .requests
            .iter()
            .find(|known| same(&known.token, token))
            .ok_or_else(|| Problem::new("token_rejected"))?;
        if found.until <= now {
            return Err(Problem::new("token_expired"));
        }
        if found.decided.is_some() {
            return Err(Problem::new("token_used"));
        }
        Ok(found.clone())
    }

    /// The user allowed it; gives the verifier.
    pub(super) fn allow(&mut self, token: &str, user: String) -> String {
        let verifier = random(VERIFIER_LENGTH);
        let decision = Decision::Allowed {
            user,
            verifier: verifier.clone(),
        };
        self.decide(token, decision);
        verifier
    }

    pub(super) fn deny(&mut self, token: &str) {
        self.decide(token, Decision::Denied);
    }

    fn decide(&mut self, token: &str, decision: Decision) {
        if let Some(known) = self.requests.iter_mut().find(|known| known.token == token) {
            known.decided = Some(decision);
        }
    }

    /// An access token for a request token that a user allowed, which is gone then.
    pub(super) fn exchange(
        &mut self,
        token: &str,
        consumer: &str,
        verifier: Option<&str>,
        now: OffsetDateTime,
    ) -> Result<AccessToken, Problem> {
        let rejected = || Problem::new("token_rejected");
        let index = self
            .requests
            .iter()
            .position(|known| same(&known.token, token) && known.consumer == consumer)
            .ok_or_else(rejected)?;
        let known = &self.requests[index];
        if known.until <= now {
            return Err(Problem::new("token_expired"));
        }
        let user = match &known.decided {
            None => return Err(Problem::new("permission_unknown")),
            Some(Decision::Denied) => return Err(Problem::new("permission_denied")),
            Some(Decision::Allowed {
                user,
                verifier: expected,
            }) => {
                if known.callback.is_some() {
                    let verifier = verifier.ok_or_else(|| {
                        Problem::new("parameter_absent")
                            .with("oauth_parameters_absent", "oauth_verifier")
                    })?;
                    if !same(expected, verifier) {
                        return Err(rejected());
                    }
                }
                user.clone()
            }
        };
        self.requests.remove(index);
        Ok(self.issue(consumer, user, now))
    }

    /// A new access token for one whose session is still open, which is gone then.
    pub(super) fn renew(
        &mut self,
        token: &str,
        consumer: &str,
        session: &str,
        now: OffsetDateTime,
    ) -> Result<AccessToken, Problem> {
        let index = self
            .accesses
            .iter()
            .position(|known| {
                same(&known.token, token)
                    && known.consumer == consumer
                    && same(&known.session, session)
            })
            .ok_or_else(|| Problem::new("token_rejected"))?;
        if self.accesses[index].session_until <= now {
            return Err(Problem::new("token_expired"));
        }
        let Some(old) = self.accesses.remove(index) else {
            return Err(Problem::new("token_rejected"));
        };
        Ok(self.issue(consumer, old.user, now))
    }

    /// Whose a live access token is.
    pub(super) fn user(
        &self,
        token: &str,
        consumer: &str,
        now: OffsetDateTime,
    ) -> Result<String, Problem> {
        let found = self
            .accesses
            .iter()
            .find(|known| same(&known.token, token) && known.consumer == consumer)
            .ok_or_else(|| Problem::new("token_rejected"))?;
        if found.until <= now {
            return Err(Problem::new("token_expired"));
        }
        Ok(found.user.clone())
    }

    /// Ends the life of every access token now, and that of their sessions if told so.
    pub fn expire(&mut self, sessions_too: bool, now: OffsetDateTime) {
        for token in self.accesses.iter_mut() {
            token.until = now;
            if sessions_too {
                token.session_until = now;
            }
        }
    }

    fn issue(&mut self, consumer: &str, user: String, now: OffsetDateTime) -> AccessToken {
        let lifetime = self.settings.access_lifetime;
        let authorization_lifetime = lifetime.saturating_add(self.settings.session_lifetime);
        let token = AccessToken {
            token: random(TOKEN_LENGTH),
            secret: random(TOKEN_LENGTH),
            session: random(TOKEN_LENGTH),
            lifetime,
            authorization_lifetime,
            consumer: consumer.to_owned(),
            user,
            until: after(now, lifetime),
            session_until: after(now, authorization_lifetime),
        };
        self.accesses.keep(token.clone());
        token
    }
}

/// Of ten minutes; beyond that every request is refused until some are old enough.
const MAX_NONCES: usize = 1 << 20;
const TOKEN_LENGTH: usize = 32;
const VERIFIER_LENGTH: usize = 6;
