//! What the listeners of one Cloud share.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use time::{Duration, OffsetDateTime};

use super::grants::Grants;
use super::settings::Settings;
use crate::jira::Embedded;

/// One running Cloud.
pub(super) struct Shared {
    pub settings: Settings,
    pub places: Vec<Place>,
    grants: Mutex<Grants>,
    targets: Mutex<VecDeque<String>>,
    clock_offset: AtomicI64,
    answers_to_lose: AtomicUsize,
}

/// A site and its Jira.
pub(super) struct Place {
    pub name: String,
    pub cloud_id: String,
    pub url: String,
    pub jira: Embedded,
}

impl Shared {
    pub fn new(settings: Settings, places: Vec<Place>) -> Self {
        Self {
            grants: Mutex::new(Grants::new(settings.clone())),
            targets: Mutex::default(),
            clock_offset: AtomicI64::new(0),
            answers_to_lose: AtomicUsize::new(0),
            settings,
            places,
        }
    }

    pub fn grants(&self) -> MutexGuard<'_, Grants> {
        self.grants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn targets(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what the API gateway got; the oldest makes room.
    pub fn note(&self, target: String) {
        let mut targets = self.targets();
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

    pub fn lose_token_answers(&self, count: usize) {
        self.answers_to_lose.store(count, Ordering::Relaxed);
    }

    /// Whether this answer is one to lose.
    pub fn loses_answer(&self) -> bool {
        let fewer = |left: usize| left.checked_sub(1);
        self.answers_to_lose
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer)
            .is_ok()
    }
}

const MAX_TARGETS: usize = 1024;
