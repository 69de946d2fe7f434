//! Gateways other than OpenSSH, and their behavior: dropbear, and strict peers scripted with asyncssh and paramiko.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{LayerState, StatusReport};
use e2e::{
    caller::HttpCaller,
    other_gateway::OtherGateway,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    ssh_pair::digest,
    sshd::free_addr,
};
use std::net::SocketAddr;

fn start(setup: &AgentSetup, jira: &RecordingOrigin) -> (RunningAgent, SocketAddr) {
    let addr = free_addr().unwrap();
    let setup = setup
        .clone()
        .forward("jira", &addr.to_string(), &jira.url());
    (setup.start().unwrap(), addr)
}

/// Transfers both ways over one session, with a Jira that ends then.
async fn serves(gateway: &OtherGateway) -> (RunningAgent, StatusReport) {
    serves_from(&RecordingOrigin::start().await.unwrap(), gateway).await
}

async fn serves_from(
    jira: &RecordingOrigin,
    gateway: &OtherGateway,
) -> (RunningAgent, StatusReport) {
    let (agent, addr) = start(&gateway.setup(), jira);
    agent.until_proven().await.unwrap();
    let mut vendor = HttpCaller::connect(addr).await.unwrap();
    let answer = vendor.get("/rest/api/2/issue/ABC-1").await.unwrap();
    assert_eq!(*answer.body(), issue("ABC-1"));
    assert_eq!(vendor.download(MIB).await.unwrap(), digest(MIB));
    assert_eq!(vendor.upload("ABC-1", MIB).await.unwrap(), digest(MIB));
    let report = agent.until_proven().await.unwrap();
    assert_eq!(report.connections[0].generation, 1, "{report:#?}");
    (agent, report)
}

async fn asyncssh(habit: &str) -> OtherGateway {
    OtherGateway::script("ssh_gateway.py", habit).await.unwrap()
}

#[tokio::test]
async fn dropbear_is_a_gateway() {
    serves(&OtherGateway::dropbear().await.unwrap()).await;
}

#[tokio::test]
async fn an_asyncssh_server_is_a_gateway() {
    let (_agent, report) = serves(&asyncssh("plain").await).await;
    assert_eq!(report.connections[0].strict_key_exchange, Some(true));
}

/// The gateway answers UNIMPLEMENTED to keep-alives, which is an answer (RFC 4253 §11.4), or nothing at all.
#[tokio::test]
async fn a_gateway_that_knows_no_keep_alive_keeps_its_session() {
    for habit in ["unimplemented", "mute"] {
        let jira = RecordingOrigin::start().await.unwrap();
        let gateway = asyncssh(habit).await;
        let (agent, _) = serves_from(&jira, &gateway).await;
        agent
            .logged("opening a session channel instead")
            .await
            .unwrap();
        // Long enough for several probes.
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
        let report = agent.until_proven().await.unwrap();
        assert_eq!(report.connections[0].generation, 1, "{habit}");
    }
}

/// The gateway ends a session that sends a keep-alive: with a disconnect message, without one, or with one that the SSH
/// library cannot read. One session is lost, and the next ones send none.
#[tokio::test]
async fn a_gateway_that_rejects_keep_alives_is_probed_otherwise() {
    for habit in [
        "goodbye-to-keep-alive",
        "close-at-keep-alive",
        "latin1-goodbye-to-keep-alive",
    ] {
        let jira = RecordingOrigin::start().await.unwrap();
        let gateway = asyncssh(habit).await;
        let (agent, addr) = start(&gateway.setup(), &jira);
        let report = agent.until_proven().await.unwrap();
        agent
            .logged("probed by opening a session channel instead")
            .await
            .unwrap();
        let before = report.connections[0].bytes_received;
        // The answers to a dozen probes.
        let later = |report: &StatusReport| report.connections[0].bytes_received > before + 1000;
        let report = agent.until_status("more probes", later).await.unwrap();
        assert_eq!(report.connections[0].generation, 2, "{habit}");
        let mut vendor = HttpCaller::connect(addr).await.unwrap();
        vendor.get("/rest/api/2/issue/ABC-1").await.unwrap();
    }
}

#[tokio::test]
async fn a_text_that_comes_in_pieces_stands_whole_in_the_cause() {
    let jira = RecordingOrigin::start().await.unwrap();
    let gateway = asyncssh("banner-in-pieces").await;
    let (agent, _) = start(&gateway.setup(), &jira);
    agent
        .logged("\"Your account has expired; ask your administrator.\"")
        .await
        .unwrap();
}

/// russh tells the answers to probe and forward apart by their order alone (docs/dev/ssh.md, D10).
#[tokio::test]
async fn a_forward_that_is_granted_late_is_not_taken_for_a_probe() {
    let gateway = asyncssh("slow-forward").await;
    let (agent, _) = serves(&gateway).await;
    let log = agent.log();
    for wrong in ["refuses the forward", "opening a session channel instead"] {
        assert!(!log.contains(wrong), "{log}");
    }
}

/// asyncssh answers a connection that it does not permit as if nothing listened there (code 2). That shows nothing
/// about the vendor's own way.
#[tokio::test(flavor = "multi_thread")]
async fn an_inconclusive_round_trip_is_a_warning() {
    let jira = RecordingOrigin::start().await.unwrap();
    let gateway = asyncssh("plain").await;
    let (agent, _) = start(&gateway.setup(), &jira);
    agent.until_proven().await.unwrap();
    let (report, code) = agent.check(&[]).unwrap();
    let trip = report.steps.iter().find(|step| step.step == "round-trip");
    let trip = trip.unwrap_or_else(|| panic!("{report:#?}"));
    assert_eq!(trip.verdict, agent::check::StepVerdict::Warn, "{trip:?}");
    let remedy = trip.remedy.as_deref().unwrap_or_default();
    assert!(remedy.contains("curl -i http://127.0.0.1:"), "{remedy}");
    let failed = |step: &agent::check::CheckStep| step.verdict == agent::check::StepVerdict::Fail;
    assert!(!report.steps.iter().any(failed), "{report:#?}");
    assert_eq!(code, Some(1));
}

