//! `agent run` with a stock OpenSSH sshd as its gateway, as its administrator and the vendor see it: requests, status,
//! exit codes, log.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{ConnectionPhase, ForwardState, LayerState, OverallState, StatusReport};
use e2e::{
    background_load::BackgroundLoad,
    caller::HttpCaller,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, certify, fingerprint, free_addr, keygen, listener, signal},
    tcp_server::TcpServer,
};
use std::{fs, net::SocketAddr, path::Path};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, UnixStream},
};

const ISSUE: &str = "/rest/api/2/issue/DEMO-7";

async fn asks(mut caller: HttpCaller) {
    let answer = caller.get(ISSUE).await.unwrap();
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(*answer.body(), issue("DEMO-7"));
}

async fn asks_at(addr: impl AsRef<str>) {
    let addr: SocketAddr = addr.as_ref().parse().unwrap();
    asks(HttpCaller::connect(addr).await.unwrap()).await;
}

fn free() -> String {
    free_addr().unwrap().to_string()
}

fn forward_state(report: &StatusReport, forward: usize) -> ForwardState {
    report.connections[0].forwards[forward].state
}

/// A fixed port, a port that the gateway chooses and a socket lead to Jira, and the status shows each.
#[tokio::test]
async fn ports_and_sockets_lead_to_jira_and_status_shows_them() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let port = free();
    let socket = sshd.folder().join("jira.sock");
    let socket = socket.to_str().unwrap();
    let agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .forward("port", &port, &jira.url())
        .forward("chosen", "127.0.0.1:0", &jira.url())
        .forward("socket", socket, &jira.url())
        .start()
        .unwrap();
    let report = agent.until_proven().await.unwrap();
    let bound: Vec<_> = report.forwards.iter().map(|f| f.bound[0].clone()).collect();
    assert_eq!((bound[0].as_str(), bound[2].as_str()), (&*port, socket));
    assert_ne!(bound[1], "127.0.0.1:0", "the port that was given");

    asks_at(&bound[0]).await;
    asks_at(&bound[1]).await;
    let stream = UnixStream::connect(socket).await.unwrap();
    asks(HttpCaller::over(stream).await.unwrap()).await;

    let (shown, code) = agent.status_output().unwrap();
    assert_eq!(code, 0, "{shown}");
    for place in &bound {
        assert!(shown.contains(place), "{place} is not in\n{shown}");
    }
}

#[tokio::test]
async fn a_port_that_is_not_permitted_leaves_the_session() {
    let jira = RecordingOrigin::start().await.unwrap();
    let (permitted, other) = (free(), free());
    let restricted = |dir: &Path| {
        let key = fs::read_to_string(dir.join("id.pub"))?;
        let options = format!("restrict,port-forwarding,permitlisten=\"{permitted}\"");
        Ok(fs::write(
            dir.join("authorized_keys"),
            format!("{options} {key}"),
        )?)
    };
    let sshd = Sshd::prepare(restricted, &[]).unwrap();
    let setup = AgentSetup::for_sshd(&sshd).unwrap();
    let agent = setup
        .clone()
        .forward("permitted", &permitted, &jira.url())
        .forward("other", &other, &jira.url())
        .start()
        .unwrap();
    let mixed = |r: &StatusReport| {
        let states = (forward_state(r, 0), forward_state(r, 1));
        states == (ForwardState::Bound, ForwardState::Refused)
            && r.forwards[0].jira.state == LayerState::Proven
    };
    agent
        .until_status("one of two forwards", mixed)
        .await
        .unwrap();
    // The forward is requested again on the same session.
    let denials = || sshd.log().matches("request was denied").count();
    let before = denials();
    agent
        .until_status("another refusal", |_| denials() > before + 1)
        .await
        .unwrap();
    let report = agent.status().await.unwrap();
    assert_eq!(report.connections[0].generation, 1, "the same session");
    assert_eq!(report.connections[0].tunnel.state, LayerState::Proven);
    asks_at(&permitted).await;
    let (shown, code) = agent.status_output().unwrap();
    assert_eq!(code, 1, "degraded:\n{shown}");
    assert!(shown.contains("remedy") && shown.contains("permitlisten"));

    // If it is the only forward, no request can pass.
    let alone = setup.forward("other", &other, &jira.url()).start().unwrap();
    let down = |r: &StatusReport| forward_state(r, 0) == ForwardState::Refused;
    alone.until_status("the refusal", down).await.unwrap();
    let (shown, code) = alone.status_output().unwrap();
    assert_eq!(code, 2, "down:\n{shown}");
}

