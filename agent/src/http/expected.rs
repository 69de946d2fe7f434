//! Requests that somebody inside the agent waits to see arrive: a check sends one the vendor's way, and has to know
//! that it came to this agent and not to another one behind the same gateway.

use http::{HeaderValue, Method};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// The ids that are waited for on one forward.
#[derive(Default)]
pub(super) struct ExpectedRequests {
    /// So that a request costs one look while nobody waits.
    count: AtomicUsize,
    entries: Mutex<Vec<ExpectedEntry>>,
}

struct ExpectedEntry {
    id: String,
    /// The whole of what is asked is known: a GET of this.
    target: String,
    received: Arc<AtomicBool>,
}

impl ExpectedRequests {
    /// Waits for a GET of `target`, as it stands in the request line, with this id from now on.
    pub(super) fn expect(self: &Arc<Self>, id: &str, target: &str) -> ExpectedRequest {
        let came = Arc::new(AtomicBool::new(false));
        let mut entries = self.lock();
        entries.push(ExpectedEntry {
            id: id.to_owned(),
            target: target.to_owned(),
            received: Arc::clone(&came),
        });
        self.count.store(entries.len(), Relaxed);
        drop(entries);
        ExpectedRequest {
            received: came,
            expected: Arc::clone(self),
        }
    }

    /// A request has come; whether it was waited for. True once: the id has gone through the gateway, which could use it
    /// for requests of its own.
    pub(super) fn received(&self, id: &HeaderValue, method: &Method, target: &str) -> bool {
        if self.count.load(Relaxed) == 0 {
            return false;
        }
        let entries = self.lock();
        let found = entries
            .iter()
            .find(|entry| *id == *entry.id && method == Method::GET && target == entry.target);
        found.is_some_and(|entry| !entry.received.swap(true, Relaxed))
    }

    fn lock(&self) -> MutexGuard<'_, Vec<ExpectedEntry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that is waited for, until this is dropped.
pub struct ExpectedRequest {
    received: Arc<AtomicBool>,
    expected: Arc<ExpectedRequests>,
}

impl ExpectedRequest {
    /// Whether it has come.
    pub fn was_received(&self) -> bool {
        self.received.load(Relaxed)
    }
}

impl Drop for ExpectedRequest {
    fn drop(&mut self) {
        let mut entries = self.expected.lock();
        entries.retain(|entry| !Arc::ptr_eq(&entry.received, &self.received));
        self.expected.count.store(entries.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_request_that_is_waited_for_counts_and_only_once() {
        let awaiting = Arc::new(ExpectedRequests::default());
        let id = HeaderValue::from_static("check-1");
        let get = |id: &HeaderValue| awaiting.received(id, &Method::GET, "/status");
        assert!(!get(&id));
        let first = awaiting.expect("check-1", "/status");
        let second = awaiting.expect("check-2", "/status");
        assert!(!get(&HeaderValue::from_static("check-11")));
        assert!(!awaiting.received(&id, &Method::POST, "/status"));
        assert!(!awaiting.received(&id, &Method::GET, "/rest/api/2/issue/A-1"));
        assert!(!first.was_received());
        assert!(get(&id));
        assert!(first.was_received() && !second.was_received());
        assert!(!get(&id), "a second one with the same id");
        drop(first);
        assert!(!get(&id));
        drop(second);
        assert_eq!(awaiting.count.load(Relaxed), 0);
    }
}
