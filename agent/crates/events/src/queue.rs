//! The handle of a queue: store, lease, settle.

mod administration;
mod lease;
mod open;

#[cfg(test)]
mod tests;

pub use administration::Expired;
pub use lease::LeasedEvent;
pub use open::set_damaged_aside;

use crate::{
    DueEvents, EventHead, EventId, EventSummary, JiraEvent, ListFilter, NewEvent, QueueError,
    QueueFigures, QueueLimits, StoreError,
    event::whole_millis,
    inbox::{NewEntry, WriterCommand, WriterInbox},
    index::QueueIndex,
    tables::{self, event_size},
};
use agent_base::disk::DISK_TIMEOUT;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    sync::{Arc, atomic::AtomicU64},
    time::SystemTime,
};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, timeout},
};

/// A queue of events in one file. Cheap to clone; the file is closed by [`close`](Self::close), or some time after the last
/// clone was dropped.
#[derive(Clone)]
pub struct EventQueue {
    shared: Arc<SharedQueue>,
    /// Drops with the last clone.
    _owner: Arc<LastHandle>,
}

/// What became of an event that was to be stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is on disk.
    New {
        /// Its id, for the answer and the audit.
        id: EventId,
        /// Older events that made room for it, for the audit.
        dropped: Vec<EventSummary>,
    },
    /// The same event is on disk already, queued or as a dead letter.
    Repeated(EventId),
}

/// What the handles, the leases and the writer share.
pub(crate) struct SharedQueue {
    pub(crate) outlet: String,
    pub(crate) index: Mutex<QueueIndex>,
    pub(crate) inbox: WriterInbox,
    pub(crate) changed: Arc<Notify>,
    /// Commits of this process.
    pub(crate) commits: AtomicU64,
    /// Its sender is dropped when the file is closed.
    closed: watch::Receiver<()>,
}

/// Ends the writer when the last handle is dropped.
struct LastHandle(Arc<SharedQueue>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.inbox.close();
    }
}

impl EventQueue {
    /// Sets other bounds. What is stored already stays.
    pub fn set_limits(&self, limits: QueueLimits) {
        self.shared.index.lock().limits = limits;
    }

    /// Stores an event durably: it is on disk when this returns.
    ///
    /// # Errors
    /// See [`StoreError`]. Waits at most [`DISK_TIMEOUT`].
    pub async fn store(&self, event: NewEvent) -> Result<Stored, StoreError> {
        let wall = whole_millis(SystemTime::now());
        let prepared = match event.body.len() > LONG_BODY {
            true => {
                let shared = self.shared.clone();
                let prepare = move || prepared(&shared.outlet, event, wall);
                let done = tokio::task::spawn_blocking(prepare).await;
                // It panicked, or the runtime is shutting down.
                done.unwrap_or_else(|error| Err(error.to_string()))
            }
            false => prepared(&self.shared.outlet, event, wall),
        };
        let (head, text, body) = prepared.map_err(StoreError::Disk)?;
        let (reply, answer) = oneshot::channel();
        let entry = NewEntry {
            size: event_size(text.len(), head.body_bytes),
            head: Box::new(head),
            text,
            body,
            now: (Instant::now(), wall),
            reply,
        };
        self.shared.inbox.store(entry)?;
        match timeout(DISK_TIMEOUT, answer).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(_)) => Err(StoreError::Closed),
            Err(_) => Err(StoreError::Disk(hangs())),
        }
    }

    /// Whether there is something to lease.
    pub fn due(&self, now: Instant) -> DueEvents {
        self.shared.index.lock().due(now)
    }

    /// Ready when something was stored, freed or retried after this call. Call it before [`due`](Self::due).
    pub fn changed(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        self.shared.changed.clone().notified_owned()
    }

    /// The queue in numbers.
    pub fn figures(&self) -> QueueFigures {
        self.shared.index.lock().figures(Instant::now())
    }

    /// Events that one list has at most.
    pub const MAX_LIST: usize = 1000;

    /// At most `limit` events (and at most [`MAX_LIST`](Self::MAX_LIST)) in their order, those after `after`. An `after` that
    /// is not here any more begins at the start.
    pub fn list(
        &self,
        what: ListFilter,
        after: Option<EventId>,
        limit: usize,
    ) -> Vec<EventSummary> {
        let limit = limit.min(Self::MAX_LIST);
        let index = self.shared.index.lock();
        index.list(what, after, limit, Instant::now())
    }

    /// One event, queued or dead.
    pub fn find(&self, id: EventId) -> Option<EventSummary> {
        self.shared.index.lock().find(id, Instant::now())
    }

    /// What is stored beside the body of an event. `None`: there is no such event.
    ///
    /// # Errors
    /// The disk failed, or the queue is closed.
    pub async fn head(&self, id: EventId) -> Result<Option<EventHead>, QueueError> {
        let Some(selected) = self.shared.index.lock().selected(id) else {
            return Ok(None);
        };
        let read = self
            .shared
            .ask(|reply| WriterCommand::ReadHead { selected, reply });
        match read.await {
            // It left meanwhile.
            Err(QueueError::Disk(_)) if self.shared.index.lock().selected(id).is_none() => Ok(None),
            read => read.map(Some),
        }
    }

    /// Waits for what is being written, then closes the file, so that another process can open it. From then on everything
    /// is refused as closed. Waits at most [`DISK_TIMEOUT`].
    pub async fn close(&self) {
        self.shared.inbox.close();
        let mut closed = self.shared.closed.clone();
        // Ends with an error, when the writer drops the sender.
        let _ = timeout(DISK_TIMEOUT, closed.changed()).await;
        self.shared.changed.notify_waiters();
    }
}

impl SharedQueue {
    /// Sends a command and waits for its answer, at most [`DISK_TIMEOUT`].
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, QueueError>>) -> WriterCommand,
    ) -> Result<T, QueueError> {
        let (reply, answer) = oneshot::channel();
        self.inbox
            .push(command(reply))
            .map_err(|_| QueueError::Closed)?;
        Self::answer(answer).await
    }

    async fn answer<T>(answer: oneshot::Receiver<Result<T, QueueError>>) -> Result<T, QueueError> {
        match timeout(DISK_TIMEOUT, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(QueueError::Closed),
            Err(_) => Err(QueueError::Disk(hangs())),
        }
    }
}

/// What is stored of an event. Reads the whole body.
fn prepared(
    outlet: &str,
    event: NewEvent,
    wall: SystemTime,
) -> Result<(EventHead, Vec<u8>, Bytes), String> {
    let body = event.body;
    let id = match &event.identifier {
        Some(identifier) => EventId::of_identified(outlet, identifier, &event.target, &body),
        None => EventId::random(),
    };
    let about = JiraEvent::parse(&body);
    let head = EventHead {
        id,
        received_at: wall,
        retried_at: None,
        method: event.method,
        target: event.target,
        headers: event.headers,
        source: event.source,
        lane: about.lane(),
        event_type: about.event_type,
        issue_key: about.issue_key,
        body_bytes: body.len() as u64,
    };
    let text = tables::text(&head).map_err(|failure| failure.text)?;
    Ok((head, text, body))
}

fn hangs() -> String {
    format!("the disk did not answer within {DISK_TIMEOUT:?}")
}

/// Reading a longer body takes long enough to hold up others of the runtime's thread.
const LONG_BODY: usize = 128 << 10;
