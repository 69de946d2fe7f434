//! The access token of each request: held in memory, looked up anew when its file changes, renewed
//! ahead of its end by one task at a time.
//!
//! Nothing runs in the background for it: traffic and the login probe come by at least twice a minute,
//! and whoever comes when the time has come starts the renewal. It runs in a task of its own, so that a
//! vendor who hangs up does not break it off.

use super::{
    Endpoint, Grant, Renewal, Settings,
    reach::Reach,
    renew,
    renewal::{logged_out, read_seed, with_seed},
};
use crate::{
    auth::{Credential, Scheme, Unavailable},
    disk::{DISK_TIMEOUT, Inquiry},
    expiry::{End, Expiry, Kind},
    secret::{Secret, Stamp},
    tokens::{Record, StoreError, Tokens},
};
use futures_util::future::BoxFuture;
use http::{HeaderValue, request};
use rand::Rng;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::time::{Instant, timeout_at};

/// The login of one forward.
pub struct OAuth2(Arc<Inner>);

struct Inner {
    settings: Settings,
    endpoint: Endpoint,
    state: Mutex<State>,
    /// Held by the one task that renews.
    renewing: Arc<tokio::sync::Mutex<()>>,
    /// Held by the one task that looks at the files.
    looking: tokio::sync::Mutex<Inquiry<Look>>,
    /// Cloud: whether the token reaches the site.
    reach: Reach,
}

/// What a look began with, and what it found; `None` where the files are those known.
type Look = (u64, Result<Option<(Stamps, Option<Record>)>, Unavailable>);
type Stamps = [Option<Stamp>; 2];

#[derive(Default)]
struct State {
    looked_at: Option<Instant>,
    /// Why the last look found nothing out.
    unread: Option<Unavailable>,
    /// Counts what was taken over, so that a slow look does not bring back what is older.
    adoptions: u64,
    /// Of the token file and of the one with a first refresh token.
    stamps: Option<Stamps>,
    tokens: Option<Arc<Tokens>>,
    /// Rises with each new access token.
    generation: u64,
    /// From here on it is renewed, while it still serves.
    renew_at: Option<SystemTime>,
    /// Jira has refused it: it is not sent again.
    refused: bool,
    /// An interrupted renewal of before may have killed it: it is renewed before it is sent, if it can be.
    doubtful: bool,
    /// Why only a person can help.
    ended: Option<String>,
    /// Why the last renewal failed.
    trouble: Option<Unavailable>,
    failures: u32,
    retry_at: Option<Instant>,
    /// When Jira last refused a token that it had never taken.
    renewed_in_vain: Option<Instant>,
}

impl OAuth2 {
    /// Reads nothing yet.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(Inner {
            endpoint: Endpoint::new(settings.clone()),
            settings,
            state: Mutex::default(),
            renewing: Arc::default(),
            looking: tokio::sync::Mutex::default(),
            reach: Reach::default(),
        }))
    }
}

impl Scheme for OAuth2 {
    fn mode(&self) -> &'static str {
        "oauth2"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<Credential, Unavailable>> {
        Box::pin(self.0.authorization())
    }

    /// Jira counts no failed logins for tokens.
    fn locks_out(&self) -> bool {
        false
    }

    fn remedy(&self) -> String {
        let settings = &self.0.settings;
        match settings.grant {
            Grant::AuthorizationCode => format!(
                "look whether the user may still log in to Jira; then log in again: {}",
                settings.login_command()
            ),
            Grant::ClientCredentials => {
                "look in Jira whether the service account is active and may use this application link".to_owned()
            }
        }
    }

    fn expiries(&self) -> Vec<Expiry> {
        self.0.expiries()
    }

    fn renews(&self) -> bool {
        true
    }

    fn renew(&self, refused: u64, proven: bool) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.0.renew_refused(refused, proven))
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        Box::pin(async { drop(self.0.renewing.lock().await) })
    }
}

/// What a request is to do now.
enum Step {
    Send(Credential),
    /// Wait for a renewal, then look again.
    Wait,
    Fail(Unavailable),
}

