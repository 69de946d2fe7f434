//! Connections that have not logged in yet, as many as there may be at once.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// Bounded. When it is full the oldest gives way: a login takes a fraction of a second, so the oldest is one that is silent,
/// and silent connections keep no agent out (as `MaxStartups` of sshd would).
pub(super) struct LoginQueue {
    most: usize,
    /// Oldest first, each with its number.
    waiting: Mutex<VecDeque<(u64, CancellationToken)>>,
    next: AtomicU64,
}

/// A place in it, given back when dropped.
pub(super) struct LoginSlot {
    queue: Arc<LoginQueue>,
    number: u64,
    evicted: CancellationToken,
}

impl LoginQueue {
    /// For `most` connections, at least one.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            waiting: Mutex::default(),
            next: AtomicU64::default(),
        })
    }

    /// A place for a new connection; the oldest is told to give way where there was none.
    pub(super) fn acquire(self: &Arc<Self>) -> LoginSlot {
        let evicted = CancellationToken::new();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting();
        if waiting.len() >= self.most
            && let Some((_, oldest)) = waiting.pop_front()
        {
            oldest.cancel();
        }
        waiting.push_back((number, evicted.clone()));
        drop(waiting);
        LoginSlot {
            queue: Arc::clone(self),
            number,
            evicted: evicted,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<(u64, CancellationToken)>> {
        // Nothing in it can be half done.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LoginSlot {
    /// Cancelled when the connection has to end for a newer one.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for LoginSlot {
    fn drop(&mut self) {
        let own = self.number;
        self.queue.waiting().retain(|(number, _)| *number != own);
    }
}
