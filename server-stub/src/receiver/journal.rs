//! The file with all that a receiver got: one line of JSON each, synchronized with the disk before the sender gets its
//! answer. All that waits is written and synchronized at once.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use super::tally::{EntryOutcome, JournalEntry, ReceiverStats, ReceiverTally};

/// The journal of a running receiver. Its thread ends when this is dropped.
pub(super) struct Journal {
    tally: Arc<Mutex<ReceiverTally>>,
    entries: mpsc::Sender<PendingEntry>,
}

/// Why an entry was not recorded.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum JournalError {
    /// It cannot be written.
    #[error("the journal cannot be written: {0}")]
    Disk(String),
    /// Too many events.
    #[error("the journal is full; start again with another one")]
    Full,
}

struct PendingEntry {
    entry: JournalEntry,
    recorded: oneshot::Sender<Result<EntryOutcome, JournalError>>,
}

impl Journal {
    /// Reads the journal, or creates it, and starts its thread. A last line without its end is removed: whoever sent that
    /// event got no answer.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        let (tally, whole) = replay(&file)?;
        file.set_len(whole)?;
        file.seek(SeekFrom::End(0))?;
        file.sync_all()?;
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            // The file's name must survive too.
            File::open(folder)?.sync_all()?;
        }
        let tally = Arc::new(Mutex::new(tally));
        let (entries, waiting) = mpsc::channel(MAX_WAITING);
        let shared = tally.clone();
        std::thread::Builder::new()
            .name("receiver-journal".into())
            .spawn(move || write_all(file, whole, waiting, &shared))?;
        Ok(Self { tally, entries })
    }

    /// Writes an entry, waits until it is on disk, and counts it.
    pub(super) async fn record(&self, entry: JournalEntry) -> Result<EntryOutcome, JournalError> {
        let (recorded, outcome) = oneshot::channel();
        let ended = || JournalError::Disk("its thread has ended".into());
        self.entries
            .send(PendingEntry { entry, recorded })
            .await
            .map_err(|_| ended())?;
        outcome.await.map_err(|_| ended())?
    }

    pub(super) fn stats(&self) -> ReceiverStats {
        self.tally.lock().stats()
    }
}

/// The counts of a journal, and the length of its whole lines.
fn replay(file: &File) -> io::Result<(ReceiverTally, u64)> {
    let mut tally = ReceiverTally::default();
    let mut reader = BufReader::new(file);
    let (mut whole, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        let no_entry = |why: &dyn std::fmt::Display| {
            let what = format!("byte {whole} does not begin an entry: {why}");
            io::Error::new(io::ErrorKind::InvalidData, what)
        };
        if length == 0 {
            return Ok((tally, whole));
        }
        if line.last() != Some(&b'\n') {
            // Only what this program began to write may be removed.
            return match line.starts_with(ENTRY) || ENTRY.starts_with(&line) {
                true => Ok((tally, whole)),
                false => Err(no_entry(&"this is not a journal")),
            };
        }
        let entry = serde_json::from_slice(&line).map_err(|error| no_entry(&error))?;
        tally.add(&entry);
        whole += length as u64;
    }
}

fn write_all(
    mut file: File,
    mut length: u64,
    mut waiting: mpsc::Receiver<PendingEntry>,
    tally: &Mutex<ReceiverTally>,
) {
    let mut batch = Vec::new();
    while waiting.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
        let written = match length < MAX_LENGTH && !tally.lock().is_full() {
            true => write_batch(&mut file, &mut length, &batch),
            false => Err(JournalError::Full),
        };
        let mut tally = tally.lock();
        for PendingEntry { entry, recorded } in batch.drain(..) {
            let outcome = written.clone().map(|()| tally.add(&entry));
            // Whoever sent the event may be gone; it is recorded all the same.
            let _ = recorded.send(outcome);
        }
    }
}

fn write_batch(
    file: &mut File,
    length: &mut u64,
    batch: &[PendingEntry],
) -> Result<(), JournalError> {
    let mut lines = Vec::new();
    for pending in batch {
        serde_json::to_writer(&mut lines, &pending.entry)
            .map_err(|error| JournalError::Disk(error.to_string()))?;
        lines.push(b'\n');
    }
    let written = file.write_all(&lines).and_then(|()| file.sync_data());
    match written {
        Ok(()) => {
            *length += lines.len() as u64;
            Ok(())
        }
        Err(error) => {
            // What was written of the batch was not acknowledged.
            let _ = file.set_len(*length);
            Err(JournalError::Disk(error.to_string()))
        }
    }
}

/// How each line begins.
const ENTRY: &[u8] = br#"{"kind":""#;
/// Requests that wait for the thread; further ones wait for room.
const MAX_WAITING: usize = 1024;
const MAX_BATCH: usize = 256;
/// Bytes; two million events need about a quarter of it.
const MAX_LENGTH: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(id: &str) -> JournalEntry {
        JournalEntry::Event {
            id: id.into(),
            issue: None,
            sequence: None,
        }
    }

    #[tokio::test]
    async fn counts_survive_and_a_torn_line_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal");
        let journal = Journal::open(&path).unwrap();
        for (id, outcome) in [("a", EntryOutcome::Accepted), ("a", EntryOutcome::Repeat)] {
            assert_eq!(journal.record(event(id)).await.unwrap(), outcome);
        }
        drop(journal);
        let whole = std::fs::read(&path).unwrap();
        for torn in 0..20 {
            let mut bytes = whole.clone();
            bytes.extend_from_slice(&br#"{"kind":"event","id":"b","iss"#[..torn]);
            std::fs::write(&path, &bytes).unwrap();
            let journal = Journal::open(&path).unwrap();
            assert_eq!((journal.stats().events, journal.stats().repeats), (1, 1));
            assert_eq!(std::fs::read(&path).unwrap(), whole, "{torn}");
        }
        let journal = Journal::open(&path).unwrap();
        let outcome = journal.record(event("a")).await.unwrap();
        assert_eq!(outcome, EntryOutcome::Repeat);
    }

    #[test]
    fn a_file_that_is_no_journal_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("letters");
        for text in ["Dear all,\n", "Dear all,"] {
            std::fs::write(&path, text).unwrap();
            assert!(Journal::open(&path).is_err());
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
