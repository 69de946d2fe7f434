//! `agent login` with a person at it: what it prints is read, a browser is scripted, an answer is typed.

use crate::agent::{binary, command, write_secret};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};

/// A folder that commands of the agent are run on, without an agent that runs and a gateway to connect to.
pub struct CommandFolder(tempfile::TempDir);

impl CommandFolder {
    /// One forward `jira` to `upstream`, whose CA is `ca_pem`. `auth` are the lines of `[forward.auth]`; the file that
    /// they call `secret` holds `secret`.
    pub fn new(upstream: &str, ca_pem: &str, auth: &str, secret: &str) -> Result<Self> {
        let desk = Self(tempfile::Builder::new().prefix("desk-").tempdir()?);
        fs::write(desk.dir().join("ca.pem"), ca_pem)?;
        write_secret(&desk.dir().join("secret"), secret)?;
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(desk.dir().join("id"))
            .status()?;
        ensure!(made.success(), "ssh-keygen: {made}");
        let config = format!(
            "[tunnel]\ngateways = [\"127.0.0.1:1\"]\nuser = \"u\"\nidentity_file = \"id\"\nhost_keys = [\"{HOST_KEY}\"]\n\
             [[forward]]\nname = \"jira\"\nbind = \"127.0.0.1:0\"\nupstream = {upstream:?}\n\
             roots = \"none\"\nca_file = \"ca.pem\"\n[forward.auth]\n{auth}\n"
        );
        fs::write(desk.dir().join("agent.toml"), config)?;
        Ok(desk)
    }

    /// The folder that commands run in.
    pub fn dir(&self) -> &Path {
        self.0.path()
    }

    /// Runs a command of the agent to its end.
    pub fn run(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = command(Command::new(binary("agent")), self.dir(), arguments);
        Ok(command.stdin(Stdio::null()).output()?)
    }

    /// A person logs in and consents.
    pub async fn log_in(&self, username: &str, password: &str) -> Result<Output> {
        log_in(self.dir(), username, password).await
    }

    /// A person logs in by OAuth 1.0a and types the code that Jira shows.
    pub async fn log_in_by_code(&self, username: &str, password: &str) -> Result<Output> {
        log_in_by_code(self.dir(), username, password).await
    }

    /// Path of the file with the stored tokens.
    pub fn token_file(&self) -> PathBuf {
        self.dir().join("state/tokens/jira.json")
    }

    /// What is in the token file.
    pub fn stored_tokens(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.token_file())?)?)
    }
}

/// A person logs in and consents at `agent login`, and pastes the address that the browser is sent to.
pub async fn log_in(dir: &Path, username: &str, password: &str) -> Result<Output> {
    let mut dialogue = LoginProcess::start(dir)?;
    let address = dialogue.address().await?;
    let location = consent(&address, username, password).await?;
    dialogue.paste(&location).await?;
    dialogue.end().await
}

/// A person logs in at `agent login` by OAuth 1.0a, reads the code off Jira's page, and types it.
pub async fn log_in_by_code(dir: &Path, username: &str, password: &str) -> Result<Output> {
    let mut dialogue = LoginProcess::start(dir)?;
    let address = dialogue.address().await?;
    let page = submit_consent(&address, username, password, "allow").await?;
    dialogue.paste(code_on(&page)?).await?;
    dialogue.end().await
}

/// The verification code on Jira's page.
pub fn code_on(page: &str) -> Result<&str> {
    let (_, rest) = page
        .split_once("verification code is '")
        .with_context(|| format!("no code on {page}"))?;
    Ok(rest.split('\'').next().unwrap_or_default())
}

/// What Jira's page says after a person in a browser has decided: `allow` or `deny`.
pub async fn submit_consent(
    address: &str,
    username: &str,
    password: &str,
    decision: &str,
) -> Result<String> {
    let form = [
        ("username", username),
        ("password", password),
        ("decision", decision),
    ];
    let reply = browser().post(address).form(&form).send().await?;
    let page = reply.text().await?;
    Ok(page.replace("&#39;", "'").replace("&apos;", "'"))
}

/// A running `agent login`.
pub struct LoginProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    printed: String,
}

impl LoginProcess {
    /// Starts it on the folder with this `agent.toml`.
    pub fn start(dir: &Path) -> Result<Self> {
        Self::start_with(dir, &["login"])
    }

    /// Starts it with these arguments, `login` first.
    pub fn start_with(dir: &Path, arguments: &[&str]) -> Result<Self> {
        let command = command(Command::new(binary("agent")), dir, arguments);
        let mut child = tokio::process::Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let output = child.stdout.take().context("no standard output")?;
        Ok(Self {
            input: child.stdin.take(),
            output: BufReader::new(output),
            child,
            printed: String::new(),
        })
    }

    /// The address that it asks to open.
    pub async fn address(&mut self) -> Result<String> {
        let found = async {
            loop {
                let mut line = String::new();
                let read = self.output.read_line(&mut line).await?;
                self.printed += &line;
                let text = line.trim();
                let is_address = ["client_id=", "?oauth_token="]
                    .iter()
                    .any(|part| text.contains(part));
                if text.starts_with("http") && is_address {
                    return Ok(text.to_owned());
                }
                if read == 0 {
                    let mut said = String::new();
                    if let Some(mut errors) = self.child.stderr.take() {
                        errors.read_to_string(&mut said).await?;
                    }
                    anyhow::bail!("no address in: {}{said}", self.printed);
                }
            }
        };
        timeout(PATIENCE, found).await?
    }

    /// Types one line on standard input.
    pub async fn paste(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("standard input is closed")?;
        input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(input.flush().await?)
    }

    /// Its end, with all that it has printed.
    pub async fn end(mut self) -> Result<Output> {
        // Kept open until here: a terminal does not end by itself.
        let end = async {
            self.output.read_to_string(&mut self.printed).await?;
            let rest = self.child.wait_with_output().await?;
            anyhow::Ok(Output {
                stdout: self.printed.into_bytes(),
                ..rest
            })
        };
        timeout(PATIENCE, end).await?
    }
}

/// A person in a browser logs in and consents; returns where the browser is sent then.
pub async fn consent(address: &str, username: &str, password: &str) -> Result<String> {
    let form = [
        ("username", username),
        ("password", password),
        ("decision", "allow"),
    ];
    let reply = browser().post(address).form(&form).send().await?;
    let location = reply.headers().get("location").cloned();
    let status = reply.status();
    ensure!(
        status == 302,
        "{status} instead of a redirect: {}",
        reply.text().await?
    );
    Ok(location.context("no location")?.to_str()?.to_owned())
}

/// It follows nothing and trusts everybody: whom the agent trusts is what the tests are about.
pub fn browser() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap_or_default()
}

/// What a command has printed, on both outputs.
pub fn output_text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// Of nobody.
const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0";
/// Generous: a loaded machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);
