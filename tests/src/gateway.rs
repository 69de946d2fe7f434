//! `deploy/gateway-openssh` as it is shipped: installed by its own script, with real users, the stock sshd and HAProxy. It
//! runs in its own mount and process namespaces, so that it does not change this machine. Needs root.

use crate::{
    process::ChildProcess,
    setup::AgentSetup,
    sshd::{free_addr, free_port, keygen, ssh_client},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    io::{Seek, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running gateway; all of it ends when dropped.
pub struct InstalledGateway {
    services: SocketAddr,
    monitoring: SocketAddr,
    ssh_port: u16,
    host_key: String,
    /// Address that sshd listens on.
    listen: String,
    /// First process of the namespaces, by its pid outside of them.
    namespace_pid: u32,
    folder: TempDir,
    processes: Vec<ChildProcess>,
}

impl InstalledGateway {
    /// Installs and starts the gateway; agents reach it on loopback.
    pub fn start() -> Result<Self> {
        Self::start_on("127.0.0.1")
    }

    /// As [`start`](Self::start); agents reach it at this address of this machine, or `0.0.0.0`.
    pub fn start_on(listen: &str) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("gateway-").tempdir()?;
        let mut unshare = Command::new("unshare");
        unshare
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
            .args(["--propagation", "private", "sh", "-c", NAMESPACE]);
        let mut holder = ChildProcess::spawn(unshare, &folder.path().join("namespaces"))?;
        let inside = first_process(&mut holder)?;
        let mut gateway = Self {
            services: free_addr()?,
            monitoring: free_addr()?,
            ssh_port: free_port()?,
            host_key: String::new(),
            listen: listen.to_owned(),
            namespace_pid: inside,
            folder,
            processes: vec![holder],
        };
        gateway.install()?;
        Ok(gateway)
    }

    /// Address for the vendor's services.
    pub fn services(&self) -> SocketAddr {
        self.services
    }

    /// Address for the vendor's monitoring.
    pub fn monitoring(&self) -> SocketAddr {
        self.monitoring
    }

    /// Adds a customer by the shipped script, with a new key; returns the private key's path and the script's output.
    pub fn add(&self, name: &str) -> Result<(PathBuf, String)> {
        let key = self.folder.path().join(name);
        if !key.exists() {
            keygen(&key, &["-t", "ed25519"], "")?;
        }
        let public = key.with_extension("pub");
        let text = self.customer(&["add", name, &public.display().to_string()])?;
        Ok((key, text))
    }

    /// Runs `jira-gateway-customer`; an error holds its output.
    pub fn customer(&self, arguments: &[&str]) -> Result<String> {
        run(&mut self.script(arguments))
    }

    fn script(&self, arguments: &[&str]) -> Command {
        let mut command = self.in_namespace("sh");
        command
            .args(["-c", SCRIPT, "/usr/local/sbin/jira-gateway-customer"])
            .args(arguments);
        command
    }

    /// As [`customer`](Self::customer), with `input` on standard input.
    pub fn customer_reads(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut file = tempfile::tempfile()?;
        file.write_all(input.as_bytes())?;
        file.rewind()?;
        let mut command = self.script(arguments);
        command.stdin(file);
        printed(&mut command)
    }

    /// The configuration of a customer's agent with this key.
    pub fn agent(&self, name: &str, key: &Path, upstream: &str) -> AgentSetup {
        AgentSetup::new(&self.ssh_address(), name, key)
            .tunnel("host_keys", vec![self.host_key.as_str()])
            .forward("jira", PLACES, upstream)
    }

    /// The processes of this customer's sessions that run as its user.
    pub fn sessions(&self, name: &str) -> Vec<u32> {
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let own = namespace(&self.namespace_pid.to_string());
        let title = format!("sshd: {name}");
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().into_string().ok());
        let session = |pid: &String| {
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.trim_end_matches('\0') == title && namespace(pid) == own
        };
        pids.filter(session)
            .filter_map(|pid| pid.parse().ok())
            .collect()
    }

    /// The configuration of a customer's agent that asks for another bind.
    pub fn agent_with_bind(&self, name: &str, key: &Path, bind: &str) -> AgentSetup {
        AgentSetup::new(&self.ssh_address(), name, key)
            .tunnel("host_keys", vec![self.host_key.as_str()])
            .forward("jira", bind, "http://127.0.0.1:9")
    }

    /// OpenSSH's client with a customer's key; it ends if a forward is refused.
    pub fn ssh(&self, name: &str, key: &Path, options: &[&str], command_line: &[&str]) -> Command {
        let mut command = ssh_client(self.ssh_port, name, key);
        command.args(["-o", "ExitOnForwardFailure=yes", "-o", "LogLevel=ERROR"]);
        command.args(options).arg("127.0.0.1").args(command_line);
        command
    }

    /// A path of the gateway's file system, as seen from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.namespace_pid))
    }

    /// The logs of sshd and HAProxy.
    pub fn log(&self) -> String {
        self.processes.iter().map(ChildProcess::log).collect()
    }

    /// Whether HAProxy's worker of an earlier configuration still runs. It closes kept-alive connections.
    pub fn is_reloading(&self) -> bool {
        let log = self.log();
        let times = |text: &str| log.matches(text).count();
        times("Reloading HAProxy") > times("exited with code 0")
    }

    /// Address of sshd as `127.0.0.1:PORT`.
    pub fn ssh_address(&self) -> String {
        format!("127.0.0.1:{}", self.ssh_port)
    }

    fn install(&mut self) -> Result<()> {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/gateway-openssh");
        let text = run(self.in_namespace(shipped.join("install")).arg(DOMAIN))?;
        let print = text
            .split_whitespace()
            .find(|word| word.starts_with("SHA256:"));
        print.context("no host key")?.clone_into(&mut self.host_key);

        // Only the ports change, because tests run at the same time.
        let path = self.path("/etc/jira-gateway/haproxy.cfg");
        let config = fs::read_to_string(&path)?
            .replace("127.0.0.1:8080", &self.services.to_string())
            .replace("127.0.0.1:8404", &self.monitoring.to_string())
            .replace("abns@jira-gateway", &format!("abns@{}", self.ssh_port));
        fs::write(path, config)?;
        // The script names the frontend of the customers too.
        let path = self.path("/usr/local/sbin/jira-gateway-customer");
        let script = fs::read_to_string(&path)?;
        let own = format!("abns@{}", self.ssh_port);
        fs::write(path, script.replace("abns@jira-gateway", &own))?;

        let sshd = self.sshd_command();
        let mut haproxy = self.in_namespace("/usr/sbin/haproxy");
        haproxy
            .args(["-W", "-f", "/etc/jira-gateway/haproxy.cfg"])
            .args(["-f", "/etc/jira-gateway/customers"]);
        for (command, name) in [(sshd, "sshd"), (haproxy, "haproxy")] {
            let log = self.folder.path().join(format!("{name}.log"));
            self.processes.push(ChildProcess::spawn(command, &log)?);
        }
        let ssh = SocketAddr::from(([127, 0, 0, 1], self.ssh_port));
        for addr in [ssh, self.services, self.monitoring] {
            until_true(|| TcpStream::connect(addr).is_ok())
                .with_context(|| format!("nothing listens on {addr}:\n{}", self.log()))?;
        }
        Ok(())
    }

    fn sshd_command(&self) -> Command {
        let mut sshd = self.in_namespace("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", "/etc/jira-gateway/sshd_config"])
            .args(["-p", &self.ssh_port.to_string()])
            .args(["-o", &format!("ListenAddress={}", self.listen)]);
        sshd
    }

    /// Starts sshd again, once its listener has ended.
    pub fn restart_sshd(&mut self) -> Result<()> {
        let log = self.folder.path().join("sshd.log");
        let sshd = ChildProcess::spawn(self.sshd_command(), &log)?;
        self.processes.push(sshd);
        let ssh = SocketAddr::from(([127, 0, 0, 1], self.ssh_port));
        until_true(|| TcpStream::connect(ssh).is_ok())
            .with_context(|| format!("sshd does not start again:\n{}", self.log()))
    }

    /// Port of sshd.
    pub fn ssh_port(&self) -> u16 {
        self.ssh_port
    }

    /// Fingerprint of the host key.
    pub fn host_key(&self) -> &str {
        &self.host_key
    }

    /// A command inside the namespaces.
    fn in_namespace(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["-t", &self.namespace_pid.to_string(), "-m", "-p", "--"])
            .arg(program);
        command
    }
}

