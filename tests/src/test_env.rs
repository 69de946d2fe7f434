//! A customer's site for tests: an imitation Jira inside, a stock sshd outside, the real agent between them.

use crate::{
    agent::{AgentProcess, write_secret},
    sshd::Sshd,
};
use ::agent::status::{OverallState, StatusReport};
use anyhow::{Context, Result};
use serde_json::Value;
use server_stub::jira::{HttpsSettings, JiraStub, ReceivedRequest, RunningJira, Settings};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What is to be built. Without further words: https with Jira's own CA, context path `/jira`, one connection,
/// `pass-through`, the preset `ticketing`.
pub struct TestEnvPlan {
    jira: Settings,
    upstream: Option<String>,
    ca_pem: Option<String>,
    login: AuthSection,
    presets: Vec<String>,
    allow: Vec<String>,
    deny: Vec<String>,
    /// Section and line.
    extra: Vec<(&'static str, String)>,
    sshd: Vec<&'static str>,
}

/// `[forward.auth]`.
enum AuthSection {
    PassThrough,
    Basic { username: String, password: String },
    Pat { token: String },
    Other { lines: String, secret: String },
}

/// A running site. All of it ends when dropped.
pub struct TestEnv {
    /// The agent's real binary, running.
    pub agent: AgentProcess,
    /// The vendor's gateway, a stock OpenSSH sshd.
    pub sshd: Sshd,
    jira: Option<RunningJira>,
    settings: Settings,
    folder: TempDir,
    addr: SocketAddr,
}

impl Default for TestEnvPlan {
    fn default() -> Self {
        Self {
            jira: Settings {
                https: Some(HttpsSettings::default()),
                context_path: CONTEXT_PATH.into(),
                ..Settings::default()
            },
            upstream: None,
            ca_pem: None,
            login: AuthSection::PassThrough,
            presets: vec!["ticketing".into()],
            allow: Vec::new(),
            deny: Vec::new(),
            extra: Vec::new(),
            sshd: Vec::new(),
        }
    }
}

impl TestEnvPlan {
    /// The agent logs in with a password.
    pub fn basic(mut self, username: &str, password: &str) -> Self {
        self.login = AuthSection::Basic {
            username: username.into(),
            password: password.into(),
        };
        self
    }

    /// The agent logs in with a personal access token.
    pub fn pat(mut self, token: &str) -> Self {
        self.login = AuthSection::Pat {
            token: token.into(),
        };
        self
    }

    /// The agent logs in as these lines of `[forward.auth]` say; the file that they call `secret` holds `secret`.
    pub fn auth(mut self, lines: &str, secret: &str) -> Self {
        self.login = AuthSection::Other {
            lines: lines.into(),
            secret: secret.into(),
        };
        self
    }

    /// Replaces the default policy presets.
    pub fn presets(mut self, presets: &[&str]) -> Self {
        self.presets = presets.iter().map(|&p| p.to_owned()).collect();
        self
    }

    /// Adds an `allow` rule to the policy.
    pub fn allow(mut self, rule: &str) -> Self {
        self.allow.push(rule.to_owned());
        self
    }

    /// Adds a `deny` rule to the policy.
    pub fn deny(mut self, rule: &str) -> Self {
        self.deny.push(rule.to_owned());
        self
    }

    /// Adds a line to a section: `tunnel`, `forward`, `forward.auth`, `forward.policy`, `forward.http`, `audit`, `log`.
    pub fn line(mut self, section: &'static str, line: impl Into<String>) -> Self {
        self.extra.push((section, line.into()));
        self
    }

    /// Adds a line to the gateway's `sshd_config`.
    pub fn sshd(mut self, line: &'static str) -> Self {
        self.sshd.push(line);
        self
    }

    /// Changes how the imitation Jira is.
    pub fn jira(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.jira);
        self
    }

    /// The agent trusts this CA instead of Jira's.
    pub fn trusted_ca(mut self, ca_pem: &str) -> Self {
        self.ca_pem = Some(ca_pem.to_owned());
        self
    }

