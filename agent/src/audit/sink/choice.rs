//! Which sink is used, and why.
//!
//! journald silently drops what a service logs past `RateLimitBurst`. `LogRateLimitBurst=` in the unit lifts that limit,
//! but systemd before 240 ignores that line, another unit may lack it, and no program can ask. So the packaged unit sets a
//! variable beside the line, and systemd 240 and later set `LOGS_DIRECTORY`, which came with the same version: both
//! together are the proof. Without it the default is a file, which counts what it loses.

use super::{LineSink, StderrSink, file::RotatedFileSink, journal::JournalSink};
use crate::{
    audit::{SinkSetting, record::MAX_LINE},
    disk::FreeSpaceFloor,
};
use rustix::fs::{Access, access};
use std::{
    env, fmt,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};

/// The part of the environment that decides on the sink.
#[derive(Clone, Debug)]
pub struct ServiceEnvironment {
    /// The unit lifts journald's rate limit for this service.
    pub unlimited_journal: bool,
    /// The folder for logs that systemd has created.
    pub logs_directory: Option<PathBuf>,
    /// The package's folder for logs, for when systemd sets none.
    pub packaged_logs: PathBuf,
    /// Path of journald's native socket.
    pub journal_socket: PathBuf,
}

impl ServiceEnvironment {
    /// Reads the environment of this process.
    pub fn of_process() -> Self {
        let logs = env::var_os("LOGS_DIRECTORY");
        let logs = logs.and_then(|folders| env::split_paths(&folders).next());
        Self {
            unlimited_journal: env::var_os(UNLIMITED).is_some_and(|value| value == "1"),
            logs_directory: logs.filter(|folder| folder.is_absolute()),
            packaged_logs: PathBuf::from(PACKAGED_LOGS),
            journal_socket: PathBuf::from("/run/systemd/journal/socket"),
        }
    }

    fn has_journal(&self) -> bool {
        UnixDatagram::unbound()
            .and_then(|socket| socket.connect(&self.journal_socket))
            .is_ok()
    }

    /// Whether no line is lost to a rate limit.
    fn journal_is_proven(&self) -> bool {
        self.unlimited_journal && self.logs_directory.is_some()
    }
}

/// A sink that was chosen, and is not opened yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkChoice {
    destination: SinkDestination,
    /// Why this one was chosen: a sentence without a full stop.
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum SinkDestination {
    File(PathBuf),
    Journal(PathBuf),
    Stderr,
    Off,
}

impl SinkChoice {
    /// Applies the setting to a service with this environment. Reads the disk.
    pub fn resolve(sink: &SinkSetting, environment: &ServiceEnvironment) -> Self {
        let journal = || SinkDestination::Journal(environment.journal_socket.clone());
        let (destination, reason) = match sink {
            SinkSetting::Off => (SinkDestination::Off, "audit.sink is \"off\""),
            SinkSetting::File(path) => (SinkDestination::File(path.clone()), "named in audit.file"),
            SinkSetting::Auto { .. } | SinkSetting::Journal if !environment.has_journal() => {
                (SinkDestination::Stderr, "this host has no journal")
            }
            SinkSetting::Journal if environment.journal_is_proven() => (
                journal(),
                "audit.sink is \"journal\"; the unit lifts journald's rate limit",
            ),
            SinkSetting::Journal => (journal(), UNPROVEN),
            SinkSetting::Auto { .. } if environment.journal_is_proven() => {
                (journal(), "the unit lifts journald's rate limit")
            }
            SinkSetting::Auto { fallback } => (
                SinkDestination::File(default_file(environment, fallback)),
                "journald may silently drop lines of this service: nothing shows that the unit lifts its rate limit, which \
                 systemd 240 and later can",
            ),
        };
        Self {
            destination,
            reason: reason.to_owned(),
        }
    }

    /// The path, if the sink is a file.
    pub fn file(&self) -> Option<&Path> {
        match &self.destination {
            SinkDestination::File(path) => Some(path),
            SinkDestination::Journal(_) | SinkDestination::Stderr | SinkDestination::Off => None,
        }
    }

    /// Whether lines are not written at all.
    pub fn is_off(&self) -> bool {
        self.destination == SinkDestination::Off
    }

    /// Whether the sink may lose lines without counting them.
    pub fn may_lose_silently(&self) -> bool {
        self.reason == UNPROVEN
    }

