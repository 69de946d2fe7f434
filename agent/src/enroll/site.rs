//! The files of an enrolment. `enrolment/N/` beside the configuration holds the key and what else the drop-in names;
//! `agent.d/10-enrolment.toml` says which N counts. Everything below N is on the disk before the drop-in has its name.
//!
//! Blocks on the disk. One process at a time: the folder `enrolment` is locked.

use super::{
    Answers, Token,
    drop_in::{self, IDENTITY},
    key,
};
use crate::{
    config::{self, Draft, Sources},
    secret::SecretFile,
    tunnel::session::Identity,
};
use serde::{Deserialize, Serialize};
use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
};

/// The configuration's folder, locked for us.
pub struct Site {
    main: PathBuf,
    folder: PathBuf,
    drop_in: PathBuf,
    /// Whose the secrets are to be, where we may decide that: the state folder's owner.
    owner: Option<(u32, u32)>,
    _lock: File,
}

/// What counts now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    number: Option<u32>,
    /// What the token's digest was; `None` where that cannot be read any more.
    pub token: Option<String>,
    /// The public key, as in an authorized_keys line.
    pub public: Option<String>,
}

/// The agent's key.
pub struct Key {
    /// As in an authorized_keys line.
    pub public: String,
    /// It was made by an earlier run with the same token: the vendor may know it.
    pub reused: bool,
}

/// What is being made. Dropped, it takes away what it has written; [`keep`](Self::keep) leaves the key.
pub struct Staged<'a> {
    site: &'a Site,
    number: u32,
    /// The new key.
    pub key: Key,
    end: End,
}

#[derive(PartialEq, Eq)]
enum End {
    Remove,
    KeepKey,
    Done,
}

#[derive(Serialize, Deserialize)]
struct Record {
    token: String,
    public_key: String,
}

impl Site {
    /// Makes the folders where they are missing, and locks.
    pub fn open(sources: &Sources) -> Result<Self, SiteError> {
        let folder = sources.folder().to_owned();
        let drop_ins = sources.drop_in_folder();
        let enrolments = folder.join(ENROLMENTS);
        for path in [&folder, &drop_ins, &enrolments] {
            make_folder(path)?;
        }
        let lock = File::open(&enrolments).map_err(|error| SiteError::io(&enrolments, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SiteError::Busy(enrolments)),
            Err(TryLockError::Error(error)) => return Err(SiteError::io(&enrolments, error)),
        }
        let owner = match rustix::process::geteuid().is_root() {
            true => fs::metadata(config::state_dir(sources))
                .ok()
                .map(|found| (found.uid(), found.gid())),
            false => None,
        };
        Ok(Self {
            main: sources.file.clone(),
            drop_in: drop_ins.join(DROP_IN),
            folder,
            owner,
            _lock: lock,
        })
    }

    /// Where the drop-in is or will be.
    pub fn drop_in(&self) -> &Path {
        &self.drop_in
    }

    /// What counts now, if anything does. Touches nothing.
    pub fn look(sources: &Sources) -> Result<Option<Enrolment>, SiteError> {
        look(sources.folder(), &sources.drop_in_folder().join(DROP_IN))
    }

    /// What counts now, if anything does.
    pub fn current(&self) -> Result<Option<Enrolment>, SiteError> {
        look(&self.folder, &self.drop_in)
    }

