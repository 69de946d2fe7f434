//! Whose turn it is on a channel: the reader's, or the answer's.

use super::Fault;
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
pub(in crate::http) struct Turn {
    taken: AtomicBool,
    waiting: AtomicWaker,
    /// Set before the head that it belongs to is handed over.
    aside: Mutex<Option<Aside>>,
}

/// What hyper is not to see of a request.
pub(in crate::http) enum Aside {
    /// The head handed over only stands in for one that is refused.
    Fault(Fault),
    /// The target as the vendor wrote it.
    Target(Arc<str>),
}

/// An answer's turn; dropping it lets the next head through.
pub(in crate::http) struct TurnHeld(Arc<Turn>);

impl Turn {
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

    pub(super) fn set_aside(&self, aside: Aside) {
        *self.lock() = Some(aside);
    }

    /// Called once for each request that hyper hands to the service.
    pub(in crate::http) fn hold(self: &Arc<Self>) -> (TurnHeld, Option<Aside>) {
        (TurnHeld(self.clone()), self.lock().take())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Aside>> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TurnHeld {
    fn drop(&mut self) {
        self.0.taken.store(false, Ordering::Release);
        self.0.waiting.wake();
    }
}
