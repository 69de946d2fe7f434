//! What a person who helps from afar needs to see, in one archive: how this host, the agent and its surroundings are.
//!
//! [`gather`] takes all parts at once, each within a time and a size of its own; a part that cannot be had says why and
//! stops nothing. `program` asks other programs, `permissions` and `tail` look at files, `host` says where this is, `redactor`
//! takes secrets out of whatever came of it, `archive` packs. Nothing here asks the agent by itself: the parts that
//! concern it are what its own commands print.

mod archive;
mod host;
mod part;
mod parts;
mod permissions;
mod program;
mod redactor;
mod regular_file;
mod secret_patterns;
mod tail;

pub use archive::{ArchiveError, write};
pub use part::{BundlePart, PartContent};
pub use redactor::Redactor;

use crate::config::{AgentPaths, ConfigSources};
use std::time::{Duration, SystemTime};

/// What the person who makes a bundle has chosen.
#[derive(Clone, Debug)]
pub struct BundleOptions {
    /// The systemd unit whose journal and state are looked at.
    pub unit: String,
    /// A file that the log goes to instead of the journal.
    pub log_file: Option<std::path::PathBuf>,
    /// Check also where no agent runs, which sends the login of each forward once.
    pub check: bool,
}

/// All parts, free of secrets as far as can be told, and the name of the folder they are packed in.
#[derive(Debug)]
pub struct SupportBundle {
    /// `jira-tunnel-agent-support-HOST-TIME`, in characters that are safe in a file's name.
    pub name: String,
    /// In the order in which they are shown.
    pub parts: Vec<BundlePart>,
}

/// What is to be taken out of the parts is not known.
#[derive(Debug, thiserror::Error)]
#[error(
    "the configuration and the files with secrets could not be read within {} s, so that nothing could be told to be free of them; look at the disk they are on",
    SECRETS.as_secs()
)]
pub struct SecretsUnread;

/// Takes all parts. Takes as long as the slowest of them, at most a few minutes (the check).
///
/// # Errors
/// Nothing is gathered where nothing could be told to be free of secrets.
pub async fn gather(
    choice: &BundleOptions,
    sources: &ConfigSources,
) -> Result<SupportBundle, SecretsUnread> {
    let from = sources.clone();
    let read = tokio::task::spawn_blocking(move || {
        let places = AgentPaths::read(&from);
        let redactor = Redactor::of(&places);
        (places, redactor)
    });
    let read = tokio::time::timeout(SECRETS, read).await;
    let Ok(Ok((places, redactor))) = read else {
        return Err(SecretsUnread);
    };
    let mut parts = parts::all(choice, sources, &places).await;
    for part in &mut parts {
        part.redact(&redactor);
    }
    parts.insert(0, parts::contents(&parts));
    Ok(SupportBundle {
        name: host::bundle_name(SystemTime::now()),
        parts,
    })
}

/// For reading the configuration and every secret that it names.
const SECRETS: Duration = Duration::from_secs(20);
