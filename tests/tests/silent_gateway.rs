//! With default settings, a silent gateway is noticed in time, and a slow link is not taken for a dead one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{ConnectionPhase, LayerState, StatusReport};
use e2e::{
    caller::HttpCaller,
    impaired_link::{LinkDirection, in_a_network},
    recording_origin::RecordingOrigin,
    setup::{AgentSetup, RecordedTunnel},
    ssh_pair::digest,
    sshd::{Sshd, free_addr, listener, signal},
    stub::{CUSTOMER_HOST, StubGateway},
    tcp_server::TcpServer,
    test_env::vendor,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    task::JoinHandle,
    time::sleep,
};

/// A tunnel with the default probe interval.
struct DefaultTunnel(RecordedTunnel);

impl std::ops::Deref for DefaultTunnel {
    type Target = RecordedTunnel;

    fn deref(&self) -> &RecordedTunnel {
        &self.0
    }
}

impl DefaultTunnel {
    async fn start() -> Self {
        Self::start_with(|setup, _| setup).await
    }

    async fn start_with(change: impl FnOnce(AgentSetup, &RecordingOrigin) -> AgentSetup) -> Self {
        let defaults = |setup: AgentSetup, jira: &RecordingOrigin| {
            change(setup.without("probe_interval"), jira)
        };
        Self(RecordedTunnel::start_with(defaults).await.unwrap())
    }

    /// A request that Jira does not answer.
    async fn hold_a_request(&self) -> JoinHandle<()> {
        let addr = self.addr;
        let held = tokio::spawn(async move {
            let mut vendor = HttpCaller::connect(addr).await.unwrap();
            let _ = vendor.get("/rest/api/2/issue/HELD-1").await;
        });
        self.jira.wait_until_held(1).await.unwrap();
        held
    }

    /// Waits until the status no longer claims a proof; returns the time, the status text and its exit code.
    async fn noticed(&self) -> (Duration, String, i32) {
        let start = Instant::now();
        self.agent
            .until_status("the silence to be seen", |report| !is_proven(report))
            .await
            .unwrap();
        let after = start.elapsed();
        let (text, code) = self.agent.status_output().unwrap();
        println!("noticed after {after:?}");
        (after, text, code)
    }

    async fn is_noticed_within(&self, seconds: u64) {
        let (after, text, code) = self.noticed().await;
        // The rest is for a busy machine; the agent's own tests check the exact times with a paused clock.
        assert!(after < Duration::from_secs(seconds + BUSY), "{after:?}");
        assert_ne!(code, 0, "{text}");
        assert!(text.contains("remedy:"), "{text}");
        assert!(
            text.contains("has not answered for") || text.contains("closed the connection"),
            "{text}"
        );
    }

    /// Waits until the agent has given the session up.
    async fn is_ended(&self) {
        let ended = |report: &StatusReport| {
            let phase = report.connections[0].phase;
            !matches!(phase, ConnectionPhase::Serving | ConnectionPhase::Standby)
        };
        let what = "the session to be ended";
        self.agent.until_status(what, ended).await.unwrap();
    }
}

fn is_proven(report: &StatusReport) -> bool {
    report.connections[0].tunnel.state == LayerState::Proven
}

/// SIGSTOP to the session's process alone: the kernel still acknowledges packets.
#[tokio::test]
async fn a_stopped_gateway_is_seen_within_ten_seconds_at_rest() {
    let env = DefaultTunnel::start().await;
    let process = listener(env.addr.port()).unwrap();
    signal(process, "STOP").unwrap();
    env.is_noticed_within(10).await;
    // The agent ends the session, and a new one serves once the port is free.
    env.agent
        .until_status("the session to be ended", |r| {
            r.connections[0].generation > 1
        })
        .await
        .unwrap();
    signal(process, "KILL").unwrap();
    env.agent.until_proven().await.unwrap();
}

