//! `agent check` of the tunnel, against real gateways and proxies with each kind of fault: it names the failing hop,
//! with and without a running agent, and tries no credential once more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    check::{CheckReport, CheckStep, StepVerdict},
    status::{ConnectionPhase, ConnectionView, OverallState, StatusReport},
    tunnel::Hop,
};
use e2e::{
    egress::{TestCa, USER, password, squid, stunnel},
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr, free_port, keygen, ssh_client},
    tcp_server::TcpServer,
};
use server_stub::jira::{JiraStub, Settings};
use std::net::TcpListener;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Nothing listens there: these tests are about the tunnel.
const NO_JIRA: &str = "http://127.0.0.1:9";

fn setup(sshd: &Sshd) -> AgentSetup {
    let setup = AgentSetup::for_sshd(sshd).unwrap();
    setup.forward("jira", "127.0.0.1:0", NO_JIRA)
}

fn check(agent: &RunningAgent) -> CheckReport {
    agent.check(&[]).unwrap().0
}

/// The steps to the gateways.
fn tunnel(report: &CheckReport) -> Vec<&CheckStep> {
    report
        .steps
        .iter()
        .filter(|s| s.gateway.is_some())
        .collect()
}

/// Exactly this hop of the tunnel fails.
fn fails_at(report: &CheckReport, hop: Hop, cause: &[&str]) -> CheckStep {
    let steps = tunnel(report);
    let bad = |s: &&&CheckStep| s.verdict == StepVerdict::Fail;
    let failed: Vec<_> = steps.iter().filter(bad).collect();
    assert_eq!(failed.len(), 1, "{report:#?}");
    assert_eq!(failed[0].step, hop.name(), "{report:#?}");
    let text = failed[0].cause.clone().unwrap();
    for part in cause {
        assert!(text.contains(part), "{part:?} is missing in {text:?}");
    }
    assert!(failed[0].remedy.is_some());
    (**failed[0]).clone()
}

/// The same hop is named in status, log, a check of the running agent, and a check without it.
async fn everywhere(mut agent: RunningAgent, hop: Hop, cause: &[&str]) -> CheckStep {
    let line = format!("(hop {hop})");
    let failed = |r: &StatusReport| {
        // The status changes before the log line is written.
        r.connections[0].failed_hop.is_some() && agent.log().contains("(hop ")
    };
    let report = agent
        .until_status("an attempt to fail", failed)
        .await
        .unwrap();
    assert_eq!(report.connections[0].failed_hop, Some(hop));
    assert!(agent.log().contains(&line), "{line} is not in the log");
    fails_at(&check(&agent), hop, cause);
    agent.process().kill();
    fails_at(&check(&agent), hop, cause)
}

