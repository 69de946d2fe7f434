//! What support needs, in one archive: the state of this host, of the agent and of its surroundings.
//!
//! [`gather`] collects all parts at once, each within its own time and size limit; a part that is unavailable states why
//! and does not stop the others. `program` runs other programs, `permissions` and `tail` read files, `host` identifies the
//! host, `redactor` removes secrets from every part, `archive` packs. The parts about the agent are the output of its own
//! commands.

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

/// The options of `agent support-bundle`.
#[derive(Clone, Debug)]
pub struct BundleOptions {
    /// The systemd unit whose journal and state are collected.
    pub unit: String,
    /// The log file, if the log does not go to the journal.
    pub log_file: Option<std::path::PathBuf>,
    /// Run the check even if no agent runs, which sends the credential of each forward once.
    pub check: bool,
}

/// All parts, redacted, and the name of the folder in the archive.
#[derive(Debug)]
pub struct SupportBundle {
    /// `jira-tunnel-agent-support-HOST-TIME`, in characters that are safe in a file name.
    pub name: String,
    /// The parts in the order in which they are listed.
    pub parts: Vec<BundlePart>,
}

/// The secrets could not be read, so that the parts could not be redacted.
#[derive(Debug, thiserror::Error)]
#[error(
    "the configuration and its secrets could not be read within {} s, and without them the bundle cannot be redacted; check the disk they are on",
    SECRETS_TIMEOUT.as_secs()
)]
pub struct SecretsUnread;

/// Collects and redacts all parts. Takes as long as the slowest one, at most a few minutes (the check).
///
/// # Errors
/// [`SecretsUnread`]: nothing is collected that could not be redacted.
pub async fn gather(
    options: &BundleOptions,
    sources: &ConfigSources,
) -> Result<SupportBundle, SecretsUnread> {
    let from = sources.clone();
    let read = tokio::task::spawn_blocking(move || {
        let paths = AgentPaths::read(&from);
        let redactor = Redactor::of(&paths);
        (paths, redactor)
    });
    let read = tokio::time::timeout(SECRETS_TIMEOUT, read).await;
    let Ok(Ok((paths, redactor))) = read else {
        return Err(SecretsUnread);
    };
    let mut parts = parts::all(options, sources, &paths).await;
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
const SECRETS_TIMEOUT: Duration = Duration::from_secs(20);
