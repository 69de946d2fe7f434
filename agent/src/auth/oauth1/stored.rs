//! The access token that `agent login` stored: looked at again at most once a second (`look`), renewed by its
//! session before it ends (`renewal`).

use super::{
    Endpoint, Settings, SigningKey,
    look::{Found, LOOK_TIMEOUT, Look},
    renewal::renew,
};
use crate::{
    auth::{Concern, Unavailable, rotation::Renewal},
    disk::Inquiry,
    expiry::{End, Expiry, Kind},
    secret::Stamp,
    tokens::{Store, StoreError, Tokens},
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
pub(super) struct Stored {
    pub(super) settings: Settings,
    pub(super) store: Store,
    kept: Mutex<Kept>,
    /// Held by the one task that looks at the file.
    pub(super) looking: tokio::sync::Mutex<Inquiry<Look>>,
    /// Held by the one task that renews.
    renewing: Arc<tokio::sync::Mutex<()>>,
    /// Jira called the access token dead before its time.
    pub(super) disowned: AtomicBool,
}

#[derive(Default)]
pub(super) struct Kept {
    pub looked_at: Option<Instant>,
    pub stamp: Option<Option<Stamp>>,
    pub generation: u64,
    /// Rises with each other token that the agent has not renewed itself.
    pub version: u64,
    /// As the agent has renewed it last.
    pub renewed: Option<Arc<Tokens>>,
    pub found: Option<Found>,
    /// An interrupted renewal of before may have killed the token: it is renewed before it signs, if it can be.
    pub doubtful: bool,
    /// No renewal before this: the last one failed.
    pub rest_until: Option<Instant>,
    /// Why no renewal has succeeded, and since when.
    pub trouble: Option<Concern>,
    /// Since when the disk has not answered.
    pub hangs_since: Option<Instant>,
}

impl Stored {
    pub(super) fn new(settings: Settings, store: Store) -> Self {
        Self {
            settings,
            store,
            kept: Mutex::default(),
            looking: tokio::sync::Mutex::default(),
            renewing: Arc::default(),
            disowned: AtomicBool::new(false),
        }
    }

    /// The tokens, their access token not yet over, and their generation.
    pub(super) async fn current(
        self: &Arc<Self>,
        key: &Arc<SigningKey>,
    ) -> Result<(Arc<Tokens>, u64), Unavailable> {
        let (tokens, generation) = self.look().await?;
        let now = SystemTime::now();
        let over = tokens.access_expires.is_some_and(|end| end <= now)
            || self.disowned.load(Ordering::Relaxed);
        let serves = !over && !self.lock().doubtful;
        if serves && !is_due(&tokens, now) {
            return Ok((tokens, generation));
        }
        if tokens.refresh.is_none() || self.rests() {
            return match over {
                true => Err(self.over(&tokens)),
                false => Ok((tokens, generation)),
            };
        }
        if serves && self.renewing.try_lock().is_err() {
            // Somebody renews it already.
            return Ok((tokens, generation));
        }
        let (stored, key) = (Arc::clone(self), Arc::clone(key));
        // A task of its own: a request that is given up must not cut a renewal in two.
        let renewal = tokio::spawn(async move { stored.renew(&key, generation).await });
        if serves {
            return Ok((tokens, generation));
        }
        match timeout(RENEWAL_WAIT, renewal).await {
            // A token that may be dead is better than none.
            Ok(Ok(Err(_))) if !over => {}
            Ok(Ok(done)) => done?,
            Ok(Err(_)) | Err(_) => {
                return Err(Unavailable {
                    cause: "the access token is over, and its renewal takes long".to_owned(),
                    remedy: "look at the jira layer: Jira answers slowly or not at all".to_owned(),
                });
            }
        }
        self.look().await
    }

    /// Jira does not take the access token of that generation any more, whatever its time says; `proven` is
    /// whether it had taken it before. True: there is another one now. An error says why there is none.
    pub(super) async fn renew_refused(
        self: &Arc<Self>,
        key: &Arc<SigningKey>,
        refused: u64,
        proven: bool,
    ) -> Result<bool, Unavailable> {
        let (tokens, generation) = self.look().await?;
        if generation != refused {
            return Ok(generation > refused);
        }
        let age = tokens.obtained.elapsed().unwrap_or_default();
        if tokens.refresh.is_none() || (!proven && age < REST) {
            // A new one that is refused at once: renewing is no help.
            return Ok(false);
        }
        self.disowned.store(true, Ordering::Relaxed);
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
        let hangs = |since: &Instant| since.elapsed() > LOOK_TIMEOUT;
        let since = kept.hangs_since.filter(hangs);
        let hangs = since.map(|since| Concern {
            why: Unavailable {
                cause: StoreError::Hangs(self.store.path()).to_string(),
                remedy: "look at the disk of the state folder".to_owned(),
            },
            since,
        });
        kept.trouble.clone().or(hangs)
    }

    /// As [`look`](Self::look), whenever the last one was.
    pub(super) async fn look_now(&self) -> Result<(Arc<Tokens>, u64), Unavailable> {
        self.lock().looked_at = None;
        self.look().await
    }

    /// The next request looks at the file, and may renew.
    pub(super) fn look_again(&self) {
        let mut kept = self.lock();
        kept.looked_at = None;
        kept.rest_until = None;
    }

    /// Completes when no renewal is under way.
    pub(super) async fn settle(&self) {
        drop(self.renewing.lock().await);
    }

    pub(super) fn expiries(&self) -> Vec<Expiry> {
        let kept = self.lock();
        let Some(Ok(tokens)) = &kept.found else {
            return Vec::new();
        };
        let expiry = |kind, at: Option<SystemTime>| {
            let end = match at {
                Some(at) => End::At(at),
                None => End::Unknown("Jira did not tell".to_owned()),
            };
            let remedy = format!("run agent login {}", self.store.forward());
            Expiry::new(kind, end, remedy).issued(Some(tokens.obtained))
        };
        let access = expiry(Kind::Oauth1Token, tokens.access_expires);
        match &tokens.refresh {
            None => vec![access],
            Some(_) => vec![
                access.renewed_by_itself(),
                expiry(Kind::Oauth1Session, tokens.refresh_expires),
            ],
        }
    }

    /// Renews, unless somebody else just has.
    async fn renew(&self, key: &Arc<SigningKey>, generation: u64) -> Result<(), Unavailable> {
        let _renewing = self.renewing.lock().await;
        let (tokens, now) = self.look().await?;
        if now != generation || self.rests() {
            return Ok(());
        }
        let endpoint = Endpoint::new(self.settings.clone(), Arc::clone(key));
        let disowned = self.disowned.load(Ordering::Relaxed);
        let stale = tokens.access.as_ref();
        let done = renew(&self.settings, &self.store, &endpoint, stale, disowned).await;
        let forward = self.store.forward();
        let mut kept = self.lock();
        // The next look finds what is on the disk now.
        kept.looked_at = None;
        kept.doubtful = false;
        match done {
            Renewal::Tokens(record) => {
                kept.renewed = record.tokens;
                kept.trouble = None;
                tracing::info!(forward, "the OAuth 1.0a token was refreshed");
                Ok(())
            }
            Renewal::Ended(record) => {
                tracing::warn!(
                    forward,
                    cause = record.ended,
                    remedy = format!("agent login {forward}"),
                    "the stored OAuth login is no longer valid"
                );
                Ok(())
            }
            Renewal::Failed(why) => {
                tracing::warn!(
                    forward,
                    cause = why.cause,
                    remedy = why.remedy,
                    "the OAuth 1.0a token could not be refreshed"
                );
                let now = Instant::now();
                kept.rest_until = Some(now + REST);
                let since = kept.trouble.as_ref().map_or(now, |before| before.since);
                let cause = format!(
                    "the access token still serves, but could not be renewed: {}",
                    why.cause
                );
                let remedy = why.remedy.clone();
                kept.trouble = Some(Concern {
                    why: Unavailable { cause, remedy },
                    since,
                });
                Err(why)
            }
        }
    }

    fn rests(&self) -> bool {
        self.lock()
            .rest_until
            .is_some_and(|until| Instant::now() < until)
    }

    fn over(&self, tokens: &Tokens) -> Unavailable {
        let cause = match tokens.refresh {
            Some(_) => "the access token is over, and Jira did not renew it",
            None => "the access token is over, and Jira gave no session to renew it by",
        };
        self.log_in(cause.to_owned())
    }

    fn log_in(&self, cause: String) -> Unavailable {
        Unavailable {
            cause,
            remedy: format!("run agent login {}", self.store.forward()),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Kept> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// In the last tenth of its life, a week at the most: an access token of Jira's lives five years.
fn is_due(tokens: &Tokens, now: SystemTime) -> bool {
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
const REST: Duration = Duration::from_secs(60);
/// How long a request waits for a renewal.
const RENEWAL_WAIT: Duration = Duration::from_secs(30);
