//! Opening a queue.

use super::{EventQueue, Owner, Shared};
use crate::{
    OpenError, QueueLimits,
    inbox::Inbox,
    index::Index,
    tables::{Content, Storage, Tables},
    writer::Writer,
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
        Self::open_storage(Storage::new(path), outlet, limits).await
    }

    pub(crate) async fn open_storage(
        storage: Storage,
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
            let (tables, content) = match Tables::open(storage.clone(), &outlet) {
                Ok(open) => open,
                Err(error) => {
                    let _ = reply.send(Err(error));
                    return;
                }
            };
            let (closing, closed) = watch::channel(());
            let shared = Arc::new(Shared {
                outlet,
                index: Mutex::new(loaded(content, limits, now)),
                inbox: Inbox::default(),
                changed: Arc::new(Notify::new()),
                commits: AtomicU64::new(0),
                closed,
            });
            let queue = Self {
                shared: shared.clone(),
                _owner: Arc::new(Owner(shared.clone())),
            };
            // Whoever does not wait any more drops the handle, which closes the inbox.
            let _ = reply.send(Ok(queue));
            Writer::new(shared, storage, tables, closing).run();
        });
        started.map_err(failed)?;
        let ended = |_| failed(io::Error::other("the thread of the queue ended"));
        opened.await.map_err(ended)?
    }
}

fn loaded(content: Content, limits: QueueLimits, now: Instant) -> Index {
    let now = (now, SystemTime::now());
    let mut index = Index::new(limits, content.totals);
    for (sequence, head, size) in &content.queued {
        index.load_queued(*sequence, head, *size, now);
    }
    for (dead, head, size, obituary) in content.dead {
        index.load_dead(dead, &head, size, obituary, now);
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
    Storage::set_aside(path, since.map_or(0, |since| since.as_secs()))
}
