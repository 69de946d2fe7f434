//! OAuth 2.0 for the [`TokenCache`](crate::auth::token_cache::TokenCache): what it reads from the files, how it
//! refreshes, and when.

use super::{
    GrantType, OAuth2Endpoints, Settings,
    refresh::{logged_out, read_first_token, refresh, with_first_token},
};
use crate::{
    auth::{
        CredentialUnavailable, RefreshOutcome,
        token_cache::{FileStamps, StoredRecord, TokenFilesReading, TokenProvider},
    },
    backoff::ExponentialBackoff,
    tokens::{TokenRecord, TokenSet},
};
use futures_util::future::BoxFuture;
use rand::Rng;
use std::{
    path::PathBuf,
    time::{Duration, SystemTime},
};

pub(super) struct OAuth2TokenProvider {
    pub(super) settings: Settings,
    endpoints: OAuth2Endpoints,
}

impl OAuth2TokenProvider {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            endpoints: OAuth2Endpoints::new(settings.clone()),
            settings,
        }
    }

    fn read_record(&self) -> Result<StoredRecord, CredentialUnavailable> {
        let settings = &self.settings;
        let stored = settings.store.read().map_err(|e| self.unreadable(&e))?;
        let first = read_first_token(settings.refresh_token_file.clone());
        Ok(match with_first_token(settings, stored, first)? {
            Some(record) if record.tokens.is_some() || record.ended.is_some() => {
                StoredRecord::Found(record)
            }
            _ => StoredRecord::Missing(logged_out(settings)),
        })
    }
}

impl TokenProvider for OAuth2TokenProvider {
    const TOKEN_NAME: &'static str = "access token";
    const BACKOFF: ExponentialBackoff =
        ExponentialBackoff::new(Duration::from_secs(1), Duration::from_secs(60), 2.0);
    // A user who may not log in gets fresh tokens that are rejected all the same.
    const INEFFECTIVE_PAUSE: Duration = Duration::from_secs(300);

    fn forward(&self) -> &str {
        self.settings.store.forward()
    }

    fn path(&self) -> PathBuf {
        self.settings.store.path()
    }

    fn read(
        &self,
        known: Option<FileStamps>,
    ) -> Result<Option<TokenFilesReading>, CredentialUnavailable> {
        let settings = &self.settings;
        let is_stored = settings.grant == GrantType::AuthorizationCode;
        let first_token = settings.refresh_token_file.as_ref();
        let stamps = [
            match is_stored {
                true => settings.store.stamp().map_err(|e| self.unreadable(&e))?,
                false => None,
            },
            first_token.and_then(|file| file.stamp().ok()),
            settings.client_secret_file.stamp().ok(),
        ];
        if known == Some(stamps) {
            return Ok(None);
        }
        let secret = settings.client_secret_file.read().ok();
        Ok(Some(TokenFilesReading {
            stamps: Some(stamps),
            client_secret: secret.map(|secret| secret.digest()),
            record: match is_stored {
                true => self.read_record()?,
                false => StoredRecord::NotStored,
            },
        }))
    }

    fn refresh<'a>(
        &'a self,
        stale: Option<&'a TokenSet>,
        _rejected: bool,
    ) -> BoxFuture<'a, RefreshOutcome> {
        let (settings, endpoints) = (&self.settings, &self.endpoints);
        Box::pin(async move {
            match settings.grant {
                GrantType::AuthorizationCode => {
                    let access = stale.and_then(|tokens| tokens.access.as_ref());
                    refresh(settings, endpoints, access).await
                }
                GrantType::ClientCredentials => match endpoints.client_credentials().await {
                    Ok(tokens) => {
                        RefreshOutcome::Refreshed(TokenRecord::new(settings.owner(), tokens))
                    }
                    Err(error) => RefreshOutcome::Failed(CredentialUnavailable {
                        cause: error.cause,
                        remedy: error.remedy,
                    }),
                },
            }
        })
    }

    /// A little before its end: a token that ends on its way to Jira would be rejected.
    fn usable_until(&self, tokens: &TokenSet) -> Option<SystemTime> {
        let expires = tokens.access_expires?;
        let life = expires.duration_since(tokens.obtained).unwrap_or_default();
        expires.checked_sub(TRAVEL_TIME.min(life / 20))
    }

    /// Between 70 and 85 per cent of its life, so that many agents do not refresh at the same moment.
    fn refresh_at(&self, tokens: &TokenSet) -> Option<SystemTime> {
        let expires = tokens.access_expires?;
        let life = expires.duration_since(tokens.obtained).ok()?;
        let share = rand::rng().random_range(0.7..0.85);
        tokens.obtained.checked_add(life.mul_f64(share))
    }

    fn ended(&self, reason: &str) -> CredentialUnavailable {
        let command = self.settings.login_command();
        CredentialUnavailable {
            cause: format!("the login for Jira has ended: {reason}"),
            remedy: match self.settings.refresh_token_file {
                Some(_) => format!(
                    "log in again: {command}, or write a new refresh token into refresh_token_file"
                ),
                None => format!("log in again: {command}"),
            },
        }
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> CredentialUnavailable {
        CredentialUnavailable {
            cause: error.to_string(),
            remedy: format!(
                "repair the file, or log in again: {}",
                self.settings.login_command()
            ),
        }
    }
}

/// The longest that a request may take until Jira checks the token.
const TRAVEL_TIME: Duration = Duration::from_secs(5);
