//! What waits for the writer. A channel of the runtime has no wait with a time limit outside of it, so this is a queue with a
//! condition variable.

use crate::{
    EventHead, QueueError, StoreError, Stored,
    change::{QueueChange, Sequence},
    index::SelectedEvent,
};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use std::{collections::VecDeque, time::SystemTime};
use tokio::{sync::oneshot, time::Instant};

/// What the writer is to do. Each is answered; an answer without a caller that waits for it is dropped.
pub(crate) enum WriterCommand {
    Store(NewEntry),
    Change {
        changes: Vec<QueueChange>,
        /// It is repeated until it is on disk: the event has been delivered, or refused permanently.
        must: bool,
        reply: oneshot::Sender<Result<(), QueueError>>,
    },
    Read {
        sequence: Sequence,
        reply: oneshot::Sender<Result<(EventHead, Bytes), QueueError>>,
    },
    ReadHead {
        selected: SelectedEvent,
        reply: oneshot::Sender<Result<EventHead, QueueError>>,
    },
}

/// An event on its way into the file.
pub(crate) struct NewEntry {
    pub(crate) head: Box<EventHead>,
    /// The head in JSON.
    pub(crate) text: Vec<u8>,
    pub(crate) body: Bytes,
    pub(crate) size: u64,
    /// When it was received.
    pub(crate) now: (Instant, SystemTime),
    pub(crate) reply: oneshot::Sender<Result<Stored, StoreError>>,
}

#[derive(Default)]
pub(crate) struct WriterInbox {
    waiting: Mutex<WaitingCommands>,
    arrived: Condvar,
}

#[derive(Default)]
struct WaitingCommands {
    commands: VecDeque<WriterCommand>,
    stores: usize,
    store_bytes: u64,
    is_closed: bool,
}

impl WriterInbox {
    /// An event to store. Refused where too many wait: then the disk is slower than Jira.
    pub(crate) fn store(&self, entry: NewEntry) -> Result<(), StoreError> {
        let mut waiting = self.waiting.lock();
        let bytes = waiting.store_bytes.saturating_add(entry.size);
        if waiting.is_closed {
            return Err(StoreError::Closed);
        }
        // One event may be larger than the bound.
        if waiting.stores >= MAX_STORES || (waiting.stores > 0 && bytes > MAX_STORE_BYTES) {
            return Err(StoreError::Busy);
        }
        waiting.stores += 1;
        waiting.store_bytes = bytes;
        waiting.commands.push_back(WriterCommand::Store(entry));
        self.arrived.notify_one();
        Ok(())
    }

    /// Anything else. The callers bound it: there are no more of these than leases and administrators.
    pub(crate) fn push(&self, command: WriterCommand) -> Result<(), WriterCommand> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(command);
        }
        waiting.commands.push_back(command);
        self.arrived.notify_one();
        Ok(())
    }

    /// The next commands, as many as go into one commit. Waits for one until the given time; then there may be none.
    /// `None`: it is closed, and there will be none.
    pub(crate) fn take(&self, until: Option<std::time::Instant>) -> Option<Vec<WriterCommand>> {
        let mut waiting = self.waiting.lock();
        while waiting.commands.is_empty() {
            if waiting.is_closed {
                return None;
            }
            match until {
                Some(until) => {
                    if self.arrived.wait_until(&mut waiting, until).timed_out() {
                        break;
                    }
                }
                None => self.arrived.wait(&mut waiting),
            }
        }
        let (mut taken, mut changes, mut bytes) = (Vec::new(), 0, 0_u64);
        while changes < MAX_CHANGES && bytes < MAX_COMMIT_BYTES {
            let Some(command) = waiting.commands.pop_front() else {
                break;
            };
            match &command {
                WriterCommand::Store(entry) => {
                    changes += 1;
                    bytes = bytes.saturating_add(entry.size);
                    waiting.stores = waiting.stores.saturating_sub(1);
                    waiting.store_bytes = waiting.store_bytes.saturating_sub(entry.size);
                }
                WriterCommand::Change { changes: more, .. } => changes += more.len(),
                WriterCommand::Read { .. } | WriterCommand::ReadHead { .. } => {}
            }
            taken.push(command);
        }
        Some(taken)
    }

    /// Whether something waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().commands.is_empty()
    }

    /// Takes nothing more. What waits is still done.
    pub(crate) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.arrived.notify_all();
    }

    /// Forgets what waits, for a writer that has ended: whoever waits for an answer learns it at once.
    pub(crate) fn clear(&self) {
        let commands = std::mem::take(&mut self.waiting.lock().commands);
        drop(commands);
    }
}

/// Events that may wait for the disk: some commits of [`MAX_CHANGES`], which take some fsyncs.
const MAX_STORES: usize = 1024;
/// Their bytes are in memory.
const MAX_STORE_BYTES: u64 = 64 << 20;
/// Changes of one commit: enough that the fsync is shared, few enough that the first one does not wait for long.
const MAX_CHANGES: usize = 256;
/// Bytes of one commit, for the same reason. One event may be larger.
const MAX_COMMIT_BYTES: u64 = 8 << 20;