    /// `None` where records are not written. As many lines as `queue` are promised while `floor` stays free.
    pub(in crate::audit) fn open(
        &self,
        floor: FreeSpaceFloor,
        queue: usize,
    ) -> Option<Box<dyn LineSink>> {
        Some(match &self.destination {
            SinkDestination::File(path) => {
                let all = (queue.saturating_mul(MAX_LINE)) as u64;
                let promised = FreeSpaceFloor {
                    bytes: match floor.bytes {
                        0 => 0,
                        bytes => bytes.saturating_add(all),
                    },
                    // On a small disk between what the spool leaves, a tenth, and what the audit does.
                    parts: floor.parts.min(PROMISED_PARTS),
                };
                Box::new(RotatedFileSink::new(path.clone(), floor, promised))
            }
            SinkDestination::Journal(path) => match JournalSink::new(path) {
                Ok(journal) => Box::new(journal),
                Err(error) => {
                    tracing::warn!(%error, "the journal is no longer reachable; writing audit lines to standard error");
                    Box::new(StderrSink)
                }
            },
            SinkDestination::Stderr => Box::new(StderrSink),
            SinkDestination::Off => return None,
        })
    }
}

impl fmt::Display for SinkChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.destination {
            SinkDestination::File(path) => write!(f, "the file {}", path.display()),
            SinkDestination::Journal(_) => f.write_str("the journal"),
            SinkDestination::Stderr => f.write_str("standard error"),
            SinkDestination::Off => f.write_str("nowhere"),
        }
    }
}

/// In the folder whose logs are rotated, if there is one and it is writable.
fn default_file(environment: &ServiceEnvironment, fallback: &Path) -> PathBuf {
    let packaged = &environment.packaged_logs;
    match &environment.logs_directory {
        Some(folder) => folder.join(FILE_NAME),
        None if access(packaged, Access::WRITE_OK | Access::EXEC_OK).is_ok() => {
            packaged.join(FILE_NAME)
        }
        None => fallback.to_owned(),
    }
}

/// Where the default sink may have put the file of an agent whose environment is not known.
pub fn default_audit_files(state_dir: &Path) -> [PathBuf; 2] {
    [Path::new(PACKAGED_LOGS), state_dir].map(|folder| folder.join(FILE_NAME))
}

/// The package's folder for logs.
const PACKAGED_LOGS: &str = "/var/log/jira-tunnel-agent";
/// The packaged unit sets it beside `LogRateLimitBurst=`.
const UNLIMITED: &str = "JIRA_TUNNEL_AGENT_UNLIMITED_JOURNAL";
/// The packaged logrotate configuration has the same name.
const FILE_NAME: &str = "audit.log";
const UNPROVEN: &str = "audit.sink is \"journal\", although journald may drop lines of this service, which only gaps in \
                        seq would show: nothing shows that the unit lifts its rate limit, which systemd 240 and later can";
/// Free part of the disk, as in `1/12`, above which lines are promised; see `open`.
const PROMISED_PARTS: u64 = 12;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    struct Host {
        folder: tempfile::TempDir,
        _journal: Option<UnixDatagram>,
        environment: ServiceEnvironment,
    }

    fn host(journal: bool, unlimited: bool, logs: bool) -> Host {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let logs = logs.then(|| folder.path().join("logs"));
        Host {
            _journal: journal.then(|| UnixDatagram::bind(&socket).unwrap()),
            environment: ServiceEnvironment {
                unlimited_journal: unlimited,
                logs_directory: logs,
                packaged_logs: folder.path().join("packaged"),
                journal_socket: socket,
            },
            folder,
        }
    }

    impl Host {
        fn choice(&self) -> String {
            let fallback = self.folder.path().join("state/audit.log");
            let choice = SinkChoice::resolve(&SinkSetting::Auto { fallback }, &self.environment);
            let folder = format!("{}/", self.folder.path().display());
            choice.to_string().replace(&folder, "")
        }
    }

    /// The default counts what it loses.
    #[test]
    fn the_journal_is_the_default_only_where_it_is_proven_to_drop_nothing() {
        assert_eq!(host(true, true, true).choice(), "the journal");
        // systemd before 240 passes the variable on, and knows neither the setting nor LOGS_DIRECTORY.
        assert_eq!(host(true, true, false).choice(), "the file state/audit.log");
        // A unit of somebody else's.
        assert_eq!(host(true, false, true).choice(), "the file logs/audit.log");
        // A shell.
        assert_eq!(
            host(true, false, false).choice(),
            "the file state/audit.log"
        );
        // A container.
        assert_eq!(host(false, false, false).choice(), "standard error");
        let host = host(true, true, false);
        std::fs::create_dir(host.folder.path().join("packaged")).unwrap();
        assert_eq!(host.choice(), "the file packaged/audit.log");
    }

    #[test]
    fn what_is_written_in_the_configuration_holds_and_says_what_it_may_lose() {
        let host = host(true, false, true);
        let of = |sink| SinkChoice::resolve(&sink, &host.environment);
        let journal = of(SinkSetting::Journal);
        assert_eq!(journal.to_string(), "the journal");
        assert!(journal.may_lose_silently());
        let file = of(SinkSetting::File("/x/y".into()));
        assert_eq!(file.file(), Some(Path::new("/x/y")));
        assert!(!file.may_lose_silently());
        assert!(of(SinkSetting::Off).open(FreeSpaceFloor::NONE, 1).is_none());
    }
}
