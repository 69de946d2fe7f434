//! Secrets: values that cannot be printed, logged or serialized, and that are zeroed when dropped;
//! and the files they live in. Nothing here knows what a secret is for.

use sha2::{Digest, Sha256};
use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// A password, token or passphrase. It has no `Debug`, `Display` or `Serialize` on purpose: a secret
/// that cannot be formatted cannot reach a log line.
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes ownership of the bytes; they are zeroed on drop.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes themselves. Call it only where they go on the wire.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Secret {
    /// Tells whether another secret has the same content, without keeping it. For this process's memory alone: a short
    /// secret could be guessed from it.
    pub fn digest(&self) -> SecretDigest {
        SecretDigest(Sha256::digest(&self.0).into())
    }
}

/// See [`Secret::digest`]. It cannot be printed either.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretDigest([u8; 32]);

/// Keeps what this process holds in memory to itself: no core dump, and no debugger of the same user.
/// Call it before the first secret is read. What the system refuses here, the unit's `LimitCORE=0` still does.
pub fn disable_core_dumps() {
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    // A core that is piped to a program heeds no limit.
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
}

/// Where a secret is: a file that only its owner can read, read again at each use so that a
/// changed file is picked up without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
    guard: FileProtection,
}

/// Who guarantees that no one else can read the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FileProtection {
    /// Its own permission bits.
    Mode,
    /// The folder: systemd's `$CREDENTIALS_DIRECTORY` is closed to others, while its files may be 0440.
    Folder,
}

impl SecretFile {
    /// Names a file without reading it. Only its owner may have access, or [`read`](Self::read) refuses.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            guard: FileProtection::Mode,
        }
    }

    /// Names a file in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), "Credentials"), whose permission
    /// bits are systemd's affair.
    pub fn credential(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            guard: FileProtection::Folder,
        }
    }

    /// Whether it is one of systemd's credentials.
    pub fn is_credential(&self) -> bool {
        self.guard == FileProtection::Folder
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the secret, without one trailing newline. Blocks on the disk: call it off the runtime.
    pub fn read(&self) -> Result<Secret, SecretFileError> {
        let mut file = self.open()?;
        // Room for everything at once: growing would leave unzeroed copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN as usize + 1));
        (&mut file)
            .take(MAX_LEN + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| self.unreadable(error))?;
        if bytes.len() as u64 > MAX_LEN {
            return Err(SecretFileError::TooLarge(self.path.clone()));
        }
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        if bytes.is_empty() {
            return Err(SecretFileError::Empty(self.path.clone()));
        }
        Ok(Secret::new(bytes.to_vec()))
    }

    /// Whether the file exists, and only we can read it. Does not read its content.
    pub fn check(&self) -> Result<(), SecretFileError> {
        self.open().map(drop)
    }

    /// What tells one version of the file from the next. One `stat`; fails where the file is gone.
    pub fn stamp(&self) -> io::Result<FileStamp> {
        std::fs::metadata(&self.path).map(|found| FileStamp::of(&found))
    }

    fn open(&self) -> Result<File, SecretFileError> {
        let found = std::fs::metadata(&self.path).map_err(|error| self.unreadable(error))?;
        // Before opening: a FIFO would block here until somebody writes.
        if !found.is_file() {
            return Err(SecretFileError::NotAFile(self.path.clone()));
        }
        let file = File::open(&self.path).map_err(|error| self.unreadable(error))?;
        let opened = file.metadata().map_err(|error| self.unreadable(error))?;
        let mode = opened.permissions().mode() & 0o7777;
        if self.guard == FileProtection::Mode && mode & OTHERS != 0 {
            return Err(SecretFileError::ReadableByOthers {
                path: self.path.clone(),
                mode,
            });
        }
        Ok(file)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "std adds kinds of errors; these are the ones with a text of their own"
    )]
    fn unreadable(&self, error: io::Error) -> SecretFileError {
        let path = self.path.clone();
        match error.kind() {
            io::ErrorKind::NotFound => SecretFileError::Missing(path),
            _ => SecretFileError::Unreadable { path, error },
        }
    }
}

/// A version of a file: two equal stamps mean the same contents, for all practical purposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
            len: found.len(),
            modified: (found.mtime(), found.mtime_nsec()),
            // Also moves on chmod and chown, which can turn a refused file into a good one.
            changed: (found.ctime(), found.ctime_nsec()),
        }
    }
}