    /// Begins an enrolment: with the key of an earlier run with this token that did not come to its end, else with a
    /// new one. What other runs have left is removed.
    pub fn stage(&self, token: &str, comment: &str) -> Result<Staged<'_>, SiteError> {
        let current = self.current()?.and_then(|current| current.number);
        let mut left = None;
        let mut highest = 0;
        for number in self.numbers()? {
            highest = highest.max(number);
            if Some(number) == current {
                continue;
            }
            match self.record(number).filter(|record| record.token == token) {
                Some(record) if left.is_none() && self.has_key(number) => {
                    left = Some((number, record.public_key));
                }
                _ => self.remove(number)?,
            }
        }
        if let Some((number, public)) = left {
            self.remove_all_but_key(number)?;
            return Ok(Staged {
                site: self,
                number,
                key: Key {
                    public,
                    reused: true,
                },
                end: End::KeepKey,
            });
        }
        let number = highest + 1;
        make_folder(&self.at(number))?;
        let mut staged = Staged {
            site: self,
            number,
            key: Key {
                public: String::new(),
                reused: false,
            },
            end: End::Remove,
        };
        let (private, public) =
            key::generate(comment).map_err(|error| SiteError::Key(error.to_string()))?;
        let record = Record {
            token: token.to_owned(),
            public_key: public.clone(),
        };
        // Texts alone: nothing in them that JSON could not hold.
        let record = serde_json::to_string_pretty(&record).unwrap_or_default() + "\n";
        let at = self.at(number);
        self.write(&at.join(IDENTITY), private.as_bytes(), SECRET)?;
        let line = format!("{public}\n");
        self.write(&at.join(PUBLIC_HALF), line.as_bytes(), PUBLIC)?;
        self.write(&at.join(RECORD), record.as_bytes(), PUBLIC)?;
        sync(&at)?;
        sync(&self.folder.join(ENROLMENTS))?;
        staged.key.public = public;
        Ok(staged)
    }

    /// Removes what does not count any more.
    pub fn tidy(&self) -> Result<(), SiteError> {
        let Some(current) = self.current()?.and_then(|current| current.number) else {
            return Ok(());
        };
        for number in self.numbers()? {
            if number != current {
                self.remove(number)?;
            }
        }
        Ok(())
    }

    fn at(&self, number: u32) -> PathBuf {
        at(&self.folder, number)
    }

    fn numbers(&self) -> Result<Vec<u32>, SiteError> {
        let path = self.folder.join(ENROLMENTS);
        let entries = fs::read_dir(&path).map_err(|error| SiteError::io(&path, error))?;
        let mut numbers: Vec<u32> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn record(&self, number: u32) -> Option<Record> {
        record(&self.folder, number)
    }

    fn has_key(&self, number: u32) -> bool {
        Identity::load(&SecretFile::new(self.at(number).join(IDENTITY)), None).is_ok()
    }

    fn remove(&self, number: u32) -> Result<(), SiteError> {
        let path = self.at(number);
        fs::remove_dir_all(&path).map_err(|error| SiteError::io(&path, error))
    }

    fn remove_all_but_key(&self, number: u32) -> Result<(), SiteError> {
        let path = self.at(number);
        let failed = |error| SiteError::io(&path, error);
        for entry in fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let kept = [IDENTITY, PUBLIC_HALF, RECORD];
            if !kept.iter().any(|kept| name == *kept) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// A new file, durable but for its folder.
    fn write(&self, path: &Path, bytes: &[u8], mode: u32) -> Result<(), SiteError> {
        let failed = |error| SiteError::io(path, error);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(SECRET)
            .open(path)
            .map_err(failed)?;
        if let Some((uid, gid)) = self.owner.filter(|_| mode == SECRET) {
            fchown(&file, Some(uid), Some(gid)).map_err(failed)?;
        }
        // Whatever the umask.
        let permissions = Permissions::from_mode(mode);
        file.set_permissions(permissions).map_err(failed)?;
        file.write_all(bytes).map_err(failed)?;
        file.sync_all().map_err(failed)
    }
}

impl Staged<'_> {
    /// Writes what the drop-in names, and gives the drop-in for `config` to judge.
    pub fn write(&self, token: &Token, answers: &Answers) -> Result<Draft, SiteError> {
        let at = self.site.at(self.number);
        for file in drop_in::files(token, answers) {
            let mode = if file.secret { SECRET } else { PUBLIC };
            self.site
                .write(&at.join(file.name), file.text.as_bytes(), mode)?;
        }
        sync(&at)?;
        let relative = Path::new(ENROLMENTS).join(self.number.to_string());
        let text = drop_in::render(token, answers, &relative)
            .map_err(|error| SiteError::Key(error.to_string()))?;
        Ok(Draft {
            path: self.site.drop_in.clone(),
            text,
        })
    }

    /// The gateway may know the key from now on: it is left where it is, for the next run with the same token.
    pub fn keep(&mut self) {
        self.end = End::KeepKey;
    }

    /// The one step that counts.
    pub fn commit(mut self, draft: &Draft) -> Result<(), SiteError> {
        let main = &self.site.main;
        if !main.exists() {
            self.site.write(main, MAIN.as_bytes(), PUBLIC)?;
            sync(&self.site.folder)?;
        }
        let folder = draft.path.parent().unwrap_or(&self.site.folder);
        let new = folder.join(NEW);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(SiteError::io(&new, error));
            }
            _ => {}
        }
        self.site.write(&new, draft.text.as_bytes(), PUBLIC)?;
        fs::rename(&new, &draft.path).map_err(|error| SiteError::io(&draft.path, error))?;
        self.end = End::Done;
        sync(folder)
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run.
        let _ = match self.end {
            End::Remove => self.site.remove(self.number),
            End::KeepKey => self.site.remove_all_but_key(self.number),
            End::Done => Ok(()),
        };
    }
}

