//! Requests that the agent answers itself, more of them than may have a line each: counted by forward and kind until
//! the writer says of all of them in one line.

use super::record::rfc3339;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// What waits to be said. As many entries as there are forwards, each with as many kinds as there are errors.
#[derive(Default)]
pub(super) struct RefusalCounts {
    waiting: Mutex<BTreeMap<Arc<str>, RefusalSummary>>,
    total: AtomicU64,
}

/// Of one forward, since the last line.
#[derive(Clone, Debug)]
pub(super) struct RefusalSummary {
    first: SystemTime,
    last: SystemTime,
    count: u64,
    errors: BTreeMap<&'static str, u64>,
}

impl RefusalCounts {
    /// So many more. Whether they are the first that wait, of any forward.
    pub(super) fn add(&self, forward: &Arc<str>, error: &'static str, count: u64) -> bool {
        let now = SystemTime::now();
        self.total.fetch_add(count, Ordering::Relaxed);
        let mut waiting = self.lock();
        let first = waiting.is_empty();
        let summary = waiting
            .entry(Arc::clone(forward))
            .or_insert_with(|| RefusalSummary {
                first: now,
                last: now,
                count: 0,
                errors: BTreeMap::new(),
            });
        summary.last = now;
        summary.count += count;
        *summary.errors.entry(error).or_default() += count;
        first
    }

    /// Since the start.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// All that waits.
    pub(super) fn take(&self) -> BTreeMap<Arc<str>, RefusalSummary> {
        std::mem::take(&mut *self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, RefusalSummary>> {
        // A panic while this lock is held leaves whole counts behind.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RefusalSummary {
    /// Its line, without run and number.
    pub(super) fn line(&self, forward: &str) -> serde_json::Value {
        serde_json::json!({
            "time": rfc3339(self.last),
            "event": "refused_requests",
            "forward": forward,
            "count": self.count,
            "first": rfc3339(self.first),
            "last": rfc3339(self.last),
            "errors": self.errors,
        })
    }
}
