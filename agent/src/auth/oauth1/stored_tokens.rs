//! The access token that `agent login` stored: looked at again at most once a second (`look`), renewed by its
//! session before it ends (`renewal`).

use super::{
    OAuth1Endpoints, Settings, SigningKey,
    refresh::refresh,
    token_file::{READ_TIMEOUT, TokenFileReading, UsableTokens},
};
use crate::{
    auth::{Concern, CredentialUnavailable, rotation::RefreshOutcome},
    disk::SingleFlight,
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    secret::FileStamp,
    tokens::{TokenSet, TokenStore, TokenStoreError},
};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout};

/// The tokens of one forward.
pub(super) struct StoredTokens {
    pub(super) settings: Settings,
    pub(super) store: TokenStore,
    state: Mutex<StoredTokensState>,
    /// Held by the one task that looks at the file.
    pub(super) single_flight: tokio::sync::Mutex<SingleFlight<TokenFileReading>>,
    /// Held by the one task that renews.
    refresh_lock: Arc<tokio::sync::Mutex<()>>,
    /// Jira called the access token dead before its time.
    pub(super) rejected_early: AtomicBool,
}

#[derive(Default)]
pub(super) struct StoredTokensState {
    pub checked_at: Option<Instant>,
    pub stamp: Option<Option<FileStamp>>,
    pub generation: u64,
    /// Rises with each other token that the agent has not renewed itself.
    pub version: u64,
    /// As the agent has renewed it last.
    pub refreshed: Option<Arc<TokenSet>>,
    pub found: Option<UsableTokens>,
    /// An interrupted renewal of before may have killed the token: it is renewed before it signs, if it can be.
    pub refresh_interrupted: bool,
    /// No renewal before this: the last one failed.
    pub refresh_not_before: Option<Instant>,
    /// Why no renewal has succeeded, and since when.
    pub trouble: Option<Concern>,
    /// Since when the disk has not answered.
    pub hangs_since: Option<Instant>,
}

impl StoredTokens {
    pub(super) fn new(settings: Settings, store: TokenStore) -> Self {
        Self {
            settings,
            store,
            state: Mutex::default(),
            single_flight: tokio::sync::Mutex::default(),
            refresh_lock: Arc::default(),
            rejected_early: AtomicBool::new(false),
        }
    }

    /// The tokens, their access token not yet over, and their generation.
    pub(super) async fn current(
        self: &Arc<Self>,
        key: &Arc<SigningKey>,
    ) -> Result<(Arc<TokenSet>, u64), CredentialUnavailable> {
        let (tokens, generation) = self.load_cached().await?;
        let now = SystemTime::now();
        let over = tokens.access_expires.is_some_and(|end| end <= now)
            || self.rejected_early.load(Ordering::Relaxed);
        let serves = !over && !self.lock().refresh_interrupted;
        if serves && !is_due(&tokens, now) {
            return Ok((tokens, generation));
        }
        if tokens.refresh.is_none() || self.is_backing_off() {
            return match over {
                true => Err(self.expired_error(&tokens)),
                false => Ok((tokens, generation)),
            };
        }
        if serves && self.refresh_lock.try_lock().is_err() {
            // Somebody renews it already.
            return Ok((tokens, generation));
        }
        let (stored, key) = (Arc::clone(self), Arc::clone(key));
        // A task of its own: a request that is given up must not cut a renewal in two.
        let renewal = tokio::spawn(async move { stored.refresh(&key, generation).await });
        if serves {
            return Ok((tokens, generation));
        }
        match timeout(REFRESH_WAIT, renewal).await {
            // A token that may be dead is better than none.
            Ok(Ok(Err(_))) if !over => {}
            Ok(Ok(done)) => done?,
            Ok(Err(_)) | Err(_) => {
                return Err(CredentialUnavailable {
                    cause: "the access token is over, and its renewal takes long".to_owned(),
                    remedy: "look at the jira layer: Jira answers slowly or not at all".to_owned(),
                });
            }
        }
        self.load_cached().await
    }

    /// Jira does not take the access token of that generation any more, whatever its time says; `proven` is
    /// whether it had taken it before. True: there is another one now. An error says why there is none.
    pub(super) async fn refresh_rejected(
        self: &Arc<Self>,
        key: &Arc<SigningKey>,
        refused: u64,
        proven: bool,
    ) -> Result<bool, CredentialUnavailable> {
        let (tokens, generation) = self.load_cached().await?;
        if generation != refused {
            return Ok(generation > refused);
        }
        let age = tokens.obtained.elapsed().unwrap_or_default();
        if tokens.refresh.is_none() || (!proven && age < REFRESH_BACKOFF) {
            // A new one that is refused at once: renewing is no help.
            return Ok(false);
        }
        self.rejected_early.store(true, Ordering::Relaxed);
        let (_, generation) = self.current(key).await?;
        Ok(generation > refused)
    }

    /// The number of what a person logged in by.
    pub(super) fn version(&self) -> u64 {
        self.lock().version
    }

