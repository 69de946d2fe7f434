//! The real `agent` binary in a folder of its own.

use crate::process::ChildProcess;
use agent::{
    control::{AgentClient, AgentClientError},
    status::StatusReport,
};
use anyhow::Context;
use std::{
    ffi::OsString,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

/// A folder with a configuration, and the agent that runs from it.
pub struct AgentProcess {
    process: Option<ChildProcess>,
    dir: PathBuf,
    /// More of its environment.
    environment: Vec<(String, OsString)>,
    /// What is run before it in a mount namespace of its own, where it has one.
    namespace: Option<String>,
}

impl AgentProcess {
    /// Writes `config` to `dir/agent.toml` and starts the agent. `dir` holds the files that the configuration names.
    pub fn start(dir: &Path, config: &str) -> anyhow::Result<Self> {
        Self::start_with(dir, config, &[])
    }

    /// Starts the agent on a folder that has its configuration already.
    pub fn start_as_is(dir: &Path) -> anyhow::Result<Self> {
        let mut agent = Self {
            process: None,
            dir: dir.to_owned(),
            environment: Vec::new(),
            namespace: None,
        };
        agent.restart()?;
        Ok(agent)
    }

    /// The same with these variables in its environment.
    pub fn start_with(
        dir: &Path,
        config: &str,
        variables: &[(&str, &str)],
    ) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("agent.toml"), config)?;
        let mut agent = Self {
            process: None,
            dir: dir.to_owned(),
            environment: variables
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.into()))
                .collect(),
            namespace: None,
        };
        agent.restart()?;
        Ok(agent)
    }

    /// Kills the agent if it runs and starts it again.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = None;
        let mut command = match &self.namespace {
            Some(script) => enter_namespace(&self.dir, script),
            None => self.command(&["run"]),
        };
        command.env("AGENT_LOG_FORMAT", "human");
        command.envs(self.environment.iter().cloned());
        self.process = Some(ChildProcess::spawn(command, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// From the next start on the agent has a mount namespace of its own, in which this shell script, in the agent's
    /// folder, starts it by `"$0" "$@"`. What it starts ends with the agent. Needs root.
    pub fn use_namespace(&mut self, script: impl Into<String>) {
        self.namespace = Some(script.into());
    }

    /// A path, in the agent's folder where it is relative, as the agent sees it in its namespace.
    pub fn path(&mut self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.process().pid()));
        let path = self.dir.join(path);
        root.join(path.strip_prefix("/").unwrap_or(&path))
    }

    /// Sets a variable for the next start.
    pub fn env(&mut self, name: &'static str, value: impl Into<OsString>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// The running process of the agent.
    pub fn process(&mut self) -> &mut ChildProcess {
        self.process
            .as_mut()
            .unwrap_or_else(|| unreachable!("set by start"))
    }

    /// The folder that the agent runs in.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    /// Waits until it has logged `text`; an answer may be there before the line that tells of it.
    pub async fn logged(&self, text: &str) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !self.log().contains(text) {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the agent has not logged {text:?}"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Its audit records so far (`[audit] file = "audit.log"` in its folder).
    pub fn audit(&self) -> Vec<serde_json::Value> {
        records(&self.dir.join("audit.log"))
    }

    /// The status, over its runtime socket.
    pub async fn status(&self) -> Result<StatusReport, AgentClientError> {
        AgentClient::new(&self.dir.join("run")).status().await
    }

    /// Waits until the status is as wanted; on the deadline the error holds status and log.
    pub async fn until_status(
        &self,
        what: &str,
        wanted: impl Fn(&StatusReport) -> bool,
    ) -> anyhow::Result<StatusReport> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let last = self.status().await;
            if let Ok(report) = &last
                && wanted(report)
            {
                return last.map_err(Into::into);
            }
            if Instant::now() > deadline {
                let last =
                    last.map(|report| serde_json::to_string_pretty(&report).unwrap_or_default());
                anyhow::bail!(
                    "waited {PATIENCE:?} for {what}; status: {last:?}\nlog:\n{}",
                    self.log()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Runs another command of the same binary on the same folder.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        self.command(arguments).output().context("running agent")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(Command::new(binary("agent")), &self.dir, arguments)
    }
}

/// The records of requests in an audit file, without what else it says.
pub fn records(file: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line.get("event").is_none())
        .collect()
}

fn enter_namespace(dir: &Path, script: &str) -> Command {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh", "-ec", script])
        .arg(binary("agent"));
    let mut unshare = command(unshare, dir, &["run"]);
    unshare.current_dir(dir);
    unshare
}

/// `program`, which is the agent or starts it, with these arguments, on the folder with its `agent.toml`.
pub fn command(mut program: Command, dir: &Path, arguments: &[&str]) -> Command {
    program
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("JIRA_TUNNEL_AGENT_CONFIG", dir.join("agent.toml"))
        .env("STATE_DIRECTORY", dir.join("state"))
        .env("RUNTIME_DIRECTORY", dir.join("run"));
    program
}

/// A binary of this workspace, built beside the running test.
pub fn binary(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test.ancestors().find(|folder| folder.join(name).is_file());
    folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
}

/// Writes a secret that only its owner can read. By a rename: an agent that runs looks at its secrets each second, and half
/// a secret is another one, which would be tried.
pub fn write_secret(path: &Path, secret: &str) -> anyhow::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, secret)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(())
}

/// Generous: a loaded machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);
