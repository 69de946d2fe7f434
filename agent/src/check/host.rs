//! This host: the agent's key, the folders that it writes to, the clock. Checked as the current user, which inside the
//! agent is the agent's own.

use super::step::{StepRecorder, StepResult};
use crate::{
    audit::{ServiceEnvironment, SinkChoice, SinkSetting},
    config::Config,
    disk::{DISK_TIMEOUT, DiskExecutor},
    expiry::CredentialExpiry,
    tunnel::session::SshIdentity,
};
use rustix::{
    fs::{Mode, OFlags, statvfs},
    process::geteuid,
};
use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

/// What the agent needs of the host.
#[derive(Clone)]
pub struct HostRequirements {
    identity: Arc<SshIdentity>,
    folders: Vec<CheckedFolder>,
    audit: SinkChoice,
    /// Whether this process knows what `audit.sink = "auto"` resolves to: only the agent does.
    audit_is_known: bool,
    /// Shared by all checks of this host, so that the number of hanging threads is bounded.
    disk: DiskExecutor,
}

#[derive(Clone)]
struct CheckedFolder {
    what: &'static str,
    path: PathBuf,
    /// Free bytes below which the check fails.
    fail_below: u64,
    /// Free bytes below which the check warns.
    warn_below: u64,
    key: &'static str,
    /// Created when it is needed.
    created_on_demand: bool,
}

impl HostRequirements {
    /// What this configuration requires of the host.
    pub fn of(config: &Config) -> Self {
        let spool = &config.tunnel.channel;
        Self {
            identity: Arc::clone(&config.tunnel.identity),
            folders: vec![
                CheckedFolder {
                    what: "state",
                    path: config.state_dir.clone(),
                    fail_below: MIN_STATE_BYTES,
                    warn_below: MIN_STATE_BYTES,
                    key: "state_dir",
                    created_on_demand: false,
                },
                CheckedFolder {
                    what: "spool",
                    path: spool.spool_dir.clone(),
                    fail_below: MIN_STATE_BYTES,
                    warn_below: spool.spool_per_channel,
                    key: "tunnel.channel.spool_dir",
                    created_on_demand: true,
                },
            ],
            audit: SinkChoice::resolve(&config.audit.sink, &ServiceEnvironment::of_process()),
            audit_is_known: !matches!(config.audit.sink, SinkSetting::Auto { .. })
                || std::env::var_os("INVOCATION_ID").is_some(),
            disk: DiskExecutor::default(),
        }
    }
}

/// Takes the steps. Returns when the SSH certificate expires, if there is one.
pub(super) async fn check(
    steps: &mut StepRecorder,
    host: &HostRequirements,
) -> Option<CredentialExpiry> {
    let expiry = identity(steps, host).await;
    for folder in &host.folders {
        let folder = folder.clone();
        let inspected = host.disk.run(move || inspect(&folder));
        let taken = async {
            let found = match inspected.await {
                Ok(found) => found,
                Err(error) => StepResult::fail(error.to_string(), DISK_REMEDY),
            };
            (found, None)
        };
        steps.run::<()>("files", taken).await;
    }
    if let Some(path) = host.audit.file().filter(|_| host.audit_is_known) {
        let path = path.to_owned();
        let taken = async {
            let found = match host.disk.run(move || audit(&path)).await {
                Ok(found) => found,
                Err(error) => StepResult::fail(error.to_string(), DISK_REMEDY),
            };
            (found, None)
        };
        steps.run::<()>("files", taken).await;
    } else if let Some(found) = journal(host) {
        steps.add("audit", found);
    }
    steps.add("clock", clock(SystemTime::now()));
    expiry
}

async fn identity(steps: &mut StepRecorder, host: &HostRequirements) -> Option<CredentialExpiry> {
    let identity = &host.identity;
    let file = identity.file().cloned();
    let taken = steps.run("identity", async {
        let checked = host.disk.run(move || match file {
            Some(file) => file.check().map_err(|error| error.to_string()),
            None => Ok(()),
        });
        let found = match checked.await {
            Ok(Ok(())) => StepResult::ok(format!(
                "{} {}, file is private",
                identity.algorithm(),
                identity.fingerprint()
            )),
            Ok(Err(cause)) => {
                StepResult::fail(cause, "correct the file, then start or reload the agent")
            }
            Err(error) => StepResult::fail(error.to_string(), DISK_REMEDY),
        };
        (found, Some(()))
    });
    taken.await;
    // Reads the certificate file beside the key.
    let expiry = tokio::time::timeout(DISK_TIMEOUT, identity.expiry()).await;
    expiry.unwrap_or_default()
}