/// A gateway without strict key exchange is served, and named in status and check.
#[tokio::test]
async fn a_gateway_without_strict_key_exchange_is_named() {
    let gateway = OtherGateway::script("paramiko_gateway.py", "lax")
        .await
        .unwrap();
    let (agent, report) = serves(&gateway).await;
    assert_eq!(report.connections[0].strict_key_exchange, Some(false));
    for command in ["status", "check"] {
        let done = agent.run(&[command]).unwrap();
        let text = String::from_utf8_lossy(&done.stdout);
        assert!(
            text.contains("no strict key exchange"),
            "{command}:\n{text}"
        );
        assert!(text.contains("OpenSSH 9.6"), "{command}:\n{text}");
    }
    let strict = OtherGateway::script("paramiko_gateway.py", "strict")
        .await
        .unwrap();
    let (agent, _) = serves(&strict).await;
    let (text, _) = agent.status_output().unwrap();
    assert!(!text.contains("no strict key exchange"), "{text}");
}

/// A banner in UTF-8 has no effect and cannot control a terminal.
#[tokio::test]
async fn a_long_banner_that_would_steer_a_terminal_is_only_text() {
    let gateway = asyncssh("utf8-banner").await;
    let (agent, _) = serves(&gateway).await;
    assert!(
        !agent.log().contains(['\u{202e}', '\u{1b}']),
        "{}",
        agent.log()
    );
}

#[tokio::test]
async fn a_goodbye_is_shown_and_steers_nothing() {
    let jira = RecordingOrigin::start().await.unwrap();
    let gateway = asyncssh("goodbye").await;
    let (agent, _) = start(&gateway.setup(), &jira);
    agent.logged("maintenance").await.unwrap();
    let report = agent.status().await.unwrap();
    let (text, _) = agent.status_output().unwrap();
    for shown in [agent.log(), text, serde_json::to_string(&report).unwrap()] {
        assert!(!shown.contains(['\u{202e}', '\u{1b}']), "{shown}");
    }
}

/// russh reads them strictly and ends the session: the cause is plain, and retries are slow (docs/dev/ssh.md, D8).
#[tokio::test]
async fn texts_that_are_not_utf8_are_named_as_the_cause() {
    let jira = RecordingOrigin::start().await.unwrap();
    let gateway = asyncssh("latin1-banner").await;
    let (agent, _) = start(&gateway.setup(), &jira);
    let named = |report: &StatusReport| {
        let tunnel = &report.connections[0].tunnel;
        let cause = tunnel.cause.as_deref().unwrap_or_default();
        let remedy = tunnel.remedy.as_deref().unwrap_or_default();
        tunnel.state == LayerState::Failed
            && cause.contains("not UTF-8 during the login")
            && remedy.contains("Banner")
            && report.connections[0].next_retry_seconds.is_some()
    };
    let report = agent
        .until_status("the cause to be named", named)
        .await
        .unwrap();
    // From the first attempt on, because this fault does not pass.
    let connection = &report.connections[0];
    assert!(connection.attempt <= 1, "{report:#?}");
    assert!(connection.next_retry_seconds > Some(20.0), "{report:#?}");
    let done = agent.run(&["check"]).unwrap();
    let text = String::from_utf8_lossy(&done.stdout);
    assert!(text.contains("not UTF-8"), "{text}");
    drop(agent);

    let gateway = asyncssh("latin1-goodbye").await;
    let (agent, _) = start(&gateway.setup(), &jira);
    agent
        .logged("the gateway sent a text that is not UTF-8")
        .await
        .unwrap();
}

/// A strict peer takes russh's answer to a request without reply for a protocol error (docs/dev/ssh.md, D9).
#[tokio::test]
async fn a_peer_that_objects_to_unasked_answers_is_quoted() {
    let jira = RecordingOrigin::start().await.unwrap();
    let gateway = asyncssh("unasked").await;
    let (agent, _) = start(&gateway.setup(), &jira);
    agent.logged("Unexpected global response").await.unwrap();
    let ended = |report: &StatusReport| {
        let remedy = report.connections[0].tunnel.remedy.as_deref();
        remedy.is_some_and(|remedy| remedy.contains("global requests"))
    };
    agent.until_status("the remedy", ended).await.unwrap();
}

/// 60 MB of names, and 100,000 requests.
#[tokio::test]
async fn a_gateway_cannot_flood_the_log() {
    for habit in ["flood-long", "flood-short"] {
        let jira = RecordingOrigin::start().await.unwrap();
        let gateway = asyncssh(habit).await;
        let (agent, addr) = start(&gateway.setup(), &jira);
        agent.until_proven().await.unwrap();
        let least = if habit == "flood-long" {
            50 << 20
        } else {
            3 << 20
        };
        let all = |report: &StatusReport| report.connections[0].bytes_received > least;
        agent
            .until_status("the flood to be through", all)
            .await
            .unwrap();
        let mut vendor = HttpCaller::connect(addr).await.unwrap();
        vendor.get("/rest/api/2/issue/ABC-1").await.unwrap();
        let log = agent.log();
        println!("{habit}: {} bytes of log", log.len());
        assert!(log.len() < 20_000, "{} bytes", log.len());
    }
}

const MIB: u64 = 1 << 20;
