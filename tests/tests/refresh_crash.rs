//! The refresh of OAuth 1.0a and 2.0 tokens, killed at every system call: the next start either works, or says why a
//! person has to log in again. The agent never uses a token that is not on disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::auth::oauth1::SigningKey;
use anyhow::{Context, ensure};
use e2e::{
    agent::command,
    login::{CommandFolder, output_text, private_pem},
    strace::{
        CallFilter::{self, All, Files},
        KillPoint, completed, kill_at_every_call, trace,
    },
    test_env::{BOT, BOT_PASSWORD, CONTEXT_PATH, OAUTH1, OAUTH2, REDIRECT},
};
use server_stub::jira::{
    HttpsSettings, JiraStub, OAuth1Consumer, OAuth2Client, RunningJira, Settings,
};
use std::{fs, process::Output};

/// After a kill at any step, the next start works or says why a person has to log in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_oauth2_refresh_recovers_or_says_why() {
    let (jira, folder) = oauth2().await;
    kill_at_every_step(&folder, async || folder.log_in(BOT, BOT_PASSWORD).await).await;
    assert!(jira.oauth2_counts().refreshes > 20);
}

/// After a kill at any step, the next start works or says why a person has to log in again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_oauth1_refresh_recovers_or_says_why() {
    let (_jira, folder) = oauth1().await;
    let log_in = async || folder.log_in_by_code(BOT, BOT_PASSWORD).await;
    kill_at_every_step(&folder, log_in).await;
}

/// Kills `agent login --renew` at every step. Each time the next start must work, or name the reason for a new login by
/// the mark on disk; `log_in` then lets a person log in.
async fn kill_at_every_step(
    folder: &CommandFolder,
    log_in: impl AsyncFn() -> anyhow::Result<Output>,
) {
    let tokens = folder.dir().join("state/tokens");
    let mut files = vec![tokens.clone()];
    files.extend(["jira.json", "jira.json.new", "jira.lock"].map(|name| tokens.join(name)));
    let mut log_ins = 0;
    let kills = kill_at_every_call(&CALLS, async |point: &KillPoint| {
        let killed = command(point.strace(&files), folder.dir(), REFRESH).output();
        if completed(&killed.context("strace (tools/setup installs it)")?)? {
            return Ok(true);
        }
        // A killed process leaves the old or the new file, never half of one.
        let before = folder.stored_tokens().context("the token file")?;
        let next = folder.run(REFRESH)?;
        if next.status.success() {
            return Ok(false);
        }
        let text = output_text(&next);
        ensure!(
            text.contains("was interrupted before the new tokens were saved")
                && text.contains("log in again: agent login jira"),
            "{text}"
        );
        ensure!(before["pending"].is_string(), "{before:?}");
        ensure!(folder.stored_tokens()?["ended"].is_string(), "{text}");
        log_ins += 1;
        ensure!(completed(&log_in().await?)?);
        Ok(false)
    });
    let kills = kills.await.unwrap();
    println!("{kills} kills, {log_ins} log-ins");
    // A kill before Jira rotates the token is recovered; a kill before the answer is saved is not.
    assert!(kills - log_ins > 20 && log_ins > 5, "{kills}, {log_ins}");
}

/// The mark is on disk before the token is sent, and the new token before it is used.
/// The order on disk, which a kill cannot show because the kernel survives.
#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_refresh_is_durable_before_the_next() {
    // One connection to exchange the old token, one to ask whose the new one is.
    let expected = [&SAVED[..], &[CONNECTED], &SAVED, &[CONNECTED]].concat();
    let (_jira, folder) = oauth2().await;
    assert_eq!(refresh_steps(&folder), expected);
    let (_jira, folder) = oauth1().await;
    assert_eq!(refresh_steps(&folder), expected);
}

/// The ordered steps of one refresh, as the kernel saw them: files synced and renamed, connections.
fn refresh_steps(folder: &CommandFolder) -> Vec<&'static str> {
    let file = folder.dir().join("trace");
    let strace = trace(&["-y", "-e", "trace=fsync,connect,/^rename"], &file);
    let done = command(strace, folder.dir(), REFRESH).output().unwrap();
    assert!(completed(&done).unwrap(), "killed");
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter_map(step).collect()
}

fn step(line: &str) -> Option<&'static str> {
    let call = line.split_whitespace().nth(1)?;
    match call.split('(').next()? {
        "fsync" if line.contains("jira.json.new>") => Some(SAVED[0]),
        "fsync" if line.contains("/tokens>") => Some(SAVED[2]),
        name if name.starts_with("rename") && line.contains("jira.json.new") => Some(SAVED[1]),
        "connect" if line.contains("AF_INET") => Some(CONNECTED),
        _ => None,
    }
}

/// A Jira, and a folder for the agent's commands, where somebody has logged in.
async fn oauth2() -> (RunningJira, CommandFolder) {
    let mut settings = settings();
    settings.oauth2.clients = vec![OAuth2Client::new("acme", "acme-secret", REDIRECT)];
    let jira = JiraStub::start(settings).await.unwrap();
    let ca_pem = jira.ca_pem.as_ref().unwrap();
    let folder = CommandFolder::new(&jira.url, ca_pem, OAUTH2, "acme-secret").unwrap();
    let done = folder.log_in(BOT, BOT_PASSWORD).await.unwrap();
    assert!(completed(&done).unwrap());
    (jira, folder)
}

/// As [`oauth2`], with an application link.
async fn oauth1() -> (RunningJira, CommandFolder) {
    let key = SigningKey::generate(2048).unwrap();
    let mut settings = settings();
    settings.oauth1.consumers = vec![OAuth1Consumer::new("acme", &key.public_pem().unwrap())];
    let jira = JiraStub::start(settings).await.unwrap();
    let (ca_pem, pem) = (jira.ca_pem.as_ref().unwrap(), private_pem(&key).unwrap());
    let folder = CommandFolder::new(&jira.url, ca_pem, OAUTH1, &pem).unwrap();
    let done = folder.log_in_by_code(BOT, BOT_PASSWORD).await.unwrap();
    assert!(completed(&done).unwrap());
    (jira, folder)
}

fn settings() -> Settings {
    Settings {
        https: Some(HttpsSettings::default()),
        context_path: CONTEXT_PATH.into(),
        ..Settings::default()
    }
}

const REFRESH: &[&str] = &["login", "--renew"];
/// A record saved durably, then a connection that may use it.
const SAVED: [&str; 3] = ["file synced", "renamed", "folder synced"];
const CONNECTED: &str = "connected";
/// The calls that change or read token files, and those on sockets; only the exchange with Jira uses sockets.
const CALLS: [(&str, CallFilter); 15] = [
    ("openat", Files),
    ("read", Files),
    ("write", Files),
    ("fsync", Files),
    ("close", Files),
    ("flock", Files),
    ("/^rename", Files),
    ("/^unlink", Files),
    ("/stat", Files),
    ("socket", All),
    ("connect", All),
    ("sendto", All),
    ("writev", All),
    ("recvfrom", All),
    ("shutdown", All),
];
