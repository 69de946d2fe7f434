//! One folder per agent, `enrolments/NAME/`: `ID.json` is an invitation, `ID.used` names the key that used it. The second
//! is created by a hard link, which fails if it exists, so that only one of two concurrent uses wins.

use crate::AgentName;
use agent_base::printable::hex;
use agent_enrollment::{OneTimeSecret, registered_options};
use agent_ssh::bind_template::{BindTemplate, SlotRange};
use russh::keys::{HashAlg, PublicKey};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

/// The invitations of one gateway. All methods block on disk access.
#[derive(Clone, Debug)]
pub struct InvitationStore {
    gateway_folder: PathBuf,
}

/// One invitation to register an agent's key.
#[derive(Clone, Debug)]
pub struct Invitation {
    /// Short name of the invitation, derived from its one-time key.
    pub id: String,
    /// Name of the invited agent.
    pub agent: AgentName,
    /// What the registered key may listen on.
    pub bind: String,
    /// The slot numbers of the invited host, if not the first ones.
    pub slots: Option<String>,
    /// When the invitation expires.
    pub expires: SystemTime,
    /// Whether the invitation is open, used or expired.
    pub state: InvitationState,
}

/// Whether an invitation is open, used or expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvitationState {
    /// The invitation can be used.
    Open,
    /// The invitation has expired unused.
    Expired,
    /// A key was registered by it.
    Used {
        /// Fingerprint of that key, `SHA256:…`.
        key: String,
        /// When it was registered (RFC 3339).
        at: String,
    },
}

#[derive(Serialize, Deserialize)]
struct InvitationFile {
    /// The public half of the one-time key.
    key: String,
    bind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slots: Option<String>,
    expires: String,
}

#[derive(Serialize, Deserialize)]
struct InvitationUse {
    key: String,
    at: String,
}

impl InvitationStore {
    /// The store in the gateway's folder, which need not exist yet.
    pub fn new(data: &Path) -> Self {
        Self {
            gateway_folder: data.to_owned(),
        }
    }

    /// Creates an invitation, whose holder may register one key that may listen on `bind`.
    pub fn invite(
        &self,
        agent: &AgentName,
        secret: &OneTimeSecret,
        bind: &BindTemplate,
        slots: Option<SlotRange>,
        expires: SystemTime,
    ) -> Result<Invitation, InvitationError> {
        let public = secret.key().public_key().clone();
        let folder = self.folder(agent);
        make_folder(&folder)?;
        // An agent is known once it has a folder.
        make_folder(&self.gateway_folder.join("agents").join(agent.as_str()))?;
        let id = id(&public);
        let written = InvitationFile {
            key: public.to_openssh().map_err(InvitationError::Key)?,
            bind: bind.to_string(),
            slots: slots.map(|slots| slots.to_string()),
            expires: humantime::format_rfc3339_seconds(expires).to_string(),
        };
        write_new(&folder, &invitation_file(&id), &written)?;
        self.read(agent, &id)?.ok_or(InvitationError::Unknown(id))
    }

    /// The invitation of this one-time key, even if used or expired.
    pub fn find(
        &self,
        agent: &AgentName,
        key: &PublicKey,
    ) -> Result<Option<Invitation>, InvitationError> {
        let id = id(key);
        let path = self.folder(agent).join(invitation_file(&id));
        let Some(written) = read_json::<InvitationFile>(&path)? else {
            return Ok(None);
        };
        // The name is a truncated hash; compare the key itself.
        let same = PublicKey::from_openssh(&written.key)
            .is_ok_and(|known| known.key_data() == key.key_data());
        match same {
            true => self.read(agent, &id),
            false => Ok(None),
        }
    }

    /// All invitations, ordered by agent and expiry.
    pub fn list(&self) -> Result<Vec<Invitation>, InvitationError> {
        let mut all = Vec::new();
        for agent in names(&self.gateway_folder.join(FOLDER))? {
            let Ok(agent) = agent.parse::<AgentName>() else {
                continue;
            };
            for name in names(&self.folder(&agent))? {
                if let Some(id) = name.strip_suffix(".json") {
                    all.extend(self.read(&agent, id)?);
                }
            }
        }
        all.sort_by(|a, b| (&a.agent, a.expires).cmp(&(&b.agent, b.expires)));
        Ok(all)
    }

