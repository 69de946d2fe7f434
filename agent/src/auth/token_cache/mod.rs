//! The tokens of a login that the agent refreshes: cached in memory, read again when their files change, refreshed ahead
//! of their end by one task at a time. Both OAuths use it; each is a [`TokenProvider`].
//!
//! Nothing runs in the background for it: traffic and the login probe ask at least twice a minute, and the first one
//! that asks when a refresh is due starts it.

mod refresh_task;
mod state;

use super::{
    Concern, CredentialUnavailable, RefreshOutcome,
    shared_read::{CacheContent, SharedRead},
};
use crate::{
    backoff::ExponentialBackoff,
    disk::DISK_TIMEOUT,
    secret::{FileStamp, SecretDigest},
    tokens::{TokenRecord, TokenSet, TokenStoreError},
};
use futures_util::future::BoxFuture;
use parking_lot::{Mutex, MutexGuard};
use state::TokenState;
use std::{
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// What differs between the protocols by which tokens are refreshed.
pub(super) trait TokenProvider: Send + Sync + 'static {
    /// The token in log lines: `access token`.
    const TOKEN_NAME: &'static str;
    /// Between attempts of a refresh that fails.
    const BACKOFF: ExponentialBackoff;
    /// Between two refreshes of tokens that Jira rejected without having accepted them: the next one would be rejected too.
    const INEFFECTIVE_PAUSE: Duration;

    fn forward(&self) -> &str;
    /// The file with the tokens, for messages.
    fn path(&self) -> std::path::PathBuf;
    /// Reads the files if they differ from `known`; `None` where they do not. An error leaves the cached tokens in use.
    /// Blocks.
    fn read(
        &self,
        known: Option<FileStamps>,
    ) -> Result<Option<TokenFilesReading>, CredentialUnavailable>;
    /// Exchanges the tokens unless the stored access token is another one than `stale` already. `rejected`: Jira no
    /// longer accepts it, whatever its end.
    fn refresh<'a>(
        &'a self,
        stale: Option<&'a TokenSet>,
        rejected: bool,
    ) -> BoxFuture<'a, RefreshOutcome>;
    /// Why these tokens cannot be refreshed, where that is known in advance.
    fn check_refreshable(&self, _tokens: &TokenSet) -> Result<(), CredentialUnavailable> {
        Ok(())
    }
    /// When the access token is no longer sent. `None`: it is sent until it is rejected.
    fn usable_until(&self, tokens: &TokenSet) -> Option<SystemTime>;
    /// When the access token is refreshed although it is still usable.
    fn refresh_at(&self, tokens: &TokenSet) -> Option<SystemTime>;
    /// Why there is no credential after a login has ended for `reason`.
    fn ended(&self, reason: &str) -> CredentialUnavailable;
    /// Why there is no credential where the files cannot be read.
    fn unreadable(&self, error: &dyn std::fmt::Display) -> CredentialUnavailable;
    /// What a person does to log in again.
    fn login_command(&self) -> String {
        format!("agent login {}", self.forward())
    }
}

/// The files that tokens depend on, in the provider's order; `None` for a file that is not there.
pub(super) type FileStamps = [Option<FileStamp>; 3];

/// What is on the disk now.
pub(super) struct TokenFilesReading {
    /// `None`: read again next time, whatever the files look like then.
    pub stamps: Option<FileStamps>,
    pub record: StoredRecord,
    /// Of the client's secret, where there is one and it can be read.
    pub client_secret: Option<SecretDigest>,
}

/// The record in the token file.
pub(super) enum StoredRecord {
    /// These tokens are in memory alone.
    NotStored,
    /// There are no tokens to use, and why.
    Missing(CredentialUnavailable),
    Found(TokenRecord),
}

/// A read, and the state's revision when it began.
type RevisionedReading = (
    u64,
    Result<Option<TokenFilesReading>, CredentialUnavailable>,
);

/// The tokens of one forward.
pub(super) struct TokenCache<P> {
    provider: Arc<P>,
    state: Mutex<TokenState>,
    reads: SharedRead<RevisionedReading>,
    /// Held by the one task that refreshes.
    refresh_lock: Arc<tokio::sync::Mutex<()>>,
}

/// Tokens with an access token to send.
pub(super) struct CachedTokens {
    pub tokens: Arc<TokenSet>,
    /// Rises with each other access token.
    pub generation: u64,
}

/// What a request does now.
enum TokenDecision {
    Send(CachedTokens),
    /// Wait for a refresh, then decide again.
    Wait,
    Fail(CredentialUnavailable),
}

impl<P: TokenProvider> TokenCache<P> {
    /// Reads no file yet.
    pub(super) fn new(provider: P) -> Arc<Self> {
        Arc::new(Self {
            provider: Arc::new(provider),
            state: Mutex::default(),
            reads: SharedRead::default(),
            refresh_lock: Arc::default(),
        })
    }

    pub(super) fn provider(&self) -> &P {
        &self.provider
    }

    /// The tokens to send, refreshed first where that is needed.
    pub(super) async fn current(self: &Arc<Self>) -> Result<CachedTokens, CredentialUnavailable> {
        self.read_if_due().await?;
        let deadline = Instant::now() + REFRESH_WAIT;
        loop {
            match self.decide() {
                TokenDecision::Send(tokens) => return Ok(tokens),
                TokenDecision::Fail(why) => return Err(why),
                TokenDecision::Wait => {}
            }
            if !self.wait_for_refresh(deadline).await {
                return Err(refresh_timed_out());
            }
        }
    }