    /// The agent's upstream is this instead of the imitation Jira.
    pub fn upstream(mut self, url: &str) -> Self {
        self.upstream = Some(url.to_owned());
        self
    }

    /// Starts all of it and waits until every layer is proven.
    pub async fn start(self) -> Result<TestEnv> {
        let mut site = self.build().await?;
        site.until_proven().await?;
        Ok(site)
    }

    /// Starts all of it and waits until the gateway listens for the vendor, whatever the other layers say.
    pub async fn start_unproven(self) -> Result<TestEnv> {
        let mut site = self.build().await?;
        site.until_bound().await?;
        Ok(site)
    }

    async fn build(mut self) -> Result<TestEnv> {
        let folder = tempfile::Builder::new().prefix("site-").tempdir()?;
        // A folder of its own, so that a Jira that is started again shows a certificate of the same CA.
        self.jira.directory = Some(folder.path().join("jira"));
        fs::create_dir(folder.path().join("jira"))?;
        let jira = JiraStub::start(self.jira.clone()).await?;
        self.jira.listen = jira.addr;
        let sshd = Sshd::with(&self.sshd)?;
        let dir = folder.path().join("agent");
        fs::create_dir(&dir)?;
        match &self.login {
            AuthSection::PassThrough => {}
            AuthSection::Basic { password: s, .. }
            | AuthSection::Pat { token: s }
            | AuthSection::Other { secret: s, .. } => {
                write_secret(&dir.join(SECRET), s)?;
            }
        }
        let ca_pem = self.ca_pem.as_ref().or(jira.ca_pem.as_ref());
        if let Some(pem) = ca_pem {
            fs::write(dir.join("ca.pem"), pem)?;
        }
        let config = self.config(&sshd, &jira, ca_pem.is_some(), &dir)?;
        let agent = AgentProcess::start(&dir, &config)?;
        Ok(TestEnv {
            agent,
            sshd,
            jira: Some(jira),
            settings: self.jira,
            folder,
            addr: SocketAddr::from(([127, 0, 0, 1], 0)),
        })
    }

    fn config(&self, sshd: &Sshd, jira: &RunningJira, ca: bool, dir: &Path) -> Result<String> {
        let upstream = self.upstream.as_deref().unwrap_or(&jira.url);
        let mut forward = vec![
            "name = \"jira\"".to_owned(),
            "bind = \"127.0.0.1:0\"".to_owned(),
            format!("upstream = {upstream:?}"),
        ];
        if ca {
            forward.push("roots = \"none\"\nca_file = \"ca.pem\"".to_owned());
        }
        let auth = match &self.login {
            AuthSection::PassThrough => "mode = \"pass-through\"".to_owned(),
            AuthSection::Basic { username, .. } => {
                format!("mode = \"basic\"\nusername = {username:?}\npassword_file = {SECRET:?}")
            }
            AuthSection::Pat { .. } => format!("mode = \"pat\"\ntoken_file = {SECRET:?}"),
            AuthSection::Other { lines, .. } => lines.clone(),
        };
        let sections = [
            (
                "tunnel",
                vec![
                    format!("gateways = [{:?}]", sshd.address()),
                    format!("user = {:?}", sshd.user()),
                    format!("identity_file = {:?}", sshd.identity()),
                    format!("host_keys = [{:?}]", sshd.fingerprint()?),
                    "connections = 1".to_owned(),
                ],
            ),
            ("forward", forward),
            ("forward.auth", vec![auth]),
            (
                "forward.policy",
                vec![
                    format!("presets = {:?}", self.presets),
                    format!("allow = {:?}", self.allow),
                    format!("deny = {:?}", self.deny),
                ],
            ),
            ("forward.http", Vec::new()),
            (
                "audit",
                vec![format!(
                    "sink = \"file\"\nfile = {:?}",
                    dir.join("audit.log")
                )],
            ),
            ("log", vec!["format = \"human\"".to_owned()]),
        ];
        let mut text = String::new();
        for (name, lines) in sections {
            text += &match name {
                "forward" => "[[forward]]\n".to_owned(),
                _ => format!("[{name}]\n"),
            };
            let extra = self.extra.iter().filter(|(section, _)| *section == name);
            for line in lines.iter().chain(extra.map(|(_, line)| line)) {
                text += &format!("{line}\n");
            }
            text.push('\n');
        }
        Ok(text)
    }
}