#[tokio::test]
async fn a_busy_port_leaves_the_session_and_is_taken_once_free() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = taken.local_addr().unwrap().to_string();
    let agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .forward("jira", &port, &jira.url())
        .start()
        .unwrap();
    let refused = |r: &StatusReport| {
        forward_state(r, 0) == ForwardState::Refused
            && r.connections[0].tunnel.state == LayerState::Proven
    };
    let report = agent
        .until_status("a refusal on a proven session", refused)
        .await
        .unwrap();
    assert_eq!(report.overall, OverallState::Down);
    assert_eq!(report.connections[0].phase, ConnectionPhase::Standby);
    assert_eq!(report.layers.tunnel.state, LayerState::Failed);
    let (shown, code) = agent.status_output().unwrap();
    assert_eq!(code, 2);
    assert!(
        shown.contains(&port) && shown.contains("ss -ltnp"),
        "{shown}"
    );

    drop(taken);
    let report = agent.until_proven().await.unwrap();
    assert_eq!(report.connections[0].generation, 1, "the same session");
    asks_at(&port).await;
    assert_eq!(agent.status_output().unwrap().1, 0);
}

#[tokio::test]
async fn every_kind_of_identity_and_host_certificate_works() {
    let prepare = |dir: &Path| {
        keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
        certify(
            &dir.join("ca"),
            &dir.join("host.pub"),
            &["-h", "-n", "127.0.0.1"],
        )
    };
    let lines = [
        "HostCertificate {dir}/host-cert.pub",
        "TrustedUserCAKeys {dir}/ca.pub",
    ];
    let sshd = Sshd::prepare(prepare, &lines).unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let dir = sshd.folder();
    let key = |name: &str, kind: &[&str], passphrase: &str| {
        let path = dir.join(name);
        keygen(&path, kind, passphrase).unwrap();
        path
    };
    let authorized = |name: &str, kind: &[&str], passphrase: &str| {
        let path = key(name, kind, passphrase);
        sshd.authorize(&path.with_extension("pub"), "").unwrap();
        path
    };
    let setup = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .forward("jira", "127.0.0.1:0", &jira.url());
    let with = |identity: &Path| {
        setup
            .clone()
            .tunnel("identity_file", identity.to_str().unwrap())
    };

    let locked = authorized("locked", &["-t", "ed25519"], "correct horse");
    let passphrase = dir.join("passphrase");
    e2e::agent::write_secret(&passphrase, "correct horse\n").unwrap();
    let rsa = authorized("rsa", &["-t", "rsa", "-b", "2048"], "");
    let ecdsa = authorized("ecdsa", &["-t", "ecdsa", "-b", "384"], "");
    let certified = key("certified", &["-t", "ed25519"], "");
    let public = certified.with_extension("pub");
    certify(&dir.join("ca"), &public, &["-n", &sshd.user()]).unwrap();
    let known_hosts = dir.join("authorities");
    let ca = fs::read_to_string(dir.join("ca.pub")).unwrap();
    fs::write(&known_hosts, format!("@cert-authority * {ca}")).unwrap();

    let print = |path: &Path| fingerprint(&path.with_extension("pub")).unwrap();
    let table = [
        (
            "an encrypted key",
            with(&locked).tunnel("identity_passphrase_file", passphrase.to_str().unwrap()),
            print(&locked),
        ),
        ("an RSA key", with(&rsa), print(&rsa)),
        ("an ECDSA key", with(&ecdsa), print(&ecdsa)),
        (
            "a user certificate",
            with(&certified),
            "Accepted certificate ID \"test\"".to_owned(),
        ),
        (
            "a host certificate",
            setup
                .clone()
                .without("host_keys")
                .tunnel("known_hosts_file", known_hosts.to_str().unwrap()),
            print(&sshd.identity()),
        ),
    ];
    let agents: Vec<(_, RunningAgent, _)> = table
        .into_iter()
        .map(|(what, setup, logged)| (what, setup.start().unwrap(), logged))
        .collect();
    for (what, agent, logged) in agents {
        let report = agent.until_proven().await;
        let report = report.unwrap_or_else(|error| panic!("{what}: {error}"));
        asks_at(&report.forwards[0].bound[0]).await;
        sshd.logged(&logged).await.unwrap();
    }
}

/// The status shows both fingerprints, and no login is tried.
#[tokio::test]
async fn a_wrong_host_key_prevents_the_login() {
    let sshd = Sshd::with(&["LogLevel DEBUG1"]).unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let pinned = fingerprint(&sshd.folder().join("id.pub")).unwrap();
    let presented = sshd.fingerprint().unwrap();
    let setup = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .forward("jira", "127.0.0.1:0", &jira.url());
    let wrong = setup.clone().tunnel("host_keys", vec![pinned.as_str()]);
    let agent = wrong.start().unwrap();
    let shown = refused_slowly(&agent).await;
    agent.logged(&presented).await.unwrap();
    for text in [&shown, &agent.log()] {
        assert!(
            text.contains(&pinned) && text.contains(&presented),
            "{text}"
        );
    }
    assert!(shown.contains("ssh-keyscan"), "no remedy in\n{shown}");
    // Not even the user name was sent.
    sshd.logged("Connection closed by").await.unwrap();
    assert!(!sshd.log().contains(LOGIN), "{}", sshd.log());

    // sshd logs the user name of a real login.
    let right = setup.start().unwrap();
    right.until_proven().await.unwrap();
    sshd.logged(LOGIN).await.unwrap();
}

