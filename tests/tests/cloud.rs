//! Jira Cloud end to end: the real agent before an imitation Cloud, on the site's own URL and behind the API gateway.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{LayerState, Report};
use e2e::{
    agent::{binary, write_secret},
    setup::{Running, Setup},
    site::vendor,
    sshd::Sshd,
};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::{Value, json};
use server_stub::cloud::{App, Cloud, DeadToken, Running as Atlassian, Settings};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
};
use tempfile::TempDir;

const SITE: &str = "https://acme.atlassian.net";
const EMAIL: &str = "acme-bot@acme.example";
const ACCOUNT: &str = "712020:5b10a2844c20165700ede21g";
const TOKEN: &str = "acme-bot-api-token";
const SCOPED: &str = "acme-bot-scoped-token";
const CALLBACK: &str = "https://localhost/jira-tunnel-agent";
const SCOPE: &str = "read:jira-work write:jira-work read:jira-user offline_access";
const MYSELF: &str = "/rest/api/2/myself";

/// Cloud, a gateway, a folder of secrets, and what the agent's forward is to hold.
struct Site {
    cloud: Atlassian,
    sshd: Sshd,
    folder: TempDir,
    keys: Vec<(&'static str, Value)>,
    upstream: &'static str,
}

impl Site {
    async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        settings.sites[0].url = Some(SITE.into());
        settings.sites[1].url = Some("https://other.atlassian.net".into());
        settings.apps = vec![App::new("app", "app-secret", CALLBACK)];
        change(&mut settings);
        let cloud = Cloud::start(settings).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), &cloud.ca_pem).unwrap();
        let site = Self {
            sshd: Sshd::start().unwrap(),
            upstream: SITE,
            keys: Vec::new(),
            folder,
            cloud,
        };
        let address = site.cloud.sites[0].addr.to_string();
        let ca = site.path("ca.pem");
        site.with("roots", "none")
            .with("ca_file", ca)
            .with("address", address)
    }

    fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.keys.push((key, value.into()));
        self
    }

    fn secret(self, key: &'static str, secret: &str) -> Self {
        let path = self.path(key);
        write_secret(Path::new(&path), secret).unwrap();
        self.with(key, path)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn api_token(self, token: &str, scoped: bool) -> Self {
        let api = self.cloud.api_url.clone();
        let site = self
            .with("auth.mode", "api-token")
            .with("auth.email", EMAIL)
            .with("auth.scoped", scoped)
            .secret("auth.token_file", token);
        if scoped {
            site.with("auth.api_url", api)
        } else {
            site
        }
    }

    fn oauth2(self) -> Self {
        let (api, auth) = (self.cloud.api_url.clone(), self.cloud.auth_url.clone());
        self.with("auth.mode", "oauth2")
            .with("auth.client_id", "app")
            .with("auth.api_url", api)
            .with("auth.authorize_url", format!("{auth}/authorize"))
            .with("auth.token_url", format!("{auth}/oauth/token"))
            .secret("auth.client_secret_file", "app-secret")
    }

    /// With a first refresh token that a person got elsewhere.
    async fn seeded(self, scope: &str) -> Self {
        let code = consent(&self, &authorize(&self, scope)).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("client_secret", "app-secret"),
            ("redirect_uri", CALLBACK),
            ("code", &parameter(&code, "code")),
        ];
        let url = format!("{}/oauth/token", self.cloud.auth_url);
        let answer = browser(&self).post(url).form(&form).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let token = answer["refresh_token"].as_str().unwrap();
        self.secret("auth.refresh_token_file", token)
    }

    fn setup(&self) -> Setup {
        let setup = Setup::for_sshd(&self.sshd).unwrap();
        setup.forward_with("jira", "127.0.0.1:0", self.upstream, &self.keys)
    }

    async fn start(&self) -> (Running, String) {
        let agent = self.setup().start().unwrap();
        let bound = agent.until_bound().await.unwrap();
        (agent, format!("http://{bound}"))
    }
}

