//! One record per request, allowed or refused, through a bounded queue that never holds up traffic.
//!
//! | file | what |
//! |---|---|
//! | `record`, `target` | what a line says about a request, bounded and printable |
//! | `refusals` | one line for many refused requests |
//! | `writer` | the thread that turns records into numbered lines, and keeps what cannot be written yet |
//! | `sink` | a file that survives rotation, the journal, standard error; which of them by default |
//! | `condition` | whether records can be written, what was lost, what to do about it |
//!
//! Nothing here decides on a request, except that with `required` a request [reserves](AuditHandle::reserve) a place for its
//! record before it is sent, and gets none where no record can be written.

mod condition;
mod record;
mod refusals;
mod sink;
mod target;
mod writer;

pub use condition::{AuditCondition, RECENT_LOSS};
pub use record::{AuditRecord, AuditedEvent, RequestOutcome, TrafficDirection};
pub use sink::{ServiceEnvironment, SinkChoice, default_audit_files};
pub use target::RedactedTarget;
pub use writer::AuditTask;

use crate::disk::FreeSpaceFloor;
use condition::AuditState;
use std::{
    path::PathBuf,
    sync::{Arc, mpsc},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The audit settings, from the section `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where audit records are written.
    pub sink: SinkSetting,
    /// Records waiting to be written; past it they are dropped and counted.
    pub queue: usize,
    /// Where no record can be written, no request is sent to Jira.
    pub required: bool,
    /// What an audit file leaves free on its disk.
    pub floor: FreeSpaceFloor,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SinkSetting {
    /// The journal if it provably keeps every line, else a file; standard error if there is no journal. See
    /// [`SinkChoice`].
    Auto {
        /// The file to use where systemd has created no folder for logs.
        fallback: PathBuf,
    },
    /// JSON lines appended to this file (0640); reopened within a second of rotation, by its inode.
    File(PathBuf),
    /// The systemd journal; stderr where there is none.
    Journal,
    /// Audit records are written nowhere.
    Off,
}

/// Submits audit records. Cheap to clone; never waits.
#[derive(Clone)]
pub struct AuditHandle {
    queue: Option<RecordQueue>,
    shared: Arc<AuditState>,
}

#[derive(Clone)]
struct RecordQueue {
    /// Bounded by `permits`, of which each record holds one until it is written.
    messages: mpsc::Sender<WriterMessage>,
    permits: Arc<Semaphore>,
}

/// The place of one record in the queue, held from before its request is sent to Jira until its line is written.
pub struct RecordPermit(Option<OwnedSemaphorePermit>);

/// Why no record can be written now. For the customer only: it names the sink.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct AuditUnavailable {
    /// What prevents records from being written.
    pub cause: String,
}

impl AuditHandle {
    /// Starts the writer on its own thread, so that a slow disk delays nothing else. Keep the task: it flushes what is
    /// queued when the agent ends.
    pub fn spawn(settings: Settings) -> (Self, AuditTask) {
        let choice = SinkChoice::resolve(&settings.sink, &ServiceEnvironment::of_process());
        let shared = Arc::new(AuditState::new(&settings, &choice));
        let Some(sink) = choice.open(settings.floor, settings.queue) else {
            return (Self::with(None, shared), AuditTask::idle());
        };
        let (messages, records) = mpsc::channel();
        let queue = RecordQueue {
            messages: messages.clone(),
            permits: Arc::new(Semaphore::new(places(settings.queue))),
        };
        let task = AuditTask::start(messages, records, sink, Arc::clone(&shared));
        (Self::with(Some(queue), shared), task)
    }

    /// An audit that writes no records.
    pub fn off() -> Self {
        Self::with(None, Arc::default())
    }

    fn with(queue: Option<RecordQueue>, shared: Arc<AuditState>) -> Self {
        Self { queue, shared }
    }

    /// Takes a place for a record before its request is sent. Always succeeds without `required`.
    ///
    /// # Errors
    /// Records cannot be written now: the sink has failed or does not answer, its disk is too full, or as many records
    /// as the queue holds wait already.
    pub fn reserve(&self) -> Result<RecordPermit, AuditUnavailable> {
        let Some(queue) = self.queue.as_ref().filter(|_| self.shared.required) else {
            return Ok(RecordPermit(None));
        };
        if let Some(cause) = self.shared.cannot_write() {
            return Err(AuditUnavailable { cause });
        }
        match Arc::clone(&queue.permits).try_acquire_owned() {
            Ok(permit) => Ok(RecordPermit(Some(permit))),
            Err(_) => Err(AuditUnavailable {
                cause: String::from("audit.queue is full of records that wait to be written"),
            }),
        }
    }

    /// Queues one record, with its permit where it has one; without, a full queue drops and counts it.
    pub fn submit(&self, record: Box<AuditRecord>, permit: Option<RecordPermit>) {
        let Some(queue) = &self.queue else {
            return;
        };
        let permit = permit.and_then(|permit| permit.0);
        let permit = permit.or_else(|| Arc::clone(&queue.permits).try_acquire_owned().ok());
        let sent = permit.map(|permit| queue.messages.send(WriterMessage::Record(record, permit)));
        if !matches!(sent, Some(Ok(()))) {
            self.shared.dropped(1);
        }
    }

    /// Counts requests that the agent has answered itself instead of recording each: one line summarizes them by error.
    pub fn count_refusal(&self, forward: &Arc<str>, error: &'static str, count: u64) {
        let Some(queue) = &self.queue else {
            return;
        };
        if self.shared.refusals.add(forward, error, count) {
            // Fails only where the writer has ended, which has written the counts.
            let _ = queue.messages.send(WriterMessage::Summarize);
        }
    }

    /// Whether records are written, and what was lost.
    pub fn condition(&self) -> AuditCondition {
        self.shared.condition(self.queue.is_some())
    }
}

fn places(queue: usize) -> usize {
    queue.clamp(1, Semaphore::MAX_PERMITS)
}

/// The other end of an audit whose records a test reads.
#[cfg(test)]
pub(crate) struct CapturedAudit {
    records: mpsc::Receiver<WriterMessage>,
    shared: Arc<AuditState>,
}

#[cfg(test)]
impl AuditHandle {
    pub(crate) fn captured_with(required: bool) -> (Self, CapturedAudit) {
        let (messages, records) = mpsc::channel();
        let mut shared = AuditState::default();
        shared.required = required;
        let shared = Arc::new(shared);
        let queue = RecordQueue {
            messages,
            permits: Arc::new(Semaphore::new(1024)),
        };
        let captured = CapturedAudit {
            records,
            shared: Arc::clone(&shared),
        };
        (Self::with(Some(queue), shared), captured)
    }
}

#[cfg(test)]
impl CapturedAudit {
    /// The next record as its line has it. Waits for it without a deadline of its own.
    pub(crate) async fn next(&mut self) -> serde_json::Value {
        loop {
            match self.records.try_recv() {
                Ok(WriterMessage::Record(record, _)) => {
                    return serde_json::to_value(&record).unwrap_or_default();
                }
                Ok(_) => {}
                Err(mpsc::TryRecvError::Empty) => {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
                Err(mpsc::TryRecvError::Disconnected) => return serde_json::Value::Null,
            }
        }
    }

    /// Whether no record waits. Takes one if there is.
    pub(crate) fn is_empty(&self) -> bool {
        let mut waiting = self.records.try_iter();
        !waiting.any(|message| matches!(message, WriterMessage::Record(..)))
    }

    /// What was counted instead of recorded.
    pub(crate) fn summed(&self) -> u64 {
        self.shared.refusals.total()
    }

    /// From now on the sink has failed, or not.
    pub(crate) fn set_fault(&self, cause: Option<&str>) {
        self.shared.set_fault(cause.map(str::to_owned));
    }
}

/// A message to the writer's thread.
enum WriterMessage {
    Record(Box<AuditRecord>, OwnedSemaphorePermit),
    /// The first of many refused requests was counted.
    Summarize,
    /// Write what is queued before this, then end.
    Stop,
}

#[cfg(test)]
mod tests;