impl Inner {
    async fn authorization(self: &Arc<Self>) -> Result<Credential, Unavailable> {
        self.look().await?;
        let deadline = Instant::now() + RENEWAL_WAIT;
        loop {
            match self.step() {
                Step::Send(credential) => {
                    let tokens = self.lock().tokens.clone();
                    if let Some(access) = tokens.as_ref().and_then(|t| t.access.as_ref()) {
                        let generation = credential.generation;
                        self.reach.check(&self.settings, access, generation).await?;
                    }
                    return Ok(credential);
                }
                Step::Fail(why) => return Err(why),
                Step::Wait => {}
            }
            if !self.renewed(deadline).await {
                return Err(slow());
            }
        }
    }

    /// Decides by what is in memory; starts a renewal where its time has come.
    fn step(self: &Arc<Self>) -> Step {
        let state = self.lock();
        if let Some(reason) = &state.ended {
            return Step::Fail(self.ended(reason));
        }
        if state.tokens.is_none() && self.settings.grant == Grant::AuthorizationCode {
            return Step::Fail(logged_out(&self.settings));
        }
        let now = SystemTime::now();
        let may_try = state.retry_at.is_none_or(|at| at <= Instant::now());
        let held = state
            .tokens
            .as_ref()
            .filter(|tokens| !state.refused && serves_until(tokens).is_none_or(|at| now < at));
        let credential = held.and_then(|tokens| credential(tokens, state.generation));
        match (credential, state.trouble.clone()) {
            (Some(credential), _) if !state.doubtful => {
                let due = state.renew_at.is_some_and(|at| at <= now);
                drop(state);
                if due && may_try {
                    self.start();
                }
                Step::Send(credential)
            }
            (None, Some(trouble)) if !may_try => Step::Fail(trouble),
            _ => Step::Wait,
        }
    }

    /// Starts a renewal or finds one under way, and waits for its end. False: it takes too long.
    async fn renewed(self: &Arc<Self>, deadline: Instant) -> bool {
        self.start();
        timeout_at(deadline, self.renewing.lock()).await.is_ok()
    }