    /// Revokes an invitation. A key that it registered stays.
    pub fn revoke(&self, invitation: &Invitation) -> Result<(), InvitationError> {
        let path = self
            .folder(&invitation.agent)
            .join(invitation_file(&invitation.id));
        fs::remove_file(&path).map_err(|error| InvitationError::io(&path, error))
    }

    /// Registers `key` by this invitation, once. The same key again, before the expiry, succeeds again, because the last
    /// reply may have been lost. It is written only if that was not done before, so that a key that the vendor has removed
    /// since does not come back.
    pub fn redeem(
        &self,
        invitation: &Invitation,
        key: &PublicKey,
        now: SystemTime,
    ) -> Result<(), InvitationError> {
        let print = key.fingerprint(HashAlg::Sha256).to_string();
        // Read again: it may have been revoked since the login.
        let invitation = self
            .read(&invitation.agent, &invitation.id)?
            .ok_or_else(|| InvitationError::Unknown(invitation.id.clone()))?;
        if now >= invitation.expires {
            return Err(InvitationError::Expired(
                humantime::format_rfc3339_seconds(invitation.expires).to_string(),
            ));
        }
        match &invitation.state {
            InvitationState::Used { key, .. } if *key == print => {}
            InvitationState::Used { key, at } => {
                return Err(InvitationError::Used {
                    key: key.clone(),
                    at: at.clone(),
                });
            }
            InvitationState::Open | InvitationState::Expired => {
                let taken = InvitationUse {
                    key: print,
                    at: humantime::format_rfc3339_seconds(now).to_string(),
                };
                let folder = self.folder(&invitation.agent);
                match write_new(&folder, &used_file(&invitation.id), &taken) {
                    // Another session used it in the meantime.
                    Err(InvitationError::Io { error, .. })
                        if error.kind() == io::ErrorKind::AlreadyExists =>
                    {
                        return self.redeem(&invitation, key, now);
                    }
                    other => other?,
                }
            }
        }
        let folder = self.folder(&invitation.agent);
        if folder.join(done_file(&invitation.id)).exists() {
            return Ok(());
        }
        self.authorize(&invitation, key)?;
        let done = humantime::format_rfc3339_seconds(now).to_string();
        match write_new(&folder, &done_file(&invitation.id), &done) {
            // Another session with the same key was faster.
            Err(InvitationError::Io { error, .. })
                if error.kind() == io::ErrorKind::AlreadyExists =>
            {
                Ok(())
            }
            other => other,
        }
    }

    /// Adds the key to the agent's authorized_keys unless it is there.
    fn authorize(&self, invitation: &Invitation, key: &PublicKey) -> Result<(), InvitationError> {
        let folder = self
            .gateway_folder
            .join("agents")
            .join(invitation.agent.as_str());
        let path = folder.join("authorized_keys");
        let failed = |error| InvitationError::io(&path, error);
        make_folder(&folder)?;
        let mut file = File::options()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(failed)?;
        // Two hosts may enroll under one name at once, by two invitations.
        file.lock().map_err(failed)?;
        let mut text = String::new();
        file.seek(SeekFrom::Start(0)).map_err(failed)?;
        file.read_to_string(&mut text).map_err(failed)?;
        let line = key.to_openssh().map_err(InvitationError::Key)?;
        let known = line.split(' ').nth(1).unwrap_or(&line);
        if text.contains(known) {
            return Ok(());
        }
        let unknown = || InvitationError::Unknown(invitation.id.clone());
        let bind: BindTemplate = invitation.bind.parse().map_err(|_| unknown())?;
        let slots = invitation.slots.as_deref().map(str::parse).transpose();
        let slots: SlotRange = slots.map_err(|_| unknown())?.unwrap_or_default();
        let gap = if text.is_empty() || text.ends_with('\n') {
            ""
        } else {
            "\n"
        };
        let entry = format!("{gap}{} {line}\n", registered_options(&bind, slots));
        file.write_all(entry.as_bytes()).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        sync(&folder)
    }