/// Whoever consents.
fn browser(site: &Site) -> Client {
    let ca = Certificate::from_pem(site.cloud.ca_pem.as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

fn authorize(site: &Site, scope: &str) -> String {
    format!(
        "{}/authorize?audience=api.atlassian.com&client_id=app&response_type=code&prompt=consent\
         &redirect_uri=https%3A%2F%2Flocalhost%2Fjira-tunnel-agent&scope={}",
        site.cloud.auth_url,
        scope.replace(' ', "%20")
    )
}

/// Where the browser is sent after consent.
async fn consent(site: &Site, url: &str) -> String {
    let form = [
        ("username", EMAIL),
        ("password", "acme-password"),
        ("decision", "allow"),
    ];
    let answer = browser(site).post(url).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

fn parameter(url: &str, name: &str) -> String {
    let url = reqwest::Url::parse(url).unwrap();
    let found = url.query_pairs().find(|(known, _)| known == name);
    found.unwrap().1.into_owned()
}

async fn get(url: &str) -> (StatusCode, Value) {
    let request = vendor().get(url).bearer_auth("the vendor's own");
    let answer = request.send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

fn issue() -> Value {
    json!({ "fields": {
        "project": { "key": "DEMO" }, "issuetype": { "name": "Task" }, "summary": "one",
    }})
}

fn login_failed(report: &Report) -> bool {
    report.layers.login.state == LayerState::Failed
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_token_logs_in_on_the_sites_own_url() {
    let site = Site::new(|_| {}).await.api_token(TOKEN, false);
    let (agent, url) = site.start().await;
    let report = agent.until_proven().await.unwrap();
    let detail = report.layers.login.detail.unwrap();
    assert_eq!(detail, "api-token, user Acme Bot");
    let (status, me) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!(
        (status, &me["accountId"]),
        (StatusCode::OK, &json!(ACCOUNT))
    );
    assert!(site.cloud.api_targets().is_empty());

    site.cloud.revoke_api_token(TOKEN);
    let (status, problem) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{problem}");
    let report = agent
        .until("the login to fail", login_failed)
        .await
        .unwrap();
    let remedy = report.layers.login.remedy.unwrap();
    assert!(
        remedy.contains("manage-profile/security/api-tokens"),
        "{remedy}"
    );
}

/// A dead token is anonymous in a search, which would look like "nothing found".
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_api_token_is_no_empty_search_result() {
    let site = Site::new(|_| {}).await.api_token(TOKEN, false);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let search = format!("{url}/rest/api/2/search");
    assert_eq!(get(&search).await.0, StatusCode::OK);
    site.cloud.revoke_api_token(TOKEN);
    assert_eq!(get(&search).await.0, StatusCode::BAD_GATEWAY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_token_goes_behind_the_gateway_and_the_vendor_sees_the_sites_paths() {
    let site = Site::new(|_| {}).await.api_token(SCOPED, true);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let created = vendor().post(format!("{url}/rest/api/2/issue"));
    let created = created.json(&issue()).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
    let created: Value = created.json().await.unwrap();
    // The link is Jira's own, as it stood in the answer.
    let link = created["self"].as_str().unwrap();
    assert!(
        link.starts_with(&format!("{SITE}/rest/api/2/issue/")),
        "{link}"
    );

    site.cloud.clear_requests();
    let raw = "/rest/api/2/search?jql=project+%3d%20DEMO&fields=a%2Bb&x=%7e";
    assert_eq!(get(&format!("{url}{raw}")).await.0, StatusCode::OK);
    let id = &site.cloud.sites[0].cloud_id;
    let wanted = format!("/ex/jira/{id}{raw}");
    assert!(site.cloud.api_targets().contains(&wanted));
    // The prefix is the agent's alone: policy knows no such path.
    let (status, problem) = get(&format!("{url}/ex/jira/{id}{MYSELF}")).await;
    assert_eq!(status, StatusCode::FORBIDDEN, "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_cloud_id_spares_the_site() {
    let site = Site::new(|_| {}).await.api_token(SCOPED, true);
    let id = site.cloud.sites[0].cloud_id.clone();
    let mut site = site.with("auth.cloud_id", id);
    // Nothing listens there.
    site.keys.retain(|(key, _)| *key != "address");
    let site = site.with("address", "127.0.0.1:1");
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    assert_eq!(get(&format!("{url}{MYSELF}")).await.0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_tells_no_cloud_id_is_named_and_nothing_is_sent() {
    let site = Site::new(|_| {}).await.api_token(SCOPED, true);
    let elsewhere = site.cloud.auth_addr.to_string();
    let mut site = site;
    site.keys.retain(|(key, _)| *key != "address");
    // No such host in that certificate, were it asked by its name.
    let site = site
        .with("address", elsewhere)
        .with("server_name", "auth.atlassian.com");
    let (agent, url) = site.start().await;
    let (_, problem) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!(problem["delivery"], "not_sent", "{problem}");
    assert!(site.cloud.api_targets().is_empty());
    let failed = |r: &Report| r.layers.jira.state == LayerState::Failed;
    let report = agent.until("Jira to fail", failed).await.unwrap();
    let cause = report.layers.jira.cause.unwrap();
    assert!(
        cause.contains("cloud id of https://acme.atlassian.net"),
        "{cause}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_other_kind_is_refused_with_the_setting_that_would_be_right() {
    for (token, scoped, right) in [
        (SCOPED, false, "with scopes it needs scoped = true"),
        (TOKEN, true, "without scopes it needs scoped = false"),
    ] {
        let site = Site::new(|_| {}).await.api_token(token, scoped);
        let (agent, _) = site.start().await;
        let report = agent
            .until("the login to fail", login_failed)
            .await
            .unwrap();
        let remedy = report.layers.login.remedy.unwrap();
        assert!(remedy.contains(right), "{remedy}");
    }
}

/// Otherwise one request of the vendor could take the whole forward down.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_is_lacking_is_told_to_the_vendor_and_does_not_end_the_login() {
    let narrow = |settings: &mut Settings| {
        settings.api_tokens[1].scopes =
            Some(vec!["read:jira-work".into(), "read:jira-user".into()]);
    };
    let site = Site::new(narrow).await.api_token(SCOPED, true);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    for _ in 0..3 {
        let request = vendor()
            .post(format!("{url}/rest/api/2/issue"))
            .json(&issue());
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["message"], "Unauthorized; scope does not match");
        assert_eq!(
            get(&format!("{url}/rest/api/2/search")).await.0,
            StatusCode::OK
        );
    }
    let report = agent.status().await.unwrap();
    assert_eq!(report.layers.login.state, LayerState::Proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_3lo_login_works_renews_itself_and_says_when_it_is_dead() {
    let site = Site::new(|_| {}).await.oauth2().seeded(SCOPE).await;
    let (agent, url) = site.start().await;
    let report = agent.until_proven().await.unwrap();
    assert!(report.layers.login.detail.unwrap().contains("Acme Bot"));
    let myself = format!("{url}{MYSELF}");
    assert_eq!(get(&myself).await.1["accountId"], ACCOUNT);
    let refreshes = site.cloud.counts().refreshes;

    // The vendor hears nothing of an access token that has ended.
    site.cloud.expire_tokens(false);
    assert_eq!(get(&myself).await.0, StatusCode::OK);
    assert_eq!(site.cloud.counts().refreshes, refreshes + 1);

    site.cloud.set_dead_token(DeadToken::UnauthorizedClient);
    site.cloud.expire_tokens(true);
    assert_ne!(get(&myself).await.0, StatusCode::OK);
    let report = agent
        .until("the login to fail", login_failed)
        .await
        .unwrap();
    let login = report.layers.login;
    assert!(
        login.remedy.unwrap().contains("agent login"),
        "{:?}",
        login.cause
    );
}

/// Otherwise each such request would use up a refresh token.
#[tokio::test(flavor = "multi_thread")]
async fn a_scope_that_is_lacking_renews_no_token() {
    let site = Site::new(|_| {}).await.oauth2();
    let site = site
        .seeded("read:jira-work read:jira-user offline_access")
        .await;
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let refreshes = site.cloud.counts().refreshes;
    let request = vendor()
        .post(format!("{url}/rest/api/2/issue"))
        .json(&issue());
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    assert!(
        answer
            .text()
            .await
            .unwrap()
            .contains("scope does not match")
    );
    assert_eq!(get(&format!("{url}{MYSELF}")).await.0, StatusCode::OK);
    assert_eq!(site.cloud.counts().refreshes, refreshes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_reaches_other_sites_is_told_with_their_names() {
    let mut site = Site::new(|_| {}).await.oauth2().seeded(SCOPE).await;
    site.upstream = "https://third.atlassian.net";
    site.keys.push(("server_name", json!("acme.atlassian.net")));
    let (agent, url) = site.start().await;
    let report = agent
        .until("the login to fail", login_failed)
        .await
        .unwrap();
    let cause = report.layers.login.cause.unwrap();
    assert_eq!(
        cause,
        "the login reaches https://acme.atlassian.net, https://other.atlassian.net, and \
         https://third.atlassian.net is wanted"
    );
    let (status, problem) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    assert_eq!(problem["delivery"], "not_sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_login_lets_a_person_consent_and_proves_the_site() {
    let site = Site::new(|_| {}).await.oauth2();
    let (agent, url) = site.start().await;
    let (said, ok) = log_in(&agent, &site).await;
    assert!(ok, "{said}");
    assert!(said.contains("logged in as Acme Bot"), "{said}");
    agent.until_proven().await.unwrap();
    assert_eq!(get(&format!("{url}{MYSELF}")).await.1["accountId"], ACCOUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_login_refuses_a_consent_for_other_sites() {
    let mut site = Site::new(|_| {}).await.oauth2();
    site.upstream = "https://third.atlassian.net";
    site.keys.push(("server_name", json!("acme.atlassian.net")));
    let (agent, _) = site.start().await;
    let (said, ok) = log_in(&agent, &site).await;
    assert!(!ok);
    assert!(
        said.contains("the login reaches https://acme.atlassian.net"),
        "{said}"
    );
}

/// `agent login` with a person who opens the address, consents, and pastes the address line.
async fn log_in(agent: &Running, site: &Site) -> (String, bool) {
    let mut child = Command::new(binary("agent"))
        .arg("login")
        .env_clear()
        .env("JIRA_TUNNEL_AGENT_CONFIG", agent.dir().join("agent.toml"))
        .env("STATE_DIRECTORY", agent.dir().join("state"))
        .env("RUNTIME_DIRECTORY", agent.dir().join("run"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut text = String::new();
    let url = loop {
        let start = text.len();
        assert_ne!(
            said.read_line(&mut text).unwrap(),
            0,
            "no address in {text}"
        );
        let line = text[start..].trim();
        if line.starts_with("https://") {
            break line.to_owned();
        }
    };
    let back = consent(site, &url).await;
    writeln!(child.stdin.take().unwrap(), "{back}").unwrap();
    std::io::Read::read_to_string(&mut said, &mut text).unwrap();
    let done = child.wait_with_output().unwrap();
    text += &String::from_utf8(done.stderr).unwrap();
    (text, done.status.success())
}