#[tokio::test]
async fn a_stopped_gateway_is_seen_within_five_seconds_in_flight() {
    let env = DefaultTunnel::start().await;
    let held = env.hold_a_request().await;
    signal(listener(env.addr.port()).unwrap(), "STOP").unwrap();
    env.is_noticed_within(5).await;
    held.abort();
}

/// A gateway that only paused is proven again on the same session.
#[tokio::test]
async fn a_gateway_that_comes_back_in_time_keeps_its_session() {
    let env = DefaultTunnel::start().await;
    let process = listener(env.addr.port()).unwrap();
    signal(process, "STOP").unwrap();
    env.agent
        .logged("the gateway does not answer")
        .await
        .unwrap();
    signal(process, "CONT").unwrap();
    let report = env.agent.until_proven().await.unwrap();
    assert_eq!(report.connections[0].generation, 1);
    env.agent.logged("the gateway answers again").await.unwrap();
}

/// Runs the test `name`: a link that drops everything in these directions, with or without a request in flight.
fn black_hole(name: &str, ways: &[LinkDirection], in_flight: bool) {
    in_a_network(name, async |link| {
        let env = DefaultTunnel::start().await;
        let held = match in_flight {
            true => Some(env.hold_a_request().await),
            false => None,
        };
        for way in ways {
            link.lose_all(*way, &[env.sshd.port()]).unwrap();
        }
        let lost = Instant::now();
        let limit = if in_flight { 5 } else { 10 };
        env.is_noticed_within(limit).await;
        if ways.len() == 2 {
            env.is_ended().await;
            assert!(lost.elapsed() < Duration::from_secs(limit + BUSY));
        }
        held.inspect(JoinHandle::abort);
    });
}

#[test]
fn a_black_hole_is_seen_within_ten_seconds_at_rest() {
    let name = "a_black_hole_is_seen_within_ten_seconds_at_rest";
    black_hole(name, &[LinkDirection::Out, LinkDirection::Back], false);
}

#[test]
fn a_black_hole_is_seen_within_five_seconds_in_flight() {
    let name = "a_black_hole_is_seen_within_five_seconds_in_flight";
    black_hole(name, &[LinkDirection::Out, LinkDirection::Back], true);
}

#[test]
fn a_black_hole_toward_the_gateway_is_seen_in_flight() {
    let name = "a_black_hole_toward_the_gateway_is_seen_in_flight";
    black_hole(name, &[LinkDirection::Out], true);
}

#[test]
fn a_black_hole_from_the_gateway_is_seen_at_rest() {
    let name = "a_black_hole_from_the_gateway_is_seen_at_rest";
    black_hole(name, &[LinkDirection::Back], false);
}

/// The stub's gateway answers for the lost session within the same time.
#[test]
fn the_stub_gateway_sees_a_black_hole_in_flight() {
    let name = "the_stub_gateway_sees_a_black_hole_in_flight";
    in_a_network(name, async |link| {
        let gateway = StubGateway::start(1).await.unwrap();
        let jira = RecordingOrigin::start().await.unwrap();
        let setup = gateway.agent(0).unwrap().without("probe_interval");
        let bind = free_addr().unwrap().to_string();
        let setup = setup.forward("jira", &bind, &jira.url());
        let agent = setup.start().unwrap();
        agent.until_proven().await.unwrap();
        let url = format!("http://{}/rest/api/2/issue/HELD-1", gateway.http_addr);
        let request = vendor().get(url).header("host", CUSTOMER_HOST);
        let held = tokio::spawn(request.send());
        jira.wait_until_held(1).await.unwrap();
        for way in [LinkDirection::Out, LinkDirection::Back] {
            link.lose_all(way, &[gateway.ssh_addr.port()]).unwrap();
        }
        let lost = Instant::now();
        let answer = held.await.unwrap().unwrap();
        let after = lost.elapsed();
        println!("answered after {after:?}");
        assert_eq!(answer.status(), 502);
        assert!(answer.text().await.unwrap().contains("maybe_sent"));
        assert!(after < Duration::from_secs(5 + BUSY), "{after:?}");
    });
}

