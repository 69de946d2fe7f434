//! The unlinked file of one channel. Each access runs on a blocking thread and has a deadline.

use super::SessionBudget;
use agent_base::{
    descriptors::{DescriptorBudget, DescriptorPermit, DescriptorUse, is_shortage},
    disk::FreeSpaceFloor,
};
use bytes::Bytes;
use std::{
    fs::{DirBuilder, File},
    io,
    os::unix::fs::{DirBuilderExt, FileExt},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{
    task::{JoinHandle, spawn_blocking},
    time::{Instant, timeout_at},
};

/// One access to the file. Positions count from the first byte ever written; the file is a ring of `spool_per_channel`
/// bytes.
#[derive(Debug)]
pub(super) enum SpoolJob {
    /// Appends at this position.
    Write { position: u64, bytes: Vec<Bytes> },
    /// Reads from this position, and frees the disk space if nothing is left after it.
    Read {
        position: u64,
        length: usize,
        last: bool,
    },
}

/// The result of a [`SpoolJob`].
#[derive(Debug)]
pub(super) enum SpoolJobResult {
    Written,
    Read(Bytes),
}

/// The file, created at the first write.
#[derive(Default)]
pub(super) struct SpoolFile {
    file: Option<Arc<CountedFile>>,
}

/// A file and the promise of its descriptor.
struct CountedFile {
    file: File,
    _permit: DescriptorPermit,
}

impl SpoolFile {
    /// Runs one job on the file.
    pub(super) async fn work(
        mut self,
        job: SpoolJob,
        budget: Arc<SessionBudget>,
    ) -> (Self, io::Result<SpoolJobResult>) {
        let limits = budget.limits();
        let stuck = budget.stuck_spools();
        if stuck.load(Relaxed) >= MAX_STUCK {
            return (self, Err(io::Error::other("the spool disk hangs")));
        }
        let (file, ring) = (self.file.clone(), limits.spool_per_channel);
        let floor = limits.spool_floor;
        let folder = file.is_none().then(|| limits.spool_dir.clone());
        let deadline = Instant::now() + limits.spool_timeout;
        let Ok(Ok(_running)) = timeout_at(deadline, budget.process().spool_jobs().acquire()).await
        else {
            return (self, Err(io::ErrorKind::TimedOut.into()));
        };
        let task = spawn_blocking(move || {
            let file = match (file, folder) {
                (Some(file), _) => file,
                (None, folder) => {
                    let budget = DescriptorBudget::of_process();
                    let folder = folder.unwrap_or_default();
                    Arc::new(make(budget, &folder, || tempfile::tempfile_in(&folder))?)
                }
            };
            let done = run(&file.file, job, ring, floor)?;
            Ok((file, done))
        });
        match in_time(task, deadline, stuck).await {
            Ok((file, done)) => {
                self.file = Some(file);
                (self, Ok(done))
            }
            Err(error) => (self, Err(error)),
        }
    }
}

impl Drop for SpoolFile {
    /// On a blocking thread: closing an unlinked file of a gigabyte takes the kernel a while.
    fn drop(&mut self) {
        if let Some(file) = self.file.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn_blocking(move || drop(file));
        }
    }
}

/// A thread that hangs in the disk cannot be stopped. Such threads are counted, and no more jobs run while there are
/// several.
async fn in_time<T>(
    mut task: JoinHandle<io::Result<T>>,
    deadline: Instant,
    stuck: &Arc<AtomicUsize>,
) -> io::Result<T>
where
    T: Send + 'static,
{
    match timeout_at(deadline, &mut task).await {
        Ok(joined) => joined.map_err(io::Error::other)?,
        Err(_) => {
            stuck.fetch_add(1, Relaxed);
            let stuck = Arc::clone(stuck);
            tokio::spawn(async move {
                let _ = task.await;
                stuck.fetch_sub(1, Relaxed);
            });
            Err(io::ErrorKind::TimedOut.into())
        }
    }
}

/// Creates an unlinked file that only its owner may read, and its folder if that is missing.
fn make(
    budget: &Arc<DescriptorBudget>,
    folder: &Path,
    open: impl FnOnce() -> io::Result<File>,
) -> io::Result<CountedFile> {
    let permit = budget
        .take(DescriptorUse::SpoolFile, 1)
        .map_err(io::Error::other)?;
    if !folder.is_dir() {
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700).create(folder)?;
    }
    Ok(CountedFile {
        // What it promised the host may not have, or no longer.
        file: open().inspect_err(|error| {
            if is_shortage(error) {
                budget.note_shortage(error);
            }
        })?,
        _permit: permit,
    })
}

fn run(file: &File, job: SpoolJob, ring: u64, floor: FreeSpaceFloor) -> io::Result<SpoolJobResult> {
    match job {
        SpoolJob::Write { position, bytes } => {
            let length: usize = bytes.iter().map(Bytes::len).sum();
            // Before each write: another process may have used the room meanwhile.
            floor.allows(file, length as u64)?;
            if length < bytes.len() * COPIED {
                write_ring(file, &bytes.concat(), position, ring)?;
            } else {
                let mut position = position;
                for message in &bytes {
                    write_ring(file, message, position, ring)?;
                    position += message.len() as u64;
                }
            }
            Ok(SpoolJobResult::Written)
        }
        SpoolJob::Read {
            position,
            length,
            last,
        } => {
            let at = position % ring;
            let until_end = usize::try_from(ring - at).unwrap_or(usize::MAX);
            let mut bytes = vec![0; length];
            let (first, wrapped) = bytes.split_at_mut(length.min(until_end));
            file.read_exact_at(first, at)?;
            file.read_exact_at(wrapped, 0)?;
            if last {
                file.set_len(0)?;
            }
            Ok(SpoolJobResult::Read(bytes.into()))
        }
    }
}

fn write_ring(file: &File, bytes: &[u8], position: u64, ring: u64) -> io::Result<()> {
    let at = position % ring;
    let until_end = usize::try_from(ring - at).unwrap_or(usize::MAX);
    let (first, wrapped) = bytes.split_at(bytes.len().min(until_end));
    file.write_all_at(first, at)?;
    file.write_all_at(wrapped, 0)
}

/// Bytes of an average message below which messages are joined before they are written: a copy costs less than a call.
const COPIED: usize = 4 << 10;
/// Blocking threads that may hang in the disk per session, of 512 in the process.
const MAX_STUCK: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// The host has none (`ENFILE`), or the limit was lowered since the promise.
    #[test]
    fn a_shortage_that_the_kernel_reports_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let budget = DescriptorBudget::of_process();
        // ENFILE, EMFILE, EACCES.
        for (errno, counted) in [(23, 1), (24, 1), (13, 0)] {
            let before = budget.snapshot();
            let made = make(budget, folder.path(), || {
                Err(io::Error::from_raw_os_error(errno))
            });
            assert!(made.is_err());
            let after = budget.snapshot();
            assert_eq!(after.refused - before.refused, counted, "{errno}");
            assert_eq!(after.promised, before.promised);
        }
    }
}