/// Why files could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SiteError {
    /// The system refuses.
    #[error("{}: {error}; {}", path.display(), remedy(error))]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Another process has the lock.
    #[error(
        "{} is in use: another agent enroll is running; let it end first", .0.display()
    )]
    Busy(PathBuf),
    /// A fault of the program.
    #[error("the key or the configuration could not be written as text: {0}; please report this")]
    Key(String),
}

impl SiteError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "run it as root: sudo agent enroll",
        io::ErrorKind::StorageFull => "make room on that disk, then run agent enroll again",
        _ => "mend that, then run agent enroll again",
    }
}

fn make_folder(path: &Path) -> Result<(), SiteError> {
    let failed = |error| SiteError::io(path, error);
    match DirBuilder::new().mode(FOLDER).create(path) {
        // Whatever the umask: the agent's user must be able to come by.
        Ok(()) => {
            fs::set_permissions(path, Permissions::from_mode(FOLDER)).map_err(failed)?;
            sync(path.parent().unwrap_or(Path::new("/")))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(failed(error)),
    }
}

fn sync(folder: &Path) -> Result<(), SiteError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| SiteError::io(folder, error))
}

fn look(folder: &Path, drop_in: &Path) -> Result<Option<Enrolment>, SiteError> {
    let text = match fs::read_to_string(drop_in) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(SiteError::io(drop_in, error)),
    };
    let number = number_in(&text);
    let record = number.and_then(|number| record(folder, number));
    Ok(Some(Enrolment {
        number,
        token: record.as_ref().map(|record| record.token.clone()),
        public: record.map(|record| record.public_key),
    }))
}

fn at(folder: &Path, number: u32) -> PathBuf {
    folder.join(ENROLMENTS).join(number.to_string())
}

fn record(folder: &Path, number: u32) -> Option<Record> {
    let text = fs::read_to_string(at(folder, number).join(RECORD)).ok()?;
    serde_json::from_str(&text).ok()
}

/// Which enrolment a drop-in of ours names.
fn number_in(text: &str) -> Option<u32> {
    let table: toml::Table = toml::from_str(text).ok()?;
    let file = Path::new(table.get("tunnel")?.get("identity_file")?.as_str()?);
    let number = file.strip_prefix(ENROLMENTS).ok()?.parent()?;
    number.to_str()?.parse().ok()
}

const ENROLMENTS: &str = "enrolment";
const DROP_IN: &str = "10-enrolment.toml";
/// No drop-in before it is whole: it begins with a dot and has another ending.
const NEW: &str = ".10-enrolment.new";
const PUBLIC_HALF: &str = "id_ed25519.pub";
const RECORD: &str = "enrolment.json";
const MAIN: &str =
    "# Configuration of jira-tunnel-agent. What agent enroll has written is in agent.d.\n";
const SECRET: u32 = 0o600;
const PUBLIC: u32 = 0o644;
const FOLDER: u32 = 0o755;
