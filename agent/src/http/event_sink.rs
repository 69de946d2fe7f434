//! Takes requests of an outlet that stores them instead of sending them on.

use super::problem::{HttpProblem, ProblemKind};
use crate::vendor_text::VendorText;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Method};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A request that policy allows, with its whole body.
#[derive(Clone, Debug)]
pub struct IncomingEvent {
    /// Its method.
    pub method: Method,
    /// Path and query as Jira sent them, without the path secret.
    pub target: String,
    /// Headers that are neither of the connection nor of the framing.
    pub headers: HeaderMap,
    /// `address:port` of the sender.
    pub originator: Arc<str>,
    /// The body, at most [`RequestGate::max_body`](super::RequestGate::max_body) bytes.
    pub body: Bytes,
}

/// Stores events.
pub trait EventSink: Send + Sync + 'static {
    /// Stores the event so that it outlives a failure of the machine, and returns its id: letters, digits and `_`.
    fn accept(&self, event: IncomingEvent) -> BoxFuture<'_, Result<String, EventRefusal>>;
}

/// Why an event is not stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventRefusal {
    /// Jira's webhook secret does not sign the body.
    Signature(&'static str),
    /// Its project or kind may not leave.
    OutOfScope(&'static str),
    /// Its project or kind cannot be read from it.
    Undecidable(&'static str),
    /// A bound of the queue is reached.
    Full(&'static str),
    /// It cannot be stored now. `cause` is for the administrator.
    Failed {
        /// One sentence for Jira.
        detail: &'static str,
        /// The exact cause, for audit and log. May name files.
        cause: String,
    },
}

impl EventRefusal {
    pub(super) fn into_problem(self) -> HttpProblem {
        let (kind, detail, cause) = match self {
            Self::Signature(detail) => (ProblemKind::SignatureRefused, detail, None),
            Self::OutOfScope(detail) => (ProblemKind::ScopeRefused, detail, None),
            Self::Undecidable(detail) => (ProblemKind::ScopeUndecidable, detail, None),
            Self::Full(detail) => (ProblemKind::QueueFull, detail, None),
            Self::Failed { detail, cause } => (ProblemKind::StoreFailed, detail, Some(cause)),
        };
        HttpProblem {
            cause,
            ..HttpProblem::not_sent(kind, VendorText::from(detail))
        }
    }
}

/// The sink of one outlet, and the memory for bodies that are being read for it.
#[derive(Clone)]
pub(super) struct EventIntake {
    pub(super) sink: Arc<dyn EventSink>,
    /// One permit for each KiB.
    memory: Arc<Semaphore>,
}

impl EventIntake {
    pub(super) fn new(sink: Arc<dyn EventSink>) -> Self {
        Self {
            sink,
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
        }
    }

    /// Waits for the memory of a body of at most `most` bytes. All of it is taken at once, so that two bodies never wait for
    /// each other. `None`: the body is longer than all of the memory.
    pub(super) async fn reserve(&self, most: u64) -> Option<OwnedSemaphorePermit> {
        let parts = u32::try_from(most.div_ceil(1 << 10)).ok()?;
        if parts as usize > MEMORY_KIB {
            return None;
        }
        Arc::clone(&self.memory)
            .acquire_many_owned(parts)
            .await
            .ok()
    }
}

/// 64 MiB for all bodies of one outlet that are being read, besides a buffer of each connection. The configuration bounds
/// `max_body` of mode `store` by the same size.
pub const LARGEST_EVENT: u64 = 64 << 20;
const MEMORY_KIB: usize = (LARGEST_EVENT >> 10) as usize;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use futures_util::FutureExt;

    struct NoSink;

    impl EventSink for NoSink {
        fn accept(&self, _: IncomingEvent) -> BoxFuture<'_, Result<String, EventRefusal>> {
            Box::pin(std::future::ready(Err(EventRefusal::Full("full"))))
        }
    }

    #[tokio::test]
    async fn bodies_share_a_bounded_memory() {
        let intake = EventIntake::new(Arc::new(NoSink));
        assert!(intake.reserve(LARGEST_EVENT + 1).await.is_none());
        let first = intake.reserve(LARGEST_EVENT - 1024).await.unwrap();
        let small = intake.reserve(1).await.unwrap();
        assert!(intake.reserve(1).now_or_never().is_none());
        drop((first, small));
        assert!(intake.reserve(LARGEST_EVENT).await.is_some());
    }
}
