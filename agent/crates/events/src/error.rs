//! What can fail.

use crate::QueueBound;
use std::{io, path::PathBuf};

/// An event was not stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The queue has no room.
    #[error("the queue is full ({})", which.key())]
    Full {
        /// The bound that was reached.
        which: QueueBound,
    },
    /// Storing it would leave less free space than the reserve, or the disk has none.
    #[error("the disk of the queue is full: {0}")]
    DiskFull(String),
    /// The disk failed, or did not answer in time. In the latter case the event may still be stored later.
    #[error("the queue cannot be written: {0}")]
    Disk(String),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
    /// Too many events wait for the disk.
    #[error("too many events wait to be written")]
    Busy,
}

/// Something else than storing was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The disk failed, or did not answer in time.
    #[error("the queue cannot be used: {0}")]
    Disk(String),
    /// The queue is closed.
    #[error("the queue is closed")]
    Closed,
}

/// A queue was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another handle of this one, has the file open.
    #[error("{} is in use by another process; stop that process, or wait until it has ended", .0.display())]
    InUse(PathBuf),
    /// The file is not what a queue writes. It is left as it is.
    #[error(
        "{} is damaged ({why}) and its events cannot be read; to begin a new queue, move it away: mv {} {}.damaged",
        path.display(), path.display(), path.display()
    )]
    Damaged {
        /// The file of the queue.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A later version of the agent wrote the file.
    #[error("{} was written by a later version of the agent; run that version, or move the file away", .0.display())]
    Newer(PathBuf),
    /// The system returned an error.
    #[error("{}: {error}; its folder must be writable by the agent's user, and its disk not full", path.display())]
    Io {
        /// The file of the queue.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}
