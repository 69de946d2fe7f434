//! Transfers that do not move: uploads to a Jira that does not read, and answers that no vendor takes. What they hold is
//! bounded, and returns when their vendors leave.

use crate::ResourceUsage;
use agent::status::StatusReport;
use e2e::{
    agent::records,
    caller::HttpCaller,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr},
    wait::until,
};
use serde_json::json;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

/// Simultaneous transfers.
const TRANSFERS: usize = 200;
/// Bytes that each upload announces.
const ANNOUNCED: usize = 20_000_000;
/// Bytes that each upload sends: more than sockets and buffers take, so that the rest is spooled.
const SENT: usize = 4 << 20;
/// Bytes of each upload that are in the spool at least.
const SPOOLED: u64 = 2 << 20;
/// Time within which requests, descriptors and spool are back.
const SOON: Duration = Duration::from_secs(5);
/// Time within which memory is back.
const MEMORY_BACK: Duration = Duration::from_secs(30);
/// Most memory during the transfers. A debug build has 15 MiB more of its own program, and moves bytes so slowly that more
/// of them wait.
const MOST_MEMORY: u64 = if cfg!(debug_assertions) { 160 } else { 128 } << 20;
/// Most memory afterwards.
const MOST_LEFT: u64 = 64 << 20;

struct StalledTunnel {
    agent: RunningAgent,
    addr: SocketAddr,
    jira: RecordingOrigin,
    sshd: Sshd,
    idle: ResourceUsage,
}

impl StalledTunnel {
    async fn start() -> Self {
        let sshd = Sshd::start().unwrap();
        let jira = RecordingOrigin::with_small_buffers().unwrap();
        let addr = free_addr().unwrap();
        let audit = sshd.folder().join("audit.log");
        let mut agent = AgentSetup::for_sshd(&sshd)
            .unwrap()
            .forward_with(
                "jira",
                &addr.to_string(),
                &jira.url(),
                &[("max_connections", json!(2 * TRANSFERS))],
            )
            .start_with(&[
                ("JIRA_TUNNEL_AGENT__AUDIT__SINK", "file"),
                ("JIRA_TUNNEL_AGENT__AUDIT__FILE", audit.to_str().unwrap()),
            ])
            .unwrap();
        agent.until_proven().await.unwrap();
        honest(addr).await;
        let idle = ResourceUsage::read(&mut agent);
        println!("{:<28} {idle}", "idle");
        Self {
            agent,
            addr,
            jira,
            sshd,
            idle,
        }
    }

    /// Opens all transfers at once; `begin` returns when its own has come to a stop.
    async fn open<F>(&self, begin: impl Fn(TcpStream) -> F) -> Vec<TcpStream>
    where
        F: Future<Output = TcpStream> + Send + 'static,
    {
        let mut opening = JoinSet::new();
        for _ in 0..TRANSFERS {
            let socket = TcpSocket::new_v4().unwrap();
            // A small buffer, so that unread bytes stay in the tunnel.
            socket.set_recv_buffer_size(4096).unwrap();
            opening.spawn(begin(socket.connect(self.addr).await.unwrap()));
        }
        opening.join_all().await
    }

    async fn in_flight(&self, count: u64) -> StatusReport {
        let what = format!("{count} requests in flight");
        let in_flight = |r: &StatusReport| r.forwards[0].in_flight == count;
        self.agent.until_status(&what, in_flight).await.unwrap()
    }

    /// Waits until requests, descriptors and spool are back, and how long that took; then until memory is.
    async fn given_back(&mut self, after: &str) {
        let left = Instant::now();
        self.in_flight(0).await;
        // The connection to Jira that the first request opened may be kept.
        let files = self.idle.files + 8;
        let mut last = self.idle;
        until("descriptors and spool to be back", async || {
            last = ResourceUsage::read(&mut self.agent);
            (last.files <= files && last.disk < 1 << 20).then_some(())
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}: {last}"));
        let took = left.elapsed();
        println!("{:<28} {last} after {took:.1?}", after);
        assert!(took < SOON, "{took:?}");
        while last.memory > MOST_LEFT && left.elapsed() < MEMORY_BACK {
            tokio::time::sleep(Duration::from_millis(250)).await;
            last = ResourceUsage::read(&mut self.agent);
        }
        println!("{:<28} {last} after {:.1?}", after, left.elapsed());
        assert!(last.memory <= MOST_LEFT, "{last}");
    }

    fn peak(&mut self, of: &str) {
        let peak = self.agent.process().peak_resident().unwrap();
        let usage = ResourceUsage::read(&mut self.agent);
        println!("{of:<28} {usage}, peak {} MiB", peak >> 20);
        assert!(peak < MOST_MEMORY, "{usage}, peak {} MiB", peak >> 20);
    }
}

/// Vendors that give up while Jira reads nothing leave nothing behind, although what they sent waits in the spool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aborted_uploads_to_a_jira_that_does_not_read_are_given_back() {
    let mut tunnel = StalledTunnel::start().await;
    let uploads = tunnel.open(stalled_upload).await;
    tunnel.in_flight(TRANSFERS as u64).await;
    until("the uploads to be spooled", async || {
        let spooled = ResourceUsage::read(&mut tunnel.agent).disk;
        (spooled > TRANSFERS as u64 * SPOOLED).then_some(())
    })
    .await
    .unwrap();
    tunnel.peak("stalled uploads");
    honest(tunnel.addr).await;
    drop(uploads);
    tunnel.given_back("aborted uploads").await;
    honest(tunnel.addr).await;
    let audit = records(&tunnel.sshd.folder().join("audit.log"));
    let gone = audit
        .iter()
        .filter(|record| record["outcome"] == "vendor_gone" && record["delivery"] == "maybe_sent");
    assert_eq!(gone.count(), TRANSFERS);
    assert_eq!(tunnel.jira.comments().len(), 0);
}

/// Answers that are not taken are bounded in memory, and what they held returns, round after round.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unread_downloads_are_bounded_and_given_back() {
    let mut tunnel = StalledTunnel::start().await;
    for round in 1..=4 {
        let downloads = tunnel.open(unread_download).await;
        tunnel.in_flight(TRANSFERS as u64).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        tunnel.peak(&format!("unread downloads, round {round}"));
        honest(tunnel.addr).await;
        drop(downloads);
        tunnel.given_back("abandoned downloads").await;
    }
}

/// An upload that stops moving before all of it was sent.
async fn stalled_upload(mut stream: TcpStream) -> TcpStream {
    let head = format!(
        "POST /rest/api/2/issue/HELD-1/attachments HTTP/1.1\r\nHost: x\r\nX-Atlassian-Token: no-check\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {ANNOUNCED}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let piece = vec![b'z'; 64 << 10];
    for _ in 0..SENT / piece.len() {
        stream.write_all(&piece).await.unwrap();
    }
    stream
}

/// A download of which the head is read.
async fn unread_download(mut stream: TcpStream) -> TcpStream {
    let head = format!("GET /secure/attachment/{ANNOUNCED}/x HTTP/1.1\r\nHost: x\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.read_u8().await.unwrap();
    stream
}

async fn honest(addr: SocketAddr) {
    let asked = async {
        let mut caller = HttpCaller::connect(addr).await.unwrap();
        let answer = caller.get("/rest/api/2/issue/DEMO-1").await.unwrap();
        assert_eq!(*answer.body(), issue("DEMO-1"));
    };
    timeout(Duration::from_secs(20), asked).await.unwrap();
}
