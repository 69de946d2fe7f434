//! What every part of one running Jira shares: the settings it was started with, what can be turned
//! while it runs, and what it holds.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::OffsetDateTime;

use super::fault::InjectedFault;
use super::login::{CookieSessions, FailedLogins};
use super::model::JiraModel;
use super::oauth1::{OAuth1Store, PublicKeyError};
use super::oauth2::OAuth2Grants;
use super::rate::{RateBuckets, RateLimit};
use super::request_log::RequestLog;
use super::settings::Settings;

/// One running Jira.
pub(super) struct JiraState {
    pub settings: Settings,
    /// Answers in Cloud's shapes; see `embedded`.
    pub cloud: bool,
    /// As configured, or where it listens; with the context path, without a trailing slash.
    pub base_url: String,
    pub request_log: RequestLog,
    pub requests: AtomicU64,
    attachments: PathBuf,
    model: Mutex<JiraModel>,
    controls: Mutex<JiraControls>,
    sessions: Mutex<CookieSessions>,
    lockouts: Mutex<FailedLogins>,
    buckets: Mutex<RateBuckets>,
    consumers: Mutex<OAuth1Store>,
    grants: Mutex<OAuth2Grants>,
}

/// What can be turned while Jira runs.
#[derive(Clone)]
pub(super) struct JiraControls {
    pub state: ServerState,
    pub basic: bool,
    pub faults: Vec<InjectedFault>,
    pub rate_limit: RateLimit,
    /// Seconds that Jira's clock is ahead.
    pub clock_offset: i64,
}

/// The state that `/status` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Jira serves all requests normally.
    Running,
    /// Coming up: everything but `/status` is 503.
    Starting,
    /// Being worked on: likewise.
    Maintenance,
    /// Broken: likewise, and `/status` itself is 500.
    Error,
}

impl JiraState {
    pub fn new(
        settings: Settings,
        base_url: String,
        attachments: PathBuf,
    ) -> Result<Self, PublicKeyError> {
        Ok(Self {
            cloud: false,
            base_url,
            request_log: RequestLog::new(),
            requests: AtomicU64::new(0),
            attachments,
            model: Mutex::new(JiraModel::new(&settings)),
            controls: Mutex::new(JiraControls {
                state: ServerState::Running,
                basic: settings.basic_at_start(),
                faults: settings.faults.clone(),
                rate_limit: settings.rate_limit.clone(),
                clock_offset: 0,
            }),
            sessions: Mutex::new(CookieSessions::default()),
            lockouts: Mutex::new(FailedLogins::default()),
            buckets: Mutex::new(RateBuckets::default()),
            consumers: Mutex::new(OAuth1Store::new(settings.oauth1.clone())?),
            grants: Mutex::new(OAuth2Grants::new(settings.oauth2.clone())),
            settings,
        })
    }

    /// The same, answering in Cloud's shapes.
    pub fn in_cloud(mut self) -> Self {
        self.cloud = true;
        self.model().cloud = true;
        self
    }

    pub fn model(&self) -> MutexGuard<'_, JiraModel> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn controls(&self) -> MutexGuard<'_, JiraControls> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn sessions(&self) -> MutexGuard<'_, CookieSessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn lockouts(&self) -> MutexGuard<'_, FailedLogins> {
        self.lockouts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn buckets(&self) -> MutexGuard<'_, RateBuckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the OAuth 1.0a provider holds.
    pub fn consumers(&self) -> MutexGuard<'_, OAuth1Store> {
        self.consumers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// What the OAuth 2.0 provider has issued.
    pub fn grants(&self) -> MutexGuard<'_, OAuth2Grants> {
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

    /// The time by Jira's own clock.
    pub fn now(&self) -> OffsetDateTime {
        let offset = time::Duration::seconds(self.controls().clock_offset);
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

impl ServerState {
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