    /// What is wrong although the token that is held still serves.
    pub(super) fn concern(&self) -> Option<Concern> {
        let kept = self.lock();
        let hangs = |since: &Instant| since.elapsed() > READ_TIMEOUT;
        let since = kept.hangs_since.filter(hangs);
        let hangs = since.map(|since| Concern {
            why: CredentialUnavailable {
                cause: TokenStoreError::Hangs(self.store.path()).to_string(),
                remedy: "look at the disk of the state folder".to_owned(),
            },
            since,
        });
        kept.trouble.clone().or(hangs)
    }

    /// As [`look`](Self::reload), whenever the last one was.
    pub(super) async fn reload(&self) -> Result<(Arc<TokenSet>, u64), CredentialUnavailable> {
        self.lock().checked_at = None;
        self.load_cached().await
    }

    /// The next request looks at the file, and may renew.
    pub(super) fn invalidate(&self) {
        let mut kept = self.lock();
        kept.checked_at = None;
        kept.refresh_not_before = None;
    }

    /// Completes when no renewal is under way.
    pub(super) async fn wait_idle(&self) {
        drop(self.refresh_lock.lock().await);
    }

    pub(super) fn expiries(&self) -> Vec<CredentialExpiry> {
        let kept = self.lock();
        let Some(Ok(tokens)) = &kept.found else {
            return Vec::new();
        };
        let expiry = |kind, at: Option<SystemTime>| {
            let end = match at {
                Some(at) => ExpiryTime::At(at),
                None => ExpiryTime::Unknown("Jira did not tell".to_owned()),
            };
            let remedy = format!("run agent login {}", self.store.forward());
            CredentialExpiry::new(kind, end, remedy).issued(Some(tokens.obtained))
        };
        let access = expiry(CredentialKind::Oauth1Token, tokens.access_expires);
        match &tokens.refresh {
            None => vec![access],
            Some(_) => vec![
                access.auto_refreshed(),
                expiry(CredentialKind::Oauth1Session, tokens.refresh_expires),
            ],
        }
    }

    /// Renews, unless somebody else just has.
    async fn refresh(
        &self,
        key: &Arc<SigningKey>,
        generation: u64,
    ) -> Result<(), CredentialUnavailable> {
        let _renewing = self.refresh_lock.lock().await;
        let (tokens, now) = self.load_cached().await?;
        if now != generation || self.is_backing_off() {
            return Ok(());
        }
        let endpoint = OAuth1Endpoints::new(self.settings.clone(), Arc::clone(key));
        let disowned = self.rejected_early.load(Ordering::Relaxed);
        let stale = tokens.access.as_ref();
        let done = refresh(&self.settings, &self.store, &endpoint, stale, disowned).await;
        let forward = self.store.forward();
        let mut kept = self.lock();
        // The next look finds what is on the disk now.
        kept.checked_at = None;
        kept.refresh_interrupted = false;
        match done {
            RefreshOutcome::Refreshed(record) => {
                kept.refreshed = record.tokens;
                kept.trouble = None;
                tracing::info!(forward, "the OAuth 1.0a token was refreshed");
                Ok(())
            }
            RefreshOutcome::LoginRequired(record) => {
                tracing::warn!(
                    forward,
                    cause = record.ended,
                    remedy = format!("agent login {forward}"),
                    "the stored OAuth login is no longer valid"
                );
                Ok(())
            }
            RefreshOutcome::Failed(why) => {
                tracing::warn!(
                    forward,
                    cause = why.cause,
                    remedy = why.remedy,
                    "the OAuth 1.0a token could not be refreshed"
                );
                let now = Instant::now();
                kept.refresh_not_before = Some(now + REFRESH_BACKOFF);
                let since = kept.trouble.as_ref().map_or(now, |before| before.since);
                let cause = format!(
                    "the access token still serves, but could not be renewed: {}",
                    why.cause
                );
                let remedy = why.remedy.clone();
                kept.trouble = Some(Concern {
                    why: CredentialUnavailable { cause, remedy },
                    since,
                });
                Err(why)
            }
        }
    }

    fn is_backing_off(&self) -> bool {
        self.lock()
            .refresh_not_before
            .is_some_and(|until| Instant::now() < until)
    }

    fn expired_error(&self, tokens: &TokenSet) -> CredentialUnavailable {
        let cause = match tokens.refresh {
            Some(_) => "the access token is over, and Jira did not renew it",
            None => "the access token is over, and Jira gave no session to renew it by",
        };
        self.log_in(cause.to_owned())
    }

    fn log_in(&self, cause: String) -> CredentialUnavailable {
        CredentialUnavailable {
            cause,
            remedy: format!("run agent login {}", self.store.forward()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, StoredTokensState> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the last tenth of its life, a week at the most: an access token of Jira's lives five years.
fn is_due(tokens: &TokenSet, now: SystemTime) -> bool {
    let Some(end) = tokens.access_expires else {
        return false;
    };
    let life = end.duration_since(tokens.obtained).unwrap_or_default();
    let early = (life / 10).min(EARLIEST);
    end.checked_sub(early).is_none_or(|due| due <= now)
}

/// Time for an administrator to mend what stops a renewal.
const EARLIEST: Duration = Duration::from_secs(7 * 86_400);
/// Between two tries of a renewal that failed.
const REFRESH_BACKOFF: Duration = Duration::from_secs(60);
/// How long a request waits for a renewal.
const REFRESH_WAIT: Duration = Duration::from_secs(30);