/// The check's request goes the vendor's way and back if the gateway permits a connection to the forward alone.
/// Each connection was refused; its next attempt is a minute later.
fn all_refused(report: &StatusReport) -> bool {
    let waits = |c: &ConnectionView| {
        let wait = c.next_retry_seconds;
        c.phase == ConnectionPhase::Waiting && wait.is_some_and(|wait| wait > 30.0)
    };
    report.connections.iter().all(waits)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_round_trip_needs_one_permitopen_only() {
    let jira = Settings {
        context_path: "/jira".into(),
        ..Settings::default()
    };
    let jira = JiraStub::start(jira).await.unwrap();
    let port = free_port().unwrap();
    let other = free_addr().unwrap();
    let sshd = Sshd::with(&["AllowTcpForwarding yes"]).unwrap();
    let key = sshd.folder().join("acme");
    keygen(&key, &["-t", "ed25519"], "").unwrap();
    let options = format!(
        "restrict,port-forwarding,permitlisten=\"127.0.0.1:{port}\",permitopen=\"127.0.0.1:{port}\""
    );
    sshd.authorize(&key.with_extension("pub"), &options)
        .unwrap();
    let bind = format!("127.0.0.1:{port}");
    let setup = AgentSetup::for_sshd(&sshd).unwrap();
    let setup = setup.tunnel("identity_file", key.display().to_string());
    let mut agent = setup.forward("jira", &bind, &jira.url).start().unwrap();
    agent.until_bound().await.unwrap();
    for running in [true, false] {
        if !running {
            agent.process().kill();
        }
        let before = asked(&jira);
        let report = check(&agent);
        let trip = tunnel(&report).into_iter().find(|s| s.step == "round-trip");
        let trip = trip.unwrap_or_else(|| panic!("{report:#?}"));
        assert_eq!(trip.verdict, StepVerdict::Ok, "{trip:?}");
        let seen = trip.detail.clone().unwrap();
        assert!(seen.contains("/jira/status"), "{seen}");
        assert!(seen.contains("Jira's 200"), "{seen}");
        assert_eq!(asked(&jira), before + 1);
        // Full-size packets pass.
        let requests = jira.requests();
        let sent = requests.iter().rev().find(|r| is_of_check(r)).unwrap();
        assert!(sent.header("accept").unwrap().len() > 2_900, "{sent:?}");
    }
    // The check has released the port.
    drop(TcpListener::bind(&bind).unwrap());

    // The key permits no other connection.
    let mut ssh = ssh_client(sshd.port(), &sshd.user(), &key);
    ssh.args(["-W", &other.to_string(), "127.0.0.1"]);
    let refused = ssh.output().unwrap();
    let text = String::from_utf8_lossy(&refused.stderr);
    assert!(text.contains("administratively prohibited"), "{text}");
}

/// Requests of the check that have reached this Jira.
fn asked(jira: &server_stub::jira::RunningJira) -> usize {
    jira.requests().iter().filter(|r| is_of_check(r)).count()
}

fn is_of_check(request: &server_stub::jira::ReceivedRequest) -> bool {
    request
        .header("user-agent")
        .is_some_and(|agent| agent.starts_with("jira-tunnel-agent-check"))
}

/// This sshd's GatewayPorts turns the bind into 127.0.0.1, which the protocol does not report. The standby connection
/// reports only that it asks again.
#[tokio::test(flavor = "multi_thread")]
async fn an_unconfirmed_bind_is_reported_as_requested() {
    let sshd = Sshd::start().unwrap();
    let bind = format!("0.0.0.0:{}", free_port().unwrap());
    let setup = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .tunnel("connections", 2);
    let agent = setup.forward("jira", &bind, NO_JIRA).start().unwrap();
    let standby = |r: &StatusReport| {
        let mut views = r.connections.iter().flat_map(|c| &c.forwards);
        views.any(|v| v.state == agent::status::ForwardState::Standby)
    };
    let report = agent
        .until_status("one to stand by", standby)
        .await
        .unwrap();
    let views = report.connections.iter().flat_map(|c| &c.forwards);
    let mut causes = views.filter_map(|v| v.cause.as_deref());
    let expected =
        "another connection of this agent holds it; this one asks again when that one ends";
    assert!(causes.any(|cause| cause == expected), "{report:#?}");
    let report = check(&agent);
    let mut steps = tunnel(&report).into_iter();
    let step = steps.find(|s| s.step == "forward").unwrap();
    assert_eq!(step.verdict, StepVerdict::Ok, "{step:?}");
    let detail = step.detail.as_deref().unwrap();
    for part in ["asked for", &bind, "GatewayPorts"] {
        assert!(detail.contains(part), "{detail}");
    }
}

/// The check then prints the command for the vendor.
#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_that_the_gateway_forbids_is_skipped() {
    let sshd = Sshd::start().unwrap();
    let agent = setup(&sshd).start().unwrap();
    let bound = agent.until_bound().await.unwrap();
    let report = check(&agent);
    let steps = tunnel(&report);
    let trip = steps.iter().find(|s| s.step == "round-trip").unwrap();
    assert_eq!(trip.verdict, StepVerdict::Skipped);
    let text = trip.cause.clone().unwrap();
    let line = format!("curl -i http://{bound}/status");
    assert!(text.contains(&line), "{text}");
    let fine = |s: &&CheckStep| s.verdict != StepVerdict::Fail && s.verdict != StepVerdict::Warn;
    assert!(steps.iter().copied().all(|s| fine(&s)), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_hop_that_fails_is_named_the_same_in_status_log_and_check() {
    let sshd = Sshd::start().unwrap();
    let to = |gateway: &str| {
        setup(&sshd)
            .tunnel("gateways", vec![gateway])
            .start()
            .unwrap()
    };
    let cause = ["cannot resolve", "gateway.invalid"];
    everywhere(to("gateway.invalid:443"), Hop::Dns, &cause).await;
    let free = free_addr().unwrap().to_string();
    everywhere(to(&free), Hop::Tcp, &[&free, "refused"]).await;
    let web = serve(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    everywhere(to(&web.addr.to_string()), Hop::Banner, &["HTTP/1.1 400"]).await;
    let mute = serve(b"").await;
    everywhere(to(&mute.addr.to_string()), Hop::Banner, &["SSH banner"]).await;
    let cut = serve(b"SSH-2.0-x\r\n").await;
    everywhere(
        to(&cut.addr.to_string()),
        Hop::KeyExchange,
        &["key exchange"],
    )
    .await;

    let another = format!("SHA256:{}", "A".repeat(43));
    let wrong = setup(&sshd).tunnel("host_keys", vec![another.clone()]);
    let real = sshd.fingerprint().unwrap();
    everywhere(wrong.start().unwrap(), Hop::HostKey, &[&another, &real]).await;
}

/// Answers each connection with these bytes, reads once, and closes.
async fn serve(answer: &'static [u8]) -> TcpServer {
    let server = TcpServer::start(move |mut stream| async move {
        let _ = stream.write_all(answer).await;
        let _ = stream.read(&mut [0; 256]).await;
    });
    server.await.unwrap()
}

/// Beside a running agent a check tries a refused key not at all; without one it tries it once, whatever the number of
/// gateways.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_tries_a_refused_key_at_most_once() {
    let sshd = Sshd::start().unwrap();
    let stranger = sshd.folder().join("stranger");
    keygen(&stranger, &["-t", "ed25519"], "").unwrap();
    let second = Sshd::start().unwrap();
    let setup = setup(&sshd)
        .tunnel("identity_file", stranger.display().to_string())
        .tunnel("gateways", vec![sshd.address(), second.address()])
        .tunnel(
            "host_keys",
            vec![sshd.fingerprint().unwrap(), second.fingerprint().unwrap()],
        );
    let mut agent = setup.start().unwrap();
    agent
        .until_status("both to refuse", all_refused)
        .await
        .unwrap();
    let tries = || logins(&sshd) + logins(&second);
    let before = tries();
    let report = check(&agent);
    let bad = |s: &&&CheckStep| s.step == "login" && s.verdict == StepVerdict::Fail;
    let steps = tunnel(&report);
    assert_eq!(steps.iter().filter(bad).count(), 2, "{report:#?}");
    let seen = steps.iter().find(bad).unwrap().detail.clone().unwrap();
    assert!(seen.contains("not tried again"), "{seen}");
    assert_eq!(
        tries(),
        before,
        "a running agent's key is not tried beside it"
    );

    agent.process().kill();
    let report = check(&agent);
    let steps = tunnel(&report);
    assert_eq!(steps.iter().filter(bad).count(), 1, "{report:#?}");
    let skipped = |s: &&CheckStep| s.step == "login" && s.verdict == StepVerdict::Skipped;
    let why = steps
        .into_iter()
        .find(skipped)
        .unwrap()
        .cause
        .clone()
        .unwrap();
    assert!(why.contains("already rejected this key"), "{why}");
    sshd.logged("Connection closed by authenticating user")
        .await
        .unwrap();
    assert_eq!(tries(), before + 1);
}

/// Attempts that have offered a key.
fn logins(sshd: &Sshd) -> usize {
    sshd.log().matches("Failed publickey").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_that_is_refused_fails_beside_a_login_that_works() {
    let sshd = Sshd::start().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap().to_string();
    let setup = AgentSetup::for_sshd(&sshd).unwrap();
    let mut agent = setup.forward("jira", &bind, NO_JIRA).start().unwrap();
    let refused = |r: &StatusReport| {
        let views = &r.connections[0].forwards;
        views.iter().any(|v| v.cause.is_some())
    };
    agent
        .until_status("the forward to be refused", refused)
        .await
        .unwrap();
    fails_at(&check(&agent), Hop::Forward, &["refuses to listen", &bind]);
    agent.process().kill();
    fails_at(&check(&agent), Hop::Forward, &["refuses to listen", &bind]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_refused_login_is_told_and_not_tried_again() {
    let sshd = Sshd::start().unwrap();
    let proxy = squid(&[sshd.port()], true).await.unwrap();
    let url = format!("http://{}", proxy.address());
    let file = password(sshd.folder(), "wrong").unwrap();
    let second = format!("localhost:{}", sshd.port());
    let setup = setup(&sshd)
        .tunnel("proxy", url.clone())
        .tunnel("proxy_username", USER)
        .tunnel("proxy_password_file", file)
        .tunnel("gateways", vec![sshd.address(), second]);
    let mut agent = setup.start().unwrap();
    agent
        .until_status("the proxy to refuse", all_refused)
        .await
        .unwrap();
    let tries = || proxy.log().matches("TCP_DENIED/407").count();
    // One of each connection.
    proxy.logged_times("TCP_DENIED/407", 2).await.unwrap();
    let before = tries();
    let report = check(&agent);
    let bad = |s: &&&CheckStep| s.step == "proxy" && s.verdict == StepVerdict::Fail;
    let steps = tunnel(&report);
    let failed = steps
        .iter()
        .find(bad)
        .unwrap_or_else(|| panic!("{report:#?}"));
    let cause = failed.cause.clone().unwrap();
    assert!(cause.contains("407") && cause.contains(&url), "{cause}");
    assert_eq!(tries(), before);
    agent.process().kill();
    let report = check(&agent);
    let steps = tunnel(&report);
    assert_eq!(steps.iter().filter(bad).count(), 1, "{report:#?}");
    proxy
        .logged_times("TCP_DENIED/407", before + 1)
        .await
        .unwrap();
    assert_eq!(tries(), before + 1, "once over both gateways");
    let lines: Vec<_> = report
        .firewall
        .iter()
        .map(|rule| rule.purpose.as_str())
        .collect();
    assert!(lines.contains(&"on-the-proxy"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn intercepted_tls_shows_the_chain_and_who_made_it() {
    let sshd = Sshd::start().unwrap();
    let inspecting = TestCa::new("Corp Inspection CA").unwrap();
    let tls = stunnel(sshd.port(), &inspecting).await.unwrap();
    let trusted = TestCa::new("Vendor CA").unwrap();
    let ca_file = trusted.write(sshd.folder()).unwrap();
    let setup = setup(&sshd)
        .tunnel("gateways", vec![format!("tls://{}", tls.address())])
        .tunnel("gateway_ca_file", ca_file.display().to_string());
    let agent = setup.start().unwrap();
    let step = everywhere(agent, Hop::Tls, &["issued by \"Corp Inspection CA\""]).await;
    assert_eq!(step.chain.len(), 1, "{step:#?}");
    assert_eq!(step.chain[0].issuer, "Corp Inspection CA");
    assert!(step.chain[0].problem.is_some());
    assert!(step.remedy.unwrap().contains("exempt"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_firewall_rule_is_printed_on_failure_and_on_request() {
    let sshd = Sshd::start().unwrap();
    let free = free_port().unwrap();
    let setup = setup(&sshd).tunnel("gateways", vec![format!("127.0.0.1:{free}")]);
    let mut agent = setup.start().unwrap();
    agent.process().kill();
    let line = format!(
        "allow outbound TCP from {} (127.0.0.1) to 127.0.0.1 port {free}",
        host()
    );
    let table = agent.run(&["check"]).unwrap();
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(table.contains(&line), "{table}");
    let sheet = agent.succeed(&["check", "--firewall"]).unwrap();
    assert!(sheet.contains(&line), "{sheet}");
    assert!(
        sheet.contains("to 127.0.0.1 port 9"),
        "Jira is missing: {sheet}"
    );
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    name.trim().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_disturbs_no_session_that_stands() {
    let sshd = Sshd::start().unwrap();
    let agent = setup(&sshd).start().unwrap();
    agent.until_bound().await.unwrap();
    let before = agent.status().await.unwrap().connections[0].generation;
    for _ in 0..3 {
        check(&agent);
    }
    let after = agent.status().await.unwrap();
    assert_eq!(after.connections[0].generation, before);
    assert_ne!(after.overall, OverallState::Proven, "there is no Jira");
}
