//! `agent login` with a scripted person, who reads what it prints, uses a browser and types an answer.

use crate::{
    agent::{binary, command, write_secret},
    sshd::keygen,
    wait::soon,
};
use agent::auth::oauth1::SigningKey;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use server_stub::cloud::RunningCloud;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout},
};

/// A folder for commands of the agent, without a running agent and without a gateway.
pub struct CommandFolder(tempfile::TempDir);

impl CommandFolder {
    /// Configures one forward `jira` to `upstream`, whose CA is `ca_pem`. `auth` are the lines of `[forward.auth]`; the
    /// file that they call `secret` holds `secret`.
    pub fn new(upstream: &str, ca_pem: &str, auth: &str, secret: &str) -> Result<Self> {
        let folder = Self(tempfile::Builder::new().prefix("commands-").tempdir()?);
        fs::write(folder.dir().join("ca.pem"), ca_pem)?;
        write_secret(&folder.dir().join("secret"), secret)?;
        keygen(&folder.dir().join("id"), &["-t", "ed25519"], "")?;
        let config = format!(
            "[tunnel]\ngateways = [\"127.0.0.1:1\"]\nuser = \"u\"\nidentity_file = \"id\"\nhost_keys = [\"{HOST_KEY}\"]\n\
             [[forward]]\nname = \"jira\"\nbind = \"127.0.0.1:0\"\nupstream = {upstream:?}\n\
             roots = \"none\"\nca_file = \"ca.pem\"\n[forward.auth]\n{auth}\n"
        );
        fs::write(folder.dir().join("agent.toml"), config)?;
        Ok(folder)
    }

    /// For the OAuth 2.0 app `app` of the first site of an imitation Cloud.
    pub fn for_cloud(cloud: &RunningCloud) -> Result<Self> {
        let auth = format!(
            "mode = \"oauth2\"\nclient_id = \"app\"\nclient_secret_file = \"secret\"\naudience = \"api.atlassian.com\"\n\
             authorize_url = \"{0}/authorize\"\ntoken_url = \"{0}/oauth/token\"",
            cloud.auth_url
        );
        let site = cloud.sites.first().context("no site")?;
        let upstream = format!("{}/ex/jira/{}", cloud.api_url, site.cloud_id);
        Self::new(&upstream, &cloud.ca_pem, &auth, "app-secret")
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

    /// Content of the token file.
    pub fn stored_tokens(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.token_file())?)?)
    }
}

/// A person logs in and consents at `agent login`, and pastes the address to which Jira redirects the browser.
pub async fn log_in(dir: &Path, username: &str, password: &str) -> Result<Output> {
    let mut login = LoginProcess::start(dir)?;
    let address = login.address().await?;
    let location = consent(&address, username, password).await?;
    login.paste(&location).await?;
    login.end().await
}

/// A person logs in at `agent login` by OAuth 1.0a, reads the code off Jira's page, and types it.
pub async fn log_in_by_code(dir: &Path, username: &str, password: &str) -> Result<Output> {
    let mut login = LoginProcess::start(dir)?;
    let address = login.address().await?;
    let page = submit_consent(&address, username, password, "allow").await?;
    login.paste(code_on(&page)?).await?;
    login.end().await
}

/// The verification code on Jira's page.
pub fn code_on(page: &str) -> Result<&str> {
    let (_, rest) = page
        .split_once("verification code is '")
        .with_context(|| format!("no code on {page}"))?;
    Ok(rest.split('\'').next().unwrap_or_default())
}

/// Jira's page after the person's decision, `allow` or `deny`.
pub async fn submit_consent(
    address: &str,
    username: &str,
    password: &str,
    decision: &str,
) -> Result<String> {
    let reply = submit(address, username, password, decision).await?;
    let page = reply.text().await?;
    Ok(page.replace("&#39;", "'").replace("&apos;", "'"))
}

async fn submit(
    address: &str,
    username: &str,
    password: &str,
    decision: &str,
) -> Result<reqwest::Response> {
    let form = [
        ("username", username),
        ("password", password),
        ("decision", decision),
    ];
    Ok(browser().post(address).form(&form).send().await?)
}

/// A running `agent login`.
pub struct LoginProcess {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    printed: String,
}

impl LoginProcess {
    /// Starts it on a folder with an `agent.toml`.
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

    /// Waits for the address that it asks the person to open.
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
                    let mut complaint = String::new();
                    if let Some(mut errors) = self.child.stderr.take() {
                        errors.read_to_string(&mut complaint).await?;
                    }
                    anyhow::bail!("no address in: {}{complaint}", self.printed);
                }
            }
        };
        soon(found).await
    }

    /// Types one line on standard input.
    pub async fn paste(&mut self, line: &str) -> Result<()> {
        let input = self.input.as_mut().context("standard input is closed")?;
        input.write_all(format!("{line}\n").as_bytes()).await?;
        Ok(input.flush().await?)
    }

    /// Waits for its end; returns all that it has printed.
    pub async fn end(mut self) -> Result<Output> {
        // Standard input stays open until here, like a terminal.
        let end = async {
            self.output.read_to_string(&mut self.printed).await?;
            let rest = self.child.wait_with_output().await?;
            anyhow::Ok(Output {
                stdout: self.printed.into_bytes(),
                ..rest
            })
        };
        soon(end).await
    }
}

/// A person in a browser logs in and consents; returns where Jira redirects the browser.
pub async fn consent(address: &str, username: &str, password: &str) -> Result<String> {
    let reply = submit(address, username, password, "allow").await?;
    let location = reply.headers().get("location").cloned();
    let status = reply.status();
    ensure!(
        status == 302,
        "{status} instead of a redirect: {}",
        reply.text().await?
    );
    Ok(location.context("no location")?.to_str()?.to_owned())
}

/// The person's browser; it follows no redirects and trusts every certificate.
pub fn browser() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .danger_accept_invalid_certs(true)
        .build()
        .unwrap_or_default()
}

/// Standard output and standard error of a command, one after the other.
pub fn output_text(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// A private key in PEM, for a `private_key_file`.
pub fn private_pem(key: &SigningKey) -> Result<String> {
    Ok(String::from_utf8(key.private_pem()?.expose().to_vec())?)
}

/// A host key that no gateway has.
const HOST_KEY: &str = "SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0";
