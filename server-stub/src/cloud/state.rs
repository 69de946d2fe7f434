//! What the listeners of one Cloud share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};

use super::grants::CloudGrants;
use super::settings::Settings;
use crate::jira::EmbeddedJira;

/// One running Cloud.
pub(super) struct CloudState {
    pub settings: Settings,
    pub sites: Vec<CloudSite>,
    grants: Mutex<CloudGrants>,
    api_targets: Mutex<VecDeque<String>>,
    clock_offset: AtomicI64,
    responses_to_drop: AtomicUsize,
}

/// A site and its Jira.
pub(super) struct CloudSite {
    pub name: String,
    pub cloud_id: String,
    pub url: String,
    pub jira: EmbeddedJira,
}

impl CloudState {
    pub fn new(settings: Settings, cloud_sites: Vec<CloudSite>) -> Self {
        Self {
            grants: Mutex::new(CloudGrants::new(settings.clone())),
            api_targets: Mutex::default(),
            clock_offset: AtomicI64::new(0),
            responses_to_drop: AtomicUsize::new(0),
            settings,
            sites: cloud_sites,
        }
    }

    pub fn grants(&self) -> MutexGuard<'_, CloudGrants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn api_targets(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.api_targets
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the API gateway got; the oldest makes room.
    pub fn record_target(&self, target: String) {
        let mut targets = self.api_targets();
        if targets.len() == MAX_TARGETS {
            targets.pop_front();
        }
        targets.push_back(target);
    }

    pub fn set_clock_offset(&self, seconds: i64) {
        self.clock_offset.store(seconds, Ordering::Relaxed);
    }

    pub fn now(&self) -> OffsetDateTime {
        let offset = self.clock_offset.load(Ordering::Relaxed);
        OffsetDateTime::now_utc().saturating_add(Duration::seconds(offset))
    }

    pub fn drop_token_responses(&self, count: usize) {
        self.responses_to_drop.store(count, Ordering::Relaxed);
    }

    /// Whether this answer is one to lose.
    pub fn drops_response(&self) -> bool {
        let fewer = |left: usize| left.checked_sub(1);
        self.responses_to_drop
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer)
            .is_ok()
    }
}

const MAX_TARGETS: usize = 1024;
