//! The one thread that reads and writes the file. All that waits goes into one commit, so that many events share an fsync.
//!
//! After an error of the disk the file is opened again, with growing pauses. Until then, each caller gets that error at once.

use crate::{
    QueueError, StoreError, Stored,
    change::QueueChange,
    inbox::{NewEntry, WriterCommand},
    index::{AdmissionOutcome, SelectedEvent},
    queue::SharedQueue,
    tables::{DiskFailure, FileContent, QueueFile, QueueTables},
};
use agent_base::{backoff::ExponentialBackoff, disk::FreeSpaceFloor};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{oneshot, watch},
    time::Instant,
};

pub(crate) struct QueueWriter {
    shared: Arc<SharedQueue>,
    storage: QueueFile,
    tables: Option<QueueTables>,
    /// Changes that are repeated until they are on disk. Each holds an event of the index, which bounds them.
    unsettled: Vec<QueueChange>,
    failures: u32,
    /// When the file is opened again.
    retry_at: Option<std::time::Instant>,
    last_failure: Option<DiskFailure>,
    /// Bytes of the file after the last time that it was made smaller.
    compacted_bytes: u64,
    /// Dropped when the file is closed.
    _closed: watch::Sender<()>,
}

/// What is answered once the commit is done.
enum PendingReply {
    Store(
        oneshot::Sender<Result<Stored, StoreError>>,
        Result<Stored, StoreError>,
    ),
    Change(oneshot::Sender<Result<(), QueueError>>),
}

/// What one commit writes and answers.
#[derive(Default)]
struct CommitBatch {
    /// Changes that must be repeated, then the others.
    must: Vec<QueueChange>,
    may: Vec<QueueChange>,
    replies: Vec<PendingReply>,
}

impl QueueWriter {
    pub(crate) fn new(
        shared: Arc<SharedQueue>,
        storage: QueueFile,
        tables: QueueTables,
        closed: watch::Sender<()>,
    ) -> Self {
        Self {
            shared,
            storage,
            tables: Some(tables),
            unsettled: Vec::new(),
            failures: 0,
            retry_at: None,
            last_failure: None,
            compacted_bytes: 0,
            _closed: closed,
        }
    }

    /// Until the inbox is closed and empty.
    pub(crate) fn run(mut self) {
        // Also where this thread panics: no caller waits for an answer that does not come.
        let _end = InboxEnd(self.shared.clone());
        while let Some(commands) = self.shared.inbox.take(self.retry_at) {
            if self.tables.is_none()
                && self
                    .retry_at
                    .is_none_or(|at| at <= std::time::Instant::now())
            {
                self.open_again();
            }
            self.serve(commands);
            self.compact();
        }
        if let Some(tables) = self.tables.take() {
            let closed = catch_unwind(AssertUnwindSafe(|| tables.close()));
            if let Ok(Err(failure)) = closed {
                tracing::warn!(
                    path = %self.storage.path().display(),
                    cause = %failure.text,
                    "queue file was not closed cleanly; the next start checks it"
                );
            }
        }
    }

    fn serve(&mut self, commands: Vec<WriterCommand>) {
        let (mut batch, mut entries) = (CommitBatch::default(), Vec::new());
        for command in commands {
            match command {
                WriterCommand::Store(entry) => entries.push(entry),
                WriterCommand::Change {
                    changes,
                    must,
                    reply,
                } => {
                    let list = match must {
                        true => &mut batch.must,
                        false => &mut batch.may,
                    };
                    list.extend(changes);
                    batch.replies.push(PendingReply::Change(reply));
                }
                WriterCommand::Read { sequence, reply } => {
                    let read = self.on_tables(|tables| tables.read(sequence));
                    let _ = reply.send(read.map_err(|failure| QueueError::Disk(failure.text)));
                }
                WriterCommand::ReadHead { selected, reply } => {
                    let (sequence, is_dead) = match selected {
                        SelectedEvent::Queued(sequence) => (sequence, false),
                        SelectedEvent::Dead(dead) => (dead, true),
                    };
                    let read = self.on_tables(|tables| tables.read_head(sequence, is_dead));
                    let _ = reply.send(read.map_err(|failure| QueueError::Disk(failure.text)));
                }
            }
        }
        self.admit(entries, &mut batch);
        let changes = !batch.must.is_empty() || !batch.may.is_empty();
        let done = match changes {
            true => self.commit(batch.must, batch.may),
            false => Ok(()),
        };
        for reply in batch.replies {
            reply.send(&done);
        }
        self.shared.changed.notify_waiters();
    }

