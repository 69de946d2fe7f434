//! The rows of the file, and what can go wrong with it.

use crate::{EventHead, QueueTotals, change::DeathDetails, event::unix_millis};
use agent_base::disk::is_full;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{io, time::SystemTime};

/// A dead letter as it is stored.
#[derive(Serialize, Deserialize)]
pub(super) struct DeadRecord {
    pub(super) head: EventHead,
    #[serde(rename = "died_at_ms", with = "unix_millis")]
    died_at: SystemTime,
    attempts: u32,
    why: String,
}

impl DeadRecord {
    pub(super) fn new(head: EventHead, details: &DeathDetails) -> Self {
        Self {
            head,
            died_at: details.died_at,
            attempts: details.attempts,
            why: details.why.clone(),
        }
    }

    pub(super) fn details(&self) -> DeathDetails {
        DeathDetails {
            died_at: self.died_at,
            attempts: self.attempts,
            why: self.why.clone(),
        }
    }
}

/// Why the file could not be read or written.
#[derive(Clone, Debug)]
pub(crate) struct DiskFailure {
    pub(crate) text: String,
    /// The disk is full, not broken.
    pub(crate) is_full: bool,
    /// The system failed; otherwise it is the content.
    pub(crate) is_io: bool,
}

impl DiskFailure {
    pub(super) fn missing() -> Self {
        Self::of_content("an event is missing in the file")
    }

    pub(crate) fn of_content(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            is_full: false,
            is_io: false,
        }
    }

    pub(super) fn into_io(self) -> io::Error {
        match self.is_full {
            true => io::Error::new(io::ErrorKind::StorageFull, self.text),
            false => io::Error::other(self.text),
        }
    }
}

impl From<redb::Error> for DiskFailure {
    fn from(error: redb::Error) -> Self {
        let io = if let redb::Error::Io(error) = &error {
            Some(error)
        } else {
            None
        };
        let broken = io.is_some_and(|error| !is_of_content(error));
        Self {
            text: io.map_or_else(|| error.to_string(), ToString::to_string),
            is_full: io.is_some_and(is_full),
            is_io: broken || matches!(error, redb::Error::PreviousIo),
        }
    }
}

/// What redb makes of a file that is no database, or is shorter than it says.
pub(super) fn is_of_content(error: &io::Error) -> bool {
    let kinds = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    kinds.contains(&error.kind())
}

/// redb has an error of its own for each step.
macro_rules! from_redb {
    ($($error:ident),*) => {$(
        impl From<redb::$error> for DiskFailure {
            fn from(error: redb::$error) -> Self {
                redb::Error::from(error).into()
            }
        }
    )*};
}

from_redb!(
    TransactionError,
    TableError,
    StorageError,
    CommitError,
    CompactionError,
    DatabaseError
);

/// Bytes that an event counts for: its body, what is stored beside it, and its rows.
pub(crate) fn event_size(head_bytes: usize, body_bytes: u64) -> u64 {
    let head_bytes = u64::try_from(head_bytes).unwrap_or(u64::MAX);
    body_bytes.saturating_add(head_bytes).saturating_add(ROWS)
}

pub(super) fn parse<T: DeserializeOwned>(row: &[u8]) -> Result<T, DiskFailure> {
    // The error of serde_json can quote the row, which may hold a query string.
    let parsed = serde_json::from_slice(row);
    parsed
        .map_err(|_| DiskFailure::of_content("a row is not what this version of the agent writes"))
}

pub(crate) fn text<T: Serialize>(record: &T) -> Result<Vec<u8>, DiskFailure> {
    let text = serde_json::to_vec(record);
    text.map_err(|_| DiskFailure::of_content("an event cannot be written as JSON"))
}

/// Names of the totals in the file.
pub(super) const TOTALS_NAMES: [&str; 9] = [
    "stored",
    "repeated",
    "delivered",
    "failed_attempts",
    "died",
    "refused_full",
    "dropped_full",
    "dropped_dead",
    "dropped_by_hand",
];

pub(super) fn total_mut<'a>(totals: &'a mut QueueTotals, name: &str) -> &'a mut u64 {
    match name {
        "stored" => &mut totals.stored,
        "repeated" => &mut totals.repeated,
        "delivered" => &mut totals.delivered,
        "failed_attempts" => &mut totals.failed_attempts,
        "died" => &mut totals.died,
        "refused_full" => &mut totals.refused_full,
        "dropped_full" => &mut totals.dropped_full,
        "dropped_dead" => &mut totals.dropped_dead,
        _ => &mut totals.dropped_by_hand,
    }
}

pub(super) fn total(totals: &QueueTotals, name: &str) -> u64 {
    let mut totals = *totals;
    *total_mut(&mut totals, name)
}

/// Keys, lengths and page headers of an event, about.
const ROWS: u64 = 128;
