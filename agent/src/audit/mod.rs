//! One record per request, allowed or refused, through a bounded queue that never holds up traffic.
//!
//! What a line says is in `record` and `target`, how lines reach the disk in `writer` and `sink`.
//! Nothing in here decides on a request.

mod record;
mod sink;
mod target;
mod writer;

pub use record::{Outcome, Record};
pub use target::Target;
pub use writer::Task;

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::mpsc;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where records go.
    pub sink: Sink,
    /// Records waiting to be written; past it they are dropped and counted.
    pub queue: usize,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// JSON lines appended to this file (0640); reopened on SIGHUP-style rotation by inode change.
    File(PathBuf),
    /// The systemd journal; stderr where there is none.
    Journal,
    /// Nowhere.
    Off,
}

/// The way into the audit queue. Cheap to clone; never waits.
#[derive(Clone)]
pub struct Audit {
    queue: Option<mpsc::Sender<Message>>,
    counts: Arc<Counts>,
}

impl Audit {
    /// Starts the writer on a thread of its own, so that a slow disk delays nothing but itself.
    /// The task is kept to flush what is queued when the agent ends.
    pub fn spawn(settings: Settings) -> (Self, Task) {
        let counts = Arc::new(Counts::default());
        let Some(sink) = sink::open(&settings.sink) else {
            return (Self::off(), Task::idle());
        };
        let (queue, records) = mpsc::channel(settings.queue.max(1));
        let task = Task::start(queue.clone(), records, sink, counts.clone());
        let audit = Self {
            queue: Some(queue),
            counts,
        };
        (audit, task)
    }

    /// An audit that keeps nothing.
    pub fn off() -> Self {
        Self {
            queue: None,
            counts: Arc::default(),
        }
    }

    /// Queues one record, or counts it as dropped where the queue is full.
    pub fn submit(&self, record: Box<Record>) {
        let Some(queue) = &self.queue else {
            return;
        };
        if queue.try_send(Message::Record(record)).is_err() {
            self.counts.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Records that were lost: the queue was full or the sink refused them.
    pub fn dropped(&self) -> u64 {
        self.counts.dropped.load(Ordering::Relaxed)
    }

    /// Records handed to the file or the journal.
    pub fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Relaxed)
    }

    /// Batches that the sink refused: disk full, permission lost.
    pub fn write_errors(&self) -> u64 {
        self.counts.write_errors.load(Ordering::Relaxed)
    }
}

/// The other end of an audit whose records a test reads.
#[cfg(test)]
pub(crate) struct Captured(mpsc::Receiver<Message>);

#[cfg(test)]
impl Audit {
    pub(crate) fn captured() -> (Self, Captured) {
        let (queue, records) = mpsc::channel(1024);
        let audit = Self {
            queue: Some(queue),
            counts: Arc::default(),
        };
        (audit, Captured(records))
    }
}

#[cfg(test)]
impl Captured {
    /// The next record as its line says it.
    pub(crate) async fn next(&mut self) -> serde_json::Value {
        match self.0.recv().await {
            Some(Message::Record(record)) => serde_json::to_value(&record).unwrap_or_default(),
            _ => serde_json::Value::Null,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// What goes through the queue.
enum Message {
    Record(Box<Record>),
    /// Write what is queued before this, then end.
    Stop,
}

#[derive(Default)]
struct Counts {
    dropped: AtomicU64,
    written: AtomicU64,
    write_errors: AtomicU64,
}

#[cfg(test)]
mod tests;
