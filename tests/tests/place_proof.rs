//! What a gateway has granted is proved by requests through it: a place that is stolen, removed or half bound is seen, asked
//! for again, and shown. The gateway is a stock sshd, at the end the stub.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{
    ForwardState, ForwardView, LayerState, OverallState, PlaceState, StatusReport,
};
use e2e::{
    caller::HttpCaller,
    impaired_link::run_in_namespace,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_port, listener, signal},
    stub::StubGateway,
    wait::until,
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, UnixStream},
    time::{sleep, timeout},
};

/// From a loss to the line of status that says so.
const SEEN_WITHIN: Duration = Duration::from_secs(10);
const ISSUE: &str = "/rest/api/2/issue/DEMO-7";
/// As OpenSSH does by default.
const OPEN: [&str; 2] = ["AllowTcpForwarding yes", "AllowStreamLocalForwarding yes"];

/// A gateway, a Jira, and a socket path for the forward.
struct SocketSite {
    sshd: Sshd,
    jira: RecordingOrigin,
    path: PathBuf,
}

impl SocketSite {
    async fn start(lines: &[&str]) -> Self {
        let sshd = Sshd::with(lines).unwrap();
        let jira = RecordingOrigin::start().await.unwrap();
        let path = sshd.folder().join("jira.sock");
        Self { sshd, jira, path }
    }

    fn agent(&self) -> RunningAgent {
        let bind = self.path.to_str().unwrap();
        let setup = AgentSetup::for_sshd(&self.sshd).unwrap();
        setup
            .forward("jira", bind, &self.jira.url())
            .start()
            .unwrap()
    }

    async fn is_served(&self) {
        until("an answer", async || {
            answers(&self.path).await.then_some(())
        })
        .await
        .unwrap();
    }
}

/// Whether Jira answers a request at this path.
async fn answers(path: &Path) -> bool {
    let Ok(stream) = UnixStream::connect(path).await else {
        return false;
    };
    let Ok(mut caller) = HttpCaller::over(stream).await else {
        return false;
    };
    // Whoever has stolen the path does not answer.
    let answer = timeout(Duration::from_secs(2), caller.get(ISSUE)).await;
    answer.is_ok_and(|answer| answer.is_ok_and(|answer| *answer.body() == issue("DEMO-7")))
}

async fn answers_at(port: u16) -> bool {
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let Ok(mut caller) = HttpCaller::connect(at).await else {
        return false;
    };
    let answer = caller.get(ISSUE).await;
    answer.is_ok_and(|answer| *answer.body() == issue("DEMO-7"))
}

fn view(report: &StatusReport, connection: usize) -> &ForwardView {
    &report.connections[connection].forwards[0]
}

/// Waits for this state of the place, at most as long as a loss may stay unseen.
async fn until_seen(agent: &RunningAgent, state: PlaceState) -> StatusReport {
    let began = Instant::now();
    let report = until_place(agent, state).await;
    let took = began.elapsed();
    assert!(took < SEEN_WITHIN, "{took:?}");
    report
}

async fn until_place(agent: &RunningAgent, state: PlaceState) -> StatusReport {
    let began = Instant::now();
    let wanted = |r: &StatusReport| view(r, 0).proof == Some(state);
    let what = format!("the place to be {state:?}");
    let report = agent.until_status(&what, wanted).await.unwrap();
    println!("{what}: {:.1} s", began.elapsed().as_secs_f64());
    report
}

#[tokio::test]
async fn of_two_agents_on_one_path_the_one_without_requests_says_so() {
    let site = SocketSite::start(&OPEN).await;
    let first = site.agent();
    let report = until_place(&first, PlaceState::Proven).await;
    assert_eq!(report.layers.tunnel.state, LayerState::Proven);
    let mut second = site.agent();
    until_place(&second, PlaceState::Proven).await;
    let report = until_seen(&first, PlaceState::Taken).await;
    assert_eq!(report.overall, OverallState::Down);
    assert_eq!(report.layers.tunnel.state, LayerState::Failed);
    let cause = report.layers.tunnel.cause.unwrap();
    assert!(cause.contains("another agent answers"), "{cause}");
    assert!(report.layers.tunnel.remedy.unwrap().contains("{slot}"));
    let (text, code) = first.status_output().unwrap();
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("TAKEN"), "{text}");
    // The place is not taken back in turn.
    assert_eq!(first.log().matches("granted the forward").count(), 1);
    assert_eq!(second.log().matches("granted the forward").count(), 1);

    second.process().kill();
    let report = until_place(&first, PlaceState::Proven).await;
    assert_eq!(report.overall, OverallState::Proven);
    site.is_served().await;
    assert_eq!(report.connections[0].generation, 1, "the same session");
}

#[tokio::test]
async fn a_removed_path_is_seen_and_asked_for_again() {
    let site = SocketSite::start(&OPEN).await;
    let agent = site.agent();
    until_place(&agent, PlaceState::Proven).await;
    fs::remove_file(&site.path).unwrap();
    let began = Instant::now();
    site.is_served().await;
    let took = began.elapsed();
    assert!(took < SEEN_WITHIN, "{took:?}");
    is_asked_for_again(&agent).await;
}