/// Waits until the session is refused after SSH's banner; the next attempt is not soon. Returns the text of the status.
async fn refused_slowly(agent: &RunningAgent) -> String {
    let refused = |r: &StatusReport| {
        r.connections[0].tunnel.state == LayerState::Failed
            && r.connections[0].phase == ConnectionPhase::Waiting
    };
    let report = agent.until_status("the refusal", refused).await.unwrap();
    let seen = &report.connections[0];
    assert_eq!(seen.network.state, LayerState::Proven, "SSH answers there");
    let next = seen.next_retry_seconds;
    assert!(next.is_some_and(|s| s > 30.0), "{seen:?}");
    let (shown, code) = agent.status_output().unwrap();
    assert_eq!(code, 2);
    shown
}

/// sshd's log line for every login attempt.
const LOGIN: &str = "userauth-request for user";

#[tokio::test]
async fn a_key_that_the_gateway_refuses_is_shown_as_that() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let stranger = sshd.folder().join("stranger");
    keygen(&stranger, &["-t", "ed25519"], "").unwrap();
    let agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .tunnel("identity_file", stranger.to_str().unwrap())
        .forward("jira", "127.0.0.1:0", &jira.url())
        .start()
        .unwrap();
    let shown = refused_slowly(&agent).await;
    let print = fingerprint(&stranger.with_extension("pub")).unwrap();
    agent.logged("refused the login of user").await.unwrap();
    for text in [&shown, &agent.log()] {
        assert!(text.contains("refused the login of user"), "{text}");
        assert!(text.contains(&print), "{text}");
    }
    assert!(shown.contains("authorize this key"), "{shown}");
}

#[tokio::test]
async fn a_gateway_that_is_no_ssh_server_is_told_by_what_it_said() {
    let sshd = Sshd::start().unwrap();
    let web = TcpServer::start(|mut stream| async move {
        let answer = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
        stream.write_all(answer).await
    });
    let web = web.await.unwrap();
    let address = web.addr.to_string();
    let agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .tunnel("gateways", vec![address.as_str()])
        .forward("jira", "127.0.0.1:0", "http://127.0.0.1:9")
        .start()
        .unwrap();
    // The server may change at any moment, so the agent retries soon.
    let tried = |r: &StatusReport| {
        r.connections[0].network.state == LayerState::Failed && r.connections[0].attempt >= 2
    };
    agent.until_status("two attempts", tried).await.unwrap();
    let (shown, code) = agent.status_output().unwrap();
    assert_eq!(code, 2);
    assert!(
        shown.contains(&format!("{address} does not speak SSH")),
        "{shown}"
    );
    assert!(shown.contains("HTTP/1.1 400"), "{shown}");
    assert!(
        shown.contains("check host and port in tunnel.gateways"),
        "{shown}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standby_connection_takes_over_under_load() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let addr = free_addr().unwrap();
    let agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .tunnel("connections", 2)
        .forward("jira", &addr.to_string(), &jira.url())
        .start()
        .unwrap();
    let holder = |r: &StatusReport| {
        let states: Vec<_> = r.connections.iter().map(|c| c.forwards[0].state).collect();
        match states[..] {
            [ForwardState::Bound, ForwardState::Standby] => Some(0),
            [ForwardState::Standby, ForwardState::Bound] => Some(1),
            _ => None,
        }
    };
    let both = |r: &StatusReport| holder(r).is_some() && r.overall == OverallState::Proven;
    let report = agent
        .until_status("one to serve and one to stand by", both)
        .await
        .unwrap();
    let first = holder(&report).unwrap();
    let second = 1 - first;
    assert_eq!(
        agent.status_output().unwrap().1,
        0,
        "one that stands by is no defect"
    );

    let load = BackgroundLoad::start(addr, 4);
    load.until_answered(100).await.unwrap();
    signal(listener(addr.port()).expect("a listener"), "KILL").unwrap();
    let taken = |r: &StatusReport| r.connections[second].forwards[0].state == ForwardState::Bound;
    let report = agent
        .until_status("the other to take over", taken)
        .await
        .unwrap();
    assert_eq!(
        report.connections[second].generation, 1,
        "the session that stood by"
    );
    load.until_answered(100).await.unwrap();
    let whole = |r: &StatusReport| holder(r) == Some(second) && r.overall == OverallState::Proven;
    agent
        .until_status("a new one to stand by", whole)
        .await
        .unwrap();
    let summary = load.stop().await;
    println!("{} answered, {} failed", summary.answered, summary.failed);
    // Requests on the lost session have failed.
    assert!(summary.failed > 0);
    summary.verify_against(&jira.comments()).unwrap();
}
