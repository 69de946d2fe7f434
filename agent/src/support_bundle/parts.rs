//! The parts of a bundle. A new one is a line in [`all`].

use super::{
    BundleOptions, host,
    part::{BundlePart, PartContent},
    permissions,
    program::{EmptyOutput, ExternalProgram, KeptEnd},
    tail,
};
use crate::config::{AgentPaths, ConfigSources};
use std::{fmt::Write, path::PathBuf, time::Duration};

/// Collects all parts at once.
pub(super) async fn all(
    options: &BundleOptions,
    sources: &ConfigSources,
    paths: &AgentPaths,
) -> Vec<BundlePart> {
    let own = OwnProgram::new(sources);
    let unit = options.unit.as_str();
    let security = ExternalProgram::new("systemd-analyze").args(["security", "--no-pager", unit]);
    // `show` and not `cat`: an Environment= may hold a password.
    let unit_state = ExternalProgram::new("systemctl").args([
        "show",
        "--no-pager",
        "--property",
        UNIT_PROPERTIES,
        unit,
    ]);
    let (versions, config, status, check, metrics, log, audit, unit_state, security, verify, files) = tokio::join!(
        host::versions(),
        own.command(&["config", "show"])
            .empty_output(EmptyOutput::UseStderr)
            .run(),
        own.command(&["status", "--json"]).run(),
        check(options, &own),
        own.command(&["metrics"]).run(),
        log(options),
        audit(paths),
        unit_state.run(),
        security.within(SECURITY_LIMIT).run(),
        own.command(&["verify-self", "--json"]).run(),
        files(sources, paths),
    );
    let part = |name, what, content| BundlePart {
        name,
        what,
        content,
    };
    vec![
        BundlePart::text(
            "versions.txt",
            "agent, kernel, distribution, systemd, glibc",
            versions,
        ),
        part(
            "config.txt",
            "agent config show: each value with its origin, or what is wrong",
            config,
        ),
        part("status.json", "agent status --json", status),
        part("check.json", "agent check --json", check),
        part("metrics.txt", "agent metrics", metrics),
        part("log.txt", "the newest log lines", log),
        part("audit.jsonl", "the newest audit lines", audit),
        part(
            "unit.txt",
            "state of the systemd unit, without its environment",
            unit_state,
        ),
        part("unit-security.txt", "systemd-analyze security", security),
        part("verify.json", "agent verify-self --json", verify),
        part(
            "files.txt",
            "names, owners, modes and sizes of the agent's files, without their contents",
            files,
        ),
    ]
}

/// The list of the other parts, for whoever unpacks the archive.
pub(super) fn contents(parts: &[BundlePart]) -> BundlePart {
    let mut text = String::from(
        "Support bundle of jira-tunnel-agent. It contains host names, user names and paths.\n\n",
    );
    for part in parts {
        // Writing to a string cannot fail.
        let _ = match &part.content {
            PartContent::Text {
                text: content,
                cut,
                removed,
            } => {
                let cut = if *cut {
                    "; truncated to its newest or first part"
                } else {
                    ""
                };
                let removed = match removed {
                    0 => String::new(),
                    count => format!("; {count} secrets removed"),
                };
                writeln!(
                    text,
                    "{:18} {} ({} bytes{cut}{removed})",
                    part.name,
                    part.what,
                    content.len()
                )
            }
            PartContent::Missing(why) => writeln!(text, "{:18} missing: {why}", part.name),
        };
    }
    BundlePart::text("CONTENTS.txt", "this list", text)
}

/// This program's other commands, with the same configuration.
struct OwnProgram {
    program: PathBuf,
    config: PathBuf,
}

impl OwnProgram {
    fn new(sources: &ConfigSources) -> Self {
        Self {
            // The running program, even if a newer file has replaced it.
            program: PathBuf::from("/proc/self/exe"),
            config: sources.file.clone(),
        }
    }

    fn command(&self, arguments: &[&str]) -> ExternalProgram {
        ExternalProgram::new(&self.program)
            .args(["--config".as_ref(), self.config.as_os_str()])
            .args(arguments)
    }
}

/// Without a running agent, a check logs in to Jira itself; repeated bundles must not lock the account.
async fn check(options: &BundleOptions, own: &OwnProgram) -> PartContent {
    let running = matches!(
        own.command(&["metrics"]).run().await,
        PartContent::Text { .. }
    );
    if !running && !options.check {
        let why = "the agent is not running, so a check would send each credential to Jira; to run it: \
                   --check";
        return PartContent::Missing(why.to_owned());
    }
    own.command(&["check", "--json"])
        .within(CHECK_LIMIT)
        .run()
        .await
}

