//! The file: a redb database (<https://docs.rs/redb>), which is complete after each commit and after any crash.
//!
//! | table | key | value |
//! |---|---|---|
//! | `queued_heads`, `queued_bodies` | place in the order | [`EventHead`] in JSON; the body |
//! | `dead_heads`, `dead_bodies` | place in the order of death | [`DeadRecord`] in JSON; the body |
//! | `totals` | name | count since the file was made |
//! | `about` | name | `format`: version of these tables; `outlet`: whose events they are |
//!
//! Everything here blocks on the disk. After an error of the disk the database accepts nothing more: it is opened again.

mod file;
mod records;

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
mod tests;

pub(crate) use file::QueueFile;
pub(crate) use records::{DiskFailure, event_size, text};

use crate::{
    EventHead, OpenError, QueueTotals,
    change::{DeathDetails, QueueChange, Sequence},
};
use bytes::Bytes;
use records::{DeadRecord, TOTALS_NAMES, total, total_mut};
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

type RowTable = TableDefinition<'static, u64, &'static [u8]>;
type OpenRowTable<'txn> = Table<'txn, u64, &'static [u8]>;

const QUEUED_HEADS: RowTable = TableDefinition::new("queued_heads");
const QUEUED_BODIES: RowTable = TableDefinition::new("queued_bodies");
const DEAD_HEADS: RowTable = TableDefinition::new("dead_heads");
const DEAD_BODIES: RowTable = TableDefinition::new("dead_bodies");
const TOTALS: TableDefinition<'static, &'static str, u64> = TableDefinition::new("totals");
const ABOUT: TableDefinition<'static, &'static str, &'static str> = TableDefinition::new("about");

/// The open file.
pub(crate) struct QueueTables {
    database: Database,
    storage: QueueFile,
    saved: QueueTotals,
}

/// What the file holds, without bodies.
pub(crate) struct FileContent {
    pub(crate) queued: Vec<(Sequence, EventHead, u64)>,
    pub(crate) dead: Vec<(Sequence, EventHead, u64, DeathDetails)>,
    pub(crate) totals: QueueTotals,
}

impl QueueTables {
    /// Opens or creates the file and reads what it holds.
    pub(crate) fn open(storage: QueueFile, outlet: &str) -> Result<(Self, FileContent), OpenError> {
        let database = storage.open()?;
        let format = Self::prepare(&database, outlet);
        if format.map_err(|failure| storage.open_error(failure))? != FORMAT {
            return Err(OpenError::Newer(storage.path().to_owned()));
        }
        let mut tables = Self {
            database,
            saved: QueueTotals::default(),
            storage,
        };
        let content = tables.load();
        let content = content.map_err(|failure| tables.storage.open_error(failure))?;
        tables.saved = content.totals;
        Ok((tables, content))
    }

    /// Makes the tables of a new file, so that a read needs no exception for it. Returns the format.
    fn prepare(database: &Database, outlet: &str) -> Result<String, DiskFailure> {
        let transaction = database.begin_write()?;
        {
            let mut about = transaction.open_table(ABOUT)?;
            let format = about.get("format")?.map(|value| value.value().to_owned());
            if let Some(format) = format {
                drop(about);
                transaction.abort()?;
                return Ok(format);
            }
            about.insert("format", FORMAT)?;
            about.insert("outlet", outlet)?;
            for rows in [QUEUED_HEADS, QUEUED_BODIES, DEAD_HEADS, DEAD_BODIES] {
                transaction.open_table(rows)?;
            }
            transaction.open_table(TOTALS)?;
        }
        transaction.commit()?;
        Ok(FORMAT.to_owned())
    }

    fn load(&self) -> Result<FileContent, DiskFailure> {
        let transaction = self.database.begin_read()?;
        let mut content = FileContent {
            queued: Vec::new(),
            dead: Vec::new(),
            totals: QueueTotals::default(),
        };
        for row in transaction.open_table(QUEUED_HEADS)?.iter()? {
            let (sequence, text) = row?;
            let head: EventHead = records::parse(text.value())?;
            let size = event_size(text.value().len(), head.body_bytes);
            content.queued.push((sequence.value(), head, size));
        }
        for row in transaction.open_table(DEAD_HEADS)?.iter()? {
            let (dead, text) = row?;
            let record: DeadRecord = records::parse(text.value())?;
            let size = event_size(text.value().len(), record.head.body_bytes);
            let details = record.details();
            content
                .dead
                .push((dead.value(), record.head, size, details));
        }
        let totals = transaction.open_table(TOTALS)?;
        for name in TOTALS_NAMES {
            if let Some(value) = totals.get(name)? {
                *total_mut(&mut content.totals, name) = value.value();
            }
        }
        Ok(content)
    }