/// Checks that a folder exists, is writable and has space. Blocks on the disk.
fn inspect(folder: &CheckedFolder) -> StepResult {
    let CheckedFolder {
        what, path, key, ..
    } = folder;
    let shown = path.display();
    let (nearest, missing) = match nearest_folder(path) {
        Some(nearest) => (nearest, nearest != path),
        None => {
            return StepResult::fail(
                format!(
                    "the {what} folder {shown} does not exist, and neither does any parent folder"
                ),
                format!("create it, or set another in {key}"),
            );
        }
    };
    if missing && !folder.created_on_demand {
        return StepResult::fail(
            format!("the {what} folder {shown} does not exist"),
            format!(
                "systemd creates it at startup (StateDirectory=); otherwise create it, or set another in {key}"
            ),
        );
    }
    if let Err(error) = tempfile::tempfile_in(nearest) {
        return StepResult::fail(
            format!("the {what} folder {shown} is not writable: {error}"),
            format!("make the agent's user its owner, or set another in {key}"),
        );
    }
    let free = match statvfs(nearest) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            return StepResult::warn(
                format!(
                    "cannot determine the free space of the {what} folder {shown}: {}",
                    io::Error::from(error)
                ),
                "check it with df",
            );
        }
    };
    let size = |bytes| bytesize::ByteSize(bytes).display().iec().to_string();
    let remedy = format!("free space there, or set another folder in {key}");
    if free < folder.fail_below {
        let text = format!("the {what} folder {shown} has {} free", size(free));
        return StepResult::fail(text, remedy);
    }
    if free < folder.warn_below {
        let text = format!(
            "the {what} folder {shown} has {} free; an upload may need {}, and is aborted if it does not fit",
            size(free),
            size(folder.warn_below)
        );
        return StepResult::warn(text, remedy);
    }
    let made = if missing { ", created when needed" } else { "" };
    StepResult::ok(format!(
        "{what} folder {shown}: writable{}, {} free{made}",
        running_user(nearest),
        size(free)
    ))
}

/// root may write everywhere; whether the service may, the folder's owner shows.
fn running_user(path: &Path) -> String {
    let owner = fs::metadata(path).map(|meta| meta.uid());
    match (geteuid().is_root(), owner) {
        (true, Ok(0)) => " by root".to_owned(),
        (true, Ok(uid)) => format!(" by root, owned by uid {uid}"),
        _ => String::new(),
    }
}

/// Checks that the audit file can be written. Blocks on the disk.
fn audit(path: &Path) -> StepResult {
    let shown = path.display();
    let opened = match path.exists() {
        true => open_for_append(path),
        false => {
            let folder = path.parent().unwrap_or(Path::new("."));
            tempfile::tempfile_in(folder).map(drop)
        }
    };
    match opened {
        Ok(()) => StepResult::ok(format!("audit log {shown}: writable")),
        Err(error) => StepResult::fail(
            format!("the audit log {shown} is not writable: {error}"),
            "make the agent's user the owner of it and its folder, or set another in audit.file",
        ),
    }
}

/// The step for an audit sink that is not a file.
fn journal(host: &HostRequirements) -> Option<StepResult> {
    let (sink, reason) = (&host.audit, &host.audit.reason);
    if !host.audit_is_known || sink.is_off() {
        return None;
    }
    if sink.may_lose_silently() {
        return Some(StepResult::warn(
            format!("audit lines go to {sink}: {reason}"),
            "set audit.file, or remove audit.sink; or lift journald's limit in the unit, as docs/audit.md \
             describes",
        ));
    }
    Some(StepResult::ok(format!(
        "audit lines go to {sink}: {reason}"
    )))
}

/// root opens a file in a folder of the service's user: a pipe in its place must not block.
fn open_for_append(path: &Path) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = fs::File::from(rustix::fs::open(path, flags, Mode::empty())?);
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

/// The path or its nearest parent that exists.
fn nearest_folder(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| folder.is_dir())
}

/// Whether this host's clock is plausible. The forward's own step compares it with Jira's.
fn clock(now: SystemTime) -> StepResult {
    let shown = humantime::format_rfc3339_seconds(now).to_string();
    if now < SystemTime::UNIX_EPOCH + EARLIEST_TIME {
        return StepResult::fail(
            format!(
                "this host's clock is wrong: it shows {shown}; certificates appear to be not yet valid"
            ),
            "set it: timedatectl set-ntp true",
        );
    }
    let timesyncd = Path::new("/run/systemd/timesync");
    match timesyncd.is_dir() && !timesyncd.join("synchronized").exists() {
        true => StepResult::warn(
            format!(
                "systemd-timesyncd is running but has not set this host's clock yet; it shows {shown}"
            ),
            "run timedatectl timesync-status to see why; it needs UDP port 123 to its server",
        ),
        false => StepResult::ok(shown),
    }
}