async fn log(options: &BundleOptions) -> PartContent {
    let Some(file) = options.log_file.clone() else {
        let lines = LOG_LINES.to_string();
        let arguments = [
            "--no-pager",
            "--output",
            "short-iso-precise",
            "--lines",
            &lines,
            "--unit",
            &options.unit,
        ];
        return journal(&arguments).await;
    };
    blocking(move || tail::newest(&file, LOG_LINES)).await
}

async fn audit(paths: &AgentPaths) -> PartContent {
    let Some(file) = paths.audit_file.clone() else {
        let lines = AUDIT_LINES.to_string();
        let arguments = [
            "--no-pager",
            "--output",
            "cat",
            "--lines",
            &lines,
            "--identifier",
            AUDIT_IDENTIFIER,
        ];
        let asked = journal(&arguments).await;
        if matches!(asked, PartContent::Text { .. }) {
            return asked;
        }
        // If the default is a file, it is one of these.
        let files = crate::audit::default_audit_files(&paths.state_dir);
        return match files.into_iter().find(|file| file.exists()) {
            Some(file) => blocking(move || tail::newest(&file, AUDIT_LINES)).await,
            None => asked,
        };
    };
    blocking(move || tail::newest(&file, AUDIT_LINES)).await
}

async fn journal(arguments: &[&str]) -> PartContent {
    let asked = ExternalProgram::new("journalctl")
        .args(arguments)
        .keep_end(KeptEnd::Last);
    match asked.within(JOURNAL_LIMIT).run().await {
        PartContent::Text { text, .. } if text.trim() == NO_ENTRIES => PartContent::Missing(
            "the journal has no such lines, or this user may not read them: run as root".to_owned(),
        ),
        other @ (PartContent::Text { .. } | PartContent::Missing(_)) => other,
    }
}

async fn files(sources: &ConfigSources, paths: &AgentPaths) -> PartContent {
    let (config, paths) = (sources.file.clone(), paths.clone());
    blocking(move || PartContent::whole(permissions::table(&config, &paths))).await
}

async fn blocking(work: impl FnOnce() -> PartContent + Send + 'static) -> PartContent {
    let work = tokio::task::spawn_blocking(work);
    match tokio::time::timeout(DISK_LIMIT, work).await {
        Ok(Ok(content)) => content,
        Ok(Err(error)) => PartContent::Missing(error.to_string()),
        Err(_) => PartContent::Missing(format!("the disk did not answer within {DISK_LIMIT:?}")),
    }
}

/// Current and past state of the unit; not `Environment`, `ExecStart` or anything else that may hold a secret.
const UNIT_PROPERTIES: &str = "Id,LoadState,ActiveState,SubState,UnitFileState,Result,StatusText,MainPID,NRestarts,\
    ExecMainCode,ExecMainStatus,ExecMainStartTimestamp,ExecMainExitTimestamp,ActiveEnterTimestamp,\
    InactiveEnterTimestamp,FragmentPath,DropInPaths,NeedDaemonReload,Type,Restart,WatchdogUSec,WatchdogTimestamp,\
    MemoryCurrent,MemoryPeak,CPUUsageNSec,TasksCurrent,LimitNOFILE,User,Group,StateDirectory,RuntimeDirectory";
/// A day of a quiet agent, an hour of one whose gateway is unreachable.
const LOG_LINES: usize = 2000;
/// Enough to see what the vendor last did; the rest stays with the customer.
const AUDIT_LINES: usize = 500;
const AUDIT_IDENTIFIER: &str = "jira-tunnel-agent-audit";
/// What journalctl prints if there are no lines.
const NO_ENTRIES: &str = "-- No entries --";
/// For a journal of gigabytes on a slow disk.
const JOURNAL_LIMIT: Duration = Duration::from_secs(30);
/// Some versions read all units.
const SECURITY_LIMIT: Duration = Duration::from_secs(30);
/// The check's own deadline is two minutes for each forward.
const CHECK_LIMIT: Duration = Duration::from_secs(180);
/// A disk that hangs is one of the faults that bundles are made for.
const DISK_LIMIT: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    /// A drop-in with a password in the environment or on the command line is common.
    #[test]
    fn of_the_unit_nothing_is_asked_that_may_hold_a_secret() {
        let may_hold = [
            "Environment",
            "EnvironmentFiles",
            "ExecStart",
            "ExecStartPre",
            "ExecStartPost",
            "ExecReload",
            "ExecStop",
            "ExecStopPost",
            "PassEnvironment",
            "SetCredential",
        ];
        for property in UNIT_PROPERTIES.split(',') {
            assert!(!may_hold.contains(&property), "{property}");
        }
    }
}