impl Drop for InstalledGateway {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the gateway's log ----\n{}", self.log());
        }
    }
}

/// Domain of the customers' names.
pub const DOMAIN: &str = "gw.vendor.example";
/// Sockets that every customer binds, inside its own folder: one for each connection.
pub const PLACES: &str = "/s/jira-{slot}.sock";
/// The one socket of agents whose bind names no slot.
pub const SOCKET: &str = "/s/jira.sock";

/// The pid of `unshare`'s child once it has made its mounts.
fn first_process(holder: &mut ChildProcess) -> Result<u32> {
    let children = format!("/proc/{0}/task/{0}/children", holder.pid());
    let child = || fs::read_to_string(&children).ok()?.trim().parse().ok();
    let ready = |pid: u32| Path::new(&format!("/proc/{pid}/root/srv/ready")).exists();
    let found = until_true(|| child().is_some_and(ready));
    found.with_context(|| format!("no namespaces; this test needs root:\n{}", holder.log()))?;
    child().context("the namespaces have ended")
}

#[expect(
    clippy::disallowed_methods,
    reason = "waits for processes before any runtime is involved"
)]
fn until_true(done: impl Fn() -> bool) -> Result<()> {
    let deadline = Instant::now() + START;
    while !done() {
        ensure!(Instant::now() < deadline, "waited {START:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<String> {
    printed(command.stdin(Stdio::null()))
}

fn printed(command: &mut Command) -> Result<String> {
    let done = command.output()?;
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let errors = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{command:?}: {text}{errors}");
    Ok(text)
}

/// Changes to these folders end with the namespaces.
const NAMESPACE: &str = "set -e
mount -t tmpfs -o mode=755 tmpfs /srv
mkdir /srv/etc
mount -t tmpfs -o mode=755 tmpfs /srv/etc
mkdir /srv/etc/upper /srv/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/srv/etc/upper,workdir=/srv/etc/work overlay /etc
umount -l /srv/etc
mount -t tmpfs -o mode=755 tmpfs /usr/local/sbin
mount -t tmpfs -o mode=755 tmpfs /run
touch /srv/ready
exec sleep infinity";
/// Generous: only a broken start waits this long.
const START: Duration = Duration::from_secs(30);
/// Runs a script with what the unit runs at a reload. HAProxy's master is the oldest process of that name.
const SCRIPT: &str = "master=$(pgrep --oldest --exact haproxy)
JIRA_GATEWAY_RELOAD=\"/usr/local/sbin/jira-gateway-reload $master\" exec \"$0\" \"$@\"";
