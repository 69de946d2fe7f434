//! Secrets: values that cannot be printed, logged or serialized, and that are zeroed when dropped.

use std::path::{Path, PathBuf};
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

/// Where a secret lives: a file that only its owner can read, read anew at each use so that a
/// changed file is picked up without a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile {
    path: PathBuf,
}

impl SecretFile {
    /// Names a file without reading it.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The file's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