const DISK_REMEDY: &str = "check the disk (dmesg)";
/// Tokens and pauses need a few KiB; a disk with less than this is considered full.
const MIN_STATE_BYTES: u64 = 16 << 20;
/// 2026-11-01: older than this program.
const EARLIEST_TIME: Duration = Duration::from_secs(1_793_491_200);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::{
        check::{CheckStep, StepVerdict},
        secret::SecretFile,
    };
    use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};
    use std::{os::unix::fs::PermissionsExt, sync::mpsc};

    fn judged(found: StepResult) -> CheckStep {
        let mut steps = StepRecorder::new(None);
        steps.add("files", found);
        steps.into_vec().remove(0)
    }

    fn folder(path: &Path, least: u64, enough: u64, made: bool) -> CheckedFolder {
        CheckedFolder {
            what: "state",
            path: path.to_owned(),
            fail_below: least,
            warn_below: enough,
            key: "state_dir",
            created_on_demand: made,
        }
    }

    #[test]
    fn a_folder_is_judged_by_what_it_must_hold() {
        let dir = tempfile::tempdir().unwrap();
        let verdict =
            |least, enough| judged(inspect(&folder(dir.path(), least, enough, false))).verdict;
        assert_eq!(verdict(0, 0), StepVerdict::Ok);
        assert_eq!(verdict(0, u64::MAX), StepVerdict::Warn);
        assert_eq!(verdict(u64::MAX, u64::MAX), StepVerdict::Fail);
        let missing = dir.path().join("a/b");
        assert_eq!(
            judged(inspect(&folder(&missing, 0, 0, true))).verdict,
            StepVerdict::Ok
        );
        let shown = judged(inspect(&folder(&missing, 0, 0, false)));
        assert_eq!(shown.verdict, StepVerdict::Fail);
        assert!(shown.cause.unwrap().contains("does not exist"));
        assert!(!missing.exists(), "a check makes nothing");
        // A file in the place of a folder above it.
        fs::write(dir.path().join("file"), "").unwrap();
        let audit = judged(audit(&dir.path().join("file/audit.log")));
        assert_eq!(audit.verdict, StepVerdict::Fail);
        assert!(audit.remedy.unwrap().contains("audit.file"));
    }

    /// As on a network disk whose server is gone: no thread comes back from it.
    #[test]
    fn a_disk_that_hangs_is_told_of_at_each_step_and_holds_the_check_up_for_less_than_a_minute() {
        let dir = tempfile::tempdir().unwrap();
        let key = dir.path().join("id");
        let text = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519);
        let text = text.unwrap().to_openssh(LineEnding::LF).unwrap();
        fs::write(&key, text).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let host = HostRequirements {
            identity: Arc::new(SshIdentity::load(&SecretFile::new(key), None).unwrap()),
            folders: vec![folder(dir.path(), 0, 0, false)],
            audit: SinkChoice::resolve(
                &SinkSetting::File(dir.path().join("audit.log")),
                &ServiceEnvironment::of_process(),
            ),
            audit_is_known: true,
            disk: DiskExecutor::default(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .max_blocking_threads(1)
            .build()
            .unwrap();
        let (release, hangs) = mpsc::channel::<()>();
        runtime.spawn_blocking(move || hangs.recv());
        let mut steps = StepRecorder::new(None);
        runtime.block_on(async {
            // Time does not pass by itself while a thread is at work.
            let minute = async {
                for _ in 0..60 {
                    tokio::time::advance(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                biased;
                _ = check(&mut steps, &host) => {}
                () = minute => panic!("it waits for the disk"),
            }
        });
        drop(release);
        let steps = steps.into_vec();
        let of_disk = steps.iter().filter(|step| step.step != "clock");
        let shown: Vec<_> = of_disk.map(|step| (&*step.step, &step.cause)).collect();
        let silent = Some("the disk did not answer within 10s".to_owned());
        let expected = ["identity", "files", "files"].map(|step| (step, &silent));
        assert_eq!(shown, expected);
    }

    #[test]
    fn a_clock_from_before_this_program_is_wrong() {
        let old = judged(clock(SystemTime::UNIX_EPOCH));
        assert_eq!(old.verdict, StepVerdict::Fail);
        assert!(old.cause.unwrap().contains("1970-01-01"));
    }
}