    fn start(self: &Arc<Self>) {
        // Under way already.
        let Ok(turn) = self.renewing.clone().try_lock_owned() else {
            return;
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = turn;
            this.renewal().await;
        });
    }

    /// One renewal, and what follows from it. Runs alone.
    async fn renewal(&self) {
        let stale = self.lock().tokens.clone();
        let stale = stale.as_ref().and_then(|tokens| tokens.access.as_ref());
        let done = match self.settings.grant {
            Grant::AuthorizationCode => renew(&self.settings, &self.endpoint, stale).await,
            Grant::ClientCredentials => match self.endpoint.client_credentials().await {
                Ok(tokens) => Renewal::Tokens(Record::new(self.settings.owner(), tokens)),
                Err(error) => Renewal::Failed(Unavailable {
                    cause: error.cause,
                    remedy: error.remedy,
                }),
            },
        };
        match done {
            Renewal::Tokens(record) => {
                tracing::info!(
                    forward = self.settings.store.forward(),
                    "access token renewed"
                );
                self.adopt(&record);
            }
            Renewal::Ended(record) => {
                self.adopt(&record);
                tracing::warn!(
                    forward = self.settings.store.forward(),
                    reason = record.ended,
                    remedy = self.settings.login_command(),
                    "the stored login is of no use any more"
                );
            }
            Renewal::Failed(why) => {
                let mut state = self.lock();
                if state.trouble.as_ref() != Some(&why) {
                    tracing::warn!(
                        forward = self.settings.store.forward(),
                        cause = why.cause,
                        remedy = why.remedy,
                        "the access token was not renewed"
                    );
                }
                state.doubtful = false;
                state.failures += 1;
                state.retry_at = Some(Instant::now() + pause(state.failures));
                state.trouble = Some(why);
            }
        }
    }

    /// Looks, at most once a second, whether the files are others than those known: a person has
    /// logged in or out, or another process has renewed.
    async fn look(&self) -> Result<(), Unavailable> {
        if self.settings.grant == Grant::ClientCredentials {
            return Ok(());
        }
        if let Some(known) = self.fresh() {
            return known;
        }
        let mut looking = self.looking.lock().await;
        if let Some(known) = self.fresh() {
            return known;
        }
        let (limit, adoptions, known) = {
            let state = self.lock();
            let limit = match state.tokens {
                Some(_) => HOLDING_LOOK,
                None => DISK_TIMEOUT,
            };
            (limit, state.adoptions, state.stamps)
        };
        let settings = self.settings.clone();
        let look = move || (adoptions, read_files(&settings, known));
        let found = match looking.ask(limit, look).await {
            Some(Ok((adoptions, found))) => found.map(|found| self.take_over(adoptions, found)),
            Some(Err(error)) => Err(unreadable(&self.settings, error)),
            None => {
                let hangs = StoreError::Hangs(self.settings.store.path());
                Err(unreadable(&self.settings, hangs))
            }
        };
        if let Err(why) = &found {
            tracing::debug!(cause = why.cause, "the token file cannot be read");
        }
        let mut state = self.lock();
        state.looked_at = Some(Instant::now());
        state.unread = found.err();
        known_of(&state)
    }

    /// `adoptions` is the count at which the look began.
    fn take_over(&self, adoptions: u64, found: Option<(Stamps, Option<Record>)>) {
        let Some((stamps, record)) = found else {
            return;
        };
        // A renewal that has ended meanwhile knows better, and the next look sees its file.
        if self.lock().adoptions == adoptions {
            match &record {
                Some(record) => self.adopt(record),
                None => self.forget(),
            }
            self.lock().stamps = Some(stamps);
        }
    }

    /// `None` where it is time to look again.
    fn fresh(&self) -> Option<Result<(), Unavailable>> {
        let state = self.lock();
        let looked_at = state.looked_at?;
        (looked_at.elapsed() < LOOK_EVERY).then(|| known_of(&state))
    }

    /// Takes over what is on the disk.
    fn adopt(&self, record: &Record) {
        let mut state = self.lock();
        let same = match (&state.tokens, &record.tokens) {
            (Some(held), Some(stored)) => is_same(&held.access, &stored.access),
            _ => false,
        };
        // The same token issued once more: its end is another one, and it may be tried again.
        let reissued = match (&state.tokens, &record.tokens) {
            (Some(held), Some(stored)) => same && held.obtained != stored.obtained,
            _ => false,
        };
        state.adoptions += 1;
        state.tokens = record.tokens.clone();
        if same && !reissued && state.ended == record.ended {
            return;
        }
        state.ended = record.ended.clone();
        state.trouble = None;
        state.failures = 0;
        state.retry_at = None;
        if !same {
            state.generation += 1;
        }
        if !same || reissued {
            state.refused = false;
            state.doubtful = record.pending.is_some();
            state.renew_at = record.tokens.as_deref().and_then(renew_at);
        }
    }

    /// Somebody logged out.
    fn forget(&self) {
        let mut state = self.lock();
        let State {
            generation,
            adoptions,
            ..
        } = *state;
        *state = State {
            generation: generation + 1,
            adoptions: adoptions + 1,
            ..State::default()
        };
    }

    /// Jira refused the token of this generation. True: there is another one now.
    async fn renew_refused(
        self: &Arc<Self>,
        refused: u64,
        proven: bool,
    ) -> Result<bool, Unavailable> {
        {
            let mut state = self.lock();
            if state.generation == refused && state.ended.is_none() {
                // Others may have found out already, and why it cannot be renewed.
                if !state.refused {
                    let lately = |at: Instant| at.elapsed() < IN_VAIN_PAUSE;
                    if !proven && state.renewed_in_vain.is_some_and(lately) {
                        return Ok(false);
                    }
                    if !proven {
                        state.renewed_in_vain = Some(Instant::now());
                    }
                    state.refused = true;
                    state.retry_at = None;
                    state.trouble = None;
                }
            }
        }
        self.authorization()
            .await
            .map(|credential| credential.generation != refused)
    }

    fn ended(&self, reason: &str) -> Unavailable {
        let from_file = self.settings.refresh_token_file.is_some();
        Unavailable {
            cause: format!("the login for Jira has ended: {reason}"),
            remedy: match from_file {
                true => format!(
                    "log in again: {}, or write a new refresh token into refresh_token_file",
                    self.settings.login_command()
                ),
                false => format!("log in again: {}", self.settings.login_command()),
            },
        }
    }

    fn expiries(&self) -> Vec<Expiry> {
        let state = self.lock();
        let Some(tokens) = &state.tokens else {
            return Vec::new();
        };
        let again = format!("log in again: {}", self.settings.login_command());
        let end = |at: Option<SystemTime>, why: &str| match at {
            Some(at) => End::At(at),
            None => End::Unknown(why.to_owned()),
        };
        let mut known = Vec::new();
        if tokens.access.is_some() {
            let at = end(tokens.access_expires, "the provider did not say");
            let access = Expiry::new(Kind::AccessToken, at, again.clone());
            let access = access.issued(Some(tokens.obtained));
            known.push(match state.ended {
                None => access.renewed_by_itself(),
                Some(_) => access,
            });
        }
        if tokens.refresh.is_some() {
            let why = "the provider does not say; 90 days without use is its default";
            let at = end(tokens.refresh_expires, why);
            let refresh = Expiry::new(Kind::RefreshToken, at, again);
            known.push(refresh.issued(Some(tokens.obtained)).renewed_by_itself());
        }
        known
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the files if they are others than `known`. Blocks.
fn read_files(
    settings: &Settings,
    known: Option<Stamps>,
) -> Result<Option<(Stamps, Option<Record>)>, Unavailable> {
    let store = &settings.store;
    let seed = &settings.refresh_token_file;
    let stamps = [
        store.stamp().map_err(|error| unreadable(settings, error))?,
        seed.as_ref().and_then(|file| file.stamp().ok()),
    ];
    if known == Some(stamps) {
        return Ok(None);
    }
    let stored = store.read().map_err(|error| unreadable(settings, error))?;
    let record = with_seed(settings, stored, read_seed(seed.clone()))?;
    Ok(Some((stamps, record)))
}

fn unreadable(settings: &Settings, error: impl std::fmt::Display) -> Unavailable {
    Unavailable {
        cause: error.to_string(),
        remedy: format!(
            "mend the file, or log in again: {}",
            settings.login_command()
        ),
    }
}

/// What is held is good until it is refused, whatever the disk does.
fn known_of(state: &State) -> Result<(), Unavailable> {
    match (&state.tokens, &state.unread) {
        (None, Some(why)) => Err(why.clone()),
        _ => Ok(()),
    }
}

fn credential(tokens: &Tokens, generation: u64) -> Option<Credential> {
    let token = tokens.access.as_ref()?.expose();
    let mut value = zeroize::Zeroizing::new(Vec::with_capacity(7 + token.len()));
    // Exactly this case and one space: Jira compares the prefix as it is.
    value.extend_from_slice(b"Bearer ");
    value.extend_from_slice(token);
    let mut authorization = HeaderValue::from_bytes(&value).ok()?;
    authorization.set_sensitive(true);
    Some(Credential {
        authorization,
        generation,
    })
}

fn is_same(one: &Option<Secret>, other: &Option<Secret>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one.expose() == other.expose(),
        (None, None) => true,
        _ => false,
    }
}

