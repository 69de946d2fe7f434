//! The real `agent` binary in its own folder.

use crate::{
    process::ChildProcess,
    wait::{PATIENCE, until_true},
};
use agent::{
    check::CheckReport,
    control::{AgentClient, AgentClientError},
    status::{LayerState, OverallState, StatusReport},
};
use anyhow::{Context, Result, ensure};
use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, Instant},
};

/// A folder with a configuration, and the agent that runs from it.
pub struct AgentProcess {
    process: Option<ChildProcess>,
    dir: PathBuf,
    /// Further environment variables.
    environment: Vec<(String, OsString)>,
    /// Shell script that starts the agent in its own mount namespace.
    namespace: Option<String>,
    /// The program, if it is not the one that was built.
    program: Option<PathBuf>,
}

impl AgentProcess {
    /// Writes `config` to `dir/agent.toml` and starts the agent. `dir` holds the files that the configuration names.
    pub fn start(dir: &Path, config: &str) -> Result<Self> {
        Self::start_with(dir, config, &[])
    }

    /// As [`start`](Self::start), with these variables in the agent's environment.
    pub fn start_with(dir: &Path, config: &str, variables: &[(&str, &str)]) -> Result<Self> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("agent.toml"), config)?;
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).into());
        Self::launch(dir, variables.iter().map(own).collect())
    }

    /// Starts the agent on a folder that already has its configuration.
    pub fn start_as_is(dir: &Path) -> Result<Self> {
        Self::launch(dir, Vec::new())
    }

    fn launch(dir: &Path, environment: Vec<(String, OsString)>) -> Result<Self> {
        let mut agent = Self {
            process: None,
            dir: dir.to_owned(),
            environment,
            namespace: None,
            program: None,
        };
        agent.restart()?;
        Ok(agent)
    }

    /// Kills the agent if it runs and starts it again.
    #[expect(
        clippy::disallowed_methods,
        reason = "milliseconds, as starting a process"
    )]
    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        // In a namespace the kernel ends the agent a little later than the process that was killed.
        let socket = self.dir.join("run").join("agent.sock");
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(&socket).is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut command = match &self.namespace {
            Some(script) => enter_namespace(&self.dir, script, &self.program()),
            None => self.command(&["run"]),
        };
        command.env("AGENT_LOG_FORMAT", "human");
        command.envs(self.environment.iter().cloned());
        self.process = Some(ChildProcess::spawn(command, &self.dir.join("agent.log"))?);
        Ok(())
    }

    /// From the next start on, runs the agent in its own mount namespace, started by this shell script with `"$0" "$@"`.
    /// The script's working folder is the agent's; its other processes end with the agent. Needs root.
    pub fn use_namespace(&mut self, script: impl Into<String>) {
        self.namespace = Some(script.into());
    }

    /// From the next start on, runs a copy of the agent in its folder, which may be replaced while it runs. Its processes end
    /// with the test, also those that it starts itself. Needs root.
    pub fn use_replaceable_program(&mut self) -> Result<PathBuf> {
        let program = self.dir.join("program").join("agent");
        fs::create_dir_all(self.dir.join("program"))?;
        fs::copy(binary("agent"), &program)?;
        self.program = Some(program.clone());
        // The shell adopts what the agent leaves, and its end ends all.
        self.use_namespace("\"$0\" \"$@\" & wait; while :; do sleep 60; done");
        Ok(program)
    }

    fn program(&self) -> PathBuf {
        let built = || binary("agent");
        self.program.clone().unwrap_or_else(built)
    }

    /// A path inside the agent's namespace; relative paths start at the agent's folder.
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

    /// Text of the agent's log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("agent.log")).unwrap_or_default()
    }

    /// Waits until it has logged `text`; an answer may arrive before the log line about it.
    pub async fn logged(&self, text: &str) -> Result<()> {
        let what = format!("the agent to log {text:?}");
        until_true(&what, || self.log().contains(text)).await
    }

    /// Changes `agent.toml`, by a rename as editors do, so that no half-written file is ever read.
    pub fn edit_config(&self, change: impl FnOnce(String) -> String) -> Result<()> {
        let file = self.dir.join("agent.toml");
        let changed = change(fs::read_to_string(&file)?);
        let new = self.dir.join("agent.toml.new");
        fs::write(&new, changed)?;
        Ok(fs::rename(new, file)?)
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
    ) -> Result<StatusReport> {
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

    /// Waits until every layer is proven.
    pub async fn until_proven(&self) -> Result<StatusReport> {
        self.until_status("every layer to be proven", |r| {
            r.overall == OverallState::Proven
        })
        .await
    }

    /// Waits until the gateway listens for the first forward; returns where.
    pub async fn until_bound(&self) -> Result<SocketAddr> {
        let bound = |r: &StatusReport| Some(r.forwards.first()?.bound.first()?.clone());
        let report = self
            .until_status("the first forward to be bound", |r| bound(r).is_some())
            .await?;
        Ok(bound(&report).context("not bound")?.parse()?)
    }

    /// Waits until the login layer has this state.
    pub async fn until_login(&self, state: LayerState) -> Result<StatusReport> {
        let what = format!("the login to be {state:?}");
        self.until_status(&what, |r| r.layers.login.state == state)
            .await
    }

    /// Waits until the login layer has failed; returns cause and remedy.
    pub async fn login_failure(&self) -> Result<(String, String)> {
        let login = self.until_login(LayerState::Failed).await?.layers.login;
        let failure = login.cause.zip(login.remedy);
        failure.context("a failed login without cause or remedy")
    }

    /// Runs another command of the same binary on the same folder.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        self.command(arguments).output().context("running agent")
    }

    /// Runs a command that must succeed; returns its standard output.
    pub fn succeed(&self, arguments: &[&str]) -> Result<String> {
        let done = self.run(arguments)?;
        ensure!(done.status.success(), "{arguments:?}: {done:?}");
        Ok(String::from_utf8(done.stdout)?)
    }

    /// Text and exit code of `agent status`.
    pub fn status_output(&self) -> Result<(String, i32)> {
        let done = self.run(&["status"])?;
        let text = String::from_utf8(done.stdout)?;
        Ok((text, done.status.code().context("ended by a signal")?))
    }

    /// Report and exit code of `agent check --json`, with further arguments.
    pub fn check(&self, more: &[&str]) -> Result<(CheckReport, Option<i32>)> {
        let done = self.run(&[&["check", "--json"], more].concat())?;
        let report = serde_json::from_slice(&done.stdout).with_context(|| format!("{done:?}"))?;
        Ok((report, done.status.code()))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        command(Command::new(self.program()), &self.dir, arguments)
    }
}

