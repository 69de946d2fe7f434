//! The exchange of OAuth tokens, of both generations, killed at every system call: whatever instruction it was, the next
//! start either works or says "log in again" and why. And no kill ever makes the agent use a token that is not on the
//! disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::auth::oauth1::SigningKey;
use e2e::{
    crash::{CONNECTED, RestartCounts, SAVED, kill_refresh_at_every_step, refresh_steps},
    login::{CommandFolder, output_text},
};
use server_stub::jira::{
    HttpsSettings, JiraStub, OAuth1Consumer, OAuth2Client, RunningJira, Settings,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_renewal_of_oauth_2_0_works_at_the_next_start_or_says_why_to_log_in_again() {
    let (jira, desk) = oauth2().await;
    let told = kill_refresh_at_every_step(&desk, async || desk.log_in(BOT, PASSWORD).await);
    both_happened(&told.await.unwrap());
    assert!(jira.oauth2_counts().refreshes > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_renewal_of_oauth_1_0a_works_at_the_next_start_or_says_why_to_log_in_again() {
    let (_jira, desk) = oauth1().await;
    let log_in = async || desk.log_in_by_code(BOT, PASSWORD).await;
    let told = kill_refresh_at_every_step(&desk, log_in);
    both_happened(&told.await.unwrap());
}

/// Killed before Jira has rotated it works, killed before the answer is saved it cannot.
fn both_happened(told: &RestartCounts) {
    println!("{told:?}");
    assert!(told.refreshed > 20, "{told:?}");
    assert!(told.log_in_again > 5, "{told:?}");
}

/// What a kill cannot show, because the kernel lives on: that each step is on the disk before the next one begins.
#[tokio::test(flavor = "multi_thread")]
async fn the_mark_is_durable_before_the_token_is_sent_and_the_answer_before_it_is_used() {
    // One connection for the old token, one for the question whose the new one is.
    let expected = [&SAVED[..], &[CONNECTED], &SAVED, &[CONNECTED]].concat();
    let (_jira, desk) = oauth2().await;
    assert_eq!(refresh_steps(&desk).unwrap(), expected);
    let (_jira, desk) = oauth1().await;
    assert_eq!(refresh_steps(&desk).unwrap(), expected);
}

/// A Jira, and a folder that the agent's commands are run on, where somebody has logged in.
async fn oauth2() -> (RunningJira, CommandFolder) {
    let mut settings = settings();
    settings.oauth2.clients = vec![OAuth2Client::new("acme", "acme-secret", REDIRECT)];
    let jira = JiraStub::start(settings).await.unwrap();
    let auth = "mode = \"oauth2\"\nclient_id = \"acme\"\nclient_secret_file = \"secret\"";
    let desk = CommandFolder::new(
        &jira.url,
        jira.ca_pem.as_ref().unwrap(),
        auth,
        "acme-secret",
    )
    .unwrap();
    let done = desk.log_in(BOT, PASSWORD).await.unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    (jira, desk)
}

/// The same by an application link.
async fn oauth1() -> (RunningJira, CommandFolder) {
    let key = SigningKey::generate(2048).unwrap();
    let mut settings = settings();
    settings.oauth1.consumers = vec![OAuth1Consumer::new("acme", &key.public_pem().unwrap())];
    let jira = JiraStub::start(settings).await.unwrap();
    let auth = "mode = \"oauth1\"\nconsumer_key = \"acme\"\nprivate_key_file = \"secret\"";
    let pem = key.private_pem().unwrap();
    let pem = std::str::from_utf8(pem.expose()).unwrap();
    let desk = CommandFolder::new(&jira.url, jira.ca_pem.as_ref().unwrap(), auth, pem).unwrap();
    let done = desk.log_in_by_code(BOT, PASSWORD).await.unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    (jira, desk)
}

fn settings() -> Settings {
    Settings {
        https: Some(HttpsSettings::default()),
        context_path: "/jira".into(),
        ..Settings::default()
    }
}

const BOT: &str = "acme-bot";
const PASSWORD: &str = "acme-password";
const REDIRECT: &str = "https://localhost/jira-tunnel-agent";
