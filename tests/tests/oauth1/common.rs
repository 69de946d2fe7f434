//! A Jira with an application link, and an agent that signs.

use agent::{auth::oauth1::SigningKey, status::LayerState};
use e2e::{
    login,
    test_env::{TestEnv, TestEnvPlan, vendor},
};
use reqwest::StatusCode;
use serde_json::Value;
use server_stub::jira::OAuth1Consumer;
use std::{fs, path::PathBuf, process::Output, sync::LazyLock};

/// The agent has a token of its own, once somebody has logged in.
pub fn three_legged(plan: TestEnvPlan) -> TestEnvPlan {
    let pem = KEY.private_pem().unwrap();
    let pem = std::str::from_utf8(pem.expose()).unwrap();
    plan.auth(OAUTH1, pem).jira(|jira| {
        jira.oauth1.consumers = vec![OAuth1Consumer::new(CONSUMER, &KEY.public_pem().unwrap())];
    })
}

/// The agent signs without a token, as the user of the link.
pub fn two_legged(plan: TestEnvPlan) -> TestEnvPlan {
    let pem = KEY.private_pem().unwrap();
    let pem = std::str::from_utf8(pem.expose()).unwrap();
    let lines = format!("{OAUTH1}\ntwo_legged = true");
    plan.auth(&lines, pem)
        .jira(|jira| jira.oauth1.consumers = vec![consumer()])
}

pub fn consumer() -> OAuth1Consumer {
    let mut consumer = OAuth1Consumer::new(CONSUMER, &KEY.public_pem().unwrap());
    consumer.two_legged_user = Some(BOT.into());
    consumer
}

pub async fn until_ok(site: &TestEnv) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let answer = vendor()
            .get(site.vendor_url() + MYSELF)
            .send()
            .await
            .unwrap();
        if answer.status() == StatusCode::OK {
            return;
        }
        let said = answer.text().await.unwrap();
        assert!(tokio::time::Instant::now() < deadline, "{said}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Cause and remedy of the failed login layer.
pub async fn failed_login(site: &TestEnv) -> (String, String) {
    let report = site.agent.until_status("the login to have failed", |r| {
        r.layers.login.state == LayerState::Failed
    });
    let login = report.await.unwrap().layers.login;
    (login.cause.unwrap(), login.remedy.unwrap())
}

/// A person allows it, reads the code off Jira's page, and types it.
pub async fn log_in_by_code(site: &TestEnv) -> Output {
    let done = login::log_in_by_code(site.agent.dir(), BOT, BOT_PASSWORD).await;
    done.unwrap()
}

/// What Jira's page says after the decision.
pub async fn decide(address: &str, decision: &str) -> String {
    let page = login::submit_consent(address, BOT, BOT_PASSWORD, decision).await;
    page.unwrap()
}

pub fn token_file(site: &TestEnv) -> PathBuf {
    site.dir().join("state/tokens/jira.json")
}

pub fn stored(site: &TestEnv) -> Value {
    serde_json::from_slice(&fs::read(token_file(site)).unwrap()).unwrap()
}

pub static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(2048).unwrap());
pub const OAUTH1: &str =
    "mode = \"oauth1\"\nconsumer_key = \"acme \\\"tunnel\\\" & co\"\nprivate_key_file = \"secret\"";
pub const CONSUMER: &str = "acme \"tunnel\" & co";
pub const BOT: &str = "acme-bot";
pub const BOT_PASSWORD: &str = "acme-password";
pub const MYSELF: &str = "/rest/api/2/myself";
pub const SEARCH: &str = "/rest/api/2/search";
