//! The state that the listeners of one Cloud share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use time::{Duration, OffsetDateTime};

use super::grants::CloudGrants;
use super::settings::Settings;
use crate::jira::EmbeddedJira;

/// The state of one running Cloud, shared by its listeners.
pub(super) struct CloudState {
    pub settings: Settings,
    pub sites: Vec<CloudSite>,
    pub grants: Mutex<CloudGrants>,
    pub api_targets: Mutex<VecDeque<String>>,
    clock_offset: AtomicI64,
    responses_to_drop: AtomicUsize,
}

/// One site and the Jira behind it.
pub(super) struct CloudSite {
    pub name: String,
    pub cloud_id: String,
    pub url: String,
    pub jira: EmbeddedJira,
}

impl CloudState {
    pub(super) fn new(settings: Settings, cloud_sites: Vec<CloudSite>) -> Self {
        Self {
            grants: Mutex::new(CloudGrants::new(settings.clone())),
            api_targets: Mutex::default(),
            clock_offset: AtomicI64::new(0),
            responses_to_drop: AtomicUsize::new(0),
            settings,
            sites: cloud_sites,
        }
    }

    /// Records the target of a request to the API gateway; the oldest of 1,024 is dropped.
    pub(super) fn record_target(&self, target: String) {
        let mut targets = self.api_targets.lock();
        if targets.len() == MAX_TARGETS {
            targets.pop_front();
        }
        targets.push_back(target);
    }

    pub(super) fn set_clock_offset(&self, seconds: i64) {
        self.clock_offset.store(seconds, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> OffsetDateTime {
        let offset = self.clock_offset.load(Ordering::Relaxed);
        OffsetDateTime::now_utc().saturating_add(Duration::seconds(offset))
    }

    pub(super) fn drop_token_responses(&self, count: usize) {
        self.responses_to_drop.store(count, Ordering::Relaxed);
    }

    /// Whether the connection is to break instead of sending this response.
    pub(super) fn drops_response(&self) -> bool {
        let fewer = |left: usize| left.checked_sub(1);
        self.responses_to_drop
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer)
            .is_ok()
    }
}

const MAX_TARGETS: usize = 1024;
