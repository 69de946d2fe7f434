//! Starting, killing and recognizing programs.

use super::messages::{ToPredecessor, line};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use sha2::{Digest, Sha256};
use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixStream as StdUnixStream},
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{net::UnixStream, process::Command, time::timeout};

/// Tells a program that stdin is a socket to the process that it succeeds.
pub(super) const SUCCESSOR_FLAG: &str = "--successor";
/// Tells it that it is the child of no agent.
const DETACHED_FLAG: &str = "--detached";

/// How the running agent was started.
#[derive(Clone, Debug)]
pub(in crate::service) struct ReplaceableProgram {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl ReplaceableProgram {
    /// Of this process. To be called before the file can have been replaced.
    pub(in crate::service) fn of_process() -> io::Result<Self> {
        let path = std::env::current_exe()?;
        let name = path.as_os_str().as_bytes();
        // The kernel's mark of a replaced file.
        let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
        let own = |argument: &OsString| argument != SUCCESSOR_FLAG && argument != DETACHED_FLAG;
        Ok(Self {
            path: PathBuf::from(std::ffi::OsStr::from_bytes(name)),
            arguments: std::env::args_os().skip(1).filter(own).collect(),
        })
    }

    /// The file that is started.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file, which distinguishes versions. Blocks on the disk.
    pub(super) fn digest(&self) -> io::Result<[u8; 32]> {
        let mut file = File::open(&self.path)?;
        let mut hasher = HashWriter(Sha256::new());
        io::copy(&mut file, &mut hasher)?;
        Ok(hasher.0.finalize().into())
    }

    /// Starts the program as a successor, with this end of a socket pair as its standard input. Returns how the process
    /// ended that has started the successor and is not needed any more.
    pub(super) async fn start(&self, theirs: OwnedFd) -> io::Result<ExitStatus> {
        let mut child = Command::new(&self.path)
            .args(&self.arguments)
            .arg(SUCCESSOR_FLAG)
            .stdin(Stdio::from(theirs))
            // Meant for the old process alone.
            .env_remove("WATCHDOG_PID")
            .kill_on_drop(true)
            .spawn()?;
        timeout(DETACH_LIMIT, child.wait()).await?
    }
}

/// Starts this program once more and returns; the new process is a child of the system's first process alone, as
/// systemd needs it to be for its main process. Standard input is inherited.
pub fn detach() -> io::Result<()> {
    let child = std::process::Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .arg(DETACHED_FLAG)
        .stdin(Stdio::inherit())
        .spawn()?;
    let stdin = io::stdin().as_fd().try_clone_to_owned()?;
    let started = ToPredecessor::Started { pid: child.id() };
    StdUnixStream::from(stdin).write_all(&line(&started))
}

/// A successor that is killed unless it has taken over.
pub(super) struct SuccessorProcess {
    pid: u32,
    pidfd: Option<OwnedFd>,
    has_taken_over: bool,
}

impl SuccessorProcess {
    /// The process of this id, which runs now.
    pub(super) fn new(pid: u32) -> Self {
        Self {
            pid,
            // Not before Linux 5.3.
            pidfd: raw_pid(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
            has_taken_over: false,
        }
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// From now on it lives longer than this process.
    pub(super) fn set_taken_over(&mut self) {
        self.has_taken_over = true;
    }

    /// Kills it at once.
    pub(super) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Asks it to stop: it finishes its requests.
    pub(super) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// An id can be given again only after its process has ended, which closes the link.
    fn signal(&self, signal: Signal) {
        let _ = match (&self.pidfd, raw_pid(self.pid)) {
            (Some(process), _) => pidfd_send_signal(process, signal),
            (None, Some(pid)) => kill_process(pid, signal),
            (None, None) => Ok(()),
        };
    }
}

impl Drop for SuccessorProcess {
    fn drop(&mut self) {
        if !self.has_taken_over {
            self.kill();
        }
    }
}

fn raw_pid(pid: u32) -> Option<Pid> {
    Pid::from_raw(i32::try_from(pid).ok()?)
}

/// A socket pair: this process's end, and the other's.
pub(super) fn socket_pair() -> io::Result<(UnixStream, OwnedFd)> {
    let (ours, theirs) = StdUnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}

struct HashWriter(Sha256);

impl Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Loading a program from a slow disk.
const DETACH_LIMIT: Duration = Duration::from_secs(10);
