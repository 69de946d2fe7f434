//! A new enrollment: written to a new folder, then committed by one rename. Blocks on the disk.

use super::{
    EnrollmentAnswers, EnrollmentDir, EnrollmentToken,
    directory::{CERTIFICATE, ENROLLMENTS, EnrollmentRecord, PUBLIC_KEY, RECORD},
    drop_in::{self, IDENTITY},
    files::{EnrollmentFileError, FileReaders, make_folder, sync, write_new},
    key,
};
use crate::config::ProposedDropIn;
use std::{fs, io, path::Path};
use zeroize::Zeroizing;

/// The agent's SSH key, newly made or reused.
pub struct AgentKey {
    /// The public key as in an authorized_keys line, without options.
    pub public: String,
    /// Created by an earlier run with the same token, so the vendor may know it.
    pub reused: bool,
}

/// A new enrollment that is not committed. Dropping it removes what it wrote, after [`keep_key`](Self::keep_key) all
/// but the key.
pub struct StagedEnrollment<'a> {
    dir: &'a EnrollmentDir,
    number: u32,
    /// The agent's key of the new enrollment.
    pub key: AgentKey,
    on_drop: DropCleanup,
}

#[derive(PartialEq, Eq)]
enum DropCleanup {
    Remove,
    KeepKey,
    Committed,
}

impl EnrollmentDir {
    /// Starts an enrollment: with the key of an unfinished run with this token, else with a new one. Removes what
    /// other unfinished runs left.
    pub fn stage(
        &self,
        token: &str,
        comment: &str,
    ) -> Result<StagedEnrollment<'_>, EnrollmentFileError> {
        let current = self.current()?.and_then(|current| current.number);
        let mut reusable = None;
        let mut highest = 0;
        for number in self.list_numbers()? {
            highest = highest.max(number);
            if Some(number) == current {
                continue;
            }
            match self.record(number).filter(|record| record.token == token) {
                Some(record) if reusable.is_none() && self.has_key(number) => {
                    reusable = Some((number, record.public_key));
                }
                _ => self.remove(number)?,
            }
        }
        if let Some((number, public)) = reusable {
            self.remove_all_but_key(number)?;
            return Ok(StagedEnrollment {
                dir: self,
                number,
                key: AgentKey {
                    public,
                    reused: true,
                },
                on_drop: DropCleanup::KeepKey,
            });
        }
        let number = highest + 1;
        make_folder(&self.at(number))?;
        let mut staged = StagedEnrollment {
            dir: self,
            number,
            key: AgentKey {
                public: String::new(),
                reused: false,
            },
            on_drop: DropCleanup::Remove,
        };
        let (private, public) =
            key::generate(comment).map_err(|error| EnrollmentFileError::Key(error.to_string()))?;
        let record = EnrollmentRecord {
            token: token.to_owned(),
            public_key: public.clone(),
        };
        // Only strings, so this cannot fail.
        let record = serde_json::to_string_pretty(&record).unwrap_or_default() + "\n";
        let at = self.at(number);
        write_new(&at.join(IDENTITY), private.as_bytes(), self.secrets)?;
        let line = format!("{public}\n");
        write_new(
            &at.join(PUBLIC_KEY),
            line.as_bytes(),
            FileReaders::Everybody,
        )?;
        write_new(&at.join(RECORD), record.as_bytes(), FileReaders::Everybody)?;
        sync(&at)?;
        sync(&self.folder.join(ENROLLMENTS))?;
        staged.key.public = public;
        Ok(staged)
    }
}

impl EnrollmentDir {
    /// Starts a correction of the answers, with the active key and token, which the vendor knows.
    pub fn restage(&self) -> Result<StagedEnrollment<'_>, EnrollmentFileError> {
        let numbers = self.list_numbers()?;
        let current = self.current()?.and_then(|current| current.number);
        let number = numbers.last().copied().max(current).unwrap_or_default() + 1;
        let (from, to) = (self.at(current.unwrap_or_default()), self.at(number));
        make_folder(&to)?;
        let mut staged = StagedEnrollment {
            dir: self,
            number,
            key: AgentKey {
                public: String::new(),
                reused: true,
            },
            on_drop: DropCleanup::Remove,
        };
        for (name, readers) in [
            (IDENTITY, self.secrets),
            (PUBLIC_KEY, FileReaders::Everybody),
            (RECORD, FileReaders::Everybody),
            (CERTIFICATE, FileReaders::Everybody),
        ] {
            let path = from.join(name);
            let bytes = match fs::read(&path) {
                Ok(bytes) => Zeroizing::new(bytes),
                Err(error) if name == CERTIFICATE && error.kind() == io::ErrorKind::NotFound => {
                    continue;
                }
                Err(error) => return Err(EnrollmentFileError::io(&path, error)),
            };
            write_new(&to.join(name), &bytes, readers)?;
        }
        let record = self.record(number);
        staged.key.public = record.map(|record| record.public_key).unwrap_or_default();
        Ok(staged)
    }
}

