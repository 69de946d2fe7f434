//! The parts that are killed: agent, sshd as the gateway, and the vendor's receiver, each a process.

use anyhow::{Context, Result, ensure};
use e2e::{
    agent::{binary, write_secret},
    process::ChildProcess,
    recording_origin::RecordingOrigin,
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr},
};
use serde_json::json;
use server_stub::receiver::ReceiverStats;
use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
};
use tempfile::TempDir;

/// All parts, running.
pub(super) struct StormParts {
    agent: RunningAgent,
    sshd: Sshd,
    receiver: Receiver,
    listen: SocketAddr,
    _disk: SmallDisk,
    filler: PathBuf,
    _jira: RecordingOrigin,
}

impl StormParts {
    pub(super) async fn start() -> Result<Self> {
        let receiver = Receiver::start()?;
        let permit = format!("PermitOpen {}", receiver.addr);
        let sshd = Sshd::with(&["AllowTcpForwarding yes", &permit])?;
        let jira = RecordingOrigin::start().await?;
        let listen = free_addr()?;
        let secret_file = receiver.folder.path().join("secret");
        let keys = [
            ("mode", json!("store")),
            ("secret_file", json!(secret_file)),
            ("max_queue", json!("256MiB")),
            ("retry_for", json!("1h")),
        ];
        let to = receiver.addr.to_string();
        let setup = AgentSetup::for_sshd(&sshd)?
            .forward("jira", &free_addr()?.to_string(), &jira.url())
            .outlet("events", &listen.to_string(), &to, &keys);
        // The state lies on the small disk before the agent first writes to it.
        let folder = tempfile::Builder::new().prefix("agent-").tempdir()?;
        let disk = SmallDisk::mount(folder.path().join("state"))?;
        let filler = disk.0.join("filler");
        let agent = setup.start_in(folder)?;
        agent.until_proven().await?;
        let parts = Self {
            agent,
            sshd,
            receiver,
            listen,
            _disk: disk,
            filler,
            _jira: jira,
        };
        Ok(parts)
    }

    /// Where Jira calls.
    pub(super) fn outlet_url(&self) -> String {
        format!("http://{}/hooks/jira", self.listen)
    }

    pub(super) fn kill_agent(&mut self) {
        self.agent.restart().unwrap();
    }

    pub(super) fn kill_gateway(&mut self) {
        self.sshd.restart().unwrap();
    }

    pub(super) fn kill_receiver(&mut self) {
        self.receiver.process.kill();
        self.receiver.run().unwrap();
    }

    /// Leaves no byte free, as another program may.
    pub(super) fn fill_disk(&self) {
        let mut file = File::create(&self.filler).unwrap();
        let block = vec![b'x'; 64 << 10];
        while file.write_all(&block).is_ok() {}
        // The last page.
        while file.write_all(b"x").is_ok() {}
    }

    pub(super) fn free_disk(&self) {
        fs::remove_file(&self.filler).unwrap();
    }

    /// What the receiver has counted; `None` while it starts.
    pub(super) async fn stats(&self) -> Option<ReceiverStats> {
        let url = format!("http://{}/stats", self.receiver.addr);
        let client = reqwest::Client::builder().no_proxy().build().ok()?;
        client.get(url).send().await.ok()?.json().await.ok()
    }

    /// Whether the status shows an empty queue.
    pub(super) async fn queue_is_empty(&self) -> bool {
        let status = self.agent.status().await;
        status.is_ok_and(|report| {
            let queue = report.outlets[0].queue.as_ref();
            queue.is_some_and(|queue| queue.events == 0)
        })
    }
}

/// `server-stub receiver` at an address of its own.
struct Receiver {
    process: ChildProcess,
    addr: SocketAddr,
    folder: TempDir,
}

impl Receiver {
    fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("receiver-").tempdir()?;
        write_secret(&folder.path().join("secret"), SECRET)?;
        let addr = free_addr()?;
        let process = Self::spawn(addr, &folder)?;
        Ok(Self {
            process,
            addr,
            folder,
        })
    }

    fn run(&mut self) -> Result<()> {
        self.process = Self::spawn(self.addr, &self.folder)?;
        Ok(())
    }

    fn spawn(addr: SocketAddr, folder: &TempDir) -> Result<ChildProcess> {
        let mut command = Command::new(binary("server-stub"));
        command
            .arg("receiver")
            .args(["--listen", &addr.to_string()]);
        command
            .arg("--secret-file")
            .arg(folder.path().join("secret"));
        command.arg("--journal").arg(folder.path().join("journal"));
        ChildProcess::spawn(command, &folder.path().join("log"))
    }
}

/// A file system in memory of its own size: it survives the agent's end, as a disk does.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Result<Self> {
        fs::create_dir_all(&at)?;
        let options = format!("mode=700,size={DISK_BYTES}");
        let done = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at)
            .status()
            .context("mount")?;
        ensure!(done.success(), "mount of a small disk: {done}; needs root");
        Ok(Self(at))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Detached: the agent may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Far more than the queue needs, and room for its reserve.
pub(super) const DISK_BYTES: u64 = 512 << 20;
const SECRET: &str = "whsec_c3Rvcm0tb2YtZXZlbnRzLXNpZ25pbmctc2VjcmV0";