/// The request records in an audit file, without its other lines.
pub fn records(file: &Path) -> Vec<serde_json::Value> {
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|line| line.get("event").is_none())
        .collect()
}

fn enter_namespace(dir: &Path, script: &str, program: &Path) -> Command {
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"])
        .args(["--propagation", "private", "sh", "-ec", script])
        .arg(program);
    let mut unshare = command(unshare, dir, &["run"]);
    unshare.current_dir(dir);
    unshare
}

/// `program`, the agent or a wrapper of it, with these arguments and the folder `dir`, which holds `agent.toml`.
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

/// A binary of this workspace: from the folder `E2E_BIN_DIR`, otherwise built beside the running test.
pub fn binary(name: &str) -> PathBuf {
    if let Some(folder) = std::env::var_os("E2E_BIN_DIR") {
        return PathBuf::from(folder).join(name);
    }
    let test = std::env::current_exe().unwrap_or_default();
    let folder = test.ancestors().find(|folder| folder.join(name).is_file());
    folder.map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
}

/// Writes a secret that only its owner can read, by a rename: a running agent reads its secrets every second and would try
/// a half-written one.
pub fn write_secret(path: &Path, secret: &str) -> Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    fs::write(&new, secret)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600))?;
    fs::rename(&new, path)?;
    Ok(())
}
