//! Whose turn it is on a channel: the reader's, or the answer's.

use super::FramingFault;
use futures_util::task::AtomicWaker;
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// Taken when a head has been handed to hyper, free again when its answer has ended.
#[derive(Default)]
pub(in crate::http) struct ExchangeSlot {
    taken: AtomicBool,
    waiting: AtomicWaker,
    /// Set before the head that it belongs to is handed over.
    note: Mutex<Option<ExchangeNote>>,
}

/// What hyper is not to see of a request.
pub(in crate::http) enum ExchangeNote {
    /// The head handed over only stands in for one that is refused.
    Fault(FramingFault),
    /// The target as the vendor wrote it.
    Target(Arc<str>),
}

/// An answer's turn; dropping it lets the next head through.
pub(in crate::http) struct ExchangeGuard(Arc<ExchangeSlot>);

impl ExchangeSlot {
    pub(super) fn take(&self) {
        self.taken.store(true, Ordering::Release);
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    pub(super) fn poll_free(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.register(cx.waker());
        match self.is_taken() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    pub(super) fn set_note(&self, aside: ExchangeNote) {
        *self.lock() = Some(aside);
    }

    /// Called once for each request that hyper hands to the service.
    pub(in crate::http) fn acquire(self: &Arc<Self>) -> (ExchangeGuard, Option<ExchangeNote>) {
        (ExchangeGuard(self.clone()), self.lock().take())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<ExchangeNote>> {
        self.note.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.waiting.wake();
    }
}
