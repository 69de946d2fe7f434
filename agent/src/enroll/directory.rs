//! The files of enrollments. `enrolment/N/` beside the configuration holds the key and the other files that the
//! drop-in names; `agent.d/10-enrolment.toml` selects the active N. Everything below N is on the disk before the
//! drop-in is renamed into place.
//!
//! Blocks on the disk. Only one process at a time: the folder `enrolment` is locked.

use super::{
    drop_in::IDENTITY,
    files::{EnrollmentFileError, FileReaders, make_folder, make_traversable},
};
use crate::{
    accounts::SystemAccounts,
    config::{self, ConfigSources, SERVICE_USER},
    secret::SecretFile,
    tunnel::session::SshIdentity,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// The folder of the configuration, locked by this process.
pub struct EnrollmentDir {
    /// The configuration's main file.
    pub(super) main: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) drop_in: PathBuf,
    /// Owner of the secrets: that of the state folder, if the process may change owners.
    pub(super) secrets: FileReaders,
    _lock: File,
}

/// The enrollment that is in effect now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveEnrollment {
    pub(super) number: Option<u32>,
    /// Digest of the token; `None` if the record cannot be read.
    pub token: Option<String>,
    /// The public key, as in an authorized_keys line without options.
    pub public: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EnrollmentRecord {
    /// Digest of the token used.
    pub token: String,
    pub public_key: String,
}

/// User and group of the agent: the owner of the state folder; before it exists, the user of the package.
pub fn agent_user(state_dir: &Path) -> Option<(u32, u32)> {
    let owner = fs::metadata(state_dir).map(|found| (found.uid(), found.gid()));
    match owner {
        Ok((uid, gid)) if uid != 0 => Some((uid, gid)),
        _ => SystemAccounts::read(Path::new("/")).ids(SERVICE_USER),
    }
}