    /// Writes all changes and the totals after them, with one fsync. Either all of them are on disk then, or an error.
    pub(crate) fn commit(
        &mut self,
        changes: &[QueueChange],
        mut totals: QueueTotals,
    ) -> Result<(), DiskFailure> {
        let transaction = self.database.begin_write()?;
        {
            let mut open = OpenTables {
                queued_heads: transaction.open_table(QUEUED_HEADS)?,
                queued_bodies: transaction.open_table(QUEUED_BODIES)?,
                dead_heads: transaction.open_table(DEAD_HEADS)?,
                dead_bodies: transaction.open_table(DEAD_BODIES)?,
            };
            for change in changes {
                open.write(change)?;
                change.count(&mut totals);
            }
            let mut saved = transaction.open_table(TOTALS)?;
            for name in TOTALS_NAMES {
                if total(&totals, name) != total(&self.saved, name) {
                    saved.insert(name, total(&totals, name))?;
                }
            }
        }
        transaction.commit()?;
        self.saved = totals;
        Ok(())
    }

    /// Head and body of a queued event.
    pub(crate) fn read(&self, sequence: Sequence) -> Result<(EventHead, Bytes), DiskFailure> {
        let transaction = self.database.begin_read()?;
        let heads = transaction.open_table(QUEUED_HEADS)?;
        let bodies = transaction.open_table(QUEUED_BODIES)?;
        let (head, body) = (heads.get(sequence)?, bodies.get(sequence)?);
        let (Some(head), Some(body)) = (head, body) else {
            return Err(DiskFailure::missing());
        };
        let body = Bytes::copy_from_slice(body.value());
        Ok((records::parse(head.value())?, body))
    }

    /// Head of a queued event, or of a dead letter.
    pub(crate) fn read_head(
        &self,
        sequence: Sequence,
        is_dead: bool,
    ) -> Result<EventHead, DiskFailure> {
        let transaction = self.database.begin_read()?;
        let rows = match is_dead {
            true => DEAD_HEADS,
            false => QUEUED_HEADS,
        };
        let heads = transaction.open_table(rows)?;
        let head = heads.get(sequence)?.ok_or_else(DiskFailure::missing)?;
        match is_dead {
            true => Ok(records::parse::<DeadRecord>(head.value())?.head),
            false => records::parse(head.value()),
        }
    }

    /// Bytes of the file.
    pub(crate) fn file_bytes(&self) -> u64 {
        std::fs::metadata(self.storage.path()).map_or(0, |found| found.len())
    }

    /// Gives free pages back to the file system.
    pub(crate) fn compact(&mut self) -> Result<(), DiskFailure> {
        self.database.compact().map_err(DiskFailure::from).map(drop)
    }

    /// Releases the file.
    pub(crate) fn close(self) -> Result<(), DiskFailure> {
        self.database.close().map_err(DiskFailure::from)
    }
}

struct OpenTables<'txn> {
    queued_heads: OpenRowTable<'txn>,
    queued_bodies: OpenRowTable<'txn>,
    dead_heads: OpenRowTable<'txn>,
    dead_bodies: OpenRowTable<'txn>,
}

impl OpenTables<'_> {
    /// A change of an event that is not there any more changes nothing: it is repeated after a commit that was reported as
    /// failed and was not.
    fn write(&mut self, change: &QueueChange) -> Result<(), DiskFailure> {
        match change {
            QueueChange::Store {
                sequence,
                text,
                body,
                ..
            } => {
                self.queued_heads.insert(sequence, text.as_slice())?;
                self.queued_bodies.insert(sequence, &body[..])?;
            }
            QueueChange::Remove { sequence, .. } => {
                self.queued_heads.remove(sequence)?;
                self.queued_bodies.remove(sequence)?;
            }
            QueueChange::MoveToDead {
                sequence,
                dead,
                details,
            } => {
                if let Some(head) = self.queued_heads.remove(sequence)? {
                    let record = DeadRecord::new(records::parse(head.value())?, details);
                    self.dead_heads
                        .insert(dead, records::text(&record)?.as_slice())?;
                }
                if let Some(body) = self.queued_bodies.remove(sequence)? {
                    self.dead_bodies.insert(dead, body.value())?;
                }
            }
            QueueChange::RemoveDead { dead, .. } => {
                self.dead_heads.remove(dead)?;
                self.dead_bodies.remove(dead)?;
            }
            QueueChange::Requeue {
                dead,
                sequence,
                retried_at,
            } => {
                if let Some(record) = self.dead_heads.remove(dead)? {
                    let mut head = records::parse::<DeadRecord>(record.value())?.head;
                    head.retried_at = Some(*retried_at);
                    self.queued_heads
                        .insert(sequence, records::text(&head)?.as_slice())?;
                }
                if let Some(body) = self.dead_bodies.remove(dead)? {
                    self.queued_bodies.insert(sequence, body.value())?;
                }
            }
        }
        Ok(())
    }
}

/// Version of the tables. A file with another one was written by a later agent.
const FORMAT: &str = "1";
