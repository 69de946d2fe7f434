//! OAuth 1.0a for the [`TokenCache`](crate::auth::token_cache::TokenCache): what it reads from the token file, how it
//! refreshes by the session, and when.

use super::{
    OAuth1Endpoints, Settings, SigningKey,
    refresh::{check_owner, ended, logged_out, refresh},
};
use crate::{
    auth::{
        CredentialUnavailable, RefreshOutcome,
        cached_file::CachedFile,
        token_cache::{FileStamps, StoredRecord, TokenFilesReading, TokenProvider},
    },
    backoff::ExponentialBackoff,
    tokens::{TokenSet, TokenStore, TokenStoreError},
};
use futures_util::future::BoxFuture;
use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

pub(super) struct OAuth1TokenProvider {
    pub(super) settings: Settings,
    pub(super) store: TokenStore,
    /// Signs the refresh request; it is reloaded when its file changes.
    pub(super) key: Arc<CachedFile<SigningKey>>,
}

impl OAuth1TokenProvider {
    fn read_record(&self) -> Result<StoredRecord, TokenStoreError> {
        let missing = || StoredRecord::Missing(logged_out(&self.settings, &self.store));
        let Some(record) = self.store.read()? else {
            return Ok(missing());
        };
        if let Err(why) = check_owner(&self.settings, &self.store, &record) {
            return Ok(StoredRecord::Missing(why));
        }
        let has_access = record.tokens.as_ref().is_some_and(|t| t.access.is_some());
        Ok(match has_access || record.ended.is_some() {
            true => StoredRecord::Found(record),
            false => missing(),
        })
    }
}

impl TokenProvider for OAuth1TokenProvider {
    const TOKEN_NAME: &'static str = "OAuth 1.0a token";
    const BACKOFF: ExponentialBackoff =
        ExponentialBackoff::new(REFRESH_BACKOFF, REFRESH_BACKOFF, 1.0);
    const INEFFECTIVE_PAUSE: Duration = REFRESH_BACKOFF;

    fn forward(&self) -> &str {
        self.store.forward()
    }

    fn path(&self) -> PathBuf {
        self.store.path()
    }

    /// A file that cannot be read ends the use of its former token.
    fn read(
        &self,
        known: Option<FileStamps>,
    ) -> Result<Option<TokenFilesReading>, CredentialUnavailable> {
        let read = self.store.stamp().and_then(|stamp| {
            let stamps = [stamp, None, None];
            match known == Some(stamps) {
                true => Ok(None),
                false => Ok(Some((stamps, self.read_record()?))),
            }
        });
        let (stamps, record) = match read {
            Ok(None) => return Ok(None),
            Ok(Some((stamps, record))) => (Some(stamps), record),
            Err(error) => (None, StoredRecord::Missing(self.unreadable(&error))),
        };
        Ok(Some(TokenFilesReading {
            stamps,
            record,
            client_secret: None,
        }))
    }

    fn refresh<'a>(
        &'a self,
        stale: Option<&'a TokenSet>,
        rejected: bool,
    ) -> BoxFuture<'a, RefreshOutcome> {
        Box::pin(async move {
            let key = match self.key.current().await {
                Ok(key) => key.value,
                Err(why) => return RefreshOutcome::Failed(why),
            };
            let endpoints = OAuth1Endpoints::new(self.settings.clone(), key);
            let access = stale.and_then(|tokens| tokens.access.as_ref());
            refresh(&self.settings, &self.store, &endpoints, access, rejected).await
        })
    }

    fn check_refreshable(&self, tokens: &TokenSet) -> Result<(), CredentialUnavailable> {
        match tokens.refresh {
            Some(_) => Ok(()),
            None => Err(CredentialUnavailable {
                cause:
                    "the access token has expired, and Jira issued no session to refresh it with"
                        .to_owned(),
                remedy: format!("run {}", self.login_command()),
            }),
        }
    }

    fn usable_until(&self, tokens: &TokenSet) -> Option<SystemTime> {
        tokens.access_expires
    }

    /// In the last tenth of its life, a week at the most: an access token of Jira's lives five years.
    fn refresh_at(&self, tokens: &TokenSet) -> Option<SystemTime> {
        let end = tokens.access_expires?;
        let life = end.duration_since(tokens.obtained).unwrap_or_default();
        let early = (life / 10).min(EARLIEST_REFRESH);
        Some(end.checked_sub(early).unwrap_or(SystemTime::UNIX_EPOCH))
    }

    fn ended(&self, reason: &str) -> CredentialUnavailable {
        ended(&self.store, reason)
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> CredentialUnavailable {
        CredentialUnavailable {
            cause: error.to_string(),
            remedy: format!("run {}", self.login_command()),
        }
    }
}

/// Time for an administrator to repair what stops a refresh.
const EARLIEST_REFRESH: Duration = Duration::from_secs(7 * 86_400);
/// Between two attempts of a refresh that failed.
const REFRESH_BACKOFF: Duration = Duration::from_secs(60);