impl TestEnv {
    /// Begins to describe an environment; see `TestEnvPlan`.
    pub fn builder() -> TestEnvPlan {
        TestEnvPlan::default()
    }

    /// Where the vendor's services call: Jira's context path at the gateway, no slash at the end.
    pub fn vendor_url(&self) -> String {
        format!("http://{}{}", self.addr, self.settings.context_path)
    }

    /// The gateway's side of the forward.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The imitation Jira.
    ///
    /// # Panics
    /// While it is stopped.
    pub fn jira(&self) -> &RunningJira {
        self.jira
            .as_ref()
            .unwrap_or_else(|| panic!("Jira is stopped"))
    }

    /// Jira goes away, with all its connections.
    pub async fn stop_jira(&mut self) {
        if let Some(jira) = self.jira.take() {
            jira.stop().await;
        }
    }

    /// Jira comes back at the same address, with nothing in it but the defaults.
    pub async fn start_jira(&mut self) -> Result<()> {
        self.stop_jira().await;
        self.jira = Some(JiraStub::start(self.settings.clone()).await?);
        Ok(())
    }

    /// Waits until every layer is proven.
    pub async fn until_proven(&mut self) -> Result<StatusReport> {
        let report = self
            .agent
            .until_status("every layer to be proven", |r| {
                r.overall == OverallState::Proven
            })
            .await?;
        self.bound_at(&report)?;
        Ok(report)
    }

    /// Waits until the gateway listens; it may have chosen another port than before.
    pub async fn until_bound(&mut self) -> Result<StatusReport> {
        let report = self
            .agent
            .until_status("the forward to be bound", |r| {
                !r.forwards.is_empty() && r.forwards.iter().all(|f| !f.bound.is_empty())
            })
            .await?;
        self.bound_at(&report)?;
        Ok(report)
    }

    /// The agent's own folder.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// Replaces the password or token in the file that the agent reads, as an administrator would.
    pub fn change_secret(&self, secret: &str) -> Result<()> {
        let new = self.dir().join("secret.new");
        write_secret(&new, secret)?;
        Ok(fs::rename(new, self.dir().join(SECRET))?)
    }

    /// What has reached Jira, without the agent's own probes.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        let mut received = self.jira().requests();
        received.retain(|request| !is_probe(request));
        received
    }

    /// The audit record of one request, once it is written.
    pub async fn audit_of(&self, request_id: &str) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let records = self.agent.audit();
            if let Some(record) = records.iter().find(|r| r["request_id"] == request_id) {
                return Ok(record.clone());
            }
            anyhow::ensure!(
                Instant::now() < deadline,
                "no audit record of {request_id} within {PATIENCE:?}: {records:#?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn bound_at(&mut self, report: &StatusReport) -> Result<()> {
        let bound = report.forwards.first().and_then(|f| f.bound.first());
        self.addr = bound.context("no forward is bound")?.parse()?;
        Ok(())
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the agent's log ----\n{}", self.agent.log());
        }
    }
}

/// An HTTP client as a vendor's service would have it: no proxy, no redirects followed, no cookies kept.
pub fn vendor() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("vendor/1.0")
        .build()
        .unwrap_or_default()
}

/// The agent's own probes carry its name; what it forwards has the vendor's.
fn is_probe(request: &ReceivedRequest) -> bool {
    request
        .header("user-agent")
        .is_some_and(|agent| agent.starts_with("jira-tunnel-agent"))
}

/// Where the imitation Jira lives, as many real ones do.
pub const CONTEXT_PATH: &str = "/jira";
const SECRET: &str = "secret";
/// Generous: a loaded machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);