/// Large answers and uploads pass after at most one lost session for each direction.
#[test]
fn a_path_that_loses_large_packets_is_served_by_small_ones() {
    in_a_network(
        "a_path_that_loses_large_packets_is_served_by_small_ones",
        async |link| {
            let env =
                DefaultTunnel::start_with(|setup, _| setup.tunnel("probe_timeout", "500ms")).await;
            link.shape_port(env.sshd.port()).unwrap();
            for way in [LinkDirection::Out, LinkDirection::Back] {
                link.drop_large(way).unwrap();
            }
            let lost = async {
                let mut vendor = HttpCaller::connect(env.addr).await?;
                vendor.download(MIB).await
            };
            assert!(lost.await.is_err());
            let narrow = |report: &StatusReport| {
                is_proven(report)
                    && report.connections[0].generation >= 2
                    && !report.forwards[0].bound.is_empty()
            };
            env.agent
                .until_status("a second session", narrow)
                .await
                .unwrap();
            let mut vendor = HttpCaller::connect(env.addr).await.unwrap();
            assert_eq!(vendor.download(MIB).await.unwrap(), digest(MIB));
            assert_eq!(vendor.upload("ABC-1", MIB).await.unwrap(), digest(MIB));
            assert!(env.agent.log().contains("path MTU"));
        },
    );
}

/// The gateway has ended, and its packets were lost: it answers the next packet with a reset.
#[test]
fn a_half_open_connection_is_seen_within_ten_seconds() {
    in_a_network(
        "a_half_open_connection_is_seen_within_ten_seconds",
        async |link| {
            let mut env = DefaultTunnel::start().await;
            let port = env.sshd.port();
            link.lose_all(LinkDirection::Back, &[port]).unwrap();
            env.0.sshd.kill();
            // Its kernel would repeat its last packets for a while; here the link recovers soon.
            sleep(Duration::from_millis(500)).await;
            link.lose_nothing().unwrap();
            let (after, text, code) = env.noticed().await;
            assert!(after < Duration::from_secs(10 + BUSY), "{after:?}");
            assert_ne!(code, 0, "{text}");
        },
    );
}

/// 64 kbit/s, full both ways. `SLOW_LINK_SECONDS=600` for the ten minutes of docs/network.md.
#[test]
fn a_slow_link_under_full_transfers_is_not_cut() {
    in_a_network(
        "a_slow_link_under_full_transfers_is_not_cut",
        async |link| {
            let env = DefaultTunnel::start().await;
            link.shape_port(env.sshd.port()).unwrap();
            link.slow_down().unwrap();
            let (down, up) = full_both_ways(env.addr);
            let mut silent = Duration::ZERO;
            let end = Instant::now() + slow_link_time();
            while Instant::now() < end {
                let report = env.agent.status().await.unwrap();
                let connection = &report.connections[0];
                assert_eq!(connection.generation, 1, "{connection:#?}");
                assert_ne!(
                    connection.tunnel.state,
                    LayerState::Failed,
                    "{connection:#?}"
                );
                if !is_proven(&report) {
                    silent += STEP;
                    let cause = connection.tunnel.cause.as_deref().unwrap_or_default();
                    assert!(cause.contains("waits behind other data"), "{cause}");
                }
                assert!(
                    !down.is_finished() && !up.is_finished(),
                    "a transfer has ended"
                );
                sleep(STEP).await;
            }
            let report = env.agent.status().await.unwrap();
            let connection = &report.connections[0];
            println!(
                "not proven for {silent:?}; {} bytes out, {} back",
                connection.bytes_sent, connection.bytes_received
            );
            assert!(connection.bytes_sent > 100_000, "nothing was sent");
            down.abort();
            up.abort();
        },
    );
}

