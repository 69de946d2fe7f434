//! What a vendor can do to the agent's memory, descriptors and disk: each attack of the table runs against the real
//! agent behind a real sshd. Honest requests pass meanwhile, and all resources are released at the end.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attacks;
mod descriptors;
mod frames;
mod stalled;

use agent::status::StatusReport;
use attacks::{Attack, TABLE};
use e2e::{
    caller::HttpCaller,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr},
};
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

/// Short deadlines, and the default number of connections to Jira.
const SETTINGS: [(&str, &str); 5] = [
    ("HEAD_TIMEOUT", "1s"),
    ("IDLE_TIMEOUT", "3s"),
    ("STALL_TIMEOUT", "1s"),
    ("MIN_BODY_RATE", "50B"),
    ("MAX_CONCURRENT", "256"),
];

/// Largest growth of memory during an attack, debug build and allocator included. Most of it is the channels: about 50
/// KiB each with russh's part and the connection's buffers.
const MOST_MEMORY: u64 = 128 << 20;
/// Largest growth of memory half a minute after the last attack: about 3 KiB for each channel that the agent closed
/// first (docs/dev/ssh.md, D4), russh's buffers, and newly used pages of the program, of which a debug build has more.
const MOST_LEFT: u64 = if cfg!(debug_assertions) { 24 } else { 16 } << 20;
/// The spool holds only bodies on their way to Jira, and Jira accepts the body of every attack.
const MOST_DISK: u64 = 16 << 20;

/// No attack takes more memory, descriptors or disk than its bound, all is given back, and honest requests pass
/// meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_attack_exceeds_its_bounds_or_blocks_honest_requests() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let addr = free_addr().unwrap();
    let variables: Vec<(String, &str)> = SETTINGS
        .iter()
        .map(|(key, value)| {
            let name = format!("JIRA_TUNNEL_AGENT__FORWARD__JIRA__HTTP__{key}");
            (name, *value)
        })
        // The peers of these attacks close no channel.
        .chain([(
            "JIRA_TUNNEL_AGENT__TUNNEL__CHANNEL__CLOSE_WAIT".to_owned(),
            "500ms",
        )])
        .collect();
    let variables: Vec<_> = variables.iter().map(|(k, v)| (k.as_str(), *v)).collect();
    let mut agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .forward_with(
            "jira",
            &addr.to_string(),
            &jira.url(),
            &[("max_connections", json!(64)), ("pool_wait", json!("30s"))],
        )
        .start_with(&variables)
        .unwrap();
    agent.until_proven().await.unwrap();
    honest(addr).await.unwrap();
    let idle = ResourceUsage::read(&mut agent);
    println!("{:<44} {idle}", "idle");
    for attack in TABLE {
        run(attack, &mut agent, addr).await;
    }
    let end = given_back(&mut agent, idle.memory + MOST_LEFT).await;
    println!("{:<44} {end}", "after all of them");
    assert!(end.memory <= idle.memory + MOST_LEFT, "{idle}, then {end}");
    honest(addr).await.unwrap();
    let report = agent.until_proven().await.unwrap();
    assert_eq!(report.connections[0].generation, 1, "the same session");
}

async fn run(attack: &Attack, agent: &mut RunningAgent, addr: SocketAddr) {
    let before = ResourceUsage::read(agent);
    let began = Instant::now();
    let held = attack.launch(addr).await;
    let mut peak = ResourceUsage::read(agent);
    for _ in 0..3 {
        honest(addr)
            .await
            .unwrap_or_else(|error| panic!("beside {}: {error:#}", attack.name));
        peak = peak.max(ResourceUsage::read(agent));
    }
    if attack.ends_by_itself {
        // The peers stay almost idle; the agent must close their channels.
        let let_go = |r: &StatusReport| r.connections[0].channels <= 1;
        agent
            .until_status(&format!("{} to be ended", attack.name), let_go)
            .await
            .unwrap();
    }
    drop(held);
    let closed = |r: &StatusReport| r.connections[0].channels <= 1 && r.forwards[0].in_flight == 0;
    agent
        .until_status(&format!("{} to be closed", attack.name), closed)
        .await
        .unwrap();
    let after = settled(agent, before.files).await;
    println!(
        "{:<44} {peak}, then {after}, {:.1} s",
        attack.name,
        began.elapsed().as_secs_f64()
    );
    assert!(
        peak.memory < before.memory + MOST_MEMORY,
        "{}: {before}, then {peak}",
        attack.name
    );
    assert!(peak.disk < MOST_DISK, "{}: {peak}", attack.name);
    assert!(after.files <= before.files + 8, "{}: {after}", attack.name);
    assert!(after.disk < 1 << 20, "{}: {after}", attack.name);
}

/// Three kept-alive requests and a new one.
async fn honest(addr: SocketAddr) -> anyhow::Result<()> {
    let asked = async {
        let mut caller = HttpCaller::connect(addr).await?;
        for key in ["DEMO-1", "DEMO-2", "DEMO-3"] {
            let path = format!("/rest/api/2/issue/{key}");
            let answer = caller.get(&path).await?;
            anyhow::ensure!(*answer.body() == issue(key), "{answer:?}");
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(Duration::from_secs(20), asked).await?
}

/// Waits until the allocator has returned memory, at most as long as promised.
async fn given_back(agent: &mut RunningAgent, most: u64) -> ResourceUsage {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let now = ResourceUsage::read(agent);
        if now.memory <= most || Instant::now() > deadline {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Descriptors are closed a moment after the channel is.
async fn settled(agent: &mut RunningAgent, files: usize) -> ResourceUsage {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let now = ResourceUsage::read(agent);
        if now.files <= files + 8 || Instant::now() > deadline {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Resources of the agent at one moment.
#[derive(Clone, Copy)]
struct ResourceUsage {
    memory: u64,
    files: usize,
    disk: u64,
}

impl ResourceUsage {
    fn read(agent: &mut RunningAgent) -> Self {
        let pid = agent.process().pid();
        let memory = agent.process().resident().unwrap();
        let listing = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let files: Vec<_> = listing.flatten().collect();
        // Spool files have no name; find them by their descriptors.
        let spooled = files
            .iter()
            .filter_map(|file| Some((fs::read_link(file.path()).ok()?, file.path())))
            .filter(|(target, _)| target.starts_with(agent.dir()))
            .filter_map(|(_, path)| fs::metadata(path).ok())
            .map(|metadata| metadata.len())
            .sum::<u64>();
        Self {
            memory,
            files: files.len(),
            disk: spooled.max(size(&agent.dir().join("state"))),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            memory: self.memory.max(other.memory),
            files: self.files.max(other.files),
            disk: self.disk.max(other.disk),
        }
    }
}

impl std::fmt::Display for ResourceUsage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |bytes| bytes as f64 / f64::from(1 << 20);
        let (memory, disk) = (mib(self.memory), mib(self.disk));
        write!(
            f,
            "{memory:.0} MiB, {} descriptors, {disk:.1} MiB on disk",
            self.files
        )
    }
}

fn size(folder: &Path) -> u64 {
    let Ok(listing) = fs::read_dir(folder) else {
        return 0;
    };
    listing
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => size(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}
