//! A stock OpenSSH sshd as the gateway: its own keys, configuration and log in a temporary folder, on
//! a free port of 127.0.0.1, with all its processes ended on drop. Needs /usr/sbin/sshd and ssh-keygen.

use crate::wait::until_true;
use anyhow::{Context, Result, bail, ensure};
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io::Read,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running (or just stopped) sshd.
pub struct Sshd {
    folder: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Sshd {
    /// Starts one that lets the key at [`identity`](Self::identity) forward ports, without further configuration.
    pub fn start() -> Result<Self> {
        Self::with(&[])
    }

    /// Starts one with these lines before its default configuration (the first value wins). `{dir}` in a line is
    /// replaced by the temporary folder.
    pub fn with(lines: &[&str]) -> Result<Self> {
        Self::prepare(|_| Ok(()), lines)
    }

    /// As [`with`](Self::with); `prepare` may first put certificates and keys into the folder.
    pub fn prepare(prepare: impl FnOnce(&Path) -> Result<()>, lines: &[&str]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("sshd-").tempdir()?;
        let dir = folder.path();
        keygen(&dir.join("host"), &["-t", "ed25519"], "")?;
        keygen(&dir.join("id"), &["-t", "ed25519"], "")?;
        fs::copy(dir.join("id.pub"), dir.join("authorized_keys"))?;
        prepare(dir)?;
        let mut sshd = Self {
            port: 0,
            child: None,
            folder,
        };
        sshd.configure(lines)?;
        for _ in 0..5 {
            sshd.port = free_port()?;
            // Another program may have taken the port: try the next one.
            if sshd.run()? {
                return Ok(sshd);
            }
        }
        bail!("sshd does not start:\n{}", sshd.log())
    }

    /// Port on which sshd listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Address of sshd as `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// User name for the login: the user who runs the test.
    pub fn user(&self) -> String {
        std::env::var("USER")
            .or_else(|_| std::env::var("LOGNAME"))
            .ok()
            .or_else(|| output(Command::new("id").arg("-un")).ok())
            .map_or_else(|| "root".to_owned(), |name| name.trim().to_owned())
    }

    /// The folder with `host`, `id`, `authorized_keys` and whatever a test adds.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A private key that may log in.
    pub fn identity(&self) -> PathBuf {
        self.folder().join("id")
    }

    /// `SHA256:…` of its host key.
    pub fn fingerprint(&self) -> Result<String> {
        fingerprint(&self.folder().join("host.pub"))
    }

    /// Lets one more public key log in; `options` as in authorized_keys(5), or empty.
    pub fn authorize(&self, public_key: &Path, options: &str) -> Result<()> {
        let path = self.folder().join("authorized_keys");
        let mut text = fs::read_to_string(&path)?;
        text.push_str(format!("{options} {}", fs::read_to_string(public_key)?).trim_start());
        fs::write(path, text)?;
        Ok(())
    }

    /// Text of sshd's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder().join("log")).unwrap_or_default()
    }

    /// Waits until it has logged `text`.
    pub async fn logged(&self, text: &str) -> Result<()> {
        let what = format!("sshd to log {text:?}");
        until_true(&what, || self.log().contains(text)).await
    }

    /// Process id of the listener.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// OpenSSH's client, logged in with the key of this server; add options and the host `127.0.0.1`.
    pub fn ssh(&self) -> Command {
        ssh_client(self.port, &self.user(), &self.identity())
    }

    /// Sends a signal (`TERM`, `KILL`, `STOP`, `CONT`) to the listener and all its sessions.
    pub fn signal(&self, name: &str) -> Result<()> {
        let pid = self.pid().context("sshd is not running")?;
        let done = Command::new("kill")
            .args(["-s", name, "--"])
            .args(family(pid)?.iter().map(u32::to_string))
            .stderr(Stdio::null())
            .status()?;
        // A process that has just ended is no failure.
        ensure!(done.code().is_some(), "kill -s {name}: {done}");
        Ok(())
    }

    /// Kills the listener and all its sessions at once, as a crash would.
    pub fn kill(&mut self) {
        if self.child.is_some() {
            // Stop it first, so that no session begins.
            let _ = self.signal("STOP");
            let _ = self.signal("KILL");
        }
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts again on the same port, after [`kill`](Self::kill).
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        ensure!(self.run()?, "sshd does not start again:\n{}", self.log());
        Ok(())
    }

    fn configure(&self, lines: &[&str]) -> Result<()> {
        let dir = self.folder().display().to_string();
        let mut text: String = lines
            .iter()
            .map(|line| line.replace("{dir}", &dir) + "\n")
            .collect();
        text.push_str(&DEFAULTS.replace("{dir}", &dir));
        fs::write(self.folder().join("config"), text)?;
        Ok(())
    }

