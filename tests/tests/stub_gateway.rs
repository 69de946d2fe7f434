//! `agent run` with the gateway of `server-stub`: several serving connections, routing by host, dead twins, the status
//! page.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    check,
    status::{ConnectionView, ForwardState, PlaceState, StatusReport},
    tunnel::{
        BindAddress, ignore,
        session::{BoundForward, OpenDirectError, Session},
    },
};
use e2e::{
    agent::binary,
    process::ChildProcess,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    sshd::{free_addr, free_port, keygen, signal},
    test_env::vendor,
    tunnel::{EchoForwards, echo, identity, settings_for},
    wait::{PATIENCE, soon, until, until_listening},
};
use reqwest::Response;
use serde_json::Value;
use server_stub::gateway::{self, Gateway, GatewaySnapshot, Settings};
use std::{fs, path::PathBuf, process::Command, sync::Arc};
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
};

struct StubVendor {
    gateway: gateway::RunningGateway,
    folder: TempDir,
    client: reqwest::Client,
}

impl StubVendor {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(folder.path());
        settings.ssh = ([127, 0, 0, 1], 0).into();
        settings.http = ([127, 0, 0, 1], 0).into();
        Self {
            gateway: Gateway::start(settings).await.unwrap(),
            folder,
            client: vendor(),
        }
    }

    /// Authorizes an agent of this name; returns its key.
    fn enrol(&self, name: &str) -> PathBuf {
        let key = self.folder.path().join(name);
        keygen(&key, &["-t", "ed25519"], "").unwrap();
        let folder = self.folder.path().join("agents").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(key.with_extension("pub"), folder.join("authorized_keys")).unwrap();
        key
    }

    fn setup(&self, name: &str, jira: &RecordingOrigin, port: u16) -> AgentSetup {
        let key = self.folder.path().join(name);
        AgentSetup::new(&self.gateway.ssh_addr.to_string(), name, &key)
            .tunnel("host_keys", vec![self.gateway.host_key_fingerprint.clone()])
            .tunnel("connections", 2)
            .forward("jira", &format!("127.0.0.1:{port}"), &jira.url())
    }

    async fn get(&self, host: &str, path: &str) -> Response {
        let url = format!("http://{}{path}", self.gateway.http_addr);
        let request = self.client.get(url).header("host", host);
        soon(request.send()).await.unwrap()
    }

    async fn get_issue(&self, agent: &str, key: &str) -> String {
        let host = format!("{agent}.gateway.localhost");
        let path = format!("/rest/api/2/issue/{key}");
        let answer = self.get(&host, &path).await;
        let status = answer.status();
        let text = soon(answer.text()).await.unwrap();
        assert_eq!(status, 200, "{text}");
        text
    }

    async fn wait_until(&self, wanted: impl Fn(&GatewaySnapshot) -> bool) -> GatewaySnapshot {
        soon(self.gateway.wait_until(wanted)).await
    }
}

/// Waits until both connections hold the forward and all is proven.
async fn serving(agent: &RunningAgent) -> StatusReport {
    agent.until_proven().await.unwrap();
    let both = |r: &StatusReport| {
        let state = |c: &ConnectionView| c.forwards[0].state;
        r.connections
            .iter()
            .all(|c| state(c) == ForwardState::Bound)
    };
    agent
        .until_status("both connections to serve", both)
        .await
        .unwrap()
}

