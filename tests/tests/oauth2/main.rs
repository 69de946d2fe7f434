//! OAuth 2.0 end to end: the real agent logs in to an imitation Jira that rotates tokens without leeway, refreshes, and
//! reports why it cannot.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod login;
mod refresh;

use e2e::{
    login::output_text,
    test_env::{BOT, BOT_PASSWORD, REDIRECT, TestEnv, TestEnvPlan, new_issue},
};
use serde_json::Value;
use server_stub::jira::OAuth2Client;
use std::process::Output;

fn plan(keys: &str) -> TestEnvPlan {
    plan_with(keys, REDIRECT)
}

fn plan_with(keys: &str, redirect: &str) -> TestEnvPlan {
    TestEnv::builder()
        .oauth2("acme-secret", keys)
        .jira(|jira| jira.oauth2.clients = vec![client("acme-secret", redirect)])
}

fn client(secret: &str, redirect: &str) -> OAuth2Client {
    OAuth2Client {
        service_account: Some("reader".into()),
        ..OAuth2Client::new("acme", secret, redirect)
    }
}

async fn logged_in() -> TestEnv {
    let mut site = plan("").start_unproven().await.unwrap();
    let done = log_in(&site).await;
    assert!(done.status.success(), "{}", output_text(&done));
    site.until_proven().await.unwrap();
    site
}

async fn log_in(site: &TestEnv) -> Output {
    e2e::login::log_in(site.agent.dir(), BOT, BOT_PASSWORD)
        .await
        .unwrap()
}

fn issue() -> Value {
    new_issue("by token")
}
