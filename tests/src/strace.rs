//! The real binary under `strace -f`: traced, or killed as it enters the N-th system call of one kind, for every N until it
//! completes.

use crate::{agent::binary, login::output_text};
use anyhow::{Context, Result, bail, ensure};
use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A system call at which the command is killed.
pub struct KillPoint {
    call: &'static str,
    filter: CallFilter,
    nth: u32,
}

/// Which calls of one kind are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallFilter {
    /// Only calls on certain files: a start reads many others.
    Files,
    /// All calls.
    All,
}

impl KillPoint {
    /// strace with the agent as its command; `files` are those of [`CallFilter::Files`].
    pub fn strace(&self, files: &[PathBuf]) -> Command {
        let call = self.call;
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"))
            .arg("-e")
            .arg(format!("inject={call}:signal=KILL:when={}", self.nth));
        if self.filter == CallFilter::Files {
            for file in files {
                strace.arg("-P").arg(file);
            }
        }
        strace.arg("--").arg(binary("agent"));
        strace
    }
}

impl fmt::Display for KillPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.call, self.nth)
    }
}

/// Calls `attempt` with every kill point of these calls, each kind until `attempt` returns that the command completed;
/// returns the number of kills.
pub async fn kill_at_every_call(
    calls: &[(&'static str, CallFilter)],
    mut attempt: impl AsyncFnMut(&KillPoint) -> Result<bool>,
) -> Result<u32> {
    let mut kills = 0;
    for &(call, filter) in calls {
        for nth in 1.. {
            ensure!(nth <= MAX_CALLS, "{call} was killed {MAX_CALLS} times");
            let point = KillPoint { call, filter, nth };
            let completed = attempt(&point).await;
            if completed.with_context(|| format!("killed at {point}"))? {
                break;
            }
            kills += 1;
        }
    }
    Ok(kills)
}

/// Whether the command completed; false if it was killed, an error if it failed. strace ends by the signal of its tracee.
pub fn completed(done: &Output) -> Result<bool> {
    match done.status.code() {
        None => Ok(false),
        Some(0) => Ok(true),
        Some(_) => bail!("{}", output_text(done)),
    }
}

/// strace with the agent as its command, which writes to `file` what these options select.
pub fn trace(options: &[&str], file: &Path) -> Command {
    let mut strace = Command::new("strace");
    strace.arg("-f").args(options).arg("-o").arg(file);
    strace.arg("--").arg(binary("agent"));
    strace
}

/// Calls of one kind in one run; more would mean that the command never completes.
const MAX_CALLS: u32 = 400;
