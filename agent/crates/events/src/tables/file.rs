//! Opening the file: who may read it, who has it, and whether it is whole.

use super::records::DiskFailure;
use crate::OpenError;
use redb::{Builder, Database, DatabaseError, StorageError, backends::FileBackend};
use rustix::fs::OFlags;
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

/// Where the file is.
#[derive(Clone)]
pub(crate) struct QueueFile {
    path: PathBuf,
    /// What goes wrong with it.
    #[cfg(test)]
    pub(crate) faults: Option<std::sync::Arc<super::faults::DiskFaults>>,
}

impl QueueFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            #[cfg(test)]
            faults: None,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder that holds the file.
    pub(crate) fn folder(&self) -> &Path {
        let folder = self.path.parent();
        let named = folder.filter(|folder| !folder.as_os_str().is_empty());
        named.unwrap_or(Path::new("."))
    }

    /// Opens or creates the database.
    pub(super) fn open(&self) -> Result<Database, OpenError> {
        let file = self.open_file().map_err(|error| self.io(error))?;
        let opened = catch_unwind(AssertUnwindSafe(|| self.open_database(file)));
        // The library asserts much of what it finds in a file.
        opened.unwrap_or_else(|_| Err(self.damaged("its structure is wrong".to_owned())))
    }

    fn open_database(&self, file: File) -> Result<Database, OpenError> {
        let backend = FileBackend::new(file).map_err(|error| self.database_error(error))?;
        let mut builder = Builder::new();
        builder
            .set_cache_size(CACHE_BYTES)
            // Without it, damage shows as wrong events, or as a panic at some time later.
            .set_check_integrity_on_open(true);
        #[cfg(test)]
        if let Some(faults) = &self.faults {
            let backend = super::faults::FaultyBackend::new(backend, faults.clone());
            let opened = builder.create_with_backend(backend);
            return opened.map_err(|error| self.database_error(error));
        }
        let opened = builder.create_with_backend(backend);
        opened.map_err(|error| self.database_error(error))
    }

    fn open_file(&self) -> io::Result<File> {
        let folder = self.folder();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)?;
        let is_new = !self.path.try_exists()?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(MODE)
            // A link could lead to another file, which would be overwritten.
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if found.permissions().mode() & 0o7777 != MODE {
            file.set_permissions(Permissions::from_mode(MODE))?;
        }
        if is_new {
            // The entry of the folder, or a crash could take the file with all that was acknowledged.
            File::open(folder)?.sync_all()?;
        }
        Ok(file)
    }

    fn database_error(&self, error: DatabaseError) -> OpenError {
        if matches!(
            error,
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch
        ) {
            return OpenError::InUse(self.path.clone());
        }
        if let DatabaseError::Storage(StorageError::Corrupted(why)) = error {
            return self.damaged(why);
        }
        self.open_error(error.into())
    }

    pub(super) fn open_error(&self, failure: DiskFailure) -> OpenError {
        match failure.is_io {
            true => OpenError::Io {
                path: self.path.clone(),
                error: failure.into_io(),
            },
            false => self.damaged(failure.text),
        }
    }

    fn io(&self, error: io::Error) -> OpenError {
        let path = self.path.clone();
        OpenError::Io { path, error }
    }

    fn damaged(&self, why: String) -> OpenError {
        let path = self.path.clone();
        OpenError::Damaged { path, why }
    }

    /// See [`set_damaged_aside`](crate::set_damaged_aside).
    pub(crate) fn set_aside(path: &Path, seconds: u64) -> io::Result<PathBuf> {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".damaged-{seconds}"));
        let aside = PathBuf::from(name);
        if aside.try_exists()? {
            let text = format!("{} exists already", aside.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
        }
        fs::rename(path, &aside)?;
        let storage = Self::new(path.to_owned());
        File::open(storage.folder())?.sync_all()?;
        Ok(aside)
    }
}

/// The library's default is 1 GiB. An event is read once and written once; only the upper pages of the trees are read again.
const CACHE_BYTES: usize = 4 << 20;
/// Events hold what Jira's users wrote.
const MODE: u32 = 0o600;