#[tokio::test]
async fn a_stolen_path_is_seen_and_asked_for_again() {
    let site = SocketSite::start(&OPEN).await;
    let agent = site.agent();
    until_place(&agent, PlaceState::Proven).await;
    fs::remove_file(&site.path).unwrap();
    // It takes connections and says nothing.
    let thief = UnixListener::bind(&site.path).unwrap();
    let began = Instant::now();
    agent
        .logged("takes connections and does not answer")
        .await
        .unwrap();
    let took = began.elapsed();
    assert!(took < SEEN_WITHIN, "{took:?}");
    site.is_served().await;
    drop(thief);
    is_asked_for_again(&agent).await;
}

/// In the same session, once, and the log and status say so.
async fn is_asked_for_again(agent: &RunningAgent) {
    until_place(agent, PlaceState::Proven).await;
    let log = agent.log();
    assert_eq!(log.matches("granted the forward").count(), 2, "{log}");
    assert!(log.contains("granted do not reach this session"), "{log}");
    let connection = agent.status().await.unwrap().connections.remove(0);
    assert_eq!(connection.generation, 1);
    assert_eq!(connection.closed_first, 0, "no call costs memory");
}

#[tokio::test]
async fn a_stale_path_is_shown_and_taken_once_it_is_removed() {
    let site = SocketSite::start(&[OPEN[0], OPEN[1], "StreamLocalBindUnlink no"]).await;
    drop(UnixListener::bind(&site.path).unwrap());
    let agent = site.agent();
    let refused = |r: &StatusReport| view(r, 0).state == ForwardState::Refused;
    let report = agent.until_status("a refusal", refused).await.unwrap();
    let remedy = view(&report, 0).remedy.clone().unwrap();
    assert!(remedy.contains("StreamLocalBindUnlink"), "{remedy}");
    fs::remove_file(&site.path).unwrap();
    until_place(&agent, PlaceState::Proven).await;
    site.is_served().await;
}

/// sshd grants a port if it can listen on one of the loopback addresses. Another program has the other one.
#[tokio::test]
async fn a_port_of_which_another_program_has_one_family_is_seen() {
    let jira = RecordingOrigin::start().await.unwrap();
    let (on_four, on_six) = ("127.0.0.1", "[::1]");
    let four = half_of_a_port(&jira, on_four);
    tokio::join!(four, half_of_a_port(&jira, on_six));
}

async fn half_of_a_port(jira: &RecordingOrigin, other: &str) {
    let port = free_port().unwrap();
    // As in the vendor guide.
    let permitted = format!("PermitOpen localhost:{port} 127.0.0.1:{port} [::1]:{port}");
    let sshd = Sshd::with(&[OPEN[0], &permitted]).unwrap();
    let listener = TcpListener::bind(format!("{other}:{port}")).await.unwrap();
    // It closes each connection.
    let program = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    let setup = AgentSetup::for_sshd(&sshd).unwrap();
    let setup = setup.forward("jira", &format!("localhost:{port}"), &jira.url());
    let agent = setup.start().unwrap();
    let report = until_seen(&agent, PlaceState::Taken).await;
    assert_eq!(report.overall, OverallState::Down);
    let cause = view(&report, 0).cause.clone().unwrap();
    // sshd reports no address of the two; "localhost" leads to either.
    assert!(cause.contains(&format!(":{port}, although")), "{cause}");
    assert!(
        view(&report, 0)
            .remedy
            .as_ref()
            .unwrap()
            .contains("ss -ltnp")
    );
    program.abort();
    until_place(&agent, PlaceState::Proven).await;
    // What serves was not cancelled while the program was there.
    assert_eq!(agent.log().matches("granted the forward").count(), 2);
    let at_work = async || answers_at(port).await.then_some(());
    until("an answer", at_work).await.unwrap();
}

/// The gateway has no `::1` when it grants the port. A program takes that address later, and callers of the name reach it.
#[tokio::test]
async fn a_program_that_takes_the_other_address_later_is_seen() {
    if !run_in_namespace("a_program_that_takes_the_other_address_later_is_seen").unwrap() {
        return;
    }
    let run = |program: &str, arguments: &str| {
        let done = Command::new(program).args(arguments.split(' ')).status();
        assert!(done.unwrap().success(), "{program} {arguments}");
    };
    run("ip", "link set lo up");
    run("sysctl", "-q net.ipv6.conf.lo.disable_ipv6=1");
    let jira = RecordingOrigin::start().await.unwrap();
    let mut sites = Vec::new();
    for host in ["localhost", "*"] {
        let sshd = Sshd::with(&OPEN).unwrap();
        let port = free_port().unwrap();
        let setup = AgentSetup::for_sshd(&sshd).unwrap();
        let setup = setup.forward("jira", &format!("{host}:{port}"), &jira.url());
        let agent = setup.start().unwrap();
        until_place(&agent, PlaceState::Proven).await;
        sites.push((sshd, port, agent));
    }
    run("sysctl", "-q net.ipv6.conf.lo.disable_ipv6=0");
    let mut programs = Vec::new();
    for (_, port, _) in &sites {
        let listener = TcpListener::bind(format!("[::1]:{port}")).await.unwrap();
        programs.push(tokio::spawn(async move {
            while listener.accept().await.is_ok() {}
        }));
    }
    let taken = Instant::now();
    for (_, _, agent) in &sites {
        until_place(agent, PlaceState::Taken).await;
        let took = taken.elapsed();
        assert!(took < SEEN_WITHIN, "{took:?}");
    }
    for program in programs {
        program.abort();
    }
}

