//! A customer's network for tests: an imitation Jira inside, a stock sshd outside, the real agent between them.

use crate::{
    agent::{AgentProcess, write_secret},
    login::private_pem,
    sshd::Sshd,
    wait::until,
};
use ::agent::{
    auth::oauth1::SigningKey,
    status::{LayerState, StatusReport},
};
use anyhow::{Context, Result};
use reqwest::Response;
use serde_json::{Value, json};
use server_stub::jira::{
    HttpsSettings, JiraStub, OAuth1Consumer, OAuth2Client, ReceivedRequest, RunningJira, Settings,
};
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

/// Describes the environment. By default: https with Jira's own CA, context path `/jira`, one connection, `pass-through`,
/// the preset `ticketing`.
pub struct TestEnvPlan {
    jira: Settings,
    upstream: Option<String>,
    ca_pem: Option<String>,
    auth: AuthSection,
    presets: Vec<String>,
    allow: Vec<String>,
    deny: Vec<String>,
    /// Further lines, each with its section.
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

/// A running environment; all of it ends when dropped.
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
            auth: AuthSection::PassThrough,
            presets: vec!["ticketing".into()],
            allow: Vec::new(),
            deny: Vec::new(),
            extra: Vec::new(),
            sshd: Vec::new(),
        }
    }
}

impl TestEnvPlan {
    /// The agent authenticates with a password.
    pub fn basic(mut self, username: &str, password: &str) -> Self {
        self.auth = AuthSection::Basic {
            username: username.into(),
            password: password.into(),
        };
        self
    }

    /// The agent authenticates with a personal access token.
    pub fn pat(mut self, token: &str) -> Self {
        self.auth = AuthSection::Pat {
            token: token.into(),
        };
        self
    }

    /// The agent authenticates by these lines of `[forward.auth]`; the file that they call `secret` holds `secret`.
    pub fn auth(mut self, lines: &str, secret: &str) -> Self {
        self.auth = AuthSection::Other {
            lines: lines.into(),
            secret: secret.into(),
        };
        self
    }

    /// The agent is the OAuth 2.0 client `acme`, which Jira knows; `more` are further lines of `[forward.auth]`.
    pub fn oauth2(self, secret: &str, more: &str) -> Self {
        self.auth(&format!("{OAUTH2}\n{more}"), secret)
            .jira(|jira| jira.oauth2.clients = vec![OAuth2Client::new("acme", secret, REDIRECT)])
    }

    /// As [`oauth2`](Self::oauth2), by the client's own grant, as the user [`BOT`].
    pub fn oauth2_service(self, secret: &str) -> Self {
        let plan = self.oauth2(secret, "grant = \"client_credentials\"");
        plan.jira(|jira| jira.oauth2.clients[0].service_account = Some(BOT.into()))
    }

    /// The agent signs with this key as the OAuth 1.0a consumer `acme`, which Jira knows.
    pub fn oauth1(self, key: &SigningKey) -> Result<Self> {
        let consumer = OAuth1Consumer::new("acme", &key.public_pem()?);
        let plan = self.auth(OAUTH1, &private_pem(key)?);
        Ok(plan.jira(|jira| jira.oauth1.consumers = vec![consumer]))
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

    /// Changes the settings of the imitation Jira.
    pub fn jira(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.jira);
        self
    }

    /// The agent trusts this CA instead of Jira's.
    pub fn trusted_ca(mut self, ca_pem: &str) -> Self {
        self.ca_pem = Some(ca_pem.to_owned());
        self
    }

    /// Sets an upstream other than the imitation Jira.
    pub fn upstream(mut self, url: &str) -> Self {
        self.upstream = Some(url.to_owned());
        self
    }

    /// Starts all of it and waits until every layer is proven.
    pub async fn start(self) -> Result<TestEnv> {
        let mut env = self.build().await?;
        env.until_proven().await?;
        Ok(env)
    }

    /// Starts all of it and waits until the gateway listens for the vendor, whatever the state of the other layers.
    pub async fn start_unproven(self) -> Result<TestEnv> {
        let mut env = self.build().await?;
        env.until_bound().await?;
        Ok(env)
    }

