//! Reads what the configuration only names: files, and variables of the environment.

use super::{
    fingerprint::ReadRecorder, merged::MergedSection, problem::ConfigProblems,
    source::ConfigSources, trusted_owners::TrustedOwners,
};
use crate::{
    plain_file,
    secret::{Secret, SecretFile, SecretFileError},
    upstream::pem,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// Whether secrets have to be readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SecretAccess {
    /// Every secret must be readable: the agent needs them.
    Needed,
    /// Secrets that this user may not read are skipped: the command only shows or checks the configuration.
    WhereAllowed,
}

/// Resolves and reads the files that the configuration names.
pub(super) struct FileResolver {
    folder: PathBuf,
    credential_dir: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    owners: TrustedOwners,
    secrets: SecretAccess,
    /// Digests of the files that the running agent does not read again.
    pub(super) recorder: ReadRecorder,
}

impl FileResolver {
    /// Paths start from the folder of the configuration file; bare names are looked up in `$CREDENTIALS_DIRECTORY`
    /// first.
    pub(super) fn new(sources: &ConfigSources, secrets: SecretAccess) -> Self {
        Self {
            owners: TrustedOwners::of(sources),
            secrets,
            folder: sources.folder().to_owned(),
            credential_dir: sources.systemd_folder("CREDENTIALS_DIRECTORY"),
            environment: sources.environment.clone(),
            recorder: ReadRecorder::default(),
        }
    }

    /// The first of these variables that is set and not empty.
    pub(super) fn variable(&self, names: &[&str]) -> Option<&str> {
        let values = names.iter().filter_map(|name| self.environment.get(*name));
        values.map(String::as_str).find(|value| !value.is_empty())
    }

    /// The absolute path of a folder or file, which need not exist.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The file of a secret, if it is not empty and only its owner can read it.
    pub(super) fn secret_file(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        name: &str,
        problems: &mut ConfigProblems,
    ) -> Option<SecretFile> {
        let file = self.locate_secret(section, key, name, problems)?;
        if !self.may_be_unreadable(&file) {
            section.value_or_error(key, file.read(), problems)?;
        }
        Some(file)
    }

    /// Whether this user may not read the file and does not need to.
    pub(super) fn may_be_unreadable(&self, file: &SecretFile) -> bool {
        self.secrets == SecretAccess::WhereAllowed
            && match file.check() {
                Err(SecretFileError::Unreadable { error, .. }) => {
                    error.kind() == io::ErrorKind::PermissionDenied
                }
                _ => false,
            }
    }

    /// The secret in a file.
    pub(super) fn read_secret(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        name: &str,
        problems: &mut ConfigProblems,
    ) -> Option<Secret> {
        let file = self.locate_secret(section, key, name, problems)?;
        let secret = section.value_or_error(key, file.read(), problems)?;
        self.recorder.note(file.path(), secret.expose());
        Some(secret)
    }

    /// Path and text of a file that is not secret.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "std adds kinds of errors; these are the ones with a text of their own"
    )]
    pub(super) fn read_text(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        name: &str,
        problems: &mut ConfigProblems,
    ) -> Option<(PathBuf, String)> {
        let file = self.locate(section, key, name, problems)?;
        self.check_owners(section, key, &file, problems);
        let path = file.path().to_owned();
        // A comment in Latin-1 must not invalidate the whole file; lines that are not UTF-8 fail later.
        let text = plain_file::read(&path, MAX_LEN).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "{} does not exist; create it or correct the name",
                path.display()
            ),
            _ => format!(
                "{} cannot be read ({error}); make it readable to the user the agent runs as",
                path.display()
            ),
        });
        let text = section.value_or_error(key, text, problems)?;
        self.recorder.note(&path, &text);
        Some((path, String::from_utf8_lossy(&text).into_owned()))
    }

    /// The certificates of a PEM file.
    pub(super) fn read_certificates(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        name: &str,
        problems: &mut ConfigProblems,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let (path, text) = self.read_text(section, key, name, problems)?;
        let found = pem::certificates(text.as_bytes());
        section.value_or_error(key, found.map_err(|error| in_file(&path, &error)), problems)
    }

    /// The private key of a PEM file that only its owner can read.
    pub(super) fn read_private_key(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        name: &str,
        problems: &mut ConfigProblems,
    ) -> Option<PrivateKeyDer<'static>> {
        let file = self.locate_secret(section, key, name, problems)?;
        let text = section.value_or_error(key, file.read(), problems)?;
        self.recorder.note(file.path(), text.expose());
        let found = pem::private_key(text.expose());
        section.value_or_error(
            key,
            found.map_err(|error| in_file(file.path(), &error)),
            problems,
        )
    }

    /// The file of a secret, which need not exist. A bare name is a systemd credential if there is one with this name.
    /// Reports a path that others could replace.
    pub(super) fn locate_secret(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        name: &str,
        problems: &mut ConfigProblems,
    ) -> Option<SecretFile> {
        let file = self.locate(section, key, name, problems)?;
        // For the mode of the file itself, reading it gives a better error.
        if !matches!(file.check(), Err(SecretFileError::ReadableByOthers { .. })) {
            self.check_owners(section, key, &file, problems);
        }
        Some(file)
    }

    fn check_owners(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        file: &SecretFile,
        problems: &mut ConfigProblems,
    ) {
        if file.is_credential() {
            return;
        }
        if let Err(unsafe_path) = self.owners.check_path(file.path()) {
            let text = format!("{}: {}", unsafe_path.path.display(), unsafe_path.text);
            section.error(key, text, problems);
        }
    }

    fn locate(
        &self,
        section: &MergedSection<'_>,
        key: &str,
        name: &str,
        problems: &mut ConfigProblems,
    ) -> Option<SecretFile> {
        if name.is_empty() {
            section.error(key, "empty; name a file", problems);
            return None;
        }
        if let Some(folder) = self.credential_dir.as_ref().filter(|_| !name.contains('/')) {
            let path = folder.join(name);
            if path.exists() {
                return Some(SecretFile::credential(path));
            }
        }
        let path = self.folder.join(name);
        if looks_like_a_secret(name) && !path.exists() {
            let text = "expected a file name, but the value looks like a secret; put it in a file with mode 0600 and name that file here";
            section.error(key, text, problems);
            return None;
        }
        Some(SecretFile::new(path))
    }
}

/// Bytes. The longest such file is a known_hosts with many thousands of hosts.
const MAX_LEN: u64 = 16 << 20;

fn in_file(path: &Path, error: &pem::PemError) -> String {
    format!("{}: {error}", path.display())
}

/// A token pasted instead of a file name must not appear in an error, and so in the journal.
fn looks_like_a_secret(name: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| name.as_bytes().iter().any(kind);
    name.len() >= 20
        && !name.contains('/')
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
}
