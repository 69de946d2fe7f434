//! Each connection of an agent has a socket of its own, and HAProxy chooses one that serves.

use crate::{ask, host};
use agent::status::StatusReport;
use e2e::{
    gateway::{InstalledGateway, SOCKET},
    recording_origin::{RecordingOrigin, issue},
    setup::RunningAgent,
    sshd::signal,
    wait::{until, until_true},
};
use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// A gateway whose customer has an agent with these connections.
struct OneCustomer {
    gateway: InstalledGateway,
    agent: RunningAgent,
    key: PathBuf,
    jira: RecordingOrigin,
}

impl OneCustomer {
    async fn start(connections: u32) -> Self {
        let gateway = InstalledGateway::start().unwrap();
        let jira = RecordingOrigin::start().await.unwrap();
        let (key, _) = gateway.add("acme").unwrap();
        let setup = gateway.agent("acme", &key, &jira.url());
        let agent = setup.tunnel("connections", connections).start().unwrap();
        agent.until_proven().await.unwrap();
        let one = Self {
            gateway,
            agent,
            key,
            jira,
        };
        for slot in 0..connections {
            one.until_up(slot, true).await;
        }
        one
    }

    fn at(&self) -> SocketAddr {
        self.gateway.services()
    }

    async fn until_up(&self, slot: u32, wanted: bool) {
        let what = format!("slot {slot} to be up: {wanted}");
        let changed = async || (self.is_up(slot).await == Some(wanted)).then_some(());
        until(&what, changed).await.unwrap();
    }

    /// Whether a check of this place has passed.
    async fn is_up(&self, slot: u32) -> Option<bool> {
        let metrics = ask(self.gateway.monitoring(), "any", "/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        let of = |family: &str, state: &str| {
            let line = format!(
                "haproxy_server_{family}{{proxy=\"customer-acme\",server=\"slot-{slot}\",state=\"{state}\"}} "
            );
            let value = metrics.lines().find_map(|found| found.strip_prefix(&line));
            value.map(|value| value == "1")
        };
        let checked = of("check_status", "L7OK");
        // A check that fails once does not make it down.
        of("status", "UP").filter(|up| !up || checked == Some(true))
    }

    /// Statuses of requests, one after the other, until it is stopped.
    fn load(&self) -> Load {
        let (at, stop) = (self.at(), Arc::new(AtomicBool::new(false)));
        let stopped = Arc::clone(&stop);
        let task = tokio::spawn(async move {
            let mut statuses = Vec::new();
            while !stopped.load(Relaxed) {
                let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
                statuses.push((answer.status, answer.problem()));
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            statuses
        });
        Load { stop, task }
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Vec<(u16, String)>>,
}

impl Load {
    /// Everything that was not answered by Jira.
    async fn failures(self) -> Vec<(u16, String)> {
        self.stop.store(true, Relaxed);
        let all = self.task.await.unwrap();
        assert!(all.len() > 10, "{} requests", all.len());
        all.into_iter()
            .filter(|(status, _)| *status != 200)
            .collect()
    }
}

/// HAProxy's old worker checks nothing after a reload: a request that it holds goes to the new one.
#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_survives_a_reload() {
    let one = OneCustomer::start(1).await;
    let socket = one.gateway.path("/srv/jira-gateway/acme/s/jira-0.sock");
    let aside = socket.with_file_name("aside");
    fs::rename(&socket, &aside).unwrap();
    one.until_up(0, false).await;
    let stops = || one.gateway.log().matches("Proxy customers stopped").count();
    let before = stops();

    let at = one.at();
    let target = "/rest/api/2/issue/DEMO-7";
    let held = tokio::spawn(async move { ask(at, &host("acme"), target).await });
    let is_held = async || {
        let metrics = ask(one.gateway.monitoring(), "any", "/metrics").await;
        let line = "haproxy_frontend_current_sessions{proxy=\"customers\"} 1\n";
        String::from_utf8_lossy(&metrics.body)
            .contains(line)
            .then_some(())
    };
    until("a held request", is_held).await.unwrap();
    one.gateway.add("bolt").unwrap();
    until_true("the old worker to stop", || stops() > before)
        .await
        .unwrap();
    fs::rename(&aside, &socket).unwrap();
    assert_eq!(held.await.unwrap().status, 200);
}

/// No request is refused, nor lost, while one of two sessions ends, and the new one serves too.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_refuses_nothing() {
    let one = OneCustomer::start(2).await;
    let load = one.load();
    let sessions = one.gateway.sessions("acme");
    assert_eq!(sessions.len(), 2);
    signal(sessions[0], "KILL").unwrap();
    let new = async || (one.gateway.sessions("acme").len() == 2).then_some(());
    until("a new session", new).await.unwrap();
    let slots = async || {
        let mut up = 0;
        for slot in 0..4 {
            up += usize::from(one.is_up(slot).await == Some(true));
        }
        (up == 2).then_some(())
    };
    until("two places that serve", slots).await.unwrap();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let failures = load.failures().await;
    // A request that the killed session had is answered as such; nothing is refused.
    assert!(
        failures.iter().all(|(status, _)| *status == 502),
        "{failures:?}"
    );
    assert!(failures.len() <= 1, "{failures:?}");
    drop(one.jira);
}

