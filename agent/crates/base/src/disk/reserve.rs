//! Disk space set aside, and released when something must be saved on a full disk.
//!
//! The floors keep the agent's own files from filling a disk, but other programs can.

use rustix::fs::{Access, FallocateFlags, access, fallocate};
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// A file in the state folder that only occupies space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskReserve {
    path: PathBuf,
}

impl DiskReserve {
    /// The reserve in this folder; touches nothing on the disk yet.
    pub fn of(state_dir: &Path) -> Self {
        Self {
            path: state_dir.join(".reserve"),
        }
    }

    /// Creates the file if it is missing. Blocks on the disk.
    ///
    /// # Errors
    /// The disk has no space for it, or cannot allocate it.
    pub fn ensure(&self) -> io::Result<()> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&self.path);
        let file = match made {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            Err(error) => return Err(error),
        };
        let allocated = fallocate(&file, FallocateFlags::empty(), 0, SIZE);
        allocated.map_err(|error| {
            // Half a reserve would be taken for a whole one.
            let _ = fs::remove_file(&self.path);
            error.into()
        })
    }

    /// Whether something small can be saved in the state folder, if need be with the reserve. Creates the reserve if it is
    /// missing, and writes nothing else. Blocks on the disk.
    ///
    /// # Errors
    /// The folder is not writable, or the disk is full.
    pub fn is_usable(&self) -> io::Result<()> {
        let folder = self.path.parent().unwrap_or(&self.path);
        access(folder, Access::WRITE_OK | Access::EXEC_OK)?;
        self.ensure()
    }

    /// Calls `save`, and if the disk `is_full`, once more after releasing the reserve. Blocks on the disk.
    ///
    /// # Errors
    /// Those of `save`.
    pub fn save_using_reserve<T, E>(
        &self,
        is_full: impl FnOnce(&E) -> bool,
        save: impl Fn() -> Result<T, E>,
    ) -> Result<T, E> {
        let first = save();
        let saved = match first {
            Err(error) if is_full(&error) && fs::remove_file(&self.path).is_ok() => save(),
            other => other,
        };
        if saved.is_ok() {
            // Fails until there is space again.
            let _ = self.ensure();
        }
        saved
    }
}

/// Whether the disk or the user's quota is full.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Bytes for pauses and tokens, their copies, and the blocks of their folders.
const SIZE: u64 = 256 << 10;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::{cell::Cell, os::unix::fs::MetadataExt};

    #[test]
    fn what_finds_the_disk_full_is_saved_with_the_reserve_which_is_then_kept_again() {
        let folder = tempfile::tempdir().unwrap();
        let reserve = DiskReserve::of(folder.path());
        reserve.ensure().unwrap();
        reserve.ensure().unwrap();
        let path = folder.path().join(".reserve");
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= SIZE);
        reserve.is_usable().unwrap();

        let tries = Cell::new(0);
        let saved = reserve.save_using_reserve(is_full, || {
            tries.set(tries.get() + 1);
            match path.exists() {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => Ok(()),
            }
        });
        saved.unwrap();
        assert_eq!(tries.get(), 2);
        assert!(path.exists());

        // Any other error does not release the reserve.
        let failed = reserve.save_using_reserve(is_full, || {
            Err::<(), _>(io::ErrorKind::PermissionDenied.into())
        });
        failed.unwrap_err();
        assert!(path.exists());

        // Gone with all that is in it.
        folder.close().unwrap();
        reserve.is_usable().unwrap_err();
    }
}
