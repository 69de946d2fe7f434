//! The agent's own supervisor and sessions against the gateway, in one process.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

#[path = "../../crates/gateway/tests/gateway/support.rs"]
#[expect(dead_code, reason = "the gateway's own tests use the rest")]
mod support;

use agent::{
    secret::SecretFile,
    supervisor::{Supervisor, SupervisorHandle},
    tunnel::{
        ChannelAcceptor, ForwardTemplate, GatewayAddress, InboundChannel, Settings, SlotRange,
        channel,
        session::{HostKeys, SshIdentity},
        transport,
    },
};
use std::{collections::BTreeSet, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use support::{Origin, TestGateway, in_time};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// Relays each channel to an origin and reports its connection.
struct ToOrigin {
    origin: SocketAddr,
    seen: tokio::sync::mpsc::Sender<usize>,
}

impl ChannelAcceptor for ToOrigin {
    fn accept(&self, inbound: InboundChannel) {
        let origin = self.origin;
        let _ = self.seen.try_send(inbound.connection);
        tokio::spawn(async move {
            let mut channel = inbound.stream;
            let mut upstream = TcpStream::connect(origin).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut channel, &mut upstream).await;
        });
    }
}

struct TestAgent {
    handle: SupervisorHandle,
    cancel: CancellationToken,
    seen: tokio::sync::mpsc::Receiver<usize>,
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

fn run(
    gateway: &TestGateway,
    key: &Path,
    bind: &str,
    connections: usize,
    origin: &Origin,
) -> TestAgent {
    let address = gateway.running.ssh_addr;
    let pins = vec![gateway.running.host_key_fingerprint.clone()];
    let settings = Settings {
        gateways: vec![GatewayAddress {
            host: address.ip().to_string(),
            port: address.port(),
            tls: false,
        }],
        egress: Default::default(),
        user: "acme".to_owned(),
        identity: Arc::new(SshIdentity::load(&SecretFile::new(key), None).unwrap()),
        host_keys: Arc::new(HostKeys::new(pins, None).unwrap()),
        connections,
        connect_timeout: Duration::from_secs(10),
        login_timeout: Duration::from_secs(20),
        stall_timeout: Duration::from_secs(60),
        probe_interval: Duration::from_secs(30),
        probe_timeout: Duration::from_secs(30),
        congestion_control: None,
        drain_limit: Duration::from_secs(30),
        max_channels: 256,
        transport: transport::TransportLimits::default(),
        channel: channel::ChannelLimits::default(),
        slots: SlotRange::default(),
        forwards: vec![ForwardTemplate {
            name: "jira".into(),
            bind: bind.parse().unwrap(),
        }],
    };
    let (sender, seen) = tokio::sync::mpsc::channel(1024);
    let accept = Arc::new(ToOrigin {
        origin: origin.address,
        seen: sender,
    });
    let cancel = CancellationToken::new();
    TestAgent {
        handle: Supervisor::spawn(Arc::new(settings), accept, cancel.clone()),
        cancel,
        seen,
    }
}

async fn serving(gateway: &TestGateway, sessions: usize) {
    gateway
        .wait_until(|g| {
            let forwards = g.agent("acme").map(|agent| agent.forwards.clone());
            let serving = forwards.into_iter().flatten().flat_map(|f| f.sessions);
            serving.collect::<BTreeSet<_>>().len() == sessions
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_connections_of_an_agent_serve_one_bind() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let port = support::free_port().await;
    let bind = format!("127.0.0.1:{port}");
    let mut agent = run(&gateway, &key, &bind, 2, &origin);
    serving(&gateway, 2).await;
    let snapshot = gateway.running.snapshot();
    let forwards = &snapshot.agent("acme").unwrap().forwards;
    assert_eq!((forwards.len(), forwards[0].sessions.len()), (1, 2));
    for _ in 0..40 {
        let text = gateway
            .get("acme.gateway.localhost", "/")
            .await
            .text()
            .await;
        assert_eq!(text.unwrap(), "acme");
    }
    let mut connections = BTreeSet::new();
    while let Ok(connection) = agent.seen.try_recv() {
        connections.insert(connection);
    }
    assert_eq!(connections, BTreeSet::from([0, 1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_drains_finishes_its_requests_and_is_gone() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let agent = run(&gateway, &key, "127.0.0.1:0", 1, &origin);
    serving(&gateway, 1).await;
    let slow = gateway.get("acme.gateway.localhost", "/slow");
    let (answer, ()) = tokio::join!(slow, async {
        in_time(async {
            while origin.requests.load(std::sync::atomic::Ordering::SeqCst) == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        // Idle channels of the gateway's pool are no reason to wait.
        in_time(agent.handle.drain(Duration::from_secs(600))).await;
    });
    assert_eq!(answer.text().await.unwrap(), "acme");
    gateway
        .wait_until(|g| !g.agent("acme").unwrap().online)
        .await;
    let gone = gateway.get("acme.gateway.localhost", "/").await;
    assert_eq!(gone.status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_its_folder_serves_an_agent_too() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let path = gateway.folder("acme").join("jira.sock");
    let _agent = run(&gateway, &key, path.to_str().unwrap(), 2, &origin);
    serving(&gateway, 2).await;
    let text = gateway
        .get("jira--acme.gateway.localhost", "/")
        .await
        .text()
        .await;
    assert_eq!(text.unwrap(), "acme");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_short_connections_leave_nothing_open() {
    let gateway = TestGateway::with(|limits| limits.preopened = 0).await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let port = support::free_port().await;
    let _agent = run(&gateway, &key, &format!("127.0.0.1:{port}"), 2, &origin);
    serving(&gateway, 2).await;
    let one = async |_| {
        let url = format!("http://127.0.0.1:{port}/");
        let text = support::client()
            .get(url)
            .send()
            .await
            .unwrap()
            .text()
            .await;
        assert_eq!(text.unwrap(), "acme");
    };
    for _ in 0..10 {
        in_time(futures_util::future::join_all((0..50).map(one))).await;
    }
    in_time(async {
        loop {
            let snapshot = gateway.running.snapshot();
            let acme = snapshot.agent("acme").unwrap();
            if acme.sessions.iter().all(|s| s.channels == 0 && s.busy == 0) {
                assert!(acme.sessions.iter().map(|s| s.opened).sum::<u64>() >= 500);
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}
