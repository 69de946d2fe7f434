//! The token file of one forward: read, locked, replaced durably.

use super::{TokenRecord, json};
use crate::{
    disk::{DISK_TIMEOUT, DiskExecutor, DiskReserve, is_full},
    secret::{FileStamp, SecretFile, SecretFileError},
};
use rustix::{
    fs::{AtFlags, Mode, OFlags, mkdirat, openat, renameat, unlinkat},
    io::Errno,
    process::geteuid,
};
use std::{
    fs::{DirBuilder, File, Metadata, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, fchown},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Where one forward's tokens live: `tokens/<forward>.json` in the state folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenStore {
    folder: PathBuf,
    forward: Arc<str>,
    disk: DiskExecutor,
}

/// Why tokens could not be read or saved. Never repeats anything that was in the file.
#[derive(Debug, thiserror::Error)]
pub enum TokenStoreError {
    /// The file's permissions, or an error of the system on reading it.
    #[error(transparent)]
    File(#[from] SecretFileError),
    /// What is in the file is not what this version writes.
    #[error(
        "{} is not what this version of the agent writes; log in again: agent login {forward}",
        path.display()
    )]
    Unknown {
        /// The token file that was read.
        path: PathBuf,
        /// Whose tokens they would be.
        forward: Arc<str>,
    },
    /// The operating system returned an error.
    #[error("{}: {error}; the state folder must be writable by the agent's user, and its disk not full", path.display())]
    Io {
        /// The file or folder that was accessed.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// Another process has the lock.
    #[error(
        "{} is locked by another process that is refreshing or logging in; try again in a minute",
        .0.display()
    )]
    Busy(PathBuf),
    /// The disk does not answer.
    #[error("{}: the disk did not answer within {DISK_TIMEOUT:?}", .0.display())]
    Hangs(PathBuf),
    /// A token with bytes that are no text.
    #[error("the issued token is not text and cannot be stored")]
    NotText,
}

/// The right to change the tokens, until dropped: held by one process at a time.
#[derive(Clone)]
pub struct LockedTokenStore {
    store: TokenStore,
    /// The lock goes with the last copy, so that one that is still being written is not overtaken.
    _file: Arc<File>,
}

impl TokenStore {
    /// Touches nothing yet. A forward's name contains only letters, digits, `-` and `_`.
    pub fn new(state_dir: &Path, forward: &str) -> Self {
        Self {
            folder: state_dir.join(FOLDER),
            forward: forward.into(),
            disk: DiskExecutor::default(),
        }
    }

    /// Whose tokens these are.
    pub fn forward(&self) -> &str {
        &self.forward
    }