/// Why a secret could not be had from its file. Never repeats anything that was in it.
#[derive(Debug, thiserror::Error)]
pub enum SecretFileError {
    /// There is no file at this path.
    #[error("{} does not exist; create it with mode 0600, owned by the user the agent runs as", .0.display())]
    Missing(PathBuf),
    /// Most likely owned by another user.
    #[error(
        "{} cannot be read ({error}); make it readable to the user the agent runs as (chown, then chmod 0600)",
        path.display()
    )]
    Unreadable {
        /// Path of the secret file.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// A folder, device, socket or pipe.
    #[error("{} is not a regular file; put the secret in a file of its own", .0.display())]
    NotAFile(PathBuf),
    /// Others on this host could read or replace it.
    #[error(
        "{} has mode {mode:04o}, so that others than its owner have access; run: chmod 0600 {}",
        path.display(), path.display()
    )]
    ReadableByOthers {
        /// Path of the secret file.
        path: PathBuf,
        /// Permission bits of the file.
        mode: u32,
    },
    /// No bytes, or only a newline.
    #[error("{} is empty; write the secret into it, as one line", .0.display())]
    Empty(PathBuf),
    /// No secret is that long: most likely the wrong file.
    #[error("{} is larger than 64 KiB, which no secret is; name the right file", .0.display())]
    TooLarge(PathBuf),
}

/// Bytes. The longest secret in use is a private key of a few KiB.
const MAX_LEN: u64 = 64 << 10;
/// Permission bits of group and others.
const OTHERS: u32 = 0o077;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::fs::Permissions;

    fn file(content: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        (folder, path)
    }

    fn read(content: &[u8]) -> Result<Vec<u8>, SecretFileError> {
        let (_folder, path) = file(content, 0o600);
        SecretFile::new(path).read().map(|s| s.expose().to_vec())
    }

    #[test]
    fn one_trailing_newline_is_not_part_of_the_secret() {
        assert_eq!(read(b"s3cret\n").unwrap(), b"s3cret");
        assert_eq!(read(b"s3cret\r\n").unwrap(), b"s3cret");
        assert_eq!(read(b"s3cret").unwrap(), b"s3cret");
        assert_eq!(read(b" s3cret \n\n").unwrap(), b" s3cret \n");
    }

    #[test]
    fn an_empty_secret_is_refused() {
        for content in [&b""[..], b"\n", b"\r\n"] {
            assert!(matches!(read(content), Err(SecretFileError::Empty(_))));
        }
    }

    #[test]
    fn a_file_too_large_for_a_secret_is_refused() {
        assert!(read(&vec![b'x'; 64 << 10]).is_ok());
        assert!(matches!(
            read(&vec![b'x'; (64 << 10) + 1]),
            Err(SecretFileError::TooLarge(_))
        ));
    }

    #[test]
    fn a_file_others_have_access_to_is_refused_with_the_command_that_mends_it() {
        for mode in [0o640, 0o604, 0o620, 0o601] {
            let (_folder, path) = file(b"s3cret", mode);
            let Err(error) = SecretFile::new(&path).read() else {
                panic!("mode {mode:o} was accepted");
            };
            let text = error.to_string();
            assert!(text.contains(&format!("{mode:04o}")), "{text}");
            assert!(
                text.contains(&format!("chmod 0600 {}", path.display())),
                "{text}"
            );
            assert!(!text.contains("s3cret"));
        }
    }

    #[test]
    fn a_systemd_credential_may_be_group_readable() {
        let (_folder, path) = file(b"s3cret", 0o440);
        assert!(SecretFile::credential(path).read().is_ok());
    }

    #[test]
    fn a_missing_file_and_a_folder_are_told_apart() {
        let (folder, path) = file(b"s3cret", 0o600);
        let missing = SecretFile::new(path.with_file_name("none")).read();
        assert!(matches!(missing, Err(SecretFileError::Missing(_))));
        let directory = SecretFile::new(folder.path()).read();
        assert!(matches!(directory, Err(SecretFileError::NotAFile(_))));
    }

    #[test]
    fn a_replaced_file_has_another_stamp() {
        let (_folder, path) = file(b"one", 0o600);
        let secret = SecretFile::new(&path);
        let before = secret.stamp().unwrap();
        assert_eq!(before, secret.stamp().unwrap());
        let next = path.with_file_name("next");
        std::fs::write(&next, b"two").unwrap();
        std::fs::rename(&next, &path).unwrap();
        assert_ne!(before, secret.stamp().unwrap());
    }
}