    /// Reserves room in the index, or answers why there is none.
    fn admit(&mut self, entries: Vec<NewEntry>, batch: &mut CommitBatch) {
        if entries.is_empty() {
            return;
        }
        if let Err(text) = self.check_space(&entries) {
            for entry in entries {
                let _ = entry.reply.send(Err(StoreError::DiskFull(text.clone())));
            }
            return;
        }
        let mut index = self.shared.index.lock();
        for entry in entries {
            let NewEntry {
                head,
                text,
                body,
                size,
                now,
                reply,
            } = entry;
            let id = head.id;
            let outcome = match index.admit(&head, size, now) {
                AdmissionOutcome::Store {
                    sequence,
                    removals,
                    dropped,
                } => {
                    batch.may.extend(removals);
                    batch.may.push(QueueChange::Store {
                        sequence,
                        head,
                        text,
                        body,
                        size,
                    });
                    Ok(Stored::New { id, dropped })
                }
                AdmissionOutcome::Repeated => Ok(Stored::Repeated(id)),
                AdmissionOutcome::Full(which) => Err(StoreError::Full { which }),
            };
            batch.replies.push(PendingReply::Store(reply, outcome));
        }
    }

    /// Whether the reserve of the file system stays free.
    fn check_space(&self, entries: &[NewEntry]) -> Result<(), String> {
        let bytes = self.shared.index.lock().limits.reserve_bytes;
        let floor = FreeSpaceFloor { bytes, parts: 1 };
        let sizes = entries.iter().map(|entry| entry.size);
        let more = sizes
            .fold(0, u64::saturating_add)
            .saturating_mul(PAGE_ROUNDING);
        let allowed = floor.allows_in(self.storage.folder(), more);
        allowed.map_err(|error| error.to_string())
    }

    /// One fsync for all of it; then the index follows.
    fn commit(&mut self, must: Vec<QueueChange>, may: Vec<QueueChange>) -> Result<(), DiskFailure> {
        let mut changes = std::mem::take(&mut self.unsettled);
        changes.extend(must);
        let musts = changes.len();
        changes.extend(may);
        let totals = self.shared.index.lock().totals;
        let written = self.on_tables(|tables| tables.commit(&changes, totals));
        let mut index = self.shared.index.lock();
        let now = Instant::now();
        match &written {
            Ok(()) => {
                self.shared.commits.fetch_add(1, Ordering::Relaxed);
                for change in &changes {
                    index.applied(change, now);
                }
                index.disk_error = None;
                if self.last_failure.take().is_some() {
                    let path = self.storage.path().display();
                    tracing::info!(%path, "queue file can be written again");
                }
            }
            Err(failure) => {
                for change in changes.drain(musts..) {
                    index.reverted(&change, now);
                }
                drop(index);
                self.unsettled = changes;
                // Whatever the error: the state of the database is not known.
                self.note_failure(failure.clone());
                self.give_up_tables();
            }
        }
        written
    }

    /// Runs work on the open file. After an error of the system, and after a panic of the library, the file is given up.
    fn on_tables<T>(
        &mut self,
        work: impl FnOnce(&mut QueueTables) -> Result<T, DiskFailure>,
    ) -> Result<T, DiskFailure> {
        let Some(tables) = &mut self.tables else {
            let last = self.last_failure.clone();
            return Err(
                last.unwrap_or_else(|| DiskFailure::of_content("the queue file is not open"))
            );
        };
        let done = catch_unwind(AssertUnwindSafe(|| work(tables)));
        let panicked = || {
            let mut failure = DiskFailure::of_content("the queue file is damaged");
            failure.is_io = true;
            Err(failure)
        };
        let done = done.unwrap_or_else(|_| panicked());
        if let Err(failure) = &done
            && failure.is_io
        {
            self.note_failure(failure.clone());
            self.give_up_tables();
        }
        done
    }