/// A token that ends while it travels would be refused: a little before its end.
fn serves_until(tokens: &Tokens) -> Option<SystemTime> {
    let expires = tokens.access_expires?;
    let life = expires.duration_since(tokens.obtained).unwrap_or_default();
    expires.checked_sub(MARGIN.min(life / 20))
}

/// Somewhere between 70 and 85 per cent of its life, so that many agents do not come all at once.
fn renew_at(tokens: &Tokens) -> Option<SystemTime> {
    let life = tokens
        .access_expires?
        .duration_since(tokens.obtained)
        .ok()?;
    let share = rand::rng().random_range(0.7..0.85);
    tokens.obtained.checked_add(life.mul_f64(share))
}

/// 1, 2, 4 … 60 seconds.
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    (FIRST_PAUSE * (1 << doublings)).min(LAST_PAUSE)
}

fn slow() -> Unavailable {
    Unavailable {
        cause: format!("the access token could not be renewed within {RENEWAL_WAIT:?}"),
        remedy: "look at the agent's log; the token endpoint or the disk is slow".to_owned(),
    }
}

/// The longest that a request may take to Jira's own look at the token.
const MARGIN: Duration = Duration::from_secs(5);
/// A login by a person is noticed after this at the latest.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a request waits for a look while there is a token to send. A slower disk's answer counts
/// when it comes.
const HOLDING_LOOK: Duration = Duration::from_millis(200);
/// How long a request waits for a renewal: longer than one request to the endpoint may take.
const RENEWAL_WAIT: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A user who may not log in gets fresh tokens that are refused all the same: not more often than this.
const IN_VAIN_PAUSE: Duration = Duration::from_secs(300);
