//! An imitation Cloud, a gateway, and the agent between them.

use e2e::{
    agent::write_secret,
    login::{self, output_text},
    setup::{AgentSetup, RunningAgent},
    sshd::Sshd,
    test_env::{BOT_PASSWORD, REDIRECT, json_of, vendor},
};
use reqwest::{Certificate, Client, StatusCode};
use serde_json::Value;
use server_stub::cloud::{CloudStub, OAuthApp, RunningCloud, Settings};
use std::path::Path;
use tempfile::TempDir;

pub const SITE: &str = "https://acme.atlassian.net";
pub const EMAIL: &str = "acme-bot@acme.example";
pub const ACCOUNT: &str = "712020:5b10a2844c20165700ede21g";
pub const TOKEN: &str = "acme-bot-api-token";
pub const SCOPED: &str = "acme-bot-scoped-token";
pub const SCOPE: &str = "read:jira-work write:jira-work read:jira-user offline_access";

/// Cloud, a gateway, a folder of secrets, and the settings of the agent's forward.
pub struct CloudEnv {
    pub cloud: RunningCloud,
    pub sshd: Sshd,
    folder: TempDir,
    pub keys: Vec<(&'static str, Value)>,
    pub upstream: &'static str,
}

impl CloudEnv {
    pub async fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let mut settings = Settings::default();
        settings.sites[0].url = Some(SITE.into());
        settings.sites[1].url = Some("https://other.atlassian.net".into());
        settings.apps = vec![OAuthApp::new("app", "app-secret", REDIRECT)];
        change(&mut settings);
        let cloud = CloudStub::start(settings).await.unwrap();
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

    pub fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.keys.push((key, value.into()));
        self
    }

    pub fn secret(self, key: &'static str, secret: &str) -> Self {
        let path = self.path(key);
        write_secret(Path::new(&path), secret).unwrap();
        self.with(key, path)
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn api_token(self, token: &str, scoped: bool) -> Self {
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

    pub fn oauth2(self) -> Self {
        let (api, auth) = (self.cloud.api_url.clone(), self.cloud.auth_url.clone());
        self.with("auth.mode", "oauth2")
            .with("auth.client_id", "app")
            .with("auth.api_url", api)
            .with("auth.authorize_url", format!("{auth}/authorize"))
            .with("auth.token_url", format!("{auth}/oauth/token"))
            .secret("auth.client_secret_file", "app-secret")
    }

    /// Configures a first refresh token, obtained by a person elsewhere.
    pub async fn seeded(self, scope: &str) -> Self {
        let code = consent(&self, &authorize(&self, scope)).await;
        let form = [
            ("grant_type", "authorization_code"),
            ("client_id", "app"),
            ("client_secret", "app-secret"),
            ("redirect_uri", REDIRECT),
            ("code", &parameter(&code, "code")),
        ];
        let url = format!("{}/oauth/token", self.cloud.auth_url);
        let answer = browser(&self).post(url).form(&form).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        let token = answer["refresh_token"].as_str().unwrap();
        self.secret("auth.refresh_token_file", token)
    }

    pub fn setup(&self) -> AgentSetup {
        let setup = AgentSetup::for_sshd(&self.sshd).unwrap();
        setup.forward_with("jira", "127.0.0.1:0", self.upstream, &self.keys)
    }

    pub async fn start(&self) -> (RunningAgent, String) {
        let agent = self.setup().start().unwrap();
        let bound = agent.until_bound().await.unwrap();
        (agent, format!("http://{bound}"))
    }
}

/// The browser of the person who consents.
pub fn browser(site: &CloudEnv) -> Client {
    let ca = Certificate::from_pem(site.cloud.ca_pem.as_bytes()).unwrap();
    Client::builder()
        .tls_certs_only([ca])
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap()
}

pub fn authorize(site: &CloudEnv, scope: &str) -> String {
    format!(
        "{}/authorize?audience=api.atlassian.com&client_id=app&response_type=code&prompt=consent\
         &redirect_uri=https%3A%2F%2Flocalhost%2Fjira-tunnel-agent&scope={}",
        site.cloud.auth_url,
        scope.replace(' ', "%20")
    )
}

/// Where Cloud redirects the browser after consent.
pub async fn consent(site: &CloudEnv, url: &str) -> String {
    let form = [
        ("username", EMAIL),
        ("password", BOT_PASSWORD),
        ("decision", "allow"),
    ];
    let answer = browser(site).post(url).form(&form).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::FOUND);
    answer.headers()["location"].to_str().unwrap().to_owned()
}

pub fn parameter(url: &str, name: &str) -> String {
    let url = reqwest::Url::parse(url).unwrap();
    let found = url.query_pairs().find(|(known, _)| known == name);
    found.unwrap().1.into_owned()
}

pub async fn get(url: &str) -> (u16, Value) {
    let request = vendor().get(url).bearer_auth("the vendor's own");
    json_of(request.send().await.unwrap()).await
}

/// `agent login` with a person who consents and pastes the address; returns the output and whether it succeeded.
pub async fn log_in(agent: &RunningAgent) -> (String, bool) {
    let done = login::log_in(agent.dir(), EMAIL, BOT_PASSWORD)
        .await
        .unwrap();
    (output_text(&done), done.status.success())
}
