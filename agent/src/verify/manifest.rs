//! The manifest in the package, which `packaging/manifest` generates.

use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// The files of one package, as installed.
#[derive(Clone, Debug, Deserialize)]
pub struct PackageManifest {
    /// Version of this document, 1.
    pub version: u32,
    /// Version and revision of the package, `1.2.3-1`.
    pub package_version: String,
    /// Package format, `deb` or `rpm`.
    pub format: String,
    /// The files, sorted by path.
    pub files: Vec<ManifestEntry>,
}

/// One file or folder.
#[derive(Clone, Debug, Deserialize)]
pub struct ManifestEntry {
    /// Absolute path of the file or folder.
    pub path: PathBuf,
    /// Kind of the file, which decides what a difference means.
    pub kind: EntryKind,
    /// Permission bits in octal, `0755`.
    pub mode: String,
    /// Name of the owner.
    pub owner: String,
    /// Name of the group.
    pub group: String,
    /// SHA-256 in hexadecimal; absent for a folder and a link.
    pub sha256: Option<String>,
    /// Target of a link, as written in it.
    #[serde(default)]
    pub target: Option<PathBuf>,
}

/// Kind of a file, which decides what a difference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Only the package changes it.
    Program,
    /// The administrator may change it.
    Configuration,
    /// Many systems leave it out.
    Documentation,
    /// A folder of the package.
    Folder,
    /// A symbolic link: a second name of a program.
    Link,
}

/// Why there is no manifest to compare with.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not installed from a package, or the package is damaged.
    #[error(
        "{} does not exist: this program does not come from a package, or the package is damaged; \
         reinstall the package, or choose a manifest with --manifest", .0.display()
    )]
    Missing(PathBuf),
    /// The operating system returned an error.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// Path of the manifest.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The content is not that of a manifest of this version.
    #[error("{} is not a manifest that this version understands ({problem}); reinstall the package", path.display())]
    Unknown {
        /// Path of the manifest.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

impl PackageManifest {
    /// Reads and parses the manifest, at most 1 MiB. Blocks on the disk.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "std adds kinds of errors; these are the ones with a text of their own"
    )]
    pub fn read(path: &Path) -> Result<Self, ManifestError> {
        let unreadable = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => ManifestError::Missing(path.to_owned()),
            _ => ManifestError::Unreadable {
                path: path.to_owned(),
                error,
            },
        };
        let unknown = |problem: String| ManifestError::Unknown {
            path: path.to_owned(),
            problem,
        };
        let found = fs::metadata(path).map_err(unreadable)?;
        if !found.is_file() || found.len() > MAX_BYTES {
            return Err(unknown("not a file of at most 1 MiB".to_owned()));
        }
        let bytes = fs::read(path).map_err(unreadable)?;
        let manifest: Self =
            serde_json::from_slice(&bytes).map_err(|error| unknown(error.to_string()))?;
        if manifest.version != VERSION {
            return Err(unknown(format!("its version is {}", manifest.version)));
        }
        if manifest.files.is_empty() {
            return Err(unknown("it lists no files".to_owned()));
        }
        Ok(manifest)
    }
}

const VERSION: u32 = 1;
/// Bytes: a package has about fifty files.
const MAX_BYTES: u64 = 1 << 20;