impl EnrollmentDir {
    /// Creates missing folders and takes the lock.
    pub fn open(sources: &ConfigSources) -> Result<Self, EnrollmentFileError> {
        let folder = sources.folder().to_owned();
        let drop_ins = sources.drop_in_folder();
        let enrollments = folder.join(ENROLLMENTS);
        for path in [&folder, &drop_ins, &enrollments] {
            make_folder(path)?;
        }
        // The last run may have been killed before this step.
        make_traversable(&enrollments)?;
        let lock = File::open(&enrollments)
            .map_err(|error| EnrollmentFileError::io(&enrollments, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(EnrollmentFileError::Busy(enrollments)),
            Err(TryLockError::Error(error)) => {
                return Err(EnrollmentFileError::io(&enrollments, error));
            }
        }
        let owner = match rustix::process::geteuid().is_root() {
            true => agent_user(&config::state_dir(sources)),
            false => None,
        };
        Ok(Self {
            main: sources.file.clone(),
            drop_in: drop_ins.join(DROP_IN),
            folder,
            secrets: FileReaders::Owner(owner),
            _lock: lock,
        })
    }

    /// Path of the drop-in, which need not exist.
    pub fn drop_in(&self) -> &Path {
        &self.drop_in
    }

    /// The file of the active public key.
    pub fn public_file(&self) -> Option<PathBuf> {
        let number = self.current().ok()??.number?;
        Some(self.at(number).join(PUBLIC_KEY))
    }

    /// The active enrollment, if there is one. Neither locks nor creates anything.
    pub fn read_active(
        sources: &ConfigSources,
    ) -> Result<Option<ActiveEnrollment>, EnrollmentFileError> {
        read_active(sources.folder(), &sources.drop_in_folder().join(DROP_IN))
    }

    /// The active enrollment, if there is one.
    pub fn current(&self) -> Result<Option<ActiveEnrollment>, EnrollmentFileError> {
        read_active(&self.folder, &self.drop_in)
    }

    /// Whether files of an unfinished or replaced enrollment are left.
    pub fn has_stale(&self) -> Result<bool, EnrollmentFileError> {
        let current = self.current()?.and_then(|current| current.number);
        let numbers = self.list_numbers()?;
        Ok(numbers.into_iter().any(|number| Some(number) != current))
    }

    /// Removes all enrollments but the active one.
    pub fn remove_stale(&self) -> Result<(), EnrollmentFileError> {
        let Some(current) = self.current()?.and_then(|current| current.number) else {
            return Ok(());
        };
        for number in self.list_numbers()? {
            if number != current {
                self.remove(number)?;
            }
        }
        Ok(())
    }

    pub(super) fn at(&self, number: u32) -> PathBuf {
        at(&self.folder, number)
    }

    pub(super) fn list_numbers(&self) -> Result<Vec<u32>, EnrollmentFileError> {
        let path = self.folder.join(ENROLLMENTS);
        let entries = fs::read_dir(&path).map_err(|error| EnrollmentFileError::io(&path, error))?;
        let mut numbers: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    pub(super) fn record(&self, number: u32) -> Option<EnrollmentRecord> {
        record(&self.folder, number)
    }

    pub(super) fn has_key(&self, number: u32) -> bool {
        SshIdentity::load(&SecretFile::new(self.at(number).join(IDENTITY)), None).is_ok()
    }

    pub(super) fn remove(&self, number: u32) -> Result<(), EnrollmentFileError> {
        let path = self.at(number);
        fs::remove_dir_all(&path).map_err(|error| EnrollmentFileError::io(&path, error))
    }

    pub(super) fn remove_all_but_key(&self, number: u32) -> Result<(), EnrollmentFileError> {
        let path = self.at(number);
        let failed = |error| EnrollmentFileError::io(&path, error);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let kept = [IDENTITY, PUBLIC_KEY, RECORD, CERTIFICATE];
            if !kept.iter().any(|kept| name == *kept) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }
}

fn read_active(
    folder: &Path,
    drop_in: &Path,
) -> Result<Option<ActiveEnrollment>, EnrollmentFileError> {
    let text = match fs::read_to_string(drop_in) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(EnrollmentFileError::io(drop_in, error)),
    };
    let number = number_in(&text);
    let record = number.and_then(|number| record(folder, number));
    Ok(Some(ActiveEnrollment {
        number,
        token: record.as_ref().map(|record| record.token.clone()),
        public: record.map(|record| record.public_key),
    }))
}

fn at(folder: &Path, number: u32) -> PathBuf {
    folder.join(ENROLLMENTS).join(number.to_string())
}

fn record(folder: &Path, number: u32) -> Option<EnrollmentRecord> {
    let text = fs::read_to_string(at(folder, number).join(RECORD)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Number of the enrollment that a drop-in names, if `agent enroll` wrote it.
fn number_in(text: &str) -> Option<u32> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let file = Path::new(table.get("tunnel")?.get("identity_file")?.as_str()?);
    let number = file.strip_prefix(ENROLLMENTS).ok()?.parent()?;
    number.to_str()?.parse().ok()
}

/// Folder of all enrollments, beside the configuration.
pub(super) const ENROLLMENTS: &str = "enrolment";
const DROP_IN: &str = "10-enrolment.toml";
pub(super) const PUBLIC_KEY: &str = "id_ed25519.pub";
pub(super) const RECORD: &str = "enrolment.json";
/// Certificate beside the key, if the vendor's CA signed it.
pub(super) const CERTIFICATE: &str = "id_ed25519-cert.pub";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::collections::BTreeMap;

    fn sources(folder: &Path) -> ConfigSources {
        let state = folder.join("state").display().to_string();
        let environment = BTreeMap::from([("STATE_DIRECTORY".to_owned(), state)]);
        ConfigSources::new(Some(folder.join("agent.toml")), environment)
    }

    #[test]
    fn two_enrollments_do_not_run_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let sources = sources(folder.path());
        let first = EnrollmentDir::open(&sources).unwrap();
        assert!(matches!(
            EnrollmentDir::open(&sources),
            Err(EnrollmentFileError::Busy(_))
        ));
        drop(first);
        assert!(EnrollmentDir::open(&sources).is_ok());
    }

    #[test]
    fn what_is_not_put_in_place_goes_but_for_a_key_that_the_vendor_may_know() {
        let folder = tempfile::tempdir().unwrap();
        let dir = EnrollmentDir::open(&sources(folder.path())).unwrap();
        drop(dir.stage("one", "").unwrap());
        assert!(!dir.has_stale().unwrap());
        let mut kept = dir.stage("one", "").unwrap();
        kept.keep_key();
        let public = kept.key.public.clone();
        drop(kept);
        let again = dir.stage("one", "").unwrap();
        assert!(again.key.reused && again.key.public == public);
        drop(again);
        // Another token creates another key, and the old one is useless.
        let other = dir.stage("two", "").unwrap();
        assert!(!other.key.reused && other.key.public != public);
        drop(other);
        assert!(dir.list_numbers().unwrap().is_empty());
    }

    #[test]
    fn only_a_drop_in_of_ours_names_an_enrollment() {
        let named = |file: &str| number_in(&format!("[tunnel]\nidentity_file = {file:?}\n"));
        assert_eq!(named("enrolment/12/id_ed25519"), Some(12));
        for other in [
            "id_ed25519",
            "enrolment/x/id",
            "/enrolment/1/id",
            "enrolment/id",
        ] {
            assert_eq!(named(other), None, "{other}");
        }
        assert_eq!(number_in("not TOML ["), None);
    }
}
