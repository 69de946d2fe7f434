//! A file opened for appending, and opened again when logrotate has moved or removed it.

use super::{BatchProgress, LineSink, write_from};
use crate::disk::FreeSpaceFloor;
use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    time::{Duration, Instant},
};

pub(super) struct RotatedFileSink {
    path: PathBuf,
    /// Free space that writes leave.
    floor: FreeSpaceFloor,
    /// Free space down to which a line can still be promised to be written.
    promise_floor: FreeSpaceFloor,
    open: Option<OpenAuditFile>,
    checked_at: Instant,
    /// The file in which the last write failed, perhaps within a line.
    torn: Option<FileIdentity>,
}

struct OpenAuditFile {
    file: File,
    identity: FileIdentity,
}

/// Device and inode.
type FileIdentity = (u64, u64);

impl RotatedFileSink {
    pub(super) fn new(path: PathBuf, floor: FreeSpaceFloor, promised: FreeSpaceFloor) -> Self {
        Self {
            path,
            floor,
            promise_floor: promised,
            open: None,
            checked_at: Instant::now(),
            torn: None,
        }
    }

    fn open(&mut self) -> io::Result<&mut OpenAuditFile> {
        if self.checked_at.elapsed() >= CHECK_INTERVAL {
            self.checked_at = Instant::now();
            let present = std::fs::metadata(&self.path)
                .map(|m| (m.dev(), m.ino()))
                .ok();
            if self.open.as_ref().map(|open| open.identity) != present {
                self.open = None;
            }
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(FILE_MODE)
                    .open(&self.path)?;
                let metadata = file.metadata()?;
                OpenAuditFile {
                    file,
                    identity: (metadata.dev(), metadata.ino()),
                }
            }
        };
        Ok(self.open.insert(open))
    }
}

impl LineSink for RotatedFileSink {
    fn write(&mut self, batch: &[u8], from: usize) -> BatchProgress {
        let (torn, floor) = (self.torn.take(), self.floor);
        let open = match self.open() {
            Ok(open) => open,
            Err(error) => {
                self.torn = torn;
                return BatchProgress::stopped(from, error);
            }
        };
        let identity = open.identity;
        // Half a line is completed; in another file it is written again from its start.
        let from = match torn == Some(identity) {
            true => from,
            false => line_start(batch, from),
        };
        let more = (batch.len() - from) as u64;
        let progress = match floor.allows(&open.file, more) {
            Ok(()) => {
                let locked = lock(&open.file);
                let progress = write_from(&mut open.file, batch, from);
                if locked {
                    let _ = open.file.unlock();
                }
                progress
            }
            Err(error) => BatchProgress::stopped(from, error),
        };
        if progress.error.is_some() {
            self.torn = Some(identity);
            self.open = None;
        }
        progress
    }

    fn probe(&mut self) -> io::Result<()> {
        let promised = self.promise_floor;
        let open = self.open()?;
        promised.allows(&open.file, 0)
    }

    fn name(&self) -> String {
        format!("the file {}", self.path.display())
    }
}

/// During a hand-over two processes of the agent write the same file, one batch after the other. Returns whether the lock is
/// ours. Without it, as on a file system that knows none, lines are appended whole nevertheless.
fn lock(file: &File) -> bool {
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return true,
            Err(TryLockError::WouldBlock) => std::thread::park_timeout(LOCK_PAUSE),
            Err(TryLockError::Error(_)) => return false,
        }
    }
    false
}

fn line_start(batch: &[u8], at: usize) -> usize {
    let before = batch[..at].iter().rposition(|&byte| byte == b'\n');
    before.map_or(0, |newline| newline + 1)
}

/// Readable by owner and group only, as logs are on Debian (`adm`).
const FILE_MODE: u32 = 0o640;
/// A batch is written within a millisecond. A process that is stopped while it holds the lock delays this one by half a
/// second.
const LOCK_TRIES: u32 = 250;
const LOCK_PAUSE: Duration = Duration::from_millis(2);
/// One `stat` a second at most finds a rotated file soon enough.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn sink(path: &std::path::Path) -> RotatedFileSink {
        RotatedFileSink::new(path.to_owned(), FreeSpaceFloor::NONE, FreeSpaceFloor::NONE)
    }

    fn write(sink: &mut RotatedFileSink, lines: &[u8]) {
        let progress = sink.write(lines, 0);
        assert!(progress.error.is_none());
        assert_eq!(progress.taken, lines.len());
    }

    #[test]
    fn a_rotated_file_is_left_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut sink = sink(&path);
        write(&mut sink, b"one\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o037, 0, "nobody but owner and group: {mode:o}");
        let rotated = folder.path().join("audit.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        write(&mut sink, b"two\n");
        sink.checked_at -= CHECK_INTERVAL;
        write(&mut sink, b"three\n");
        assert_eq!(std::fs::read(&rotated).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn half_a_line_goes_on_where_it_broke_off_and_begins_once_more_in_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut sink = sink(&path);
        let batch = b"first\nsecond\n";
        // As a disk leaves it that is full in the middle of the second line.
        write(&mut sink, b"first\nsec");
        sink.torn = sink.open.as_ref().map(|open| open.identity);
        assert!(sink.write(batch, 9).error.is_none());
        assert_eq!(std::fs::read(&path).unwrap(), batch);

        sink.torn = sink.open.take().map(|open| open.identity);
        std::fs::rename(&path, folder.path().join("audit.log.1")).unwrap();
        assert!(sink.write(batch, 9).error.is_none());
        assert_eq!(std::fs::read(&path).unwrap(), b"second\n");
    }

    #[test]
    fn below_its_floor_nothing_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let all = FreeSpaceFloor {
            bytes: u64::MAX,
            parts: 1,
        };
        let mut sink = RotatedFileSink::new(path.clone(), all, all);
        let progress = sink.write(b"one\n", 0);
        assert_eq!(progress.taken, 0);
        assert_eq!(progress.error.unwrap().kind(), io::ErrorKind::StorageFull);
        assert!(sink.probe().is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
    }
}
