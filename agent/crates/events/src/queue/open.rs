//! Opening a queue.

use super::{EventQueue, LastHandle, SharedQueue};
use crate::{
    OpenError, QueueLimits,
    inbox::WriterInbox,
    index::QueueIndex,
    tables::{FileContent, QueueFile, QueueTables},
    writer::QueueWriter,
};
use parking_lot::Mutex;
use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::SystemTime,
};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::Instant,
};

impl EventQueue {
    /// Opens the file, or creates it (0600) and its folder (0700). Loads what is needed in memory; bodies stay on disk. The
    /// file is checked from end to end, so that this takes as long as reading it.
    ///
    /// # Errors
    /// See [`OpenError`]. A damaged file is left as it is; [`set_damaged_aside`] moves it away.
    pub async fn open(path: PathBuf, outlet: &str, limits: QueueLimits) -> Result<Self, OpenError> {
        Self::open_storage(QueueFile::new(path), outlet, limits).await
    }

    pub(crate) async fn open_storage(
        storage: QueueFile,
        outlet: &str,
        limits: QueueLimits,
    ) -> Result<Self, OpenError> {
        let path = storage.path().to_owned();
        let failed = |error| OpenError::Io {
            path: path.clone(),
            error,
        };
        let outlet = outlet.to_owned();
        let (reply, opened) = oneshot::channel();
        let now = Instant::now();
        // A thread of its own for as long as the queue is open: the runtime's are for work that ends.
        let thread = thread::Builder::new().name("event-queue".to_owned());
        let started = thread.spawn(move || {
            let (tables, content) = match QueueTables::open(storage.clone(), &outlet) {
                Ok(open) => open,
                Err(error) => {
                    let _ = reply.send(Err(error));
                    return;
                }
            };
            let (closing, closed) = watch::channel(());
            let shared = Arc::new(SharedQueue {
                outlet,
                index: Mutex::new(loaded(content, limits, now)),
                inbox: WriterInbox::default(),
                changed: Arc::new(Notify::new()),
                commits: AtomicU64::new(0),
                closed,
            });
            let queue = Self {
                shared: shared.clone(),
                _owner: Arc::new(LastHandle(shared.clone())),
            };
            // Whoever does not wait any more drops the handle, which closes the inbox.
            let _ = reply.send(Ok(queue));
            QueueWriter::new(shared, storage, tables, closing).run();
        });
        started.map_err(failed)?;
        let ended = |_| failed(io::Error::other("the thread of the queue ended"));
        opened.await.map_err(ended)?
    }
}

fn loaded(content: FileContent, limits: QueueLimits, now: Instant) -> QueueIndex {
    let now = (now, SystemTime::now());
    let mut index = QueueIndex::new(limits, content.totals);
    for (sequence, head, size) in &content.queued {
        index.load_queued(*sequence, head, *size, now);
    }
    for (dead, head, size, details) in content.dead {
        index.load_dead(dead, &head, size, details, now);
    }
    index
}

/// Renames a damaged queue file to `….damaged-SECONDS`, so that a new queue can begin and the old file can still be
/// examined. Returns the new path. Blocks on the disk.
///
/// # Errors
/// Those of the system.
pub fn set_damaged_aside(path: &Path) -> io::Result<PathBuf> {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    QueueFile::set_aside(path, since.map_or(0, |since| since.as_secs()))
}
