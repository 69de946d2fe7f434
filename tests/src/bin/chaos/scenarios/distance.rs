//! Point 6: throughput and latency over distance, beside raw TCP and OpenSSH's own client on the same link.

use super::ChaosContext;
use crate::{
    vendor::{
        CallRecord, KeptConnection, VendorAddress, VendorRequest, VendorTarget, call, next_id,
        quantile,
    },
    world::{ChaosWorld, JIRA_PORT, PlaceKind, WorldOptions},
};
use anyhow::Result;
use bytes::Bytes;
use e2e::{
    lab::LinkQuality,
    process::ChildProcess,
    sshd::{Sshd, ssh_client},
};
use futures_util::future::join_all;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::sleep};

/// Downloads and uploads on several links.
pub(crate) async fn wan(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let links = [
        LinkUnderTest::new("10 ms", 5, None, 0.0, 256),
        LinkUnderTest::new("100 ms", 50, None, 0.0, 128),
        LinkUnderTest::new("100 ms and 100 Mbit/s", 50, Some(100), 0.0, 32),
        LinkUnderTest::new("10 ms and 1 Gbit/s", 5, Some(1000), 0.0, 128),
        LinkUnderTest::new("20 ms and 0.1 % loss", 10, None, 0.001, 32),
    ];
    let count = context.by_length(1, links.len(), links.len());
    for link in links.iter().take(count) {
        throughput(context, place, link).await?;
    }
    Ok(())
}

struct LinkUnderTest {
    name: &'static str,
    quality: LinkQuality,
    mib: usize,
}

impl LinkUnderTest {
    fn new(name: &'static str, delay: u64, megabits: Option<u64>, loss: f64, mib: usize) -> Self {
        let quality = LinkQuality {
            delay: Duration::from_millis(delay),
            loss,
            rate: megabits.map(|n| n * 1_000_000),
            // A buffer of 100 ms, as routers have.
            queue: megabits.map_or(64 << 20, |n| (n * 1_000_000 / 80).max(1 << 20)),
            // Segments of 64 KiB would be lost or delayed whole.
            offload: loss == 0.0 && megabits.is_none(),
        };
        Self { name, quality, mib }
    }
}

async fn throughput(context: &ChaosContext, place: PlaceKind, link: &LinkUnderTest) -> Result<()> {
    let quality = link.quality;
    let world = ChaosWorld::on_link(place, quality).await?;
    let gateway = world.gateway();
    let rival = SshRival::start(&world).await?;
    let raw = tcp(&gateway.link.first(), JIRA_PORT)?;
    let at = ("wan", place.name());
    let rounds = context.by_length(1, 3, 5);
    let debug = cfg!(debug_assertions);
    let mib = if debug { link.mib / 8 } else { link.mib };
    for direction in ["download", "upload"] {
        let mut rates = [const { Vec::new() }; 3];
        for _ in 0..rounds {
            for (target, rates) in [raw.clone(), rival.target(), gateway.target()]
                .into_iter()
                .zip(&mut rates)
            {
                rates.push(transfer(&world, target, direction, mib).await?);
            }
        }
        let [raw, rival, ours] = rates.map(median);
        let name = |of: &str| format!("{direction} at {}, of {of}", link.name);
        let report = &context.report;
        // sshd's own window limits what it sends; the goals there are those of uploads.
        let is_stub = place == PlaceKind::Stub;
        match (is_stub, direction) {
            (true, _) => {
                let goal = if link.quality.loss > 0.0 { 1.0 } else { 0.9 };
                report.at_least(at, &name("raw TCP"), ours / raw, goal);
                report.info(at, &name("ssh -R"), format!("{:.2}", ours / rival));
            }
            // With losses, sshd's congestion control and chance decide.
            (false, "upload") if link.quality.loss == 0.0 => {
                report.info(at, &name("raw TCP"), format!("{:.2}", ours / raw));
                // Where both fill the link, they differ by SSH's framing and chance.
                let goal = if link.quality.rate.is_some() {
                    0.95
                } else {
                    1.0
                };
                report.at_least(at, &name("ssh -R"), ours / rival, goal);
            }
            (false, _) => {
                report.info(at, &name("raw TCP"), format!("{:.2}", ours / raw));
                report.info(at, &name("ssh -R"), format!("{:.2}", ours / rival));
            }
        }
        // sshd's window is that of one channel.
        if !is_stub && link.name == "100 ms" {
            let four = in_parallel(&world, direction, mib, 4).await?;
            let name = format!("4 {direction}s at once at {}, of one", link.name);
            report.info(at, &name, format!("{:.2}", four / ours));
        }
        report.info(
            at,
            &format!("{direction} at {}: raw, ssh -R, agent", link.name),
            format!("{raw:.1}, {rival:.1}, {ours:.1} MiB/s"),
        );
    }
    Ok(())
}