impl StagedEnrollment<'_> {
    /// Keys of the drop-in and files beside it that differ from the active ones.
    pub fn differences(
        &self,
        proposed: &ProposedDropIn,
    ) -> Result<Vec<String>, EnrollmentFileError> {
        let current = self.dir.current()?.and_then(|current| current.number);
        let (old, new) = (
            self.dir.at(current.unwrap_or_default()),
            self.dir.at(self.number),
        );
        let path = &self.dir.drop_in;
        let before =
            fs::read_to_string(path).map_err(|error| EnrollmentFileError::io(path, error))?;
        let folder = |number: u32| format!("\"{ENROLLMENTS}/{number}/");
        let text = proposed
            .text
            .replace(&folder(self.number), &folder(current.unwrap_or_default()));
        let mut differences = changed_keys(&before, &text);
        let entries = fs::read_dir(&new).map_err(|error| EnrollmentFileError::io(&new, error))?;
        for name in entries.filter_map(|entry| Some(entry.ok()?.file_name())) {
            let read = |folder: &Path| fs::read(folder.join(&name)).ok().map(Zeroizing::new);
            if read(&old) != read(&new) {
                differences.push(format!("content of {}", name.to_string_lossy()));
            }
        }
        Ok(differences)
    }

    /// Writes the files that the drop-in names and returns the drop-in, for `config` to validate. May be called again:
    /// it replaces what it wrote before.
    pub fn write(
        &self,
        token: &EnrollmentToken,
        answers: &EnrollmentAnswers,
    ) -> Result<ProposedDropIn, EnrollmentFileError> {
        self.dir.remove_all_but_key(self.number)?;
        let at = self.dir.at(self.number);
        for file in drop_in::files(token, answers) {
            let readers = match file.secret {
                true => self.dir.secrets,
                false => FileReaders::Everybody,
            };
            write_new(&at.join(file.name), file.text.as_bytes(), readers)?;
        }
        sync(&at)?;
        let relative = Path::new(ENROLLMENTS).join(self.number.to_string());
        let text = drop_in::render(token, answers, &relative)
            .map_err(|error| EnrollmentFileError::Key(error.to_string()))?;
        Ok(ProposedDropIn {
            path: self.dir.drop_in.clone(),
            text,
        })
    }

    /// Keeps the key on drop, for the next run with the same token: from now on the gateway may know it.
    pub fn keep_key(&mut self) {
        self.on_drop = DropCleanup::KeepKey;
    }

    /// Puts the drop-in in place with one rename. The enrollment is active from then on.
    pub fn commit(mut self, proposed: &ProposedDropIn) -> Result<(), EnrollmentFileError> {
        let main = &self.dir.main;
        if !main.exists() {
            write_new(main, MAIN_FILE_TEXT.as_bytes(), FileReaders::Everybody)?;
            sync(&self.dir.folder)?;
        }
        let folder = proposed.path.parent().unwrap_or(&self.dir.folder);
        let new = folder.join(TEMPORARY);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(EnrollmentFileError::io(&new, error));
            }
            _ => {}
        }
        write_new(&new, proposed.text.as_bytes(), FileReaders::Everybody)?;
        fs::rename(&new, &proposed.path)
            .map_err(|error| EnrollmentFileError::io(&proposed.path, error))?;
        self.on_drop = DropCleanup::Committed;
        sync(folder)
    }
}

impl Drop for StagedEnrollment<'_> {
    fn drop(&mut self) {
        // What cannot be removed now, the next run removes.
        let _ = match self.on_drop {
            DropCleanup::Remove => self.dir.remove(self.number),
            DropCleanup::KeepKey => self.dir.remove_all_but_key(self.number),
            DropCleanup::Committed => Ok(()),
        };
    }
}

/// Keys whose lines differ between the texts. Comments do not count.
fn changed_keys(before: &str, after: &str) -> Vec<String> {
    let mut keys = Vec::new();
    for (lines, others) in [(after, before), (before, after)] {
        let changed =
            |line: &&str| !line.starts_with('#') && !others.lines().any(|other| other == *line);
        for line in lines.lines().filter(changed) {
            let key = line.split('=').next().unwrap_or_default().trim().to_owned();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    keys
}

/// Not read as a drop-in: the name begins with a dot and has another extension.
const TEMPORARY: &str = ".10-enrolment.new";
const MAIN_FILE_TEXT: &str =
    "# Configuration of jira-tunnel-agent. The settings from agent enroll are in agent.d.\n";