    /// Decides by what is in memory; starts a refresh that is due.
    fn decide(self: &Arc<Self>) -> TokenDecision {
        let state = self.state();
        if let Some(reason) = &state.ended {
            return TokenDecision::Fail(self.provider.ended(reason));
        }
        let now = SystemTime::now();
        let may_try = state.retry_at.is_none_or(|at| at <= Instant::now());
        let refreshable = match (&state.tokens, &state.missing) {
            (None, Some(why)) => return TokenDecision::Fail(why.clone()),
            (None, None) => Ok(()),
            (Some(tokens), _) => self.provider.check_refreshable(tokens),
        };
        let is_usable = |tokens: &&Arc<TokenSet>| {
            let end = self.provider.usable_until(tokens);
            tokens.access.is_some() && !state.rejected && end.is_none_or(|at| now < at)
        };
        let usable = state.tokens.as_ref().filter(is_usable).cloned();
        match (usable, refreshable) {
            (Some(tokens), refreshable) if !state.refresh_interrupted || refreshable.is_err() => {
                let generation = state.generation;
                let due = refreshable.is_ok() && state.refresh_at.is_some_and(|at| at <= now);
                drop(state);
                if due && may_try {
                    self.start_refresh();
                }
                TokenDecision::Send(CachedTokens { tokens, generation })
            }
            (None, Err(why)) => TokenDecision::Fail(why),
            (None, Ok(())) if !may_try => match &state.refresh_error {
                Some(why) => TokenDecision::Fail(why.clone()),
                None => TokenDecision::Wait,
            },
            _ => TokenDecision::Wait,
        }
    }

    /// Reads the files now. An error: there is nothing to log in with.
    pub(super) async fn reload(&self) -> Result<(), CredentialUnavailable> {
        self.reads.invalidate();
        self.read_if_due().await
    }

    async fn read_if_due(&self) -> Result<(), CredentialUnavailable> {
        let content = || {
            let state = self.state();
            match (
                &state.tokens,
                state.read_error.as_ref().or(state.missing.as_ref()),
            ) {
                (Some(_), _) => CacheContent::Value,
                (None, Some(_)) => CacheContent::Error,
                (None, None) => CacheContent::Nothing,
            }
        };
        let prepare = || {
            let provider = Arc::clone(&self.provider);
            let (revision, known) = {
                let state = self.state();
                (state.revision, state.stamps)
            };
            move || (revision, provider.read(known))
        };
        self.reads
            .run_if_due(DISK_TIMEOUT, content, prepare, |reading| {
                self.apply(reading)
            })
            .await;
        let state = self.state();
        match (&state.tokens, &state.read_error) {
            (None, Some(why)) => Err(why.clone()),
            // What is cached is good until it is rejected, whatever the disk does.
            _ => Ok(()),
        }
    }

    /// Takes over the result of a read; `None` is a disk that hangs.
    fn apply(&self, reading: Option<io::Result<RevisionedReading>>) {
        // A slow disk is worth reporting only after a while, an error at once.
        let reported_from = match reading {
            Some(_) => Instant::now(),
            None => Instant::now() + DISK_TIMEOUT,
        };
        let mut state = self.state();
        let read = match reading {
            Some(Ok((revision, found))) => found.map(|reading| {
                // A refresh that has ended since then knows better, and the next read finds its file.
                if let Some(reading) = reading.filter(|_| state.revision == revision) {
                    state.apply_reading(reading, &*self.provider);
                }
            }),
            Some(Err(error)) => Err(self.provider.unreadable(&error)),
            None => {
                let hangs = TokenStoreError::Hangs(self.provider.path());
                Err(self.provider.unreadable(&hangs))
            }
        };
        if let Err(why) = &read {
            tracing::debug!(cause = why.cause, "the token file cannot be read");
        }
        state.read_error = read.err();
        state.unread_since = state.read_error.is_some().then(|| {
            let before = state.unread_since.unwrap_or(reported_from);
            before.min(reported_from)
        });
    }

    /// The number of what a person put there: a login, a client secret.
    pub(super) fn version(&self) -> u64 {
        self.state().version
    }

    /// What is wrong although the cached token is still usable.
    pub(super) fn concern(&self) -> Option<Concern> {
        self.state().concern()
    }

    /// The cached tokens, and whether their login has ended.
    pub(super) fn peek(&self) -> Option<(Arc<TokenSet>, bool)> {
        let state = self.state();
        Some((state.tokens.clone()?, state.ended.is_some()))
    }

    /// The next request reads the files, and may refresh.
    pub(super) fn invalidate(&self) {
        self.reads.invalidate();
        self.state().retry_at = None;
    }

    /// Completes when no refresh runs.
    pub(super) async fn wait_idle(&self) {
        drop(self.refresh_lock.lock().await);
    }

    fn state(&self) -> MutexGuard<'_, TokenState> {
        self.state.lock()
    }
}

fn refresh_timed_out() -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!("the access token could not be refreshed within {REFRESH_WAIT:?}"),
        remedy: "check the agent's log: the token endpoint or the disk is slow".to_owned(),
    }
}

/// How long a request waits for a refresh: longer than one request to the endpoint may take.
const REFRESH_WAIT: Duration = Duration::from_secs(30);