/// A fresh connection, small requests beside bulk, and stalls.
pub(crate) async fn latency(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let at = ("latency", place.name());
    {
        let options = WorldOptions {
            wire: true,
            ..WorldOptions::default()
        };
        let world = ChaosWorld::with(&[place], options).await?;
        sleep(Duration::from_secs(2)).await;
        at_rest(context, at, &world).await?;
        beside(context, at, &world, "on loopback", 5.0).await?;
    }
    let world = world_at(place, 50).await?;
    fresh_connections(context, at, &world).await?;
    beside(context, at, &world, "at 100 ms", 2.0).await
}

/// Kept-alive requests one after another, beside the same without a tunnel and through `ssh -R`.
async fn at_rest(context: &ChaosContext, at: (&str, &str), world: &ChaosWorld) -> Result<()> {
    let report = &context.report;
    let requests = context.by_length(500, 4000, 20_000);
    let pause = Duration::from_millis(2);
    let name = "kept-alive requests at rest, p99.9 of p50";
    let times = small_requests(world, requests, pause).await?;
    report.at_most(at, name, tail(&times), 3.0, "");
    report.info(at, "kept-alive requests at rest", in_words(&times));
    let direct = tcp(&world.gateway().link.first(), JIRA_PORT)?;
    let times = small_requests_to(world, direct, requests, pause).await?;
    let name = "kept-alive requests at rest: Jira without a tunnel";
    report.info(at, name, in_words(&times));
    let rival = SshRival::start(world).await?;
    let times = small_requests_to(world, rival.target(), requests, pause).await?;
    report.info(at, "kept-alive requests at rest: ssh -R", in_words(&times));
    Ok(())
}

/// Round trips of a request on a new connection, at once and after a rest.
async fn fresh_connections(
    context: &ChaosContext,
    at: (&str, &str),
    world: &ChaosWorld,
) -> Result<()> {
    let report = &context.report;
    let count = context.by_length(10, 60, 200);
    let gateway = world.gateway();
    let mut times = Vec::new();
    for _ in 0..count {
        let record = gateway
            .host
            .run(call(gateway.target(), VendorRequest::get(&next_id())))
            .await?;
        answered(&record)?;
        times.push(record.took());
        sleep(Duration::from_millis(50)).await;
    }
    let trips = quantile(times, 0.5).as_secs_f64() / 0.1;
    let name = "fresh connection at 100 ms, round trips";
    match gateway.kind {
        PlaceKind::GatewayOpenssh | PlaceKind::Stub => report.at_most(at, name, trips, 1.15, ""),
        PlaceKind::SshdPort | PlaceKind::SshdSocket | PlaceKind::SshdSlots => {
            report.info(at, name, format!("{trips:.2}"))
        }
    }
    // Longer than HAProxy keeps idle connections by default.
    let mut times = Vec::new();
    for _ in 0..context.by_length(1, 5, 9) {
        sleep(Duration::from_secs(8)).await;
        let request = call(gateway.target(), VendorRequest::get(&next_id()));
        let later = gateway.host.run(request).await?;
        answered(&later)?;
        times.push(later.took());
    }
    let name = "fresh connection at 100 ms after 8 s at rest, round trips";
    let trips = quantile(times, 0.5).as_secs_f64() / 0.1;
    report.info(at, name, format!("{trips:.2}"));
    Ok(())
}

/// The time that one request in a thousand exceeds, as a multiple of the median.
fn tail(times: &[Duration]) -> f64 {
    let at = |share| quantile(times.to_vec(), share).as_secs_f64();
    at(0.999) / at(0.5)
}

fn in_words(times: &[Duration]) -> String {
    let at = |share| quantile(times.to_vec(), share);
    let stalled = times.iter().filter(|time| **time > STALL).count();
    format!(
        "p50 {:.2?}, p99 {:.2?}, p99.9 {:.2?}, {stalled} of {} waited {STALL:?}",
        at(0.5),
        at(0.99),
        at(0.999),
        times.len()
    )
}

async fn world_at(place: PlaceKind, delay: u64) -> Result<ChaosWorld> {
    let quality = LinkQuality {
        delay: Duration::from_millis(delay),
        ..LinkQuality::default()
    };
    let world = ChaosWorld::on_link(place, quality).await?;
    sleep(Duration::from_secs(2)).await;
    Ok(world)
}

/// Small requests on one kept-alive connection while another transfers without end.
async fn beside(
    context: &ChaosContext,
    at: (&str, &str),
    world: &ChaosWorld,
    link: &str,
    goal: f64,
) -> Result<()> {
    let count = context.by_length(60, 150, 400);
    let pause = Duration::from_millis(20);
    let idle = quantile(small_requests(world, count, pause).await?, 0.99);
    for direction in ["download", "upload"] {
        let bulk = endless(world, direction);
        sleep(Duration::from_secs(3)).await;
        let times = small_requests(world, count, pause).await;
        bulk.abort();
        let busy = quantile(times?, 0.99);
        let ratio = busy.as_secs_f64() / idle.as_secs_f64();
        let name = format!(
            "small requests beside a{} {link}, p99 of idle",
            match direction {
                "upload" => "n upload",
                _ => " download",
            }
        );
        context.report.at_most(at, &name, ratio, goal, "");
        context.report.info(
            at,
            &format!("{name}: idle, beside"),
            format!("{idle:.1?}, {busy:.1?}"),
        );
        sleep(Duration::from_secs(2)).await;
    }
    Ok(())
}

