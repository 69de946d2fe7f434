//! The archive: a gzipped tar, readable only by its owner, complete or absent.

use super::{SupportBundle, part::PartContent};
use flate2::{Compression, write::GzEncoder};
use std::{
    fs::{File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

/// Why the archive could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The file exists; it is never overwritten, since it may be the only record of an earlier fault.
    #[error("{} already exists; choose another file with --output", .0.display())]
    Exists(PathBuf),
    /// The operating system reported an I/O error.
    #[error("{}: {error}; choose a file in a writable folder with --output", path.display())]
    Io {
        /// The archive.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}

/// Writes the archive and returns its size in bytes. When it returns, the archive is on the disk; after an error,
/// nothing is.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std adds kinds of errors; these are the ones with a text of their own"
)]
pub fn write(bundle: &SupportBundle, path: &Path) -> Result<u64, ArchiveError> {
    let failed = |error| ArchiveError::Io {
        path: path.to_owned(),
        error,
    };
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .prefix(".support-bundle.")
        .permissions(Permissions::from_mode(MODE))
        .tempfile_in(folder)
        .map_err(failed)?;
    pack(bundle, &mut file).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    let size = file.as_file().metadata().map_err(failed)?.len();
    file.persist_noclobber(path)
        .map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => ArchiveError::Exists(path.to_owned()),
            _ => failed(error.error),
        })?;
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(failed)?;
    Ok(size)
}

fn pack(bundle: &SupportBundle, out: &mut impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(GzEncoder::new(out, Compression::default()));
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.map_or(0, |time| time.as_secs());
    for part in &bundle.parts {
        let PartContent::Text { text, .. } = &part.content else {
            continue;
        };
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(MODE);
        header.set_mtime(now);
        let name = format!("{}/{}", bundle.name, part.name);
        archive.append_data(&mut header, name, text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.flush()
}

/// It contains host names, user names and paths.
const MODE: u32 = 0o600;
