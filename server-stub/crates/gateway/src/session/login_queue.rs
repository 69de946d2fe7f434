//! The connections that have not logged in yet.

use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// Bounded. A new connection evicts the oldest one of a full queue: a login takes a fraction of a second, so the oldest is
/// a silent one. sshd's `MaxStartups` instead lets silent connections keep agents out.
pub(super) struct LoginQueue {
    most: usize,
    /// Oldest first, by number.
    waiting: Mutex<VecDeque<(u64, CancellationToken)>>,
    next: AtomicU64,
}

/// A slot in the queue, freed when dropped.
pub(super) struct LoginSlot {
    queue: Arc<LoginQueue>,
    number: u64,
    evicted: CancellationToken,
}

impl LoginQueue {
    /// A queue of `most` slots, at least one.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most: most.max(1),
            waiting: Mutex::default(),
            next: AtomicU64::default(),
        })
    }

    /// A slot for a new connection; evicts the oldest connection of a full queue.
    pub(super) fn acquire(self: &Arc<Self>) -> LoginSlot {
        let evicted = CancellationToken::new();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut waiting = self.waiting.lock();
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
            evicted,
        }
    }
}

impl LoginSlot {
    /// Cancelled when a newer connection takes the slot.
    pub(super) fn evicted(&self) -> CancellationToken {
        self.evicted.clone()
    }
}

impl Drop for LoginSlot {
    fn drop(&mut self) {
        let own = self.number;
        self.queue
            .waiting
            .lock()
            .retain(|(number, _)| *number != own);
    }
}