async fn small_requests(
    world: &ChaosWorld,
    count: usize,
    pause: Duration,
) -> Result<Vec<Duration>> {
    small_requests_to(world, world.gateway().target(), count, pause).await
}

async fn small_requests_to(
    world: &ChaosWorld,
    target: VendorTarget,
    count: usize,
    pause: Duration,
) -> Result<Vec<Duration>> {
    let work = async move {
        let mut connection = KeptConnection::open(target.clone()).await?;
        connection.call(VendorRequest::get(&next_id())).await?;
        let mut times = Vec::new();
        for _ in 0..count {
            match connection.call(VendorRequest::get(&next_id())).await {
                Ok(time) => times.push(time),
                // A gateway may close a kept-alive connection at any time.
                Err(_) => connection = KeptConnection::open(target.clone()).await?,
            }
            sleep(pause).await;
        }
        anyhow::Ok(times)
    };
    world.gateway().host.run(work).await?
}

fn endless(world: &ChaosWorld, direction: &'static str) -> JoinHandle<()> {
    let target = world.gateway().target();
    world.gateway().host.spawn(async move {
        loop {
            let _ = call(target.clone(), bulk(direction, 256)).await;
        }
    })
}

/// MiB/s of one transfer.
async fn transfer(
    world: &ChaosWorld,
    target: VendorTarget,
    direction: &str,
    mib: usize,
) -> Result<f64> {
    let began = Instant::now();
    let record = world
        .gateway()
        .host
        .run(call(target, bulk(direction, mib)))
        .await?;
    answered(&record)?;
    Ok(mib as f64 / began.elapsed().as_secs_f64())
}

/// MiB/s of this many transfers at once, each of a part.
async fn in_parallel(world: &ChaosWorld, direction: &str, mib: usize, count: usize) -> Result<f64> {
    let began = Instant::now();
    let target = world.gateway().target();
    let calls = (0..count).map(|_| {
        let request = bulk(direction, mib / count);
        world.gateway().host.run(call(target.clone(), request))
    });
    for record in join_all(calls).await {
        answered(&record?)?;
    }
    let carried = mib / count * count;
    Ok(carried as f64 / began.elapsed().as_secs_f64())
}

fn bulk(direction: &str, mib: usize) -> VendorRequest {
    let limit = Duration::from_secs(600);
    match direction {
        "upload" => {
            let body = Bytes::from(vec![0; mib << 20]);
            VendorRequest::post(&next_id(), Duration::ZERO, body).within(limit)
        }
        _ => VendorRequest {
            path: format!("/secure/attachment/1/a?id={}&size={}", next_id(), mib << 20),
            ..VendorRequest::get("")
        }
        .within(limit),
    }
}

fn answered(record: &CallRecord) -> Result<()> {
    anyhow::ensure!(record.is_answered(), "{:?}", record.outcome);
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn tcp(address: &str, port: u16) -> Result<VendorTarget> {
    let address = SocketAddr::new(address.parse()?, port);
    Ok(VendorTarget {
        address: VendorAddress::Tcp(address),
        host: "jira".to_owned(),
    })
}

/// `ssh -R` on the same link, to an sshd on the gateway's host.
struct SshRival {
    _sshd: Sshd,
    _ssh: ChildProcess,
}

impl SshRival {
    async fn start(world: &ChaosWorld) -> Result<Self> {
        let gateway = world.gateway();
        let public = world.key().with_extension("pub");
        let started = gateway.host.blocking(move || {
            let sshd = Sshd::with(&[&format!("ListenAddress 0.0.0.0:{RIVAL_SSH}")])?;
            sshd.authorize(&public, "")?;
            anyhow::Ok(sshd)
        });
        let sshd = started.await??;
        let mut ssh = ssh_client(RIVAL_SSH, "root", world.key());
        ssh.args(["-N", "-o", "ExitOnForwardFailure=yes"])
            .args([
                "-R",
                &format!("127.0.0.1:{RIVAL_PORT}:127.0.0.1:{JIRA_PORT}"),
            ])
            .arg(gateway.link.second());
        let log = world.folder().join("ssh.log");
        let ssh = world
            .site
            .blocking(move || ChildProcess::spawn(ssh, &log))
            .await??;
        let deadline = Instant::now() + Duration::from_secs(20);
        while !gateway.host.listens(RIVAL_PORT) {
            anyhow::ensure!(
                Instant::now() < deadline,
                "ssh -R does not listen: {}",
                ssh.log()
            );
            sleep(Duration::from_millis(50)).await;
        }
        Ok(Self {
            _sshd: sshd,
            _ssh: ssh,
        })
    }

    fn target(&self) -> VendorTarget {
        VendorTarget {
            address: VendorAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], RIVAL_PORT))),
            host: "jira".to_owned(),
        }
    }
}

/// Linux delays an acknowledgment by 40 ms: what waits this long has waited for one.
const STALL: Duration = Duration::from_millis(35);
const RIVAL_SSH: u16 = 2223;
const RIVAL_PORT: u16 = 8200;