    /// Starts the process; false if it does not listen.
    #[expect(
        clippy::disallowed_methods,
        reason = "waits for a process before any runtime is involved"
    )]
    fn run(&mut self) -> Result<bool> {
        // sshd's privilege separation folder; only root needs it and only root can make it.
        let _ = fs::create_dir_all("/run/sshd");
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder().join("log"))?;
        let mut child = Command::new("/usr/sbin/sshd")
            .args(["-D", "-e", "-f"])
            .arg(self.folder().join("config"))
            .arg("-o")
            .arg(format!("ListenAddress={}", self.address()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("/usr/sbin/sshd")?;
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            if child.try_wait()?.is_some() {
                return Ok(false);
            }
            if answers(self.port) {
                self.child = Some(child);
                return Ok(true);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        Ok(false)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("---- sshd's log ----\n{}", self.log());
        }
    }
}

/// Makes a key pair with ssh-keygen: `path` and `path.pub`.
pub fn keygen(path: &Path, kind: &[&str], passphrase: &str) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-C", "test", "-N", passphrase])
        .args(kind)
        .arg("-f")
        .arg(path);
    output(&mut command)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(())
}

/// Signs `public_key` (`NAME.pub` → `NAME-cert.pub`) with a CA key; further options as for `ssh-keygen
/// -s`: `-h` for a host, `-n` principals, `-V` validity.
pub fn certify(ca: &Path, public_key: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-q", "-I", "test"])
        .arg("-s")
        .arg(ca)
        .args(options)
        .arg(public_key);
    output(&mut command).map(drop)
}

/// `SHA256:…` of a public key file.
pub fn fingerprint(public_key: &Path) -> Result<String> {
    let line = output(Command::new("ssh-keygen").arg("-lf").arg(public_key))?;
    let print = line.split_whitespace().nth(1).context("ssh-keygen -lf")?;
    Ok(print.to_owned())
}

/// OpenSSH's client without the user's configuration, which trusts any host key; add options and the host `127.0.0.1`.
pub fn ssh_client(port: u16, user: &str, key: &Path) -> Command {
    let mut command = Command::new("ssh");
    command.args(["-F", "none", "-p", &port.to_string(), "-l", user]);
    command.arg("-i").arg(key);
    for option in [
        "BatchMode=yes",
        "IdentitiesOnly=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
    ] {
        command.args(["-o", option]);
    }
    command
}

/// A process and all its descendants. sshd gives each of its sessions a process group of its own.
fn family(pid: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let stat = fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
        // The name in parentheses may contain anything; state and parent follow it.
        let parent: Option<u32> = stat
            .rsplit(')')
            .next()
            .and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok());
        if let Some(parent) = parent {
            parents.push((child, parent));
        }
    }
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(child, _)| *child),
        );
        next += 1;
    }
    Ok(family)
}

/// A port of 127.0.0.1 that was free a moment ago, outside the kernel's range of ephemeral ports: every connection of
/// another test takes one of those.
pub fn free_port() -> Result<u16> {
    for _ in 0..100 {
        let random = RandomState::new().hash_one("port") % u64::from(PORTS);
        let port = LOWEST_PORT + u16::try_from(random)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}

/// An address on 127.0.0.1 with a [`free_port`].
pub fn free_addr() -> Result<SocketAddr> {
    Ok(SocketAddr::from(([127, 0, 0, 1], free_port()?)))
}

/// Ends or stops one process by its id: `KILL`, `STOP`, `CONT`.
pub fn signal(pid: u32, name: &str) -> Result<()> {
    output(Command::new("kill").args(["-s", name, &pid.to_string()])).map(drop)
}

/// The process that listens on this TCP port of 127.0.0.1, found through /proc.
pub fn listener(port: u16) -> Option<u32> {
    let table = fs::read_to_string("/proc/net/tcp").ok()?;
    let local = format!("0100007F:{port:04X}");
    let inode = table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let listens = fields.get(1) == Some(&local.as_str()) && fields.get(3) == Some(&"0A");
        listens.then(|| fields.get(9).map(ToString::to_string))?
    })?;
    let socket = format!("socket:[{inode}]");
    let pids = fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .find(|pid: &u32| {
            let fds = fs::read_dir(format!("/proc/{pid}/fd"));
            fds.into_iter().flatten().flatten().any(|fd| {
                fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == socket.as_str())
            })
        })
}

fn answers(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let _ = stream.set_read_timeout(Some(START));
    let mut banner = [0; 4];
    stream.read_exact(&mut banner).is_ok() && &banner == b"SSH-"
}

fn output(command: &mut Command) -> Result<String> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{command:?}"))?;
    ensure!(
        done.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Below Linux's ephemeral ports (`net.ipv4.ip_local_port_range`), above those of most services.
const LOWEST_PORT: u16 = 12_000;
const PORTS: u16 = 20_000;
/// Generous: only a broken start waits this long.
const START: Duration = Duration::from_secs(10);

/// The first value wins in sshd_config, so that a test's lines come before these.
const DEFAULTS: &str = "
HostKey {dir}/host
AuthorizedKeysFile {dir}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PubkeyAuthentication yes
PermitRootLogin prohibit-password
AllowTcpForwarding remote
AllowStreamLocalForwarding remote
StreamLocalBindUnlink yes
GatewayPorts no
PermitTTY no
MaxStartups 100:30:200
MaxSessions 1000
LogLevel VERBOSE
";
