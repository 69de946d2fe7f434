//! Gateways other than OpenSSH: dropbear, and SSH servers scripted in Python.

use crate::{
    client_script,
    process::ChildProcess,
    setup::AgentSetup,
    sshd::{fingerprint, free_addr, keygen},
    wait::{soon, until_listening},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdin},
};

/// A running gateway; ends when dropped.
pub struct OtherGateway {
    address: String,
    host_key: String,
    folder: TempDir,
    _process: GatewayProcess,
}

#[expect(dead_code, reason = "held for their drop")]
enum GatewayProcess {
    Script(Child, ChildStdin),
    Program(ChildProcess),
}

impl OtherGateway {
    /// A script of `clients/python`; `habit` selects how it differs from OpenSSH.
    pub async fn script(name: &str, habit: &str) -> Result<Self> {
        let mut command = client_script::python(name);
        command.arg(habit).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let input = child.stdin.take().context("no standard input")?;
        let output = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(output).lines();
        let first = soon(lines.next_line()).await?;
        let first = first.with_context(|| format!("{name} says nothing; `make setup`"))?;
        let (port, host_key) = first.split_once(' ').context("PORT FINGERPRINT")?;
        let gateway = Self {
            address: format!("127.0.0.1:{port}"),
            host_key: host_key.trim_end_matches('=').to_owned(),
            folder: folder()?,
            _process: GatewayProcess::Script(child, input),
        };
        // Its further output must be read, or it blocks.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                println!("gateway: {line}");
            }
        });
        Ok(gateway)
    }

    /// Debian's dropbear, as the user who runs the test. It finds `~/.ssh` by the user database, so a folder is mounted over
    /// the real home, visible to dropbear alone. Needs root.
    pub async fn dropbear() -> Result<Self> {
        let folder = folder()?;
        let home = folder.path().join("home");
        fs::create_dir_all(home.join(".ssh"))?;
        for private in [home.clone(), home.join(".ssh")] {
            fs::set_permissions(private, fs::Permissions::from_mode(0o700))?;
        }
        let authorized = home.join(".ssh/authorized_keys");
        fs::copy(folder.path().join("id.pub"), authorized)?;
        let key = folder.path().join("dropbear_host");
        run(Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(&key))?;
        let public = run(Command::new("dropbearkey").args(["-y", "-f"]).arg(&key))?;
        let line = public.lines().find(|line| line.starts_with("ssh-"));
        let file = folder.path().join("dropbear_host.pub");
        fs::write(&file, line.context("dropbearkey -y")?)?;
        let address = free_addr()?.to_string();
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private", "sh", "-c", OVER_HOME])
            .arg(&home)
            .arg(&address)
            .arg(&key);
        let mut process = ChildProcess::spawn(command, &folder.path().join("log"))?;
        let listening = until_listening(&address, || process.is_running()).await;
        listening.with_context(|| format!("dropbear: {}", process.log()))?;
        Ok(Self {
            address,
            host_key: fingerprint(&file)?,
            folder,
            _process: GatewayProcess::Program(process),
        })
    }

    /// One connection to it, with its host key pinned.
    pub fn setup(&self) -> AgentSetup {
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        AgentSetup::new(&self.address, &user, &self.identity())
            .tunnel("host_keys", vec![self.host_key.clone()])
    }

    /// Address on which the gateway listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The key that the agent logs in with.
    pub fn identity(&self) -> PathBuf {
        self.folder.path().join("id")
    }
}

fn folder() -> Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("gateway-").tempdir()?;
    keygen(&folder.path().join("id"), &["-t", "ed25519"], "")?;
    Ok(folder)
}

fn run(command: &mut Command) -> Result<String> {
    let done = command
        .output()
        .with_context(|| format!("{command:?} (dropbear-bin)"))?;
    ensure!(done.status.success(), "{command:?}: {done:?}");
    Ok(String::from_utf8_lossy(&done.stdout).into_owned())
}

/// `$0` is the home, `$1` where to listen, `$2` the host key.
const OVER_HOME: &str =
    "mount --bind \"$0\" \"$HOME\" && exec /usr/sbin/dropbear -F -E -s -p \"$1\" -r \"$2\"";
