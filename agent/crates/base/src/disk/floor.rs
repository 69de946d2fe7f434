//! The space that must stay free on a disk, so that a peer cannot fill it.
//!
//! The spool stops first, then the audit file; the rest is for tokens and pauses, which are a few kilobytes and must be
//! saved when everything else has stopped.

use rustix::fs::{StatVfs, fstatvfs, statvfs};
use std::{fmt, fs::File, io, path::Path};

/// Free bytes that must be left on a file system: a fixed number, or a share of a small disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FreeSpaceFloor {
    /// Free bytes that must be left.
    pub bytes: u64,
    /// On a disk smaller than `parts` times `bytes`, the floor is its size divided by `parts`. At least 1.
    pub parts: u64,
}

/// The file system is not full, but has too little space left to write more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "only {} free on its file system; {} must stay free",
    IecSize(*free),
    IecSize(*floor)
)]
pub struct BelowFloor {
    /// Bytes that an unprivileged user may still use.
    pub free: u64,
    /// Free bytes that must be left.
    pub floor: u64,
}

impl FreeSpaceFloor {
    /// No floor: the disk may be filled.
    pub const NONE: Self = Self { bytes: 0, parts: 1 };

    /// Whether `more` bytes may be written to this file. Blocks on the disk.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] with a [`BelowFloor`] inside, or the error of the system.
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
        // Some file systems (a tmpfs without limit, some FUSE) do not report their size.
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
    /// The `BelowFloor` inside an error of this module, if there is one.
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