#[tokio::test]
async fn each_connection_serves_its_own_port_and_waits_for_no_dead_one() {
    let sshd = Sshd::with(&OPEN).unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let base = free_port().unwrap();
    let bind = format!("127.0.0.1:{{{base}+slot}}");
    let setup = AgentSetup::for_sshd(&sshd).unwrap();
    let setup = setup
        .tunnel("connections", 2)
        .tunnel("probe_timeout", "500ms");
    let agent = setup.forward("jira", &bind, &jira.url()).start().unwrap();
    let proven = |r: &StatusReport| (0..2).all(|c| view(r, c).proof == Some(PlaceState::Proven));
    agent.until_status("both places", proven).await.unwrap();
    assert!(answers_at(base).await && answers_at(base + 1).await);

    // The link of one session is lost; its port stays with the dead session.
    let twin = listener(base).unwrap();
    signal(twin, "STOP").unwrap();
    let replaced = |r: &StatusReport| {
        proven(r) && r.connections.iter().map(|c| c.generation).sum::<u64>() == 3
    };
    agent
        .until_status("another session", replaced)
        .await
        .unwrap();
    assert!(answers_at(base + 1).await && answers_at(base + 2).await);
    signal(twin, "KILL").unwrap();
}

#[tokio::test]
async fn a_gateway_that_permits_no_call_leaves_the_place_granted() {
    let sshd = Sshd::with(&["AllowTcpForwarding remote"]).unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let port = free_port().unwrap();
    let setup = AgentSetup::for_sshd(&sshd).unwrap();
    let setup = setup.forward("jira", &format!("127.0.0.1:{port}"), &jira.url());
    let agent = setup.start().unwrap();
    let known =
        |r: &StatusReport| view(r, 0).unproven.is_some() && r.overall == OverallState::Proven;
    let report = agent.until_status("a prohibition", known).await.unwrap();
    assert_eq!(view(&report, 0).proof, Some(PlaceState::Granted));
    let (text, code) = agent.status_output().unwrap();
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("granted, not proven by a request"), "{text}");
    // sshd logs each call that it refuses.
    assert_eq!(sshd.log().matches("refused local port forward").count(), 1);
}

/// The vendor holds all channels that a session may have, so that a call of the agent finds none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_channels_are_all_used_keeps_its_place() {
    let gateway = StubGateway::start(1).await.unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let port = free_port().unwrap();
    let setup = gateway.agent(0).unwrap();
    let setup = setup.tunnel("connections", 1).tunnel("max_channels", 1);
    let setup = setup.forward("jira", &format!("127.0.0.1:{port}"), &jira.url());
    let agent = setup.start().unwrap();
    until_place(&agent, PlaceState::Proven).await;
    // Refused while a call of the agent has the channel.
    let hold = async || {
        let at = SocketAddr::from(([127, 0, 0, 1], port));
        let mut vendor = HttpCaller::connect(at).await.ok()?;
        vendor.get(ISSUE).await.ok()?;
        Some(vendor)
    };
    let vendor = until("a channel", hold).await.unwrap();
    // The agent calls every 2 s.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2500) {
        let report = agent.status().await.unwrap();
        assert_eq!(report.overall, OverallState::Proven);
        sleep(Duration::from_millis(100)).await;
    }
    drop(vendor);
    let log = agent.log();
    assert!(log.contains("refusing channels"), "{log}");
    assert!(!log.contains("do not reach this session"), "{log}");
    assert_eq!(log.matches("granted the forward").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_path_of_the_stub_is_seen_and_taken_back() {
    let gateway = StubGateway::start(1).await.unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let path = gateway.sockets().unwrap().join("jira.sock");
    let setup = gateway.agent(0).unwrap().tunnel("connections", 1);
    let setup = setup.forward("jira", path.to_str().unwrap(), &jira.url());
    let agent = setup.start().unwrap();
    until_place(&agent, PlaceState::Proven).await;
    fs::remove_file(&path).unwrap();
    let thief = UnixListener::bind(&path).unwrap();
    let began = Instant::now();
    agent
        .logged("takes connections and does not answer")
        .await
        .unwrap();
    let seen = began.elapsed();
    println!("seen: {:.1} s", seen.as_secs_f64());
    assert!(seen < Duration::from_secs(10), "{seen:?}");
    until("an answer", async || answers(&path).await.then_some(()))
        .await
        .unwrap();
    until_place(&agent, PlaceState::Proven).await;
    drop(thief);
}