/// Both connections of an agent serve, each host name leads to its agent, and the page shows both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_routes_hosts_to_agents_and_shows_them() {
    let vendor = StubVendor::start().await;
    let acme = RecordingOrigin::start().await.unwrap();
    let other = RecordingOrigin::start().await.unwrap();
    let port = free_port().unwrap();
    vendor.enrol("acme");
    vendor.enrol("globex");
    let first = vendor.setup("acme", &acme, port).start().unwrap();
    let second = vendor
        .setup("globex", &other, free_port().unwrap())
        .start()
        .unwrap();
    let report = serving(&first).await;
    serving(&second).await;
    assert_eq!(report.forwards[0].bound.len(), 2, "on both connections");

    let comment = |agent: &str, key: &str| {
        let url = format!(
            "http://{}/rest/api/2/issue/{key}/comment",
            vendor.gateway.http_addr
        );
        let request = vendor.client.post(url);
        request
            .header("host", format!("{agent}.gateway.localhost"))
            .body("{}")
            .send()
    };
    for number in 1..=10 {
        let acmes = format!("ACME-{number}");
        assert!(soon(comment("acme", &acmes)).await.unwrap().status() == 200);
        let globexs = format!("GLOBEX-{number}");
        assert!(soon(comment("globex", &globexs)).await.unwrap().status() == 200);
    }
    for (jira, project) in [(&acme, "ACME-"), (&other, "GLOBEX-")] {
        let comments = jira.comments();
        assert_eq!(comments.len(), 10);
        assert!(comments.keys().all(|key| key.starts_with(project)));
    }
    let snapshot = vendor.gateway.snapshot();
    let sessions = &snapshot.agent("acme").unwrap().sessions;
    assert_eq!(sessions.len(), 2);
    assert!(sessions.iter().all(|s| s.requests > 0), "{sessions:?}");

    let page = vendor.get("gateway.localhost", "/").await;
    assert!(
        page.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/html")
    );
    let html = page.text().await.unwrap();
    assert!(html.contains("acme") && html.contains("globex"), "{html}");
    assert!(html.contains(&format!("127.0.0.1:{port}")), "{html}");
    let json: Value = vendor
        .get("gateway.localhost", "/?format=json")
        .await
        .json()
        .await
        .unwrap();
    let listed = &json["agents"][0];
    assert_eq!(listed["name"], "acme");
    assert_eq!(listed["online"], true);
    assert_eq!(listed["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(listed["forwards"][0]["port"], port);
    assert!(listed["bytes_from_agent"].as_u64().unwrap() > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_comes_back_is_not_blocked_by_its_twin_that_hangs() {
    let vendor = StubVendor::start().await;
    let old = RecordingOrigin::start().await.unwrap();
    let new = RecordingOrigin::start().await.unwrap();
    let port = free_port().unwrap();
    vendor.enrol("acme");
    let mut hanging = vendor.setup("acme", &old, port).start().unwrap();
    serving(&hanging).await;
    vendor.get_issue("acme", "DEMO-1").await;

    signal(hanging.process().pid(), "STOP").unwrap();
    let fresh = vendor.setup("acme", &new, port).start().unwrap();
    let report = serving(&fresh).await;
    assert!(report.connections.iter().all(|c| c.generation == 1));
    let mut number = 0;
    loop {
        number += 1;
        let key = format!("DEMO-{number}");
        assert_eq!(vendor.get_issue("acme", &key).await, issue(&key));
        let snapshot = vendor.gateway.snapshot();
        let sessions = &snapshot.agent("acme").unwrap().sessions;
        assert_eq!(sessions.len(), 4, "the twin has not been noticed yet");
        // The gateway chooses between idle sessions at random.
        if number >= 10 && sessions[2..].iter().all(|s| s.requests > 0) {
            break;
        }
        assert!(number < 500, "{sessions:?}");
    }

    // Its sessions end with the process; the others still serve.
    hanging.process().kill();
    vendor
        .wait_until(|g| g.agent("acme").is_some_and(|a| a.sessions.len() == 2))
        .await;
    assert_eq!(vendor.get_issue("acme", "DEMO-11").await, issue("DEMO-11"));
}

/// While the agent is offline the vendor gets a typed error; requests pass again as soon as it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offline_agent_is_a_typed_error_until_it_returns() {
    let vendor = StubVendor::start().await;
    let jira = RecordingOrigin::start().await.unwrap();
    vendor.enrol("acme");
    let mut agent = vendor
        .setup("acme", &jira, free_port().unwrap())
        .start()
        .unwrap();
    serving(&agent).await;
    vendor.get_issue("acme", "DEMO-1").await;

    signal(agent.process().pid(), "TERM").unwrap();
    let gone = |g: &GatewaySnapshot| g.agent("acme").is_some_and(|a| !a.online);
    vendor.wait_until(gone).await;
    let answer = vendor
        .get("acme.gateway.localhost", "/rest/api/2/issue/DEMO-1")
        .await;
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    let status = answer.headers()["proxy-status"]
        .to_str()
        .unwrap()
        .to_owned();
    assert!(status.starts_with("server-stub;"), "{status}");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:server-stub:problem:agent-offline");
    assert_eq!(problem["delivery"], "not_sent");
    assert!(agent.process().wait(PATIENCE).await.unwrap().success());

    let stranger = vendor.get("nobody.gateway.localhost", "/").await;
    assert_eq!(stranger.status(), 404);
    let problem: Value = stranger.json().await.unwrap();
    assert_eq!(problem["type"], "urn:server-stub:problem:unknown-agent");

    agent.restart().unwrap();
    serving(&agent).await;
    assert_eq!(vendor.get_issue("acme", "DEMO-2").await, issue("DEMO-2"));
}

/// Vendors that hold connections wait in the kernel's queue beyond the limit; an agent still gets one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_short_of_descriptors_accepts_agents_and_recovers() {
    const DESCRIPTORS: usize = 64;
    let folder = tempfile::tempdir().unwrap();
    let [ssh, http] = [free_addr().unwrap(), free_addr().unwrap()];
    let mut gateway = Command::new("prlimit");
    gateway
        .arg(format!("--nofile={DESCRIPTORS}:{DESCRIPTORS}"))
        .arg(binary("server-stub"))
        .args(["gateway", "--ssh", &ssh.to_string(), "--http"])
        .arg(http.to_string())
        .arg("--data")
        .arg(folder.path());
    let mut gateway = ChildProcess::spawn(gateway, &folder.path().join("log")).unwrap();
    until_listening(http, || true).await.unwrap();

    let mut held = Vec::new();
    for _ in 0..2 * DESCRIPTORS {
        held.push(soon(TcpStream::connect(http)).await.unwrap());
    }
    until("the limit to be named", async || {
        gateway
            .log()
            .contains("no file descriptor is left")
            .then_some(())
    })
    .await
    .unwrap();
    let fds = fs::read_dir(format!("/proc/{}/fd", gateway.pid())).unwrap();
    let open = fds.count();
    assert!(open < DESCRIPTORS - 16, "{open} are open");
    let mut agent = soon(TcpStream::connect(ssh)).await.unwrap();
    let mut banner = [0; 8];
    soon(agent.read_exact(&mut banner)).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-");

    drop(held);
    let answer = soon(vendor().get(format!("http://{http}/")).send()).await;
    assert_eq!(answer.unwrap().status(), 200);
    assert!(gateway.is_running(), "{}", gateway.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_may_call_its_own_forwards_and_nothing_else() {
    let vendor = StubVendor::start().await;
    let jira = RecordingOrigin::start().await.unwrap();
    let theirs = free_port().unwrap();
    vendor.enrol("globex");
    let globex = vendor.setup("globex", &jira, theirs).start().unwrap();
    serving(&globex).await;

    let key = identity(&vendor.enrol("acme")).unwrap();
    let socket = vendor.folder.path().canonicalize().unwrap();
    let socket = socket.join("agents/acme/jira.sock").display().to_string();
    let gateway = vendor.gateway.ssh_addr.to_string();
    let host_key = vendor.gateway.host_key_fingerprint.clone();
    let binds = ["127.0.0.1:0", &socket];
    let settings = settings_for(&gateway, "acme", key, host_key, &binds).unwrap();
    let settings = Arc::new(settings);
    let to = settings.gateways[0].clone();
    let accept = Arc::<EchoForwards>::default();
    let forwards: Vec<_> = settings.forwards.iter().map(|f| f.at(0)).collect();
    let session = Session::open(settings, to, 0, accept, ignore());
    let session = soon(session).await.unwrap();
    for forward in &forwards {
        let bound = soon(session.forward(forward)).await.unwrap();
        let stream = soon(session.open_direct(&bound)).await.unwrap();
        echo(stream, "there and back").await.unwrap();
    }
    let elsewhere = [
        format!("127.0.0.1:{theirs}"),
        vendor.gateway.http_addr.to_string(),
        "10.0.0.1:80".to_owned(),
        "localhost:0".to_owned(),
        socket.replace("acme", "globex"),
        "/run/docker.sock".to_owned(),
    ];
    for place in elsewhere {
        let bind: BindAddress = place.parse().unwrap();
        let refused = soon(session.open_direct(&BoundForward(bind))).await.err();
        assert_eq!(refused, Some(OpenDirectError::Prohibited(place)));
    }
    // The vendor names one target, and that alone is reached.
    let target = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = target.local_addr().unwrap();
    let closed = free_port().unwrap();
    let permit = vendor.folder.path().join("agents/acme/permit_open");
    fs::write(permit, format!("{at}\n127.0.0.1:{closed}\n")).unwrap();
    let stream = soon(session.open_target("127.0.0.1", at.port()))
        .await
        .unwrap();
    let (mut accepted, _) = soon(target.accept()).await.unwrap();
    let echoing = tokio::spawn(async move {
        let (mut from, mut to) = accepted.split();
        tokio::io::copy(&mut from, &mut to).await
    });
    echo(stream, "out and back").await.unwrap();
    soon(echoing).await.unwrap().unwrap();
    let failed = soon(session.open_target("127.0.0.1", closed)).await.err();
    assert!(
        matches!(failed, Some(OpenDirectError::Failed(..))),
        "{failed:?}"
    );
    let refused = soon(session.open_target("localhost", at.port()))
        .await
        .err();
    assert!(
        matches!(refused, Some(OpenDirectError::Prohibited(_))),
        "{refused:?}"
    );

    // A cancelled forward is not permitted either.
    let gone = session.bound("f0").unwrap();
    session.cancel_forward("f0").await.unwrap();
    let refused = soon(session.open_direct(&gone)).await.err();
    assert!(
        matches!(refused, Some(OpenDirectError::Prohibited(_))),
        "{refused:?}"
    );
}

fn round_trip(agent: &RunningAgent) -> check::CheckStep {
    let (report, _) = agent.check(&[]).unwrap();
    let step = report.steps.iter().find(|s| s.step == "round-trip");
    step.unwrap_or_else(|| panic!("{report:#?}")).clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_goes_the_whole_way_to_its_own_agent_beside_a_twin() {
    let vendor = StubVendor::start().await;
    let jira = RecordingOrigin::start().await.unwrap();
    let port = free_port().unwrap();
    vendor.enrol("acme");
    let agent = vendor.setup("acme", &jira, port).start().unwrap();
    serving(&agent).await;
    let trip = round_trip(&agent);
    assert_eq!(trip.verdict, check::StepVerdict::Ok, "{trip:?}");

    let twin = vendor.setup("acme", &jira, port).start().unwrap();
    serving(&twin).await;
    // The gateway serves both at one listener, and relays a call to the session that asks: 10 of 10 at random are one in 10^3.
    for _ in 0..10 {
        let trip = round_trip(&agent);
        assert_eq!(trip.verdict, check::StepVerdict::Ok, "{trip:?}");
    }
    for one in [&agent, &twin] {
        let proven =
            |r: &StatusReport| r.connections[0].forwards[0].proof == Some(PlaceState::Proven);
        one.until_status("a proven place", proven).await.unwrap();
    }
}