    async fn build(mut self) -> Result<TestEnv> {
        let folder = tempfile::Builder::new().prefix("site-").tempdir()?;
        // In its own folder, so that a restarted Jira keeps its CA.
        self.jira.directory = Some(folder.path().join("jira"));
        fs::create_dir(folder.path().join("jira"))?;
        let jira = JiraStub::start(self.jira.clone()).await?;
        self.jira.listen = jira.addr;
        let sshd = Sshd::with(&self.sshd)?;
        let dir = folder.path().join("agent");
        fs::create_dir(&dir)?;
        match &self.auth {
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
        let auth = match &self.auth {
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

    /// Starts the default environment, with the token of [`BOT`].
    pub async fn start() -> Result<Self> {
        Self::builder().pat(BOT_TOKEN).start().await
    }

    /// Base URL for the vendor's services: Jira's context path at the gateway, without a trailing slash.
    pub fn vendor_url(&self) -> String {
        format!("http://{}{}", self.addr, self.settings.context_path)
    }

    /// Address at which the gateway listens for the forward.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The imitation Jira.
    ///
    /// # Panics
    /// If it is stopped.
    pub fn jira(&self) -> &RunningJira {
        self.jira
            .as_ref()
            .unwrap_or_else(|| panic!("Jira is stopped"))
    }

    /// Stops Jira and closes all its connections.
    pub async fn stop_jira(&mut self) {
        if let Some(jira) = self.jira.take() {
            jira.stop().await;
        }
    }

    /// Starts Jira again at the same address, with its default content.
    pub async fn start_jira(&mut self) -> Result<()> {
        self.stop_jira().await;
        self.jira = Some(JiraStub::start(self.settings.clone()).await?);
        Ok(())
    }

    /// Waits until every layer is proven.
    pub async fn until_proven(&mut self) -> Result<StatusReport> {
        let report = self.agent.until_proven().await?;
        self.bound_at(&report)?;
        Ok(report)
    }

    /// Waits until the gateway listens; its port may have changed.
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

    /// Replaces the credential in the file that the agent reads, as an administrator would.
    pub fn change_secret(&self, secret: &str) -> Result<()> {
        write_secret(&self.dir().join(SECRET), secret)
    }

    /// Requests that have reached Jira, without the agent's own probes.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        let mut received = self.jira().requests();
        received.retain(|request| !is_probe(request));
        received
    }

    /// The audit record of one request, once it is written.
    pub async fn audit_of(&self, request_id: &str) -> Result<Value> {
        let record = async || {
            let mut records = self.agent.audit().into_iter();
            records.find(|record| record["request_id"] == request_id)
        };
        let found = until("the audit record", record).await;
        found.with_context(|| format!("no {request_id} in {:#?}", self.agent.audit()))
    }

    /// The vendor's GET of a path below the context path.
    pub async fn get(&self, path: &str) -> Result<Response> {
        Ok(vendor().get(self.vendor_url() + path).send().await?)
    }

    /// The vendor's POST of a JSON document.
    pub async fn post(&self, path: &str, document: &Value) -> Result<Response> {
        let request = vendor().post(self.vendor_url() + path);
        Ok(request.json(document).send().await?)
    }

    /// Repeats a GET until Jira's answer is 200.
    pub async fn until_answered(&self, path: &str) -> Result<()> {
        let answered = async || {
            let answer = self.get(path).await.ok()?;
            (answer.status() == 200).then_some(())
        };
        until("an answer of Jira", answered).await
    }

    /// Repeats a GET until the agent no longer forwards it; traffic notices a dead credential before the next probe.
    pub async fn until_login_fails(&self, path: &str) -> Result<StatusReport> {
        let refused = async || {
            let answer = self.get(path).await.ok()?;
            (answer.status() != 200).then_some(())
        };
        until("a refusal", refused).await?;
        self.agent.until_login(LayerState::Failed).await
    }

    /// Path of the file with the stored tokens.
    pub fn token_file(&self) -> PathBuf {
        self.dir().join("state/tokens/jira.json")
    }

    /// Content of the token file.
    pub fn stored_tokens(&self) -> Result<Value> {
        Ok(serde_json::from_slice(&fs::read(self.token_file())?)?)
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

/// An HTTP client like a vendor's service: it uses no proxy, follows no redirects and keeps no cookies.
pub fn vendor() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent("vendor/1.0")
        .build()
        .unwrap_or_default()
}

/// Status and document of an answer; the document is null if it is not JSON.
pub async fn json_of(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

/// The document that creates an issue in the project DEMO.
pub fn new_issue(summary: &str) -> Value {
    json!({ "fields": {
        "project": { "key": "DEMO" }, "issuetype": { "name": "Bug" }, "summary": summary,
    } })
}

/// The agent's own probes carry its name; forwarded requests carry the vendor's.
fn is_probe(request: &ReceivedRequest) -> bool {
    request
        .header("user-agent")
        .is_some_and(|agent| agent.starts_with("jira-tunnel-agent"))
}

/// Context path of the imitation Jira, as many real ones have it.
pub const CONTEXT_PATH: &str = "/jira";
/// A user of the imitation Jira.
pub const BOT: &str = "acme-bot";
/// Password with which [`BOT`] logs in to Jira.
pub const BOT_PASSWORD: &str = "acme-password";
/// Personal access token of [`BOT`].
pub const BOT_TOKEN: &str = "acme-bot-token";
/// The agent's default redirect URI of OAuth 2.0.
pub const REDIRECT: &str = "https://localhost/jira-tunnel-agent";
/// REST resource of the user who is logged in.
pub const MYSELF: &str = "/rest/api/2/myself";
/// REST resource of issues.
pub const ISSUE: &str = "/rest/api/2/issue";
/// REST resource of searches.
pub const SEARCH: &str = "/rest/api/2/search";
/// Problem type of a credential that Jira rejected.
pub const LOGIN_FAILED: &str = "urn:jira-tunnel-agent:problem:login-failed";
/// Problem type of a request held back because Jira rejected the credential.
pub const LOGIN_UNAVAILABLE: &str = "urn:jira-tunnel-agent:problem:login-unavailable";
/// Lines of `[forward.auth]` for the OAuth 2.0 client `acme`.
pub const OAUTH2: &str = "mode = \"oauth2\"\nclient_id = \"acme\"\nclient_secret_file = \"secret\"";
/// Lines of `[forward.auth]` for the OAuth 1.0a consumer `acme`.
pub const OAUTH1: &str =
    "mode = \"oauth1\"\nconsumer_key = \"acme\"\nprivate_key_file = \"secret\"";
const SECRET: &str = "secret";
