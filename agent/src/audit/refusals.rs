//! Requests that the agent answers itself, past the number that get a line each: counted by forward and error until the
//! writer summarizes them in one line.

use super::record::rfc3339;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

/// Counts that wait for their line: at most one entry per forward, each with at most one count per error code.
#[derive(Default)]
pub(super) struct RefusalCounts {
    pending: Mutex<BTreeMap<Arc<str>, RefusalSummary>>,
    total: AtomicU64,
}

/// Refusals of one forward since the last line.
#[derive(Clone, Debug)]
pub(super) struct RefusalSummary {
    first: SystemTime,
    last: SystemTime,
    count: u64,
    errors: BTreeMap<&'static str, u64>,
}

impl RefusalCounts {
    /// Counts `count` more. True if no other counts were pending, of any forward.
    pub(super) fn add(&self, forward: &Arc<str>, error: &'static str, count: u64) -> bool {
        let now = SystemTime::now();
        self.total.fetch_add(count, Ordering::Relaxed);
        let mut pending = self.pending.lock();
        let is_first = pending.is_empty();
        let summary = pending
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
        is_first
    }

    /// Refusals counted since the start.
    pub(super) fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Removes all pending counts.
    pub(super) fn take(&self) -> BTreeMap<Arc<str>, RefusalSummary> {
        std::mem::take(&mut *self.pending.lock())
    }
}

impl RefusalSummary {
    /// The summary's line, without run and sequence number.
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
