//! The files of an enrolment. `enrolment/N/` beside the configuration holds the key and what else the drop-in names;
//! `agent.d/10-enrolment.toml` says which N counts. Everything below N is on the disk before the drop-in has its name.
//!
//! Blocks on the disk. One process at a time: the folder `enrolment` is locked.

use super::{
    drop_in::IDENTITY,
    files::{EnrollmentFileError, FileReaders, make_folder, make_traversable},
};
use crate::{
    accounts::SystemAccounts,
    config::{self, ConfigSources},
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

/// The configuration's folder, locked for us.
pub struct EnrollmentDir {
    /// The configuration's main file.
    pub(super) main: PathBuf,
    pub(super) folder: PathBuf,
    pub(super) drop_in: PathBuf,
    /// Whose the secrets are to be: the state folder's owner, where we may decide that.
    pub(super) secrets: FileReaders,
    _lock: File,
}

/// The enrollment that is in effect now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActiveEnrollment {
    pub(super) number: Option<u32>,
    /// What the token's digest was; `None` where that cannot be read any more.
    pub token: Option<String>,
    /// The public key, as in an authorized_keys line.
    pub public: Option<String>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct EnrollmentRecord {
    /// Digest of the token that it was made by.
    pub token: String,
    pub public_key: String,
}

/// Who the agent runs as: whose the state folder is, and before that one is made the user of the package.
fn agent_user(state_dir: &Path) -> Option<(u32, u32)> {
    let owner = fs::metadata(state_dir).map(|found| (found.uid(), found.gid()));
    match owner {
        Ok((uid, gid)) if uid != 0 => Some((uid, gid)),
        _ => SystemAccounts::read(Path::new("/")).ids(SERVICE_USER),
    }
}

impl EnrollmentDir {
    /// Makes the folders where they are missing, and locks.
    pub fn open(sources: &ConfigSources) -> Result<Self, EnrollmentFileError> {
        let folder = sources.folder().to_owned();
        let drop_ins = sources.drop_in_folder();
        let enrollments = folder.join(ENROLLMENTS);
        for path in [&folder, &drop_ins, &enrollments] {
            make_folder(path)?;
        }
        // The last run may have been killed before it could.
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

    /// Where the drop-in is or will be.
    pub fn drop_in(&self) -> &Path {
        &self.drop_in
    }

    /// The file of the public key that counts now.
    pub fn public_file(&self) -> Option<PathBuf> {
        let number = self.current().ok()??.number?;
        Some(self.at(number).join(PUBLIC_KEY))
    }

    /// What counts now, if anything does. Touches nothing.
    pub fn read_active(
        sources: &ConfigSources,
    ) -> Result<Option<ActiveEnrollment>, EnrollmentFileError> {
        read_active(sources.folder(), &sources.drop_in_folder().join(DROP_IN))
    }

    /// What counts now, if anything does.
    pub fn current(&self) -> Result<Option<ActiveEnrollment>, EnrollmentFileError> {
        read_active(&self.folder, &self.drop_in)
    }

    /// Whether something is left that does not count: the last run did not come to its end.
    pub fn has_stale(&self) -> Result<bool, EnrollmentFileError> {
        let current = self.current()?.and_then(|current| current.number);
        let numbers = self.list_numbers()?;
        Ok(numbers.into_iter().any(|number| Some(number) != current))
    }

    /// Removes what does not count any more.
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

/// Which enrolment a drop-in of ours names.
fn number_in(text: &str) -> Option<u32> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let file = Path::new(table.get("tunnel")?.get("identity_file")?.as_str()?);
    let number = file.strip_prefix(ENROLLMENTS).ok()?.parent()?;
    number.to_str()?.parse().ok()
}

/// The folder of them all, beside the configuration.
pub(super) const ENROLLMENTS: &str = "enrolment";
/// As the packages make it.
const SERVICE_USER: &str = "jira-tunnel-agent";
const DROP_IN: &str = "10-enrolment.toml";
pub(super) const PUBLIC_KEY: &str = "id_ed25519.pub";
pub(super) const RECORD: &str = "enrolment.json";
/// Beside the key, where the vendor's certificate authority has signed it.
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
    fn two_enrolments_do_not_run_at_once() {
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
        // Another token makes another key, and the old one is of no use any more.
        let other = dir.stage("two", "").unwrap();
        assert!(!other.key.reused && other.key.public != public);
        drop(other);
        assert!(dir.list_numbers().unwrap().is_empty());
    }

    #[test]
    fn only_a_drop_in_of_ours_names_an_enrolment() {
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
