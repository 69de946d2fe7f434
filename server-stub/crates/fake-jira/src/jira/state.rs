//! The state that all parts of one running Jira share: settings, controls, and data.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use time::OffsetDateTime;

use super::fault::InjectedFault;
use super::login::{CookieSessions, FailedLogins};
use super::model::JiraModel;
use super::oauth1::{OAuth1Store, PublicKeyError};
use super::oauth2::OAuth2Grants;
use super::rate::{RateBuckets, RateLimit};
use super::request_log::RequestLog;
use super::settings::Settings;
use super::webhooks::{VariableStyle, WebhookHub};

/// The shared state of one running Jira.
pub(super) struct JiraState {
    pub settings: Settings,
    /// Whether to respond in Cloud's shapes; see `embedded`.
    pub cloud: bool,
    /// Base URL with the context path, without a trailing slash.
    pub base_url: String,
    pub request_log: RequestLog,
    pub requests: AtomicU64,
    attachments: PathBuf,
    pub model: Mutex<JiraModel>,
    pub controls: Mutex<JiraControls>,
    pub sessions: Mutex<CookieSessions>,
    pub lockouts: Mutex<FailedLogins>,
    pub buckets: Mutex<RateBuckets>,
    pub consumers: Mutex<OAuth1Store>,
    pub grants: Mutex<OAuth2Grants>,
    pub webhooks: WebhookHub,
    /// Changes of issues so far; numbers the changelogs.
    changes: AtomicU64,
}

/// What tests change while Jira runs.
#[derive(Clone)]
pub(super) struct JiraControls {
    pub state: ServerState,
    pub basic: bool,
    pub faults: Vec<InjectedFault>,
    pub rate_limit: RateLimit,
    /// Seconds by which Jira's clock is ahead.
    pub clock_offset: i64,
}

/// The state that `/status` reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// Jira serves all requests normally.
    Running,
    /// Jira starts: every request, `/status` included, gets 503.
    Starting,
    /// Jira is in maintenance: every request gets 503.
    Maintenance,
    /// Jira has failed: `/status` gets 500, every other request 503.
    Error,
}

impl JiraState {
    pub(super) fn new(
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
            webhooks: WebhookHub::new(settings.webhooks.clone()),
            changes: AtomicU64::new(FIRST_CHANGE),
            settings,
        })
    }

    /// Makes this Jira respond in Cloud's shapes.
    pub(super) fn in_cloud(mut self) -> Self {
        self.cloud = true;
        self.model.lock().cloud = true;
        self
    }

    /// The directory of the attachments' files.
    pub(super) fn attachments(&self) -> &Path {
        &self.attachments
    }

    /// The file with the bytes of an attachment.
    pub(super) fn attachment_file(&self, id: u64) -> PathBuf {
        self.attachments.join(id.to_string())
    }

    /// The time by Jira's own clock.
    pub(super) fn now(&self) -> OffsetDateTime {
        let offset = time::Duration::seconds(self.controls.lock().clock_offset);
        OffsetDateTime::now_utc().saturating_add(offset)
    }

    /// The id of the next changelog.
    pub(super) fn next_change(&self) -> u64 {
        self.changes.fetch_add(1, Ordering::Relaxed)
    }

    /// How variables are written in the URL of a webhook.
    pub(super) fn variable_style(&self) -> VariableStyle {
        match self.cloud || self.settings.major() < BRACES_SINCE {
            true => VariableStyle::Dollar,
            false => VariableStyle::Braces,
        }
    }

    /// `Path` of Jira's cookies.
    pub(super) fn cookie_path(&self) -> &str {
        match self.settings.context_path.as_str() {
            "" => "/",
            path => path,
        }
    }

    /// The scheme that Jira is reached by.
    pub(super) fn scheme(&self) -> &'static str {
        if self.settings.https.is_some() {
            "https"
        } else {
            "http"
        }
    }
}

impl ServerState {
    /// The name of the state in `/status`.
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

    /// The HTTP status of `/status`.
    pub(super) fn status(self) -> http::StatusCode {
        match self {
            Self::Running => http::StatusCode::OK,
            Self::Starting | Self::Maintenance => http::StatusCode::SERVICE_UNAVAILABLE,
            Self::Error => http::StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// First major version whose webhooks have variables without a dollar sign.
const BRACES_SINCE: u32 = 10;
/// Ids of changelogs start here.
const FIRST_CHANGE: u64 = 10_100;
