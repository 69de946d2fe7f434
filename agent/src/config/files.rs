//! What keys name and is not in the configuration: files, where they are looked up and what is in them,
//! and variables of the environment.

use super::{effective::Place, imprint::Reading, problem::Problems, source::Sources};
use crate::{
    secret::{Secret, SecretFile},
    upstream::pem,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// Looks files up.
pub struct Files {
    folder: PathBuf,
    credentials: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    /// What was in the files that are not looked at again while the agent runs.
    pub(super) reading: Reading,
}

impl Files {
    /// Paths start from the folder of the configuration file, bare names from `$CREDENTIALS_DIRECTORY`.
    pub fn new(sources: &Sources) -> Self {
        Self {
            folder: sources.folder().to_owned(),
            credentials: sources.systemd_folder("CREDENTIALS_DIRECTORY"),
            environment: sources.environment.clone(),
            reading: Reading::default(),
        }
    }

    /// The first of these variables that is set and not empty.
    pub fn variable(&self, names: &[&str]) -> Option<&str> {
        let values = names.iter().filter_map(|name| self.environment.get(*name));
        values.map(String::as_str).find(|value| !value.is_empty())
    }

    /// A folder or file that need not exist yet.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.folder.join(path)
    }

    /// The secret's file, if it holds something and only its owner can read it.
    pub fn secret(
        &self,
        place: &Place<'_>,
        key: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<SecretFile> {
        let file = self.named(place, key, name, problems)?;
        place.take(key, file.read(), problems)?;
        Some(file)
    }

    /// What is in a secret's file.
    pub fn read_secret(
        &self,
        place: &Place<'_>,
        key: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<Secret> {
        let file = self.named(place, key, name, problems)?;
        let secret = place.take(key, file.read(), problems)?;
        self.reading.note(file.path(), secret.expose());
        Some(secret)
    }

    /// The path and text of a file that is no secret.
    pub fn text(
        &self,
        place: &Place<'_>,
        key: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<(PathBuf, String)> {
        let file = self.named(place, key, name, problems)?;
        let path = file.path().to_owned();
        // A comment in Latin-1 is no reason to refuse the whole file; what is not text makes no line that could be used.
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "{} does not exist; create it or correct the name",
                path.display()
            ),
            _ => format!(
                "{} cannot be read ({error}); make it readable to the user the agent runs as",
                path.display()
            ),
        });
        let text = place.take(key, text, problems)?;
        self.reading.note(&path, &text);
        Some((path, String::from_utf8_lossy(&text).into_owned()))
    }

    /// The certificates of a PEM file.
    pub fn certificates(
        &self,
        place: &Place<'_>,
        key: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<Vec<CertificateDer<'static>>> {
        let (path, text) = self.text(place, key, name, problems)?;
        let found = pem::certificates(text.as_bytes());
        place.take(key, found.map_err(|error| in_file(&path, &error)), problems)
    }

    /// The private key of a PEM file that only its owner can read.
    pub fn private_key(
        &self,
        place: &Place<'_>,
        key: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<PrivateKeyDer<'static>> {
        let file = self.named(place, key, name, problems)?;
        let text = place.take(key, file.read(), problems)?;
        self.reading.note(file.path(), text.expose());
        let found = pem::private_key(text.expose());
        place.take(
            key,
            found.map_err(|error| in_file(file.path(), &error)),
            problems,
        )
    }

    /// Where a file is looked up, whether it is there or not. A bare name is a systemd credential if
    /// there is one of that name.
    pub fn named(
        &self,
        place: &Place<'_>,
        key: &str,
        name: &str,
        problems: &mut Problems,
    ) -> Option<SecretFile> {
        if name.is_empty() {
            place.wrong(key, "empty; name a file", problems);
            return None;
        }
        if let Some(folder) = self.credentials.as_ref().filter(|_| !name.contains('/')) {
            let path = folder.join(name);
            if path.exists() {
                return Some(SecretFile::credential(path));
            }
        }
        let path = self.folder.join(name);
        if looks_like_a_secret(name) && !path.exists() {
            let text = "expected the name of a file, and what is written looks like a secret itself; \
                        put it in a file with mode 0600 and name that file here";
            place.wrong(key, text, problems);
            return None;
        }
        Some(SecretFile::new(path))
    }
}

fn in_file(path: &Path, error: &pem::PemError) -> String {
    format!("{}: {error}", path.display())
}

/// A token pasted where a file name belongs must not be repeated in an error, and so in the journal.
fn looks_like_a_secret(name: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| name.as_bytes().iter().any(kind);
    name.len() >= 20
        && !name.contains('/')
        && has(u8::is_ascii_digit)
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
}
