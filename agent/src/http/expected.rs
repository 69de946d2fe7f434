//! Requests that the agent itself expects: a check sends one through the gateway, and has to know that it arrived at this
//! agent and not at another one behind the same gateway.

use http::{HeaderValue, Method};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// The ids that are expected on one forward.
#[derive(Default)]
pub(super) struct ExpectedRequests {
    /// Length of `entries`: a request costs one load while none is expected.
    count: AtomicUsize,
    entries: Mutex<Vec<ExpectedEntry>>,
}

struct ExpectedEntry {
    id: String,
    /// A GET of this is expected.
    target: String,
    received: Arc<AtomicBool>,
}

impl ExpectedRequests {
    /// Expects a GET of `target`, as it stands in the request line, with this id from now on.
    pub(super) fn expect(self: &Arc<Self>, id: &str, target: &str) -> ExpectedRequest {
        let received = Arc::new(AtomicBool::new(false));
        let mut entries = self.entries.lock();
        entries.push(ExpectedEntry {
            id: id.to_owned(),
            target: target.to_owned(),
            received: Arc::clone(&received),
        });
        self.count.store(entries.len(), Relaxed);
        drop(entries);
        ExpectedRequest {
            received,
            expected: Arc::clone(self),
        }
    }

    /// Whether the request that has arrived was expected. True once: the id has gone through the gateway, which could reuse
    /// it.
    pub(super) fn received(&self, id: &HeaderValue, method: &Method, target: &str) -> bool {
        if self.count.load(Relaxed) == 0 {
            return false;
        }
        let entries = self.entries.lock();
        let found = entries
            .iter()
            .find(|entry| *id == *entry.id && method == Method::GET && target == entry.target);
        found.is_some_and(|entry| !entry.received.swap(true, Relaxed))
    }
}

/// One request that is expected until this is dropped.
pub struct ExpectedRequest {
    received: Arc<AtomicBool>,
    expected: Arc<ExpectedRequests>,
}

impl ExpectedRequest {
    /// Whether the request has arrived.
    pub fn was_received(&self) -> bool {
        self.received.load(Relaxed)
    }
}

impl Drop for ExpectedRequest {
    fn drop(&mut self) {
        let mut entries = self.expected.entries.lock();
        entries.retain(|entry| !Arc::ptr_eq(&entry.received, &self.received));
        self.expected.count.store(entries.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_expected_request_counts_and_only_once() {
        let expected = Arc::new(ExpectedRequests::default());
        let id = HeaderValue::from_static("check-1");
        let get = |id: &HeaderValue| expected.received(id, &Method::GET, "/status");
        assert!(!get(&id));
        let first = expected.expect("check-1", "/status");
        let second = expected.expect("check-2", "/status");
        assert!(!get(&HeaderValue::from_static("check-11")));
        assert!(!expected.received(&id, &Method::POST, "/status"));
        assert!(!expected.received(&id, &Method::GET, "/rest/api/2/issue/A-1"));
        assert!(!first.was_received());
        assert!(get(&id));
        assert!(first.was_received() && !second.was_received());
        assert!(!get(&id), "a second one with the same id");
        drop(first);
        assert!(!get(&id));
        drop(second);
        assert_eq!(expected.count.load(Relaxed), 0);
    }
}
