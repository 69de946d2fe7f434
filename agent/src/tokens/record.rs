//! The record of one forward's login.

use crate::secret::Secret;
use std::{sync::Arc, time::SystemTime};

/// The contents of one token file.
#[derive(Clone)]
pub struct TokenRecord {
    /// Whose tokens these are. A configuration that names another owner must not use them.
    pub owner: TokenOwner,
    /// The last tokens known. `None` after a logout that leaves only `seed` behind.
    pub tokens: Option<Arc<TokenSet>>,
    /// Fingerprint of the first refresh token that was taken from a file, so that the same file is not
    /// taken up again after its token was rotated.
    pub seed: Option<String>,
    /// Since when a refresh may have happened whose answer was not saved: the refresh token here may
    /// be invalid already.
    pub pending: Option<SystemTime>,
    /// Why these tokens are no longer valid: one sentence for an administrator.
    pub ended: Option<String>,
}

/// Whose tokens they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOwner {
    /// Mode of the login: `oauth1`, `oauth2`.
    pub mode: String,
    /// Client id or consumer key.
    pub client: String,
    /// The site that issued them, as a URL.
    pub issuer: String,
}

/// What one login or refresh gave. In OAuth 1.0a the refresh token is the session handle.
pub struct TokenSet {
    /// What goes into requests. `None` where only a refresh token is known yet.
    pub access: Option<Secret>,
    /// OAuth 1.0a: the secret that belongs to `access`.
    pub access_secret: Option<Secret>,
    /// When `access` expires, if the server reported it.
    pub access_expires: Option<SystemTime>,
    /// What gets the next tokens.
    pub refresh: Option<Secret>,
    /// When `refresh` expires, if the server reported it.
    pub refresh_expires: Option<SystemTime>,
    /// When they were issued, by this host's clock.
    pub obtained: SystemTime,
    /// The user they belong to, as Jira named it at the login.
    pub user: Option<String>,
    /// OAuth 2.0: the scopes of `access`, separated by spaces; `None` if nothing says which.
    pub scope: Option<String>,
}

impl TokenRecord {
    /// Fresh tokens, nothing pending.
    pub fn new(owner: TokenOwner, tokens: TokenSet) -> Self {
        Self {
            owner,
            tokens: Some(Arc::new(tokens)),
            seed: None,
            pending: None,
            ended: None,
        }
    }
}
