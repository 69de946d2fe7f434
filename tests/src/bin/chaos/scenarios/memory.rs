//! Point 7: memory, spool and descriptors are bounded, and given back.

use super::ChaosContext;
use crate::{
    vendor::{VendorAddress, VendorTarget},
    world::{ChaosWorld, PlaceKind},
};
use anyhow::{Context, Result};
use e2e::process::resident;
use std::{
    fs,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, UnixStream},
    task::JoinHandle,
    time::sleep,
};

/// Stalled uploads that end by an abort, then unread downloads.
pub(crate) async fn memory(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let agent = world.agent();
    sleep(Duration::from_secs(3)).await;
    let at = ("memory", place.name());
    let report = &context.report;
    let pid = agent.pid().await;
    let idle = (mib(pid)?, descriptors(pid)?);
    report.info(at, "memory at rest", format!("{:.1} MiB", idle.0));

    let stalls = open_all(&world, stalled_upload);
    let peak = peak_during(pid, context.by_length(8, 25, 25)).await?;
    report.at_most(at, "200 stalled uploads: peak memory", peak, 128.0, " MiB");
    for stall in stalls {
        stall.abort();
    }
    let aborted = Instant::now();
    let in_flight = |status: &agent::status::StatusReport| status.forwards[0].in_flight == 0;
    let ended = agent
        .until("no request to be in flight", WATCH, in_flight)
        .await
        .ok();
    let name = "200 aborted uploads: no request in flight";
    report.time(at, name, ended, GIVEN_BACK);
    sleep(GIVEN_BACK.saturating_sub(aborted.elapsed())).await;
    let now = descriptors(pid)?;
    report.counted(
        at,
        "descriptors 5 s after them",
        now,
        idle.1 + 24,
        format!(" (at rest {})", idle.1),
    );
    report.at_most(at, "spool 5 s after them", spooled(pid), 0.0, " MiB");
    if context.is_short() {
        return Ok(());
    }
    sleep(Duration::from_secs(30).saturating_sub(aborted.elapsed())).await;
    report.at_most(
        at,
        "memory 30 s after 200 aborted uploads",
        mib(pid)?,
        64.0,
        " MiB",
    );

    for round in 1..=context.by_length(1, 1, 4) {
        let stalls = open_all(&world, unread_download);
        let peak = peak_during(pid, 15).await?;
        for stall in stalls {
            stall.abort();
        }
        if round == 1 {
            report.at_most(at, "200 unread downloads: peak memory", peak, 128.0, " MiB");
        }
        sleep(Duration::from_secs(10)).await;
    }
    sleep(Duration::from_secs(20)).await;
    report.at_most(
        at,
        "memory 30 s after 200 unread downloads",
        mib(pid)?,
        64.0,
        " MiB",
    );
    drop(agent);
    Ok(())
}

/// With 64 descriptors, the status is answered and names them.
pub(crate) async fn few_descriptors(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let agent = world.agent();
    sleep(Duration::from_secs(2)).await;
    let pid = agent.pid().await.to_string();
    let limited = std::process::Command::new("prlimit")
        .args(["--pid", &pid, "--nofile=64:64"])
        .status()?;
    anyhow::ensure!(limited.success(), "prlimit (util-linux)");
    let stalls = open_all(&world, stalled_upload);
    sleep(Duration::from_secs(4)).await;
    let at = ("descriptors", place.name());
    let asked = Instant::now();
    let status = agent.status().await;
    let answered = status.is_some().then(|| asked.elapsed());
    let name = "64 descriptors, 200 callers: status answered";
    context
        .report
        .time(at, name, answered, Duration::from_secs(1));
    let text = status.map(|s| serde_json::to_string(&s).unwrap_or_default());
    let names = text.unwrap_or_default() + &agent.log().await;
    let says = names.contains("descriptor") || names.contains("LimitNOFILE");
    context.report.holds(
        at,
        "the limit is named as the cause",
        says,
        says.to_string(),
    );
    for stall in stalls {
        stall.abort();
    }
    let ended = Instant::now();
    let back = world.gateway().serves(WATCH).await;
    let back = back.is_ok().then(|| ended.elapsed());
    context
        .report
        .time(at, "answered again once they have ended", back, GIVEN_BACK);
    Ok(())
}

fn open_all<F>(world: &ChaosWorld, open: impl Fn(VendorTarget) -> F) -> Vec<JoinHandle<()>>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let gateway = world.gateway();
    let one = |_| {
        let opened = open(gateway.target());
        gateway.host.spawn(async move {
            let _ = opened.await;
        })
    };
    (0..CALLERS).map(one).collect()
}

async fn stalled_upload(target: VendorTarget) -> Result<()> {
    let mut stream = connect(&target).await?;
    let head = format!(
        "POST /rest/api/2/issue/A/stall HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: 20000000\r\n\r\n",
        target.host
    );
    stream.write_all(head.as_bytes()).await?;
    let block = vec![b'z'; 1 << 20];
    // Less than announced: bytes behind a whole body would be a next request.
    for _ in 0..19 {
        stream.write_all(&block).await?;
    }
    std::future::pending().await
}

async fn unread_download(target: VendorTarget) -> Result<()> {
    let mut stream = connect(&target).await?;
    let head = format!(
        "GET /secure/attachment/1/a?id=download&size=20000000 HTTP/1.1\r\nHost: {}\r\n\r\n",
        target.host
    );
    stream.write_all(head.as_bytes()).await?;
    std::future::pending().await
}

trait VendorStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> VendorStream for S {}

/// A connection that is reset when dropped, with small buffers.
async fn connect(target: &VendorTarget) -> Result<Box<dyn VendorStream>> {
    Ok(match &target.address {
        VendorAddress::Tcp(address) => {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(64 << 10)?;
            socket.set_zero_linger()?;
            Box::new(socket.connect(*address).await?)
        }
        VendorAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
    })
}

async fn peak_during(pid: u32, seconds: u64) -> Result<f64> {
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut peak = 0.0f64;
    while Instant::now() < end {
        peak = peak.max(mib(pid)?);
        sleep(Duration::from_millis(100)).await;
    }
    Ok(peak)
}

fn mib(pid: u32) -> Result<f64> {
    Ok(resident(pid)? as f64 / f64::from(1 << 20))
}

/// Open descriptors of a process.
pub(crate) fn descriptors(pid: u32) -> Result<u64> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).context("no such process")?;
    Ok(open.count() as u64)
}

/// MiB in deleted files that the process holds open: its spool.
fn spooled(pid: u32) -> f64 {
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten();
    let lengths = open.filter_map(|fd| {
        let path = fs::read_link(fd.path()).ok()?;
        let is_deleted = path.to_string_lossy().ends_with("(deleted)");
        // Through the link, because the path is gone.
        is_deleted.then(|| fs::metadata(fd.path()).map_or(0, |file| file.len()))
    });
    lengths.sum::<u64>() as f64 / f64::from(1 << 20)
}

/// Callers at the same time.
const CALLERS: usize = 200;
/// Point 7: descriptors and spool are back.
const GIVEN_BACK: Duration = Duration::from_secs(5);
const WATCH: Duration = Duration::from_secs(60);