    fn note_failure(&mut self, failure: DiskFailure) {
        if self.last_failure.is_none() {
            tracing::error!(
                path = %self.storage.path().display(),
                cause = %failure.text,
                remedy = "check the disk of the state folder and its free space",
                "queue file cannot be used; events are refused until it can be written"
            );
        }
        self.shared.index.lock().disk_error = Some(failure.text.clone());
        self.last_failure = Some(failure);
    }

    fn give_up_tables(&mut self) {
        if let Some(tables) = self.tables.take() {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(tables)));
            self.failures = self.failures.saturating_add(1);
            self.retry_at = Some(std::time::Instant::now() + PAUSES.after(self.failures));
        }
    }

    /// Opens the file again, makes the index follow what it holds, and proves with a commit that it can be written.
    fn open_again(&mut self) {
        match QueueTables::open(self.storage.clone(), &self.shared.outlet) {
            Ok((tables, content)) => {
                self.reconcile(&content);
                self.tables = Some(tables);
                self.retry_at = None;
                if self.commit(Vec::new(), Vec::new()).is_ok() {
                    self.failures = 0;
                }
            }
            Err(error) => {
                let mut failure = DiskFailure::of_content(error.to_string());
                failure.is_full = self.last_failure.as_ref().is_some_and(|last| last.is_full);
                self.note_failure(failure);
                self.failures = self.failures.saturating_add(1);
                self.retry_at = Some(std::time::Instant::now() + PAUSES.after(self.failures));
            }
        }
        self.shared.changed.notify_waiters();
    }

    /// A commit that was reported as failed may have changed the file all the same.
    fn reconcile(&mut self, content: &FileContent) {
        let now = (Instant::now(), SystemTime::now());
        let mut index = self.shared.index.lock();
        // Both lists are sorted by the file.
        let is_queued = |at| {
            content
                .queued
                .binary_search_by_key(&at, |row| row.0)
                .is_ok()
        };
        let is_dead = |at| content.dead.binary_search_by_key(&at, |row| row.0).is_ok();
        index.forget_missing(is_queued, is_dead, now.0);
        for (sequence, head, size) in &content.queued {
            index.load_queued(*sequence, head, *size, now);
        }
        for (dead, head, size, details) in &content.dead {
            index.load_dead(*dead, head, *size, details.clone(), now);
        }
    }

    /// Never while an event waits: it can take seconds.
    fn compact(&mut self) {
        let idle = self.shared.inbox.is_empty() && self.shared.index.lock().has_no_queued();
        let Some(tables) = self.tables.as_ref().filter(|_| idle) else {
            return;
        };
        // Dead letters may leave the file above the threshold.
        let most = COMPACT_ABOVE.max(self.compacted_bytes.saturating_mul(2));
        if tables.file_bytes() > most {
            let _ = self.on_tables(QueueTables::compact);
            self.compacted_bytes = self.tables.as_ref().map_or(0, QueueTables::file_bytes);
        }
    }
}

impl PendingReply {
    fn send(self, done: &Result<(), DiskFailure>) {
        match self {
            Self::Store(reply, outcome) => {
                let outcome = match (outcome, done) {
                    (Ok(_), Err(failure)) if failure.is_full => {
                        Err(StoreError::DiskFull(failure.text.clone()))
                    }
                    (Ok(_), Err(failure)) => Err(StoreError::Disk(failure.text.clone())),
                    (outcome, _) => outcome,
                };
                let _ = reply.send(outcome);
            }
            Self::Change(reply) => {
                let done = done.clone();
                let _ = reply.send(done.map_err(|failure| QueueError::Disk(failure.text)));
            }
        }
    }
}

struct InboxEnd(Arc<SharedQueue>);

impl Drop for InboxEnd {
    fn drop(&mut self) {
        self.0.inbox.close();
        self.0.inbox.clear();
    }
}

/// Pauses before the file is opened again.
const PAUSES: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_millis(50), Duration::from_secs(10), 2.0);
/// A file of this size is made smaller when no event waits. It grows to the longest queue that there was.
const COMPACT_ABOVE: u64 = 64 << 20;
/// Values are kept in pages of 4 KiB times a power of two.
const PAGE_ROUNDING: u64 = 2;
