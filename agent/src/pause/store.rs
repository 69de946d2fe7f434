//! The file that saves pauses across restarts: `pause.json` in the state folder.

use super::{ActivePauses, PauseRecord};
use crate::disk::{DiskReserve, is_full};
use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Reads and writes `pause.json`.
#[derive(Clone, Debug)]
pub(super) struct PauseStore {
    folder: PathBuf,
}

/// Why pauses could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PauseStoreError {
    /// This version does not understand the content of the file.
    #[error("{} was not written by this version of the agent", .0.display())]
    Unknown(PathBuf),
    /// The operating system returned an error.
    #[error("{}: {error}; the state folder must be writable by the agent's user, and its disk not full", path.display())]
    Io {
        /// The file or folder that was accessed.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The disk does not answer.
    #[error("the disk of the state folder does not answer; the log shows the outcome")]
    Hangs,
}

#[derive(serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PauseDocument {
    version: u32,
    all: Option<PauseRecord>,
    forwards: BTreeMap<String, PauseRecord>,
}

impl PauseStore {
    pub(super) fn new(state_dir: &Path) -> Self {
        Self {
            folder: state_dir.to_owned(),
        }
    }

    /// Reads the pauses; there are none if there is no file.
    pub(super) fn read(&self) -> Result<ActivePauses, PauseStoreError> {
        let path = self.path();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(ActivePauses::default());
            }
            Err(error) => return Err(PauseStoreError::Io { path, error }),
        };
        match serde_json::from_slice::<PauseDocument>(&text) {
            Ok(PauseDocument {
                version: VERSION,
                all,
                forwards,
            }) => Ok(ActivePauses { all, forwards }),
            _ => Err(PauseStoreError::Unknown(path)),
        }
    }

    /// When it returns, `pauses` is on the disk; after an error, either the old or the new state is. A full disk has a
    /// reserve for it.
    pub(super) fn write(&self, pauses: &ActivePauses) -> Result<(), PauseStoreError> {
        let full = |error: &PauseStoreError| matches!(error, PauseStoreError::Io { error, .. } if is_full(error));
        DiskReserve::of(&self.folder).save_using_reserve(full, || self.try_write(pauses))
    }

    fn try_write(&self, pauses: &ActivePauses) -> Result<(), PauseStoreError> {
        let path = self.path();
        let failed = |error| PauseStoreError::Io {
            path: path.clone(),
            error,
        };
        let document = PauseDocument {
            version: VERSION,
            all: pauses.all.clone(),
            forwards: pauses.forwards.clone(),
        };
        let bytes = serde_json::to_vec(&document).map_err(|error| failed(error.into()))?;
        fs::create_dir_all(&self.folder).map_err(failed)?;
        let mut file = tempfile::Builder::new()
            .prefix(".pause.")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.folder)
            .map_err(failed)?;
        io::Write::write_all(&mut file, &bytes).map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        let folder = fs::File::open(&self.folder);
        folder.and_then(|folder| folder.sync_all()).map_err(failed)
    }

    fn path(&self) -> PathBuf {
        self.folder.join("pause.json")
    }
}

const VERSION: u32 = 1;
