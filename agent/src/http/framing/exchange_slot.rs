//! Lets one request of a channel be answered at a time.

use super::FramingFault;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};

/// Taken when a head has been handed to hyper; free again when its answer has ended.
#[derive(Default)]
pub(in crate::http) struct ExchangeSlot {
    taken: AtomicBool,
    waiting: AtomicWaker,
    /// Of the head that is handed over next.
    note: Mutex<Option<ExchangeNote>>,
}

/// A part of a request that hyper cannot carry.
pub(in crate::http) enum ExchangeNote {
    /// The head handed over takes the place of one that is refused for this.
    Fault(FramingFault),
    /// The target as the vendor wrote it.
    Target(Arc<str>),
}

/// Held by an answer; dropping it lets the next head through.
pub(in crate::http) struct ExchangeGuard(Arc<ExchangeSlot>);

impl ExchangeSlot {
    pub(super) fn take(&self) {
        self.taken.store(true, Ordering::Release);
    }

    /// Whether a request was handed to hyper whose answer has not ended.
    pub(in crate::http) fn is_taken(&self) -> bool {
        self.taken.load(Ordering::Acquire)
    }

    pub(super) fn poll_free(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.register(cx.waker());
        match self.is_taken() {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    pub(super) fn set_note(&self, note: ExchangeNote) {
        *self.note.lock() = Some(note);
    }

    /// Called once for each request that hyper hands to the service.
    pub(in crate::http) fn acquire(self: &Arc<Self>) -> (ExchangeGuard, Option<ExchangeNote>) {
        (ExchangeGuard(self.clone()), self.note.lock().take())
    }
}

impl Drop for ExchangeGuard {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.waiting.wake();
    }
}
