//! Enrollment of a host: an empty configuration folder, the vendor's gateway, an imitation Jira.

use crate::{
    agent::{AgentProcess, binary, command, write_secret},
    login::output_text,
};
use agent::enroll::EnrollmentToken;
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

/// The customer's answers as flags: a personal access token and the preset `ticketing`.
const ANSWERS: [&str; 7] = [
    "--non-interactive",
    "--auth",
    "pat",
    "--jira-token-file",
    "pat",
    "--preset",
    "ticketing",
];
/// Personal access token in the file `pat`; the imitation Jira accepts it.
pub const PAT: &str = "acme-bot-token";

impl CustomerHost {
    /// Creates the folder around it, with nothing but the file `pat`.
    pub fn new() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("enroll-").tempdir()?;
        let host = Self { folder };
        fs::create_dir(host.dir())?;
        write_secret(&host.folder.path().join("pat"), PAT)?;
        Ok(host)
    }

    /// The folder of the configuration.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("etc")
    }

    /// The folder around it, in which commands run.
    pub fn work_dir(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `agent enroll` with these flags and the token on standard input.
    pub fn enroll(&self, token: &str, flags: &[&str]) -> Result<Output> {
        self.pipe(self.command(Command::new(binary("agent")), flags), token)
    }

    /// Runs `agent enroll`, which must succeed; returns all that it printed.
    pub fn enroll_ok(&self, token: &str, flags: &[&str]) -> Result<String> {
        let done = self.enroll(token, flags)?;
        let text = output_text(&done);
        ensure!(done.status.success(), "{text}");
        Ok(text)
    }

    /// `program`, the agent or a wrapper of it, as `agent enroll --token-file -` with these flags.
    pub fn command(&self, program: Command, flags: &[&str]) -> Command {
        let mut command = command(program, &self.dir(), &["enroll", "--token-file", "-"]);
        command.args(flags).current_dir(self.folder.path());
        command
    }

    /// Runs a command with the token on standard input.
    pub fn pipe(&self, mut command: Command, token: &str) -> Result<Output> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no standard input")?;
        // The command may end before it reads.
        let _ = writeln!(input, "{token}");
        drop(input);
        Ok(child.wait_with_output()?)
    }

    /// Starts the enrolled agent.
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

    /// Names and contents of the agent's private keys.
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
            // These belong to the running agent, not to the enrollment.
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

/// The vendor's gateway, played by server-stub, and the customer's Jira.
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

    /// Folder with the gateway's files.
    pub fn gateway_folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `server-stub token` with these arguments on the gateway's folder.
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

    /// Creates a token for `acme`, with a forward on any port; `more` are further arguments.
    pub fn token(&self, more: &[&str]) -> Result<String> {
        self.token_at(&self.gateway.ssh_addr.to_string(), more)
    }

    /// As [`token`](Self::token), for a gateway at this address.
    pub fn token_at(&self, gateway: &str, more: &[&str]) -> Result<String> {
        let mut words = vec!["new", "acme", "--gateway", gateway, "--bind", "127.0.0.1:0"];
        words.extend(more);
        Ok(self.token_command(&words)?.trim().to_owned())
    }

    /// The customer's answers, with this Jira as the upstream.
    pub fn answers(&self) -> Vec<&str> {
        answers(&self.jira)
    }

    /// The public keys that the gateway accepts for `acme`.
    pub fn authorized(&self) -> String {
        fs::read_to_string(self.gateway_folder().join("agents/acme/authorized_keys"))
            .unwrap_or_default()
    }
}

/// A vendor and a host that is not enrolled yet.
pub async fn vendor_and_host() -> Result<(VendorSetup, CustomerHost)> {
    Ok((VendorSetup::start().await?, CustomerHost::new()?))
}

/// A customer's answers as flags: this Jira as the upstream, a personal access token, the preset `ticketing`.
pub fn answers(jira: &RunningJira) -> Vec<&str> {
    let mut flags = ANSWERS.to_vec();
    flags.extend(["--upstream", &jira.url]);
    flags
}

/// A token with some of its members changed.
pub fn changed_token(token: &str, change: impl FnOnce(&mut EnrollmentToken)) -> Result<String> {
    let mut token = EnrollmentToken::parse(token)?;
    change(&mut token);
    Ok(token.to_text().to_string())
}

/// An imitation Jira on plain http, with the context path `/jira`.
pub async fn jira() -> Result<RunningJira> {
    let settings = Settings {
        context_path: "/jira".into(),
        ..Settings::default()
    };
    Ok(JiraStub::start(settings).await?)
}
