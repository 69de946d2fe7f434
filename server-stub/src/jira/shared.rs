//! What every part of one running Jira shares: the settings it was started with, what can be turned
//! while it runs, and what it holds.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;

use super::fault::Fault;
use super::login::{Lockouts, Sessions};
use super::oauth1::{Consumers, PublicKeyError};
use super::oauth2::Grants;
use super::rate::{Buckets, RateLimit};
use super::record::Record;
use super::settings::Settings;
use super::world::World;

/// One running Jira.
pub(super) struct Shared {
    pub settings: Settings,
    /// Answers in Cloud's shapes; see `embedded`.
    pub cloud: bool,
    /// As configured, or where it listens; with the context path, without a trailing slash.
    pub base_url: String,
    pub record: Record,
    pub requests: AtomicU64,
    attachments: PathBuf,
    world: Mutex<World>,
    dials: Mutex<Dials>,
    sessions: Mutex<Sessions>,
    lockouts: Mutex<Lockouts>,
    buckets: Mutex<Buckets>,
    consumers: Mutex<Consumers>,
    grants: Mutex<Grants>,
}

/// What can be turned while Jira runs.
#[derive(Clone)]
pub(super) struct Dials {
    pub state: State,
    pub basic: bool,
    pub faults: Vec<Fault>,
    pub rate_limit: RateLimit,
    /// Seconds that Jira's clock is ahead.
    pub clock_offset: i64,
}

/// What `/status` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Serving.
    Running,
    /// Coming up: everything but `/status` is 503.
    Starting,
    /// Being worked on: likewise.
    Maintenance,
    /// Broken: likewise, and `/status` itself is 500.
    Error,
}

impl Shared {
    pub fn new(
        settings: Settings,
        base_url: String,
        attachments: PathBuf,
    ) -> Result<Self, PublicKeyError> {
        Ok(Self {
            cloud: false,
            base_url,
            record: Record::new(),
            requests: AtomicU64::new(0),
            attachments,
            world: Mutex::new(World::new(&settings)),
            dials: Mutex::new(Dials {
                state: State::Running,
                basic: settings.basic_at_start(),
                faults: settings.faults.clone(),
                rate_limit: settings.rate_limit.clone(),
                clock_offset: 0,
            }),
            sessions: Mutex::new(Sessions::default()),
            lockouts: Mutex::new(Lockouts::default()),
            buckets: Mutex::new(Buckets::default()),
            consumers: Mutex::new(Consumers::new(settings.oauth1.clone())?),
            grants: Mutex::new(Grants::new(settings.oauth2.clone())),
            settings,
        })
    }

    /// The same, answering in Cloud's shapes.
    pub fn in_cloud(mut self) -> Self {
        self.cloud = true;
        self.world().cloud = true;
        self
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn dials(&self) -> MutexGuard<'_, Dials> {
        self.dials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lockouts(&self) -> MutexGuard<'_, Lockouts> {
        self.lockouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the OAuth 1.0a provider holds.
    pub fn consumers(&self) -> MutexGuard<'_, Consumers> {
        self.consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the OAuth 2.0 provider has issued.
    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of the attachments' files.
    pub fn attachments(&self) -> &Path {
        &self.attachments
    }

    /// Where the bytes of an attachment are.
    pub fn attachment_file(&self, id: u64) -> PathBuf {
        self.attachments.join(id.to_string())
    }

    /// By Jira's clock.
    pub fn now(&self) -> OffsetDateTime {
        let offset = time::Duration::seconds(self.dials().clock_offset);
        OffsetDateTime::now_utc().saturating_add(offset)
    }

    /// What Jira is spoken to in.
    pub fn scheme(&self) -> &'static str {
        if self.settings.https.is_some() {
            "https"
        } else {
            "http"
        }
    }
}

impl State {
    /// As `/status` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Starting => "STARTING",
            Self::Maintenance => "MAINTENANCE",
            Self::Error => "ERROR",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [
            Self::Running,
            Self::Starting,
            Self::Maintenance,
            Self::Error,
        ]
        .into_iter()
        .find(|state| state.name().eq_ignore_ascii_case(name))
    }

    /// The status of the answer to `/status`.
    pub(super) fn status(self) -> http::StatusCode {
        match self {
            Self::Running => http::StatusCode::OK,
            Self::Starting | Self::Maintenance => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::Error => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}
