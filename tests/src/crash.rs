//! A command of the agent, killed at every step it takes: the real binary runs under `strace -f`, which delivers SIGKILL
//! as it enters the N-th call of one kind, on the token files for every kind that opens, writes, keeps, renames or locks
//! one, on sockets for every kind that connects, sends or receives, and for every N until it lives through.

use crate::{
    agent::{binary, command},
    login::{Desk, said},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

/// What the starts after the kills said.
#[derive(Debug, Default)]
pub struct Told {
    /// The next start renewed.
    pub worked: u32,
    /// The next start said why a person has to log in again.
    pub log_in_again: u32,
}

/// Kills `agent login --renew` at every step; each time the next start must work, or say "log in again" and why, as it
/// knows from the mark on the disk. `log_in` lets a person do that.
pub async fn renewals_killed_at_every_step(
    desk: &Desk,
    log_in: impl AsyncFn() -> Result<Output>,
) -> Result<Told> {
    let mut told = Told::default();
    for (call, on) in CALLS {
        let mut survived = false;
        for nth in 1..=MOST {
            if let Some(done) = killed_at(desk, call, on, nth)? {
                ensure!(done.status.success(), "{call} {nth}: {}", said(&done));
                survived = true;
                break;
            }
            // A killed process leaves an old or a new file, never none or half of one.
            let before = desk
                .stored()
                .with_context(|| format!("{call} {nth}: the token file"))?;
            let next = desk.run(RENEW)?;
            if next.status.success() {
                told.worked += 1;
                continue;
            }
            let text = said(&next);
            ensure!(
                text.contains("was interrupted before the new tokens were saved")
                    && text.contains("log in again: agent login jira"),
                "{call} {nth}: {text}"
            );
            ensure!(before["pending"].is_string(), "{call} {nth}: {before:?}");
            ensure!(desk.stored()?["ended"].is_string(), "{call} {nth}: {text}");
            told.log_in_again += 1;
            let done = log_in().await?;
            ensure!(done.status.success(), "{call} {nth}: {}", said(&done));
        }
        ensure!(survived, "{call} was killed {MOST} times and still is");
    }
    Ok(told)
}

/// The steps of one renewal that must come in this order, as the kernel saw them: files synced and renamed, connections.
pub fn steps_of_a_renewal(desk: &Desk) -> Result<Vec<&'static str>> {
    let trace = desk.dir().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-e", "trace=fsync,connect,/^rename", "-o"])
        .args([&trace, Path::new("--"), &binary("agent")]);
    let done = command(strace, desk.dir(), RENEW).output()?;
    ensure!(done.status.success(), "{}", said(&done));
    Ok(fs::read_to_string(trace)?
        .lines()
        .filter_map(step)
        .collect())
}

/// A record saved durably, then a connection that may use it.
pub const SAVED: [&str; 3] = ["file synced", "renamed", "folder synced"];
/// See [`steps_of_a_renewal`].
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
fn killed_at(desk: &Desk, call: &str, on: On, nth: u32) -> Result<Option<Output>> {
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-qq", "-o", "/dev/null", "-e"])
        .arg(format!("trace={call}"))
        .arg("-e")
        .arg(format!("inject={call}:signal=KILL:when={nth}"));
    if on == On::Files {
        // Without it the many files that every start reads would be counted too.
        for name in ["", "/jira.json", "/jira.json.new", "/jira.lock"] {
            let path = format!("{}/state/tokens{name}", desk.dir().display());
            strace.args(["-P", &path]);
        }
    }
    strace.arg("--").arg(binary("agent"));
    let mut strace = command(strace, desk.dir(), RENEW);
    let done = strace.stdin(Stdio::null()).output();
    let done = done.context("strace (tools/setup installs it)")?;
    // strace dies of what its tracee died of.
    Ok(done.status.code().map(|_| done))
}

/// What a call is counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// The token file, its successor, its lock and their folder.
    Files,
    /// All there is; but only the exchange with Jira uses sockets.
    Sockets,
}

const RENEW: &[&str] = &["login", "--renew"];
/// By which token files and sockets are changed or looked at.
const CALLS: [(&str, On); 15] = [
    ("openat", On::Files),
    ("read", On::Files),
    ("write", On::Files),
    ("fsync", On::Files),
    ("close", On::Files),
    ("flock", On::Files),
    ("/^rename", On::Files),
    ("/^unlink", On::Files),
    ("/stat", On::Files),
    ("socket", On::Sockets),
    ("connect", On::Sockets),
    ("sendto", On::Sockets),
    ("writev", On::Sockets),
    ("recvfrom", On::Sockets),
    ("shutdown", On::Sockets),
];
/// Of one kind in one renewal; more would mean that it never comes to its end.
const MOST: u32 = 400;
