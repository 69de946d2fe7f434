//! Requests that somebody inside the agent waits to see arrive: a check sends one the vendor's way, and has to know
//! that it came to this agent and not to another one behind the same gateway.

use http::HeaderValue;
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// The ids that are waited for on one forward.
#[derive(Default)]
pub(super) struct Awaiting {
    /// So that a request costs one look while nobody waits.
    count: AtomicUsize,
    entries: Mutex<Vec<Entry>>,
}

struct Entry {
    id: String,
    came: Arc<AtomicBool>,
}

impl Awaiting {
    /// Waits for a request with this id from now on.
    pub(super) fn begin(self: &Arc<Self>, id: &str) -> Awaited {
        let came = Arc::new(AtomicBool::new(false));
        let mut entries = self.lock();
        entries.push(Entry {
            id: id.to_owned(),
            came: Arc::clone(&came),
        });
        self.count.store(entries.len(), Relaxed);
        drop(entries);
        Awaited {
            came,
            awaiting: Arc::clone(self),
        }
    }

    /// A request has come; whether it was waited for.
    pub(super) fn came(&self, id: &HeaderValue) -> bool {
        if self.count.load(Relaxed) == 0 {
            return false;
        }
        let entries = self.lock();
        let found = entries.iter().find(|entry| *id == *entry.id);
        if let Some(entry) = found {
            entry.came.store(true, Relaxed);
        }
        found.is_some()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that is waited for, until this is dropped.
pub struct Awaited {
    came: Arc<AtomicBool>,
    awaiting: Arc<Awaiting>,
}

impl Awaited {
    /// Whether it has come.
    pub fn came(&self) -> bool {
        self.came.load(Relaxed)
    }
}

impl Drop for Awaited {
    fn drop(&mut self) {
        let mut entries = self.awaiting.lock();
        entries.retain(|entry| !Arc::ptr_eq(&entry.came, &self.came));
        self.awaiting.count.store(entries.len(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_that_is_waited_for_counts_and_only_for_as_long() {
        let awaiting = Arc::new(Awaiting::default());
        let id = HeaderValue::from_static("check-1");
        assert!(!awaiting.came(&id));
        let first = awaiting.begin("check-1");
        let second = awaiting.begin("check-2");
        assert!(!awaiting.came(&HeaderValue::from_static("check-11")));
        assert!(!first.came());
        assert!(awaiting.came(&id));
        assert!(first.came() && !second.came());
        drop(first);
        assert!(!awaiting.came(&id));
        drop(second);
        assert_eq!(awaiting.count.load(Relaxed), 0);
    }
}
