//! Several gateways: raced, spread over, and returned to; and how soon a connection is back once its link works.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    status::{ConnectionPhase, ConnectionView, ForwardState, LayerState, StatusReport},
    tunnel::{Settings, session::HostKeys},
};
use e2e::{
    impaired_link::run_in_namespace,
    raw_http::{exchange, get},
    recording_origin::RecordingOrigin,
    setup::AgentSetup,
    sshd::{Sshd, keygen},
    tunnel::{echo_at, identity, settings, settings_for, supervise, until_connections},
    wait::until,
};
use server_stub::gateway::{self, Gateway, RunningGateway};
use std::{fs, net::SocketAddr, path::Path, process::Command, sync::Arc, time::Duration};
use tokio::{
    net::TcpStream,
    time::{Instant, sleep},
};

/// Two gateways that know the same key, and settings for both.
fn two_gateways(connections: usize) -> (Sshd, Sshd, Settings) {
    let (first, second) = (Sshd::start().unwrap(), Sshd::start().unwrap());
    let key = first.identity().with_extension("pub");
    second.authorize(&key, "").unwrap();
    let mut settings = settings(&first, &["127.0.0.1:0"]).unwrap();
    let pins = vec![first.fingerprint().unwrap(), second.fingerprint().unwrap()];
    settings.host_keys = Arc::new(HostKeys::new(pins, None).unwrap());
    settings.gateways.push(second.address().parse().unwrap());
    settings.connections = connections;
    (first, second, settings)
}

fn serves_at(view: &ConnectionView, gateway: &str) -> bool {
    view.gateway == gateway
        && view.phase == ConnectionPhase::Serving
        && view.forwards[0].state == ForwardState::Bound
}

/// Without a race, the other gateway would be tried when the login has timed out, after half a minute.
#[tokio::test]
async fn a_gateway_that_hangs_is_raced_by_the_next() {
    let (first, second, settings) = two_gateways(1);
    first.signal("STOP").unwrap();
    let started = Instant::now();
    let handle = supervise(settings);
    until_connections(&handle, |c| serves_at(&c[0], &second.address())).await;
    let took = started.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let bound = handle.connections()[0].forwards[0].bound.clone().unwrap();
    echo_at(&bound, "the second one").await.unwrap();
    // It goes home when that gateway answers.
    first.signal("CONT").unwrap();
    until_connections(&handle, |c| serves_at(&c[0], &first.address())).await;
}

/// The gateway is away for three seconds. Its connection serves at the other one meanwhile, and says so.
#[tokio::test]
async fn a_gateway_that_was_away_gets_its_session_back() {
    let (mut first, second, settings) = two_gateways(2);
    let handle = supervise(settings);
    let spread = |c: &[ConnectionView]| {
        serves_at(&c[0], &first.address()) && serves_at(&c[1], &second.address())
    };
    until_connections(&handle, |c| {
        spread(c) && c.iter().all(|c| c.tunnel.state == LayerState::Proven)
    })
    .await;
    let address = first.address();
    first.kill();
    until_connections(&handle, |c| {
        serves_at(&c[0], &second.address()) && c[0].tunnel.state == LayerState::Degraded
    })
    .await;
    let meanwhile = handle.connections().remove(0);
    let cause = meanwhile.tunnel.cause.unwrap();
    assert!(cause.contains(&address), "{cause}");
    assert!(meanwhile.tunnel.remedy.is_some());
    assert_eq!(handle.connections()[1].tunnel.state, LayerState::Proven);
    let elsewhere = meanwhile.forwards[0].bound.clone().unwrap();
    sleep(Duration::from_secs(3)).await;
    first.restart().unwrap();
    let back = Instant::now();
    until_connections(&handle, |c| {
        serves_at(&c[0], &address) && c[0].tunnel.state == LayerState::Proven
    })
    .await;
    let took = back.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let released = async || TcpStream::connect(&elsewhere).await.is_err().then_some(());
    until("a released forward at the other gateway", released)
        .await
        .unwrap();
}

/// The agent's user has written `connections = 1`. The session at the second gateway is there before the first is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_gateway_costs_the_second_no_time_with_one_connection_too() {
    let (mut first, second) = (Sshd::start().unwrap(), Sshd::start().unwrap());
    let key = first.identity().with_extension("pub");
    second.authorize(&key, "").unwrap();
    let pins = vec![first.fingerprint().unwrap(), second.fingerprint().unwrap()];
    let jira = RecordingOrigin::start().await.unwrap();
    let agent = AgentSetup::for_sshd(&first)
        .unwrap()
        .tunnel("gateways", vec![first.address(), second.address()])
        .tunnel("host_keys", pins)
        .tunnel("connections", 1)
        .forward("jira", "127.0.0.1:0", &jira.url())
        .start()
        .unwrap();
    let (one, two) = (first.address(), second.address());
    let spread = |report: &StatusReport| {
        let at = |gateway: &str| report.connections.iter().any(|c| serves_at(c, gateway));
        at(&one) && at(&two)
    };
    let report = agent.until_status("a session at each", spread).await;
    let report = report.unwrap();
    let mut connections = report.connections.iter();
    let connection = connections.find(|c| c.gateway == two).unwrap();
    let place = connection.forwards[0].bound.clone().unwrap();
    first.kill();
    let lost = Instant::now();
    let request = get("/rest/api/2/issue/DEMO-1");
    let answers = exchange(place.parse().unwrap(), &request).await.unwrap();
    let took = lost.elapsed();
    assert_eq!(answers[0].status, 200);
    assert!(took < Duration::from_secs(1), "{took:?}");
}

