//! Starting, killing and recognizing programs.

use super::messages::{ToPredecessor, line};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use sha2::{Digest, Sha256};
use std::{
    env,
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            ffi::OsStrExt, fs::MetadataExt, net::UnixStream as StdUnixStream, process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{net::UnixStream, process::Command, task::spawn_blocking, time::timeout};

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
        let own = |argument: &OsString| argument != SUCCESSOR_FLAG && argument != DETACHED_FLAG;
        Ok(Self {
            path: program_path()?,
            arguments: env::args_os().skip(1).filter(own).collect(),
        })
    }

    /// The file that is started.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// SHA-256 of the file, which distinguishes versions.
    pub(super) async fn digest(&self) -> io::Result<[u8; 32]> {
        let path = self.path.clone();
        let read = spawn_blocking(move || {
            let mut file = File::open(path)?;
            let mut hasher = HashWriter(Sha256::new());
            io::copy(&mut file, &mut hasher)?;
            Ok(hasher.0.finalize().into())
        });
        match timeout(READ_LIMIT, read).await {
            Ok(read) => read.map_err(io::Error::other)?,
            Err(_) => Err(io::Error::other(SLOW_DISK)),
        }
    }

    /// Starts the program as a successor, with this end of a socket pair as its standard input. Returns how the process
    /// ended that has started the successor and is not needed any more.
    pub(super) async fn start(&self, theirs: OwnedFd) -> io::Result<ExitStatus> {
        let mut command = Command::new(&self.path);
        command
            .args(&self.arguments)
            .arg(SUCCESSOR_FLAG)
            .stdin(Stdio::from(theirs))
            // Meant for the old process alone.
            .env_remove("WATCHDOG_PID")
            .kill_on_drop(true);
        // It returns when the kernel has read the file.
        let started = spawn_blocking(move || command.spawn());
        let ended = async { started.await.map_err(io::Error::other)??.wait().await };
        match timeout(DETACH_LIMIT, ended).await {
            Ok(ended) => ended,
            Err(_) => Err(io::Error::other(SLOW_DISK)),
        }
    }
}

/// The path of the running program, as it was started where that is known: where links lead to versions, they lead to the
/// next one later, while `current_exe` is the file to which they led at the start.
fn program_path() -> io::Result<PathBuf> {
    let file = env::current_exe()?;
    // The kernel's mark of a replaced file.
    let name = file.as_os_str().as_bytes();
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let started = env::args_os().next().and_then(|name| {
        let folders = env::var_os("PATH").unwrap_or_default();
        started_path(&name, &folders, Path::new("/proc/self/exe"))
    });
    Ok(started.unwrap_or_else(|| PathBuf::from(OsStr::from_bytes(name))))
}

/// The absolute path that a shell finds for the command `name`, if it leads to the same file as `running`. Whoever starts a
/// program may give it any name.
fn started_path(name: &OsStr, folders: &OsStr, running: &Path) -> Option<PathBuf> {
    let running = fs::metadata(running).ok()?;
    let is_running = |path: &PathBuf| {
        let found = fs::metadata(path);
        found.is_ok_and(|found| (found.dev(), found.ino()) == (running.dev(), running.ino()))
    };
    let path = match name.as_bytes().contains(&b'/') {
        true => Some(PathBuf::from(name)).filter(is_running),
        false => env::split_paths(folders)
            .map(|folder| folder.join(name))
            .find(is_running),
    };
    std::path::absolute(path?).ok()
}

/// Starts this program once more and returns; the new process is a child of the system's first process alone, as
/// systemd needs it to be for its main process. Standard input is inherited.
pub fn detach() -> io::Result<()> {
    let mut program = std::process::Command::new(env::current_exe()?);
    if let Some(name) = env::args_os().next() {
        // The path by which the successor's own successor is found.
        program.arg0(name);
    }
    let child = program
        .args(env::args_os().skip(1))
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

/// Reading a program from a slow disk.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Loading a program from a slow disk.
const DETACH_LIMIT: Duration = Duration::from_secs(10);
const SLOW_DISK: &str = "the disk does not answer";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::os::unix::fs::symlink;

    /// Two versions, and a link that leads to the first.
    fn linked() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        for version in ["v1", "v2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("agent"), version).unwrap();
        }
        let link = dir.path().join("agent");
        symlink("v1/agent", &link).unwrap();
        (dir, link)
    }

    #[tokio::test]
    async fn a_link_is_followed_when_the_program_is_replaced() {
        let (dir, link) = linked();
        let running = dir.path().join("v1/agent");
        let by_path = started_path(link.as_os_str(), OsStr::new(""), &running);
        let folders = env::join_paths([Path::new("/nonexistent"), dir.path()]).unwrap();
        let by_name = started_path(OsStr::new("agent"), &folders, &running);
        assert_eq!(by_path.as_ref(), Some(&link));
        assert_eq!(by_path, by_name);
        let program = ReplaceableProgram {
            path: by_path.unwrap(),
            arguments: Vec::new(),
        };
        let first = program.digest().await.unwrap();
        fs::remove_file(&link).unwrap();
        symlink("v2/agent", &link).unwrap();
        assert_ne!(program.digest().await.unwrap(), first);
    }

    /// The disk is a FIFO that has no writer: whoever opens it waits.
    #[tokio::test(start_paused = true)]
    async fn a_disk_that_does_not_answer_is_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        let program = ReplaceableProgram {
            path: path.clone(),
            arguments: Vec::new(),
        };
        let digest = tokio::spawn(async move { program.digest().await });
        tokio::task::yield_now().await;
        tokio::time::advance(READ_LIMIT).await;
        // Without a limit it lasts longer than any wait of the test.
        let waited = timeout(READ_LIMIT, digest);
        tokio::time::advance(READ_LIMIT).await;
        let waited = waited.await;
        // Lets the thread end that has opened it.
        File::options().write(true).open(&path).unwrap();
        let error = waited.unwrap().unwrap().unwrap_err();
        assert_eq!(error.to_string(), SLOW_DISK);
    }

    /// The only thread for blocking work waits for a disk. A start on the runtime's thread would find no file.
    #[test]
    fn a_program_whose_disk_does_not_answer_holds_no_thread_of_the_runtime() {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder
            .enable_all()
            .start_paused(true)
            .max_blocking_threads(1);
        let runtime = builder.build().unwrap();
        let (disk, answer) = std::sync::mpsc::channel::<()>();
        let error = runtime.block_on(async {
            let _waits = spawn_blocking(move || answer.recv());
            let program = ReplaceableProgram {
                path: PathBuf::from("/nonexistent/agent"),
                arguments: Vec::new(),
            };
            let (_ours, theirs) = socket_pair().unwrap();
            let start = tokio::spawn(async move { program.start(theirs).await });
            tokio::task::yield_now().await;
            tokio::time::advance(DETACH_LIMIT).await;
            start.await.unwrap().unwrap_err()
        });
        drop(disk);
        assert_eq!(error.to_string(), SLOW_DISK);
    }

    #[test]
    fn a_name_that_leads_to_another_file_is_not_followed() {
        let (dir, link) = linked();
        let folders = dir.path().as_os_str();
        let running = dir.path().join("v2/agent");
        assert_eq!(started_path(link.as_os_str(), folders, &running), None);
        assert_eq!(started_path(OsStr::new("agent"), folders, &running), None);
        assert_eq!(started_path(OsStr::new("other"), folders, &running), None);
        let gone = dir.path().join("v3/agent");
        assert_eq!(started_path(link.as_os_str(), folders, &gone), None);
    }
}
