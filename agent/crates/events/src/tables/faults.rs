//! A disk that fails when a test says so.

use redb::{StorageBackend, backends::FileBackend};
use std::{
    io,
    ops::Bound,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

/// Shared by the test and the backends of one file.
#[derive(Debug, Default)]
pub(crate) struct DiskFaults {
    /// Writing and growing fail as on a full disk.
    pub(crate) full: AtomicBool,
    /// fsync fails.
    pub(crate) broken: AtomicBool,
    /// fsync does what it should, and then fails.
    pub(crate) lying: AtomicBool,
    /// Writing fails when this many more calls have been made; 0: it does not.
    pub(crate) writes_left: AtomicUsize,
}

impl DiskFaults {
    pub(crate) fn set(fault: &AtomicBool, on: bool) {
        fault.store(on, Ordering::SeqCst);
    }

    fn check_write(&self) -> io::Result<()> {
        let left = self.writes_left.load(Ordering::SeqCst);
        if left > 0 {
            self.writes_left.store(left - 1, Ordering::SeqCst);
            if left == 1 {
                Self::set(&self.full, true);
            }
        }
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::Error::from(io::ErrorKind::StorageFull)),
            false => Ok(()),
        }
    }
}

#[derive(Debug)]
pub(crate) struct FaultyBackend {
    file: FileBackend,
    faults: Arc<DiskFaults>,
}

impl FaultyBackend {
    pub(crate) fn new(file: FileBackend, faults: Arc<DiskFaults>) -> Self {
        Self { file, faults }
    }
}

impl StorageBackend for FaultyBackend {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > self.file.len()? {
            self.faults.check_write()?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.faults.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is broken"));
        }
        self.file.sync_data()?;
        match self.faults.lying.load(Ordering::SeqCst) {
            true => Err(io::Error::other("the disk is broken")),
            false => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.faults.check_write()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }

    fn try_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), redb::BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(
        &self,
        start: Bound<u64>,
        end: Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.file.query_lock_range(start, end)
    }
}