    fn read(&self, agent: &AgentName, id: &str) -> Result<Option<Invitation>, InvitationError> {
        let folder = self.folder(agent);
        let path = folder.join(invitation_file(id));
        let Some(written) = read_json::<InvitationFile>(&path)? else {
            return Ok(None);
        };
        let expires = humantime::parse_rfc3339(&written.expires)
            .map_err(|_| InvitationError::Format(path.display().to_string()))?;
        let state = match read_json::<InvitationUse>(&folder.join(used_file(id)))? {
            Some(InvitationUse { key, at }) => InvitationState::Used { key, at },
            None if SystemTime::now() >= expires => InvitationState::Expired,
            None => InvitationState::Open,
        };
        Ok(Some(Invitation {
            id: id.to_owned(),
            agent: agent.clone(),
            bind: written.bind,
            slots: written.slots,
            expires,
            state,
        }))
    }

    fn folder(&self, agent: &AgentName) -> PathBuf {
        self.gateway_folder.join(FOLDER).join(agent.as_str())
    }
}

/// Why an invitation could not be created, read or used. The texts of `Used`, `Expired` and `Unknown` are sent to the agent.
#[derive(Debug, thiserror::Error)]
pub enum InvitationError {
    /// A file could not be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// A file is malformed.
    #[error("{0} is malformed; delete it")]
    Format(String),
    /// A key could not be encoded as text.
    #[error("cannot encode the key: {0}")]
    Key(russh::keys::ssh_key::Error),
    /// The invitation does not exist, or was revoked meanwhile.
    #[error("this invitation was withdrawn ({0})")]
    Unknown(String),
    /// Another key was registered by this invitation.
    #[error("this token was used already, at {at}, for the key {key}")]
    Used {
        /// Fingerprint of that key, `SHA256:…`.
        key: String,
        /// When it was registered (RFC 3339).
        at: String,
    },
    /// The invitation has expired.
    #[error("this token ended at {0}")]
    Expired(String),
}

impl InvitationError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            error,
        }
    }
}

/// Writes a new file under its name only when complete, and never over an existing one.
fn write_new(folder: &Path, name: &str, content: &impl Serialize) -> Result<(), InvitationError> {
    let path = folder.join(name);
    let failed = |error| InvitationError::io(&path, error);
    let text =
        serde_json::to_string_pretty(content).map_err(|error| failed(io::Error::other(error)))?;
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist_noclobber(&path)
        .map_err(|error| failed(error.error))?;
    sync(folder)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, InvitationError> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(InvitationError::io(path, error)),
    };
    serde_json::from_str(&text)
        .map(Some)
        .map_err(|_| InvitationError::Format(path.display().to_string()))
}

fn names(folder: &Path) -> Result<Vec<String>, InvitationError> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(InvitationError::io(folder, error)),
    };
    Ok(entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect())
}

fn make_folder(path: &Path) -> Result<(), InvitationError> {
    fs::create_dir_all(path).map_err(|error| InvitationError::io(path, error))
}

fn sync(folder: &Path) -> Result<(), InvitationError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| InvitationError::io(folder, error))
}

fn id(key: &PublicKey) -> String {
    let print = key.fingerprint(HashAlg::Sha256);
    hex(print.as_bytes().get(..ID_BYTES).unwrap_or_default())
}

fn invitation_file(id: &str) -> String {
    format!("{id}.json")
}

fn used_file(id: &str) -> String {
    format!("{id}.used")
}

/// Exists once the key is in authorized_keys.
fn done_file(id: &str) -> String {
    format!("{id}.done")
}

const FOLDER: &str = "enrolments";
/// Bytes of the key's hash in an ID, enough to distinguish invitations.
const ID_BYTES: usize = 6;

#[cfg(test)]
#[path = "invitation_store_tests.rs"]
mod tests;