/// A stub gateway at this address, with an agent of this key.
async fn stub(folder: &Path, ssh: SocketAddr, retry_after: Option<Duration>) -> RunningGateway {
    let mut settings = gateway::Settings::new(folder);
    settings.ssh = ssh;
    settings.http = ([127, 0, 0, 1], 0).into();
    settings.limits.retry_after = retry_after;
    Gateway::start(settings).await.unwrap()
}

/// The vendor's gateway restarts, and asks for five seconds.
#[tokio::test]
async fn a_gateway_that_asks_for_a_wait_gets_it() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("id");
    keygen(&key, &["-t", "ed25519"], "").unwrap();
    let agent = folder.path().join("agents/acme");
    fs::create_dir_all(&agent).unwrap();
    fs::copy(key.with_extension("pub"), agent.join("authorized_keys")).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let wait = Duration::from_secs(5);
    let first = stub(folder.path(), any, Some(wait)).await;
    let address = first.ssh_addr;
    let pin = first.host_key_fingerprint.clone();
    let key = identity(&key).unwrap();
    let settings = settings_for(&address.to_string(), "acme", key, pin, &["127.0.0.1:0"]).unwrap();
    let handle = supervise(settings);
    until_connections(&handle, |c| c[0].tunnel.state == LayerState::Proven).await;
    first.stop().await;
    let stopped = Instant::now();
    let again = stub(folder.path(), address, None).await;
    until_connections(&handle, |c| c[0].generation == 2).await;
    let took = stopped.elapsed();
    assert!(took + Duration::from_millis(500) >= wait, "{took:?}");
    assert!(took < wait * 2, "{took:?}");
    drop(again);
}

/// The link is dead when the agent starts, for longer than the kernel repeats the first packet often.
#[tokio::test]
async fn a_link_that_heals_is_used_within_seconds() {
    if !run_in_namespace("a_link_that_heals_is_used_within_seconds").unwrap() {
        return;
    }
    run("ip", "link set lo up");
    // Linux 6.5 and later repeats the first packet four times a second apart; not all kernels do.
    let linear = "/proc/sys/net/ipv4/tcp_syn_linear_timeouts";
    if Path::new(linear).exists() {
        fs::write(linear, "0").unwrap();
    }
    let sshd = Sshd::start().unwrap();
    // Dropped where they arrive: the kernel repeats at once what its own queue has dropped.
    run("nft", "add table ip dead");
    run(
        "nft",
        "add chain ip dead input { type filter hook input priority 0 ; }",
    );
    let rule = format!("add rule ip dead input tcp dport {} drop", sshd.port());
    run("nft", &rule);
    let handle = supervise(settings(&sshd, &["127.0.0.1:0"]).unwrap());
    // The kernel alone would send after 7 s and then after 15 s.
    sleep(Duration::from_millis(8500)).await;
    run("nft", "delete table ip dead");
    let healed = Instant::now();
    until_connections(&handle, |c| c[0].tunnel.state == LayerState::Proven).await;
    let took = healed.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

fn run(program: &str, arguments: &str) {
    let done = Command::new(program).args(arguments.split(' ')).status();
    assert!(done.unwrap().success(), "{program} {arguments}");
}

/// Each attempt fails at once without an address. The next one is made when there is one, not when the wait is over.
#[tokio::test]
async fn a_new_address_is_used_at_once() {
    if !run_in_namespace("a_new_address_is_used_at_once").unwrap() {
        return;
    }
    let ip = |arguments| run("ip", arguments);
    ip("link set lo up");
    let sshd = Sshd::start().unwrap();
    ip("address del 127.0.0.1/8 dev lo");
    let handle = supervise(settings(&sshd, &["127.0.0.1:0"]).unwrap());
    let waits = |c: &[ConnectionView]| c[0].next_retry_seconds.is_some_and(|wait| wait > 2.5);
    until_connections(&handle, waits).await;
    ip("address add 127.0.0.1/8 dev lo");
    let changed = Instant::now();
    until_connections(&handle, |c| c[0].phase != ConnectionPhase::Waiting).await;
    let took = changed.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    until_connections(&handle, |c| c[0].tunnel.state == LayerState::Proven).await;
}
