//! A Jira that hangs, and an agent that restarts: what the vendor gets, how soon, and what status says.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{LayerState, OverallState};
use e2e::{
    agent::binary,
    background_load::BackgroundLoad,
    process::ChildProcess,
    recording_origin::RecordingOrigin,
    setup::RunningAgent,
    sshd::{free_addr, free_port, signal},
    stub::StubGateway,
    test_env::vendor,
    wait::{PATIENCE, soon, until_listening},
};
use serde_json::Value;
use std::{
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::task::JoinSet;

/// The stub's gateway and one agent of it, whose forward has the port `raw`.
struct StubTunnel {
    gateway: StubGateway,
    agent: RunningAgent,
    raw: SocketAddr,
}

impl StubTunnel {
    async fn start(jira: &str) -> Self {
        let gateway = StubGateway::start(1).await.unwrap();
        let raw = free_addr().unwrap();
        let setup = gateway.agent(0).unwrap();
        let agent = setup
            .tunnel("connections", 1)
            .forward("jira", &raw.to_string(), jira)
            .start()
            .unwrap();
        agent.until_proven().await.unwrap();
        Self {
            gateway,
            agent,
            raw,
        }
    }

    /// Status and `type` of the answer to a GET by the HTTP listener, and how long it took.
    async fn get(http: SocketAddr) -> (u16, String, Duration) {
        let url = format!("http://{http}/rest/api/2/issue/DEMO-1");
        let asked = Instant::now();
        let answer = vendor()
            .get(url)
            .header("host", "acme.gateway.localhost")
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap_or_default();
        let kind = body["type"].as_str().unwrap_or_default();
        let kind = kind.rsplit(':').next().unwrap_or_default().to_owned();
        (status, kind, asked.elapsed())
    }
}

/// A process that answers as Jira does, so that it can be stopped.
fn jira_process(folder: &TempDir, port: u16) -> ChildProcess {
    let mut command = Command::new(binary("server-stub"));
    command.args(["jira", "--listen", &format!("127.0.0.1:{port}")]);
    ChildProcess::spawn(command, &folder.path().join("jira.log")).unwrap()
}

/// 200 callers while Jira's process is stopped: those that cannot be served learn it soon, those that come later at once,
/// status tells within ten seconds, and all is well again at once when the process continues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jira_that_hangs_costs_its_callers_seconds_and_shows_in_status() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let jira = jira_process(&folder, port);
    until_listening(("127.0.0.1", port), || true).await.unwrap();
    let tunnel = StubTunnel::start(&format!("http://127.0.0.1:{port}")).await;
    let http = tunnel.gateway.http_addr;
    for _ in 0..20 {
        let (status, ..) = soon(StubTunnel::get(http)).await;
        assert!(status < 500, "{status}");
    }
    signal(jira.pid(), "STOP").unwrap();
    let stopped = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..200 {
        callers.spawn(StubTunnel::get(http));
    }
    let unproven = tunnel
        .agent
        .until_status("the Jira layer to be degraded", |report| {
            report.overall == OverallState::Degraded
                && report.layers.jira.state == LayerState::Degraded
        });
    let report = unproven.await.unwrap();
    let noticed = stopped.elapsed();
    let layer = &report.layers.jira;
    assert!(
        layer.cause.as_deref().unwrap().contains("not answered"),
        "{layer:?}"
    );
    assert!(layer.remedy.is_some());
    assert!(noticed < Duration::from_secs(10), "{noticed:?}");

    // 64 connections are with Jira; the others have been told.
    let mut busy = 0;
    while busy < 200 - 64 {
        let (status, kind, _) = soon(callers.join_next()).await.unwrap().unwrap();
        assert_eq!((status, &*kind), (503, "jira-busy"));
        busy += 1;
    }
    let told = stopped.elapsed();
    assert!(told < Duration::from_secs(10), "{told:?}");

    let breaker = tunnel.agent.until_status("the breaker to open", |report| {
        report.forwards[0].protection.breaker_open
    });
    breaker.await.unwrap();
    let (status, kind, took) = soon(StubTunnel::get(http)).await;
    assert_eq!((status, &*kind), (503, "jira-unavailable"));
    assert!(took < Duration::from_secs(2), "{took:?}");

    signal(jira.pid(), "CONT").unwrap();
    let mut answered = 0;
    while let Some(one) = soon(callers.join_next()).await {
        let (status, kind, _) = one.unwrap();
        assert!(status < 500, "{status} {kind}");
        answered += 1;
    }
    assert_eq!(answered, 64, "what Jira had taken, it answers");
    tunnel.agent.until_proven().await.unwrap();
    let (status, ..) = soon(StubTunnel::get(http)).await;
    assert!(status < 500, "{status}");
}

/// Nothing waits for Jira, and status tells all the same: the agent's own probe finds it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jira_that_hangs_without_a_request_shows_in_status() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().unwrap();
    let jira = jira_process(&folder, port);
    until_listening(("127.0.0.1", port), || true).await.unwrap();
    let tunnel = StubTunnel::start(&format!("http://127.0.0.1:{port}")).await;
    let (status, ..) = soon(StubTunnel::get(tunnel.gateway.http_addr)).await;
    assert!(status < 500, "{status}");
    signal(jira.pid(), "STOP").unwrap();
    let stopped = Instant::now();
    let degraded = tunnel.agent.until_status("a degraded Jira", |report| {
        report.layers.jira.state == LayerState::Degraded
    });
    let report = degraded.await.unwrap();
    let noticed = stopped.elapsed();
    assert_eq!(report.overall, OverallState::Degraded);
    let cause = report.layers.jira.cause.unwrap();
    assert!(cause.contains("not answered the agent's probe"), "{cause}");
    assert!(noticed < Duration::from_secs(10), "{noticed:?}");
    signal(jira.pid(), "CONT").unwrap();
    tunnel.agent.until_proven().await.unwrap();
}

/// Two restarts under load, over the HTTP listener and over the forward's own port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_restarts_refuses_and_resets_nothing() {
    let jira = RecordingOrigin::start().await.unwrap();
    let mut tunnel = StubTunnel::start(&jira.url()).await;
    let http = tunnel.gateway.http_addr;
    let raw = BackgroundLoad::start(tunnel.raw, 4);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut callers = JoinSet::new();
    for _ in 0..2 {
        let stopped = stopped.clone();
        callers.spawn(async move {
            let mut answers = Vec::new();
            while !*stopped.borrow() {
                let (status, kind, _) = StubTunnel::get(http).await;
                answers.push((status, kind));
            }
            answers
        });
    }
    for _ in 0..2 {
        raw.until_answered(50).await.unwrap();
        signal(tunnel.agent.process().pid(), "TERM").unwrap();
        tunnel.agent.process().wait(PATIENCE).await.unwrap();
        tunnel.agent.restart().unwrap();
    }
    raw.until_answered(50).await.unwrap();
    stop.send_replace(true);
    let summary = raw.stop().await;
    summary.verify_against(&jira.comments()).unwrap();
    assert_eq!((summary.refused, summary.failed), (0, 0), "{summary:?}");
    while let Some(answers) = callers.join_next().await {
        let answers = answers.unwrap();
        assert!(!answers.is_empty());
        let bad: Vec<_> = answers.iter().filter(|answer| answer.0 != 200).collect();
        assert!(bad.is_empty(), "{bad:?}");
    }
}