    /// Path of the token file.
    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name())
    }

    /// For what else is read from this host's disks on behalf of these tokens.
    pub fn disk(&self) -> &DiskExecutor {
        &self.disk
    }

    /// Distinguishes versions of the file; `None` if there is none. Blocks.
    pub fn stamp(&self) -> Result<Option<FileStamp>, TokenStoreError> {
        match SecretFile::new(self.path()).stamp() {
            Ok(stamp) => Ok(Some(stamp)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.io(self.path(), error)),
        }
    }

    /// What is stored. `None`: there is no login.
    pub async fn load(&self) -> Result<Option<TokenRecord>, TokenStoreError> {
        let store = self.clone();
        self.on_disk(move || store.read()).await
    }

    /// Waits up to `patience` for the right to change the tokens. Makes the folder where it is missing.
    pub async fn lock(&self, patience: Duration) -> Result<LockedTokenStore, TokenStoreError> {
        let deadline = Instant::now() + patience;
        let store = self.clone();
        let file = Arc::new(self.on_disk(move || store.open_lock()).await?);
        loop {
            // On a disk of this machine it takes no time; NFS answers or fails.
            let tried = Arc::clone(&file);
            let store = self.clone();
            let got = self.on_disk(move || match tried.try_lock() {
                Ok(()) => Ok(true),
                Err(TryLockError::WouldBlock) => Ok(false),
                Err(TryLockError::Error(error)) => Err(store.io(store.lock_path(), error)),
            });
            if got.await? {
                return Ok(LockedTokenStore {
                    store: self.clone(),
                    _file: file,
                });
            }
            if Instant::now() >= deadline {
                return Err(TokenStoreError::Busy(self.lock_path()));
            }
            sleep(LOCK_PAUSE).await;
        }
    }

    /// What is stored. Blocks.
    pub fn read(&self) -> Result<Option<TokenRecord>, TokenStoreError> {
        match SecretFile::new(self.path()).read() {
            Ok(secret) => match json::read(secret.expose()) {
                Some(record) => Ok(Some(record)),
                None => Err(TokenStoreError::Unknown {
                    path: self.path(),
                    forward: Arc::clone(&self.forward),
                }),
            },
            Err(SecretFileError::Missing(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open_lock(&self) -> Result<File, TokenStoreError> {
        let folder = self.make_folder()?;
        let name = self.lock_name();
        let failed = |error: Errno| self.io(self.lock_path(), error.into());
        match openat(&folder, &name, NEW, PRIVATE_FILE) {
            Ok(file) => {
                let file = File::from(file);
                self.hand_over(&file, &folder, &self.lock_path())?;
                Ok(file)
            }
            Err(Errno::EXIST) => openat(&folder, &name, KNOWN, Mode::empty())
                .map(File::from)
                .map_err(failed),
            Err(error) => Err(failed(error)),
        }
    }

    /// The folder, made where it is missing.
    fn make_folder(&self) -> Result<File, TokenStoreError> {
        let failed = |error| self.io(self.folder.clone(), error);
        let state = self.folder.parent().unwrap_or(Path::new("/"));
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        builder.create(state).map_err(failed)?;
        let state = File::open(state).map_err(failed)?;
        let is_new = match mkdirat(&state, FOLDER, PRIVATE_FOLDER) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(failed(error.into())),
        };
        let folder = self.open_folder()?;
        if is_new {
            let owner = state.metadata().map_err(failed)?;
            match_owner(&folder, &owner).map_err(failed)?;
            state.sync_all().map_err(failed)?;
        }
        Ok(folder)
    }

    /// The state folder is the agent's user's, who could put a link in this folder's place while root
    /// logs in for him: everything below is done within the folder opened here, by names that are no
    /// links, and nothing in a folder of a third user.
    fn open_folder(&self) -> Result<File, TokenStoreError> {
        let failed = |error| self.io(self.folder.clone(), error);
        let state = self.folder.parent().unwrap_or(Path::new("/"));
        let state = File::open(state).map_err(failed)?;
        let folder = openat(&state, FOLDER, KNOWN | OFlags::DIRECTORY, Mode::empty());
        let folder = folder
            .map(File::from)
            .map_err(|error| failed(error.into()))?;
        let owner = folder.metadata().map_err(failed)?.uid();
        let expected = state.metadata().map_err(failed)?.uid();
        if owner != expected && owner != geteuid().as_raw() {
            return Err(failed(io::Error::new(
                io::ErrorKind::PermissionDenied,
                format!(
                    "it belongs to the user with id {owner}, and the state folder to {expected}"
                ),
            )));
        }
        Ok(folder)
    }

    /// On a full disk it has a reserve.
    fn save(&self, record: &TokenRecord) -> Result<(), TokenStoreError> {
        let full = |error: &TokenStoreError| matches!(error, TokenStoreError::Io { error, .. } if is_full(error));
        let state = self.folder.parent().unwrap_or(Path::new("/"));
        DiskReserve::of(state).save_using_reserve(full, || self.try_save(record))
    }

    fn try_save(&self, record: &TokenRecord) -> Result<(), TokenStoreError> {
        let bytes = json::write(record).map_err(|_| TokenStoreError::NotText)?;
        let folder = self.open_folder()?;
        let name = format!("{}.new", self.name());
        let path = self.folder.join(&name);
        let failed = |error| self.io(path.clone(), error);
        // Left by a process that was killed; it holds tokens, and only we may write one.
        match unlinkat(&folder, &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(failed(error.into())),
        }
        let file = openat(&folder, &name, NEW, PRIVATE_FILE);
        let mut file = file.map(File::from).map_err(|error| failed(error.into()))?;
        self.hand_over(&file, &folder, &path)?;
        file.write_all(&bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        renameat(&folder, &name, &folder, self.name()).map_err(|error| failed(error.into()))?;
        self.sync(&folder)
    }

    fn remove(&self) -> Result<(), TokenStoreError> {
        let folder = self.open_folder()?;
        match unlinkat(&folder, self.name(), AtFlags::empty()) {
            Ok(()) => self.sync(&folder),
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.io(self.path(), error.into())),
        }
    }

    fn sync(&self, folder: &File) -> Result<(), TokenStoreError> {
        folder
            .sync_all()
            .map_err(|error| self.io(self.folder.clone(), error))
    }

    /// Gives a file to the agent's user where root has made it for him.
    fn hand_over(&self, file: &File, folder: &File, path: &Path) -> Result<(), TokenStoreError> {
        let owner = folder.metadata();
        owner
            .and_then(|owner| match_owner(file, &owner))
            .map_err(|error| self.io(path.to_owned(), error))
    }

    fn name(&self) -> String {
        format!("{}.json", self.forward)
    }

    fn lock_name(&self) -> String {
        format!("{}.lock", self.forward)
    }

    fn lock_path(&self) -> PathBuf {
        self.folder.join(self.lock_name())
    }

    fn io(&self, path: PathBuf, error: io::Error) -> TokenStoreError {
        TokenStoreError::Io { path, error }
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, TokenStoreError> + Send + 'static,
    ) -> Result<T, TokenStoreError> {
        match self.disk.run(work).await {
            Ok(done) => done,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(TokenStoreError::Hangs(self.path()))
            }
            Err(error) => Err(self.io(self.path(), error)),
        }
    }
}

impl LockedTokenStore {
    /// Whose tokens they are.
    pub fn forward(&self) -> &str {
        self.store.forward()
    }

    /// Loads the stored tokens, if there are any.
    pub async fn load(&self) -> Result<Option<TokenRecord>, TokenStoreError> {
        self.store.load().await
    }

    /// Replaces what is stored. When it returns, the new record is on the disk, whatever happens next;
    /// after an error the old one or the new one is.
    pub async fn save(&self, record: &TokenRecord) -> Result<(), TokenStoreError> {
        let (locked, record) = (self.clone(), record.clone());
        self.store.on_disk(move || locked.store.save(&record)).await
    }

    /// Removes the stored tokens from the disk.
    pub async fn remove(&self) -> Result<(), TokenStoreError> {
        let locked = self.clone();
        self.store.on_disk(move || locked.store.remove()).await
    }
}

/// Gives the file the owner of the folder it is made in: what root makes in a folder of the agent's user is that user's.
pub(crate) fn match_owner(file: &File, folder: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    if (own.uid(), own.gid()) == (folder.uid(), folder.gid()) {
        return Ok(());
    }
    match fchown(file, Some(folder.uid()), Some(folder.gid())) {
        // Only root may change the owner; for any other user the file stays theirs, readable to them.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        result => result,
    }
}

/// In the state folder.
const FOLDER: &str = "tokens";
/// A file that does not exist yet, not even as a link.
const NEW: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
/// What is there, if it is no link; a FIFO does not block.
const KNOWN: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::CLOEXEC);
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);
const PRIVATE_FOLDER: Mode = Mode::RWXU;
/// Between two attempts at a lock that another process has.
const LOCK_PAUSE: Duration = Duration::from_millis(50);
