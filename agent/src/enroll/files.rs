//! Crash-safe files and folders: complete or absent. Blocks on the disk.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FileReaders {
    /// The owner only: this user and group if the process may change owners, else the process itself.
    Owner(Option<(u32, u32)>),
    Everybody,
}

/// Writes and syncs a new file, but not its folder.
pub(super) fn write_new(
    path: &Path,
    bytes: &[u8],
    readers: FileReaders,
) -> Result<(), EnrollmentFileError> {
    let failed = |error| EnrollmentFileError::io(path, error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(SECRET)
        .open(path)
        .map_err(failed)?;
    let mode = match readers {
        FileReaders::Owner(Some((uid, gid))) => {
            fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
            SECRET
        }
        FileReaders::Owner(None) => SECRET,
        FileReaders::Everybody => PUBLIC,
    };
    // The umask may have reduced it.
    let permissions = Permissions::from_mode(mode);
    file.set_permissions(permissions).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// Creates a folder that the agent's user can traverse, unless it exists.
pub(super) fn make_folder(path: &Path) -> Result<(), EnrollmentFileError> {
    let failed = |error| EnrollmentFileError::io(path, error);
    match DirBuilder::new().mode(FOLDER).create(path) {
        Ok(()) => {
            make_traversable(path)?;
            sync(path.parent().unwrap_or(Path::new("/")))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

/// Sets the mode that the umask may have reduced.
pub(super) fn make_traversable(path: &Path) -> Result<(), EnrollmentFileError> {
    fs::set_permissions(path, Permissions::from_mode(FOLDER))
        .map_err(|error| EnrollmentFileError::io(path, error))
}

/// Syncs the names in a folder to the disk.
pub(super) fn sync(folder: &Path) -> Result<(), EnrollmentFileError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| EnrollmentFileError::io(folder, error))
}

/// Why the files of an enrollment could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum EnrollmentFileError {
    /// The operating system reported an I/O error.
    #[error("{}: {error}; {}", path.display(), remedy(error))]
    Io {
        /// The file or folder of the failed operation.
        path: PathBuf,
        /// Error of the operating system.
        error: io::Error,
    },
    /// Another process holds the lock of this folder.
    #[error(
        "{} is in use: another agent enroll is running; wait until it ends", .0.display()
    )]
    Busy(PathBuf),
    /// A bug: generated text could not be serialized.
    #[error("the key or the configuration could not be written as text: {0}; please report this")]
    Key(String),
}

impl EnrollmentFileError {
    pub(super) fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std adds kinds of errors; these are the ones with a text of their own"
)]
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as root: sudo agent enroll",
        io::ErrorKind::StorageFull => "free space on this disk, then run agent enroll again",
        _ => "correct this, then run agent enroll again",
    }
}

const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const FOLDER: u32 = 0o755;
