//! A host of the lab: a network namespace with a runtime whose threads live in it.

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::{
    fs::{self, File},
    io::Write,
    os::fd::AsFd,
    process::{Command, Stdio, id},
    sync::Arc,
    time::Duration,
};
use tokio::{runtime::Runtime, task::JoinHandle};

/// A network namespace; its processes end and it disappears when dropped.
///
/// Sockets and child processes made by its tasks belong to it, because every thread of its runtime is inside.
pub struct LabHost {
    name: Arc<str>,
    runtime: Option<Runtime>,
}

impl LabHost {
    /// Creates the namespace, with its loopback up. `tag` tells the hosts of one process apart.
    pub fn new(tag: &str) -> Result<Self> {
        let name: Arc<str> = format!("lab{}-{tag}", id()).into();
        run("ip", &["netns", "add", &name])?;
        let inside = Arc::clone(&name);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name(name.as_ref())
            .on_thread_start(move || {
                // `entered` below fails if this does.
                let _ = enter(&inside);
            })
            .enable_all()
            .build()?;
        let host = Self {
            name,
            runtime: Some(runtime),
        };
        host.ip(&["link", "set", "lo", "up"])?;
        Ok(host)
    }

    /// Name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a task on this host.
    pub fn spawn<F>(&self, work: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime().spawn(work)
    }

    /// Runs `work` on this host and waits for it.
    pub async fn run<F>(&self, work: F) -> Result<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        Ok(self.spawn(work).await?)
    }

    /// Runs blocking `work` on a thread of this host: programs that it starts run on this host.
    pub async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T> {
        Ok(self.runtime().spawn_blocking(work).await?)
    }

    /// Runs blocking `work` on a thread of its own on this host, outside of any runtime.
    pub fn inside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let name = Arc::clone(&self.name);
        let thread = std::thread::spawn(move || enter(&name).and_then(|()| work()));
        thread.join().map_err(|_| anyhow::anyhow!("a panic"))?
    }

    /// Process ids of everything that runs on this host, without this process.
    pub fn pids(&self) -> Vec<u32> {
        let listed = Command::new("ip")
            .args(["netns", "pids", &self.name])
            .output();
        let text = listed.map(|done| done.stdout).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let pids = text.split_whitespace().filter_map(|pid| pid.parse().ok());
        pids.filter(|pid| *pid != id()).collect()
    }

    /// Those of them whose name begins with `program`.
    pub fn pids_of(&self, program: &str) -> Vec<u32> {
        let of_program = |pid: &u32| {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm"));
            comm.is_ok_and(|comm| comm.starts_with(program))
        };
        self.pids().into_iter().filter(of_program).collect()
    }

    /// Sends a signal (`TERM`, `KILL`, `STOP`, `CONT`) to every process of this host whose name begins with `program`.
    pub fn signal(&self, program: &str, name: &str) {
        send_signal(&self.pids_of(program), name);
    }

    /// `ip -n NAME` with these arguments.
    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        run("ip", &[&["-n", &self.name], arguments].concat())
    }

    /// Loads a script of nftables.
    pub fn nft(&self, script: &str) -> Result<()> {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.name, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("nft (nftables)")?;
        let mut stdin = child.stdin.take().context("nft")?;
        stdin.write_all(script.as_bytes())?;
        drop(stdin);
        let done = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "nft {script}: {printed}");
        Ok(())
    }

    /// Sets a `net.…` sysctl of this host, with slashes: `ipv4/tcp_congestion_control`.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/net/{key}");
        let value = value.to_owned();
        self.inside(move || fs::write(&path, &value).with_context(|| format!("{path} = {value}")))
    }

    /// Uses this congestion control for new connections.
    pub fn congestion_control(&self, name: &str) -> Result<()> {
        // Outside of the first namespace the kernel accepts only those that it allows to everyone. That list
        // belongs to the whole machine, so it is as before when this returns; the host keeps its choice.
        let _one_at_a_time = ALLOWED_LIST.lock();
        let allowed = fs::read_to_string(ALLOWED)?;
        if allowed.split_whitespace().any(|one| one == name) {
            return self.set("ipv4/tcp_congestion_control", name);
        }
        fs::write(ALLOWED, format!("{} {name}", allowed.trim()))?;
        let set = self.set("ipv4/tcp_congestion_control", name);
        fs::write(ALLOWED, allowed.trim()).context(ALLOWED)?;
        set
    }

    /// Established TCP connections of this host as `(local port, remote port)`, IPv4 and IPv6.
    pub fn established(&self) -> Vec<(u16, u16)> {
        self.sockets("01")
    }

    /// Whether something listens on this TCP port.
    pub fn listens(&self, port: u16) -> bool {
        self.sockets("0A").iter().any(|(local, _)| *local == port)
    }

    fn sockets(&self, state: &'static str) -> Vec<(u16, u16)> {
        let tables = self.inside(|| {
            let read = |file: &str| fs::read_to_string(format!("/proc/thread-self/net/{file}"));
            Ok(read("tcp")? + &read("tcp6").unwrap_or_default())
        });
        let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        let row = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
            (fields.next()? == state).then_some((local, remote))
        };
        let tables = tables.unwrap_or_default();
        tables.lines().filter_map(row).collect()
    }

    fn runtime(&self) -> &Runtime {
        let runtime = self.runtime.as_ref();
        runtime.unwrap_or_else(|| unreachable!("taken by drop alone"))
    }
}

impl Drop for LabHost {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        send_signal(&self.pids(), "KILL");
        let _ = run("ip", &["netns", "del", &self.name]);
    }
}

/// Moves the calling thread, which must be no one else's, onto this host.
fn enter(name: &str) -> Result<()> {
    let namespace = File::open(format!("/run/netns/{name}"))?;
    let kind = Some(LinkNameSpaceType::Network);
    Ok(move_into_link_name_space(namespace.as_fd(), kind)?)
}

fn send_signal(pids: &[u32], name: &str) {
    if pids.is_empty() {
        return;
    }
    let mut kill = Command::new("kill");
    kill.args(["-s", name, "--"]);
    kill.args(pids.iter().map(u32::to_string));
    // A process that has just ended is no failure.
    let _ = kill.stderr(Stdio::null()).status();
}

/// Runs a program that must succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let done = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output();
    let done = done.with_context(|| format!("{program} (iproute2)"))?;
    let printed = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {arguments:?}: {printed}");
    Ok(())
}

/// Removes the namespaces of processes that have ended without doing so themselves.
pub fn remove_stale() -> Result<()> {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("lab").and_then(|n| n.split('-').next());
        let owner: Option<u32> = owner.and_then(|pid| pid.parse().ok());
        if owner.is_some_and(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true)) {
            let pids = Command::new("ip").args(["netns", "pids", &name]).output()?;
            let pids: Vec<u32> = String::from_utf8_lossy(&pids.stdout)
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect();
            send_signal(&pids, "KILL");
            let removed = run("ip", &["netns", "del", &name]);
            // Another run that starts now may have been faster.
            if fs::exists(format!("/run/netns/{name}"))? {
                removed?;
            }
        }
    }
    Ok(())
}

static ALLOWED_LIST: Mutex<()> = Mutex::new(());
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
/// How long a host's interface may take to appear.
pub(super) const APPEAR: Duration = Duration::from_secs(10);
