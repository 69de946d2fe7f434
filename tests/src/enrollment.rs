//! A host that is to be enrolled: an empty folder for the configuration, a gateway of the vendor, an imitation Jira.

use crate::{
    agent::{AgentProcess, binary, command, write_secret},
    login::output_text,
};
use anyhow::{Context, Result, ensure};
use server_stub::{
    gateway::{self, Gateway},
    jira::{JiraStub, RunningJira, Settings},
};
use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tempfile::TempDir;

/// The customer's host, with an empty configuration folder.
pub struct CustomerHost {
    folder: TempDir,
}

/// What the customer answers, as flags: a personal access token, and the preset `ticketing`.
pub const ANSWERS: [&str; 7] = [
    "--non-interactive",
    "--auth",
    "pat",
    "--jira-token-file",
    "pat",
    "--preset",
    "ticketing",
];
/// Jira's token in the file `pat`; the imitation knows it.
pub const PAT: &str = "acme-bot-token";

impl CustomerHost {
    /// Nothing is there but a file with Jira's token.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("enrol-").tempdir()?;
        let host = Self { folder };
        fs::create_dir(host.dir())?;
        write_secret(&host.folder.path().join("pat"), PAT)?;
        Ok(host)
    }

    /// The folder of the configuration.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    /// The folder around it, where commands are run.
    pub fn work_dir(&self) -> &Path {
        self.folder.path()
    }

    /// `agent enroll` with these flags, the token on standard input.
    pub fn enroll(&self, token: &str, flags: &[&str]) -> Result<Output> {
        self.pipe(self.command(Command::new(binary("agent")), flags), token)
    }

    /// `program`, which is the agent or starts it, as `agent enroll --token-file -` with these flags.
    pub fn command(&self, program: Command, flags: &[&str]) -> Command {
        let mut command = command(program, &self.dir(), &["enroll", "--token-file", "-"]);
        command.args(flags).current_dir(self.folder.path());
        command
    }

    /// Runs it with the token on standard input.
    pub fn pipe(&self, mut command: Command, token: &str) -> Result<Output> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no standard input")?;
        // It may have been killed, or have refused, before it read.
        let _ = writeln!(input, "{token}");
        drop(input);
        Ok(child.wait_with_output()?)
    }

    /// The agent runs with what was enrolled.
    pub fn run(&self) -> Result<AgentProcess> {
        AgentProcess::start_as_is(&self.dir())
    }

    /// Every file below the configuration's folder, with its content, sorted.
    pub fn files(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = Vec::new();
        collect(&self.dir(), &self.dir(), &mut files)?;
        files.sort();
        Ok(files)
    }

    /// The name and content of each key there is.
    pub fn keys(&self) -> Result<Vec<(String, Vec<u8>)>> {
        let mut files = self.files()?;
        files.retain(|(name, _)| name.ends_with("/id_ed25519"));
        Ok(files)
    }
}

fn collect(top: &Path, folder: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            // Of the running agent, not of the enrolment.
            if !["state", "run"].iter().any(|name| path.ends_with(name)) {
                collect(top, &path, files)?;
            }
        } else {
            let name = path.strip_prefix(top)?.display().to_string();
            files.push((name, fs::read(&path)?));
        }
    }
    Ok(())
}

/// The vendor with server-stub as its gateway, and the customer's Jira.
pub struct VendorSetup {
    /// The vendor's running gateway, played by server-stub.
    pub gateway: gateway::RunningGateway,
    /// The Jira, with the context path `/jira`.
    pub jira: RunningJira,
    folder: TempDir,
}

impl VendorSetup {
    /// Starts the gateway and the imitation Jira.
    pub async fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vendor-").tempdir()?;
        let mut settings = gateway::Settings::new(folder.path());
        settings.ssh.set_port(0);
        settings.http.set_port(0);
        Ok(Self {
            gateway: Gateway::start(settings).await?,
            jira: jira().await?,
            folder,
        })
    }

    /// Folder in which the gateway keeps its files.
    pub fn gateway_folder(&self) -> &Path {
        self.folder.path()
    }

    /// `server-stub token` with these words, on the gateway's folder.
    pub fn token_command(&self, words: &[&str]) -> Result<String> {
        let done = Command::new(binary("server-stub"))
            .arg("token")
            .args(words)
            .arg("--data")
            .arg(self.folder.path())
            .stdin(Stdio::null())
            .output()?;
        ensure!(done.status.success(), "{}", output_text(&done));
        Ok(String::from_utf8(done.stdout)?)
    }

    /// A token for `acme` whose forward is on any port.
    pub fn token(&self, more: &[&str]) -> Result<String> {
        self.token_at(&self.gateway.ssh_addr.to_string(), more)
    }

    /// The same for a gateway that is reached there.
    pub fn token_at(&self, gateway: &str, more: &[&str]) -> Result<String> {
        let mut words = vec!["new", "acme", "--gateway", gateway, "--bind", "127.0.0.1:0"];
        words.extend(more);
        Ok(self.token_command(&words)?.trim().to_owned())
    }

    /// The flags of a customer who has this Jira.
    pub fn answers(&self) -> Vec<&str> {
        let mut flags = ANSWERS.to_vec();
        flags.extend(["--upstream", &self.jira.url]);
        flags
    }

    /// The public keys that the gateway lets in as `acme`.
    pub fn authorized(&self) -> String {
        fs::read_to_string(self.gateway_folder().join("agents/acme/authorized_keys"))
            .unwrap_or_default()
    }
}

/// An imitation Jira on plain http, with the context path `/jira`.
pub async fn jira() -> Result<RunningJira> {
    let settings = Settings {
        context_path: "/jira".into(),
        ..Settings::default()
    };
    Ok(JiraStub::start(settings).await?)
}