/// The only session ends; requests wait for the next one instead of being refused.
#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_only_agent_refuses_nothing() {
    let mut one = OneCustomer::start(1).await;
    let load = one.load();
    signal(one.agent.process().pid(), "TERM").unwrap();
    let ended = async || (!one.agent.process().is_running()).then_some(());
    until("the agent to end", ended).await.unwrap();
    one.agent.restart().unwrap();
    one.agent.until_proven().await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(load.failures().await, []);
}

/// A session that does not answer any more gets no requests, although its socket takes connections.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_session_gets_no_more_requests() {
    let one = OneCustomer::start(2).await;
    let stopped = one.gateway.sessions("acme")[0];
    signal(stopped, "STOP").unwrap();
    let one_suspect = |report: &StatusReport| {
        let suspects = report.connections.iter();
        suspects.filter(|c| c.suspect_seconds.is_some()).count() == 1
    };
    let suspect = one.agent.until_status("a suspect session", one_suspect);
    suspect.await.unwrap();
    let down = async || {
        let (first, second) = (one.is_up(0).await, one.is_up(1).await);
        (first == Some(false) || second == Some(false)).then_some(())
    };
    until("one place to be down", down).await.unwrap();
    let load = one.load();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(load.failures().await, []);
    signal(stopped, "CONT").unwrap();
}

/// HAProxy keeps the channel: a new connection of a service costs no round trip more than a request.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_of_a_service_opens_no_channel() {
    let one = OneCustomer::start(1).await;
    let opened = async || {
        let metrics = ask(one.gateway.monitoring(), "any", "/metrics").await;
        let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
        let line =
            "haproxy_server_connection_attempts_total{proxy=\"customer-acme\",server=\"slot-0\"} ";
        let count = metrics.lines().find_map(|found| found.strip_prefix(line));
        count.unwrap().parse::<u64>().unwrap()
    };
    let target = "/rest/api/2/issue/DEMO-7";
    ask(one.at(), &host("acme"), target).await;
    let before = opened().await;
    for _ in 0..20 {
        let answer = ask(one.at(), &host("acme"), target).await;
        assert_eq!(answer.status, 200);
    }
    let more = opened().await - before;
    // Each thread of HAProxy may open its own.
    assert!(more <= 4, "{more} of 20 requests opened a channel");
}

/// Whoever takes a socket from a session without answering as an agent does gets no requests.
#[tokio::test(flavor = "multi_thread")]
async fn a_stolen_socket_gets_no_more_requests() {
    let one = OneCustomer::start(2).await;
    let bind = "/s/jira-0.sock:127.0.0.1:9";
    let mut thief = one.gateway.ssh("acme", &one.key, &["-N", "-R", bind], &[]);
    let mut thief = thief.spawn().unwrap();
    one.until_up(0, false).await;
    let load = one.load();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(load.failures().await, []);
    thief.kill().unwrap();
    thief.wait().unwrap();
}

/// An agent whose bind names no slot serves as before, also one that knows no health request.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_for_all_sessions_still_serves() {
    let gateway = InstalledGateway::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let (key, _) = gateway.add("acme").unwrap();
    let forward = format!(
        "{SOCKET}:{}",
        jira.url()
            .trim_start_matches("http://")
            .trim_end_matches("/")
    );
    let mut ssh = gateway.ssh("acme", &key, &["-N", "-R", &forward], &[]);
    let mut ssh = ssh.spawn().unwrap();
    let socket = gateway.path("/srv/jira-gateway/acme/s/jira.sock");
    until_true("the socket", || socket.exists()).await.unwrap();
    let answer = ask(
        gateway.services(),
        &host("acme"),
        "/rest/api/2/issue/DEMO-7",
    )
    .await;
    assert_eq!(String::from_utf8_lossy(&answer.body), issue("DEMO-7"));
    ssh.kill().unwrap();
    ssh.wait().unwrap();
}
