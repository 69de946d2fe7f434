//! The archive: tar in gzip, readable by its owner alone, whole or not there.

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
    /// Never overwritten: it may be the only trace of yesterday's fault.
    #[error("{} exists already; name another file with --output", .0.display())]
    Exists(PathBuf),
    /// The operating system reported an I/O error.
    #[error("{}: {error}; name a file in a folder that you may write to with --output", path.display())]
    Io {
        /// The archive.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
}

/// Writes the archive and gives its size in bytes. When it returns, it is on the disk; after an error nothing is.
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

/// It tells hosts, users and paths of this site.
const MODE: u32 = 0o600;