/// A gateway on the other side of the world, by satellite: 300 ms each way, full both ways.
#[tokio::test]
async fn a_satellite_link_under_load_stays_proven() {
    let sshd = Sshd::start().unwrap();
    let far = far_away(sshd.address().parse().unwrap()).await;
    let gateways = vec![far.addr.to_string()];
    let env = RecordedTunnel::start_at(sshd, &[], |setup, _| {
        let setup = setup.without("probe_interval");
        setup.tunnel("gateways", gateways)
    });
    let env = env.await.unwrap();
    let (down, up) = full_both_ways(env.addr);
    // Three probes and their deadlines.
    let end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < end {
        let report = env.agent.status().await.unwrap();
        assert_eq!(report.connections[0].generation, 1);
        assert!(is_proven(&report), "{:#?}", report.connections[0]);
        sleep(STEP).await;
    }
    assert!(
        !down.is_finished() && !up.is_finished(),
        "a transfer has ended"
    );
    down.abort();
    up.abort();
}

/// Forwards to `to` with a delay of [`ONE_WAY`] in each direction.
async fn far_away(to: SocketAddr) -> TcpServer {
    let server = TcpServer::start(move |near| async move {
        let far = TcpStream::connect(to).await.unwrap();
        let (near_read, near_write) = near.into_split();
        let (far_read, far_write) = far.into_split();
        tokio::join!(late(near_read, far_write), late(far_read, near_write));
    });
    server.await.unwrap()
}

/// Copies, with a delay of [`ONE_WAY`].
async fn late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let (sender, mut pieces) = mpsc::channel::<(tokio::time::Instant, Vec<u8>)>(64);
    let reads = async move {
        loop {
            let mut piece = Vec::with_capacity(16 << 10);
            match from.read_buf(&mut piece).await {
                Ok(1..) => {}
                _ => return,
            }
            let due = tokio::time::Instant::now() + ONE_WAY;
            if sender.send((due, piece)).await.is_err() {
                return;
            }
        }
    };
    let writes = async move {
        while let Some((due, piece)) = pieces.recv().await {
            tokio::time::sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(reads, writes);
}

/// Nothing comes through for 2 s in every 10.
#[test]
fn bursts_of_total_loss_cut_nothing() {
    in_a_network("bursts_of_total_loss_cut_nothing", async |link| {
        let env = DefaultTunnel::start().await;
        let (down, up) = full_both_ways(env.addr);
        for _ in 0..4 {
            for way in [LinkDirection::Out, LinkDirection::Back] {
                link.lose_all(way, &[env.sshd.port()]).unwrap();
            }
            sleep(Duration::from_secs(2)).await;
            link.lose_nothing().unwrap();
            sleep(Duration::from_secs(8)).await;
            let report = env.agent.status().await.unwrap();
            let connection = &report.connections[0];
            assert_eq!(connection.generation, 1, "{connection:#?}");
        }
        down.abort();
        up.abort();
        let report = env.agent.until_proven().await.unwrap();
        assert_eq!(report.connections[0].generation, 1);
    });
}

/// Transfers that do not end by themselves on such a link.
fn full_both_ways(addr: SocketAddr) -> (JoinHandle<()>, JoinHandle<()>) {
    let down = tokio::spawn(async move {
        let mut vendor = HttpCaller::connect(addr).await.unwrap();
        vendor.download(HUGE).await.unwrap();
    });
    let up = tokio::spawn(async move {
        let mut vendor = HttpCaller::connect(addr).await.unwrap();
        vendor.upload("ABC-1", HUGE).await.unwrap();
    });
    (down, up)
}

fn slow_link_time() -> Duration {
    let asked = std::env::var("SLOW_LINK_SECONDS").ok();
    let seconds = asked.and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(45))
}

/// Bytes.
const HUGE: u64 = 64 << 30;
/// Half of a round trip.
const ONE_WAY: Duration = Duration::from_millis(300);
/// Pause between two reads of the status.
const STEP: Duration = Duration::from_millis(500);
/// Additional seconds for a busy machine.
const BUSY: u64 = 3;

/// More than fits a few packets.
const MIB: u64 = 1 << 20;
