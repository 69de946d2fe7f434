//! A command of the agent, killed at every step it takes: the real binary runs under `strace -f`, which delivers SIGKILL
//! as it enters the N-th call of one kind, on the token files for every kind that opens, writes, keeps, renames or locks
//! one, on sockets for every kind that connects, sends or receives, and for every N until it lives through.

use crate::{
    agent::{binary, command},
    login::{CommandFolder, output_text},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

/// What the starts after the kills said.
#[derive(Debug, Default)]
pub struct RestartCounts {
    /// The next start renewed.
    pub refreshed: u32,
    /// The next start said why a person has to log in again.
    pub log_in_again: u32,
}

/// Kills `agent login --renew` at every step; each time the next start must work, or say "log in again" and why, as it
/// knows from the mark on the disk. `log_in` lets a person do that.
pub async fn kill_refresh_at_every_step(
    desk: &CommandFolder,
    log_in: impl AsyncFn() -> Result<Output>,
) -> Result<RestartCounts> {
    let mut told = RestartCounts::default();
    for (call, on) in KILLED_CALLS {
        let mut survived = false;
        for nth in 1..=MAX_CALLS {
            if let Some(done) = killed_at(desk, call, on, nth)? {
                ensure!(
                    done.status.success(),
                    "{call} {nth}: {}",
                    output_text(&done)
                );
                survived = true;
                break;
            }
            // A killed process leaves an old or a new file, never none or half of one.
            let before = desk
                .stored_tokens()
                .with_context(|| format!("{call} {nth}: the token file"))?;
            let next = desk.run(REFRESH_COMMAND)?;
            if next.status.success() {
                told.refreshed += 1;
                continue;
            }
            let text = output_text(&next);
            ensure!(
                text.contains("was interrupted before the new tokens were saved")
                    && text.contains("log in again: agent login jira"),
                "{call} {nth}: {text}"
            );
            ensure!(before["pending"].is_string(), "{call} {nth}: {before:?}");
            ensure!(
                desk.stored_tokens()?["ended"].is_string(),
                "{call} {nth}: {text}"
            );
            told.log_in_again += 1;
            let done = log_in().await?;
            ensure!(
                done.status.success(),
                "{call} {nth}: {}",
                output_text(&done)
            );
        }
        ensure!(survived, "{call} was killed {MAX_CALLS} times and still is");
    }
    Ok(told)
}

/// The steps of one renewal that must come in this order, as the kernel saw them: files synced and renamed, connections.
pub fn refresh_steps(desk: &CommandFolder) -> Result<Vec<&'static str>> {
    let trace = desk.dir().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-e", "trace=fsync,connect,/^rename", "-o"])
        .args([&trace, Path::new("--"), &binary("agent")]);
    let done = command(strace, desk.dir(), REFRESH_COMMAND).output()?;
    ensure!(done.status.success(), "{}", output_text(&done));
    Ok(fs::read_to_string(trace)?
        .lines()
        .filter_map(step)
        .collect())
}

/// A record saved durably, then a connection that may use it.
pub const SAVED: [&str; 3] = ["file synced", "renamed", "folder synced"];
/// The calls of connecting to Jira; see `refresh_steps`.
pub const CONNECTED: &str = "connected";

fn step(line: &str) -> Option<&'static str> {
    let call = line.split_whitespace().nth(1)?;
    match call.split('(').next()? {
        "fsync" if line.contains("jira.json.new>") => Some(SAVED[0]),
        "fsync" if line.contains("/tokens>") => Some(SAVED[2]),
        name if name.starts_with("rename") && line.contains("jira.json.new") => Some(SAVED[1]),
        "connect" if line.contains("AF_INET") => Some(CONNECTED),
        _ => None,
    }
}

/// `None`: killed.
fn killed_at(desk: &CommandFolder, call: &str, on: CallFilter, nth: u32) -> Result<Option<Output>> {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=KILL:when={nth}"));
    if on == CallFilter::Files {
        // Without it the many files that every start reads would be counted too.
        for name in ["", "/jira.json", "/jira.json.new", "/jira.lock"] {
            let path = format!("{}/state/tokens{name}", desk.dir().display());
            strace.args(["-P", &path]);
        }
    }
    strace.arg("--").arg(binary("agent"));
    let mut strace = command(strace, desk.dir(), REFRESH_COMMAND);
    let done = strace.stdin(Stdio::null()).output();
    let done = done.context("strace (tools/setup installs it)")?;
    // strace dies of what its tracee died of.
    Ok(done.status.code().map(|_| done))
}

/// What a call is counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CallFilter {
    /// The token file, its successor, its lock and their folder.
    Files,
    /// All there is; but only the exchange with Jira uses sockets.
    Sockets,
}

const REFRESH_COMMAND: &[&str] = &["login", "--renew"];
/// By which token files and sockets are changed or looked at.
const KILLED_CALLS: [(&str, CallFilter); 15] = [
    ("openat", CallFilter::Files),
    ("read", CallFilter::Files),
    ("write", CallFilter::Files),
    ("fsync", CallFilter::Files),
    ("close", CallFilter::Files),
    ("flock", CallFilter::Files),
    ("/^rename", CallFilter::Files),
    ("/^unlink", CallFilter::Files),
    ("/stat", CallFilter::Files),
    ("socket", CallFilter::Sockets),
    ("connect", CallFilter::Sockets),
    ("sendto", CallFilter::Sockets),
    ("writev", CallFilter::Sockets),
    ("recvfrom", CallFilter::Sockets),
    ("shutdown", CallFilter::Sockets),
];
/// Of one kind in one renewal; more would mean that it never comes to its end.
const MAX_CALLS: u32 = 400;
