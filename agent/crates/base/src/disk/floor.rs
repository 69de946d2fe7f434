//! How much of a disk stays free of what a peer can make grow.
//!
//! There is an order: the spool stops first, then the audit file, and what is left below is for tokens and pauses,
//! which are a few kilobytes and must be saved when everything else has stopped.

use rustix::fs::{StatVfs, fstatvfs, statvfs};
use std::{fmt, fs::File, io, path::Path};

/// Free bytes that must be left on a file system: a number, or on a small disk a share of its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpaceFloor {
    /// Absolute limit in bytes of free space.
    pub bytes: u64,
    /// On a disk of which this many equal parts are smaller than `bytes`, one such part. At least 1.
    pub parts: u64,
}

/// Why nothing more may be written: the file system has too little room left, although it is not full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "only {} are free on its file system, and {} must stay free",
    IecSize(*free),
    IecSize(*floor)
)]
pub struct BelowFloor {
    /// Bytes that an unprivileged user may still take.
    pub free: u64,
    /// Bytes that must stay free.
    pub floor: u64,
}

impl FreeSpaceFloor {
    /// No floor: everything may be filled.
    pub const NONE: Self = Self { bytes: 0, parts: 1 };

    /// Whether `more` bytes may be written to this file. Blocks on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] with a [`BelowFloor`] inside, or what the system says.
    pub fn allows(self, file: &File, more: u64) -> io::Result<()> {
        match self.bytes {
            0 => Ok(()),
            _ => self.check_free(&fstatvfs(file)?, more),
        }
    }

    /// Whether `more` bytes may be written to a file in this folder. Blocks on the disk.
    ///
    /// # Errors
    /// As [`allows`](Self::allows).
    pub fn allows_in(self, folder: &Path, more: u64) -> io::Result<()> {
        match self.bytes {
            0 => Ok(()),
            _ => self.check_free(&statvfs(folder)?, more),
        }
    }

    fn check_free(self, stat: &StatVfs, more: u64) -> io::Result<()> {
        let size = stat.f_blocks.saturating_mul(stat.f_frsize);
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        // Some file systems (a tmpfs without limit, some FUSE) do not say how large they are.
        if size == 0 {
            return Ok(());
        }
        let floor = self.bytes.min(size / self.parts.max(1));
        match free < floor.saturating_add(more) {
            true => {
                let below = BelowFloor { free, floor };
                Err(io::Error::new(io::ErrorKind::StorageFull, below))
            }
            false => Ok(()),
        }
    }
}

impl BelowFloor {
    /// Finds it in an error of this module.
    pub fn of(error: &io::Error) -> Option<Self> {
        error.get_ref()?.downcast_ref::<Self>().copied()
    }
}

struct IecSize(u64);

impl fmt::Display for IecSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bytesize::ByteSize(self.0).display().iec().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_disk_with_less_than_the_floor_takes_nothing_and_says_how_much_is_left() {
        let file = tempfile::tempfile().unwrap();
        let more_than_any_disk = FreeSpaceFloor {
            bytes: u64::MAX,
            parts: 1,
        };
        let error = more_than_any_disk.allows(&file, 0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let below = BelowFloor::of(&error).unwrap();
        assert!(below.free < below.floor);
        assert!(error.to_string().contains("must stay free"), "{error}");
    }

    #[test]
    fn on_a_small_disk_the_floor_is_a_share_of_it() {
        let file = tempfile::tempfile().unwrap();
        let share = FreeSpaceFloor {
            bytes: u64::MAX,
            parts: u64::MAX,
        };
        share.allows(&file, 0).unwrap();
        FreeSpaceFloor::NONE.allows(&file, u64::MAX).unwrap();
    }

    #[test]
    fn what_is_about_to_be_written_counts() {
        let file = tempfile::tempfile().unwrap();
        let one = FreeSpaceFloor { bytes: 1, parts: 1 };
        one.allows(&file, 0).unwrap();
        one.allows(&file, u64::MAX).unwrap_err();
    }
}
