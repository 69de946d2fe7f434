//! A Jira with an application link, and an agent that signs.

use agent::auth::oauth1::SigningKey;
use e2e::{
    login,
    test_env::{BOT, BOT_PASSWORD, TestEnv, TestEnvPlan},
};
use server_stub::jira::OAuth1Consumer;
use std::{process::Output, sync::LazyLock};

/// The agent signs with a token, once a person has logged in.
pub fn three_legged(plan: TestEnvPlan) -> TestEnvPlan {
    let mut consumer = consumer();
    consumer.two_legged_user = None;
    plan.auth(OAUTH1, &login::private_pem(&KEY).unwrap())
        .jira(|jira| jira.oauth1.consumers = vec![consumer])
}

/// An environment where a person has logged in.
pub async fn logged_in(plan: TestEnvPlan) -> TestEnv {
    let mut site = three_legged(plan).start_unproven().await.unwrap();
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
    site
}

/// The agent signs without a token, as the user of the link.
pub fn two_legged(plan: TestEnvPlan) -> TestEnvPlan {
    let lines = format!("{OAUTH1}\ntwo_legged = true");
    plan.auth(&lines, &login::private_pem(&KEY).unwrap())
        .jira(|jira| jira.oauth1.consumers = vec![consumer()])
}

pub fn consumer() -> OAuth1Consumer {
    let mut consumer = OAuth1Consumer::new(CONSUMER, &KEY.public_pem().unwrap());
    consumer.two_legged_user = Some(BOT.into());
    consumer
}

/// A person consents and types the code of Jira's page.
pub async fn log_in_by_code(site: &TestEnv) -> Output {
    let done = login::log_in_by_code(site.agent.dir(), BOT, BOT_PASSWORD).await;
    done.unwrap()
}

/// Jira's page after the decision.
pub async fn decide(address: &str, decision: &str) -> String {
    let page = login::submit_consent(address, BOT, BOT_PASSWORD, decision).await;
    page.unwrap()
}

pub static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(2048).unwrap());
pub const OAUTH1: &str =
    "mode = \"oauth1\"\nconsumer_key = \"acme \\\"tunnel\\\" & co\"\nprivate_key_file = \"secret\"";
pub const CONSUMER: &str = "acme \"tunnel\" & co";
