//! The agent's process: its files, start, status and end.

use anyhow::{Context, bail};
use russh::keys::{
    PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

/// The values of the agent's configuration.
pub(super) struct AgentSettings<'a> {
    /// Where the gateway's SSH server listens.
    pub gateway: SocketAddr,
    /// Host key of the gateway, as a fingerprint.
    pub host_key: &'a str,
    /// User name at the gateway.
    pub user: &'a str,
    /// Number of SSH sessions.
    pub connections: usize,
    /// Where the gateway listens for the forward.
    pub bind: SocketAddr,
    /// Jira's URL with its context path.
    pub upstream: &'a str,
    /// Certificate of Jira's CA, PEM.
    pub ca: &'a str,
    /// The token that never leaves the customer's network.
    pub token: &'a str,
}

/// The process of the agent, which ends when this is dropped.
pub(super) struct DemoAgent {
    binary: PathBuf,
    folder: PathBuf,
    child: Child,
}

/// Creates the agent's key pair in `folder` and returns the public key.
pub(super) fn make_key(folder: &Path) -> anyhow::Result<String> {
    fs::create_dir_all(folder)?;
    let key = PrivateKey::from(Ed25519Keypair::from_seed(&rand::random()));
    write_private(&folder.join("id_ed25519"), &key.to_openssh(LineEnding::LF)?)?;
    Ok(key.public_key().to_openssh()?)
}

impl DemoAgent {
    /// Writes the configuration beside the key and starts the agent.
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        settings: &AgentSettings<'_>,
    ) -> anyhow::Result<Self> {
        write_private(&folder.join("jira-pat"), settings.token)?;
        fs::write(folder.join("ca.pem"), settings.ca)?;
        fs::write(folder.join(CONFIG), configuration(folder, settings))?;
        let log = fs::File::create(folder.join(LOG))?;
        let child = command(binary, folder)
            .arg("run")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot run {}; build it with `cargo build` or pass its path with --agent",
                    binary.display()
                )
            })?;
        Ok(Self {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            child,
        })
    }

    /// Waits until every layer is proven.
    pub(super) async fn wait_until_proven(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PROVEN_TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait()? {
                bail!("the agent ended with {status}:\n{}", self.log_tail());
            }
            let output = self.run(&["status", "--json"]).await?;
            if output.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "the agent has not proven all layers within {PROVEN_TIMEOUT:?}:\n{}{}",
                    String::from_utf8_lossy(&output.stdout),
                    self.log_tail()
                );
            }
            sleep(STATUS_INTERVAL).await;
        }
    }

    /// What `agent status` prints, and whether every layer is proven.
    pub(super) async fn status_text(&self) -> anyhow::Result<(String, bool)> {
        let output = self.run(&["status"]).await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok((text, output.status.success()))
    }

    /// Returns when the process has ended.
    pub(super) async fn wait_for_exit(&mut self) {
        let _ = self.child.wait().await;
    }

    /// Ends the agent with SIGTERM, so that it finishes open requests; kills it after 20 s.
    pub(super) async fn stop(mut self) {
        if let Some(id) = self.child.id() {
            let signaled = Command::new("kill")
                .args(["-TERM", &id.to_string()])
                .status()
                .await;
            if signaled.is_ok() && timeout(STOP_TIMEOUT, self.child.wait()).await.is_ok() {
                return;
            }
        }
        let _ = self.child.kill().await;
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join(LOG)
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The last lines of its log.
    pub(super) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let running = command(&self.binary, &self.folder)
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        timeout(COMMAND_TIMEOUT, running)
            .await
            .with_context(|| format!("`agent {}` timed out", arguments.join(" ")))?
            .context("cannot run the agent")
    }
}

fn command(binary: &Path, folder: &Path) -> Command {
    let mut command = Command::new(binary);
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("JIRA_TUNNEL_AGENT_CONFIG", folder.join(CONFIG))
        .env("STATE_DIRECTORY", folder.join("state"))
        .env("RUNTIME_DIRECTORY", folder.join("run"));
    command
}

fn configuration(folder: &Path, settings: &AgentSettings<'_>) -> String {
    format!(
        r#"# Made by the demo.
[tunnel]
gateways      = ["{gateway}"]
user          = "{user}"
identity_file = "id_ed25519"
host_keys     = ["{host_key}"]
connections   = {connections}

[[forward]]
name     = "jira"
bind     = "{bind}"
upstream = "{upstream}"
ca_file  = "ca.pem"
roots    = "none"

[forward.auth]
mode       = "pat"
token_file = "jira-pat"

[forward.policy]
presets = ["ticketing"]

[audit]
sink = "file"
file = "{audit}"

[log]
format = "human"
"#,
        gateway = settings.gateway,
        user = settings.user,
        host_key = settings.host_key,
        connections = settings.connections,
        bind = settings.bind,
        upstream = settings.upstream,
        audit = folder.join(AUDIT).display(),
    )
}

fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())?;
    Ok(file.write_all(text.as_bytes())?)
}

const CONFIG: &str = "agent.toml";
const LOG: &str = "agent.log";
/// The audit file, in the agent's folder.
pub(super) const AUDIT: &str = "audit.log";
const LOG_LINES: usize = 40;
/// Long for a connection on loopback, because the machine may be busy.
const PROVEN_TIMEOUT: Duration = Duration::from_secs(60);
const STATUS_INTERVAL: Duration = Duration::from_millis(200);
const COMMAND_TIMEOUT: Duration = Duration::from_secs(20);
/// Longer than the agent's own drain.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
