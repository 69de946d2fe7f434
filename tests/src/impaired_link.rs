//! A network namespace for one test, in which the path to the gateway can be slow, lossy or dead. Needs root, `ip` and
//! `tc`; `nft` where packets are lost on arrival.
//!
//! All parts of the test run in one network namespace and use its loopback; only packets to and from the gateway's port
//! are shaped.

use anyhow::{Context, Result, ensure};
use std::{
    env,
    process::{Command, id},
};

/// Runs the test `name` of this binary in its own network namespace. Returns true inside, where the test continues, and
/// false outside, once it has passed inside.
///
/// # Errors
/// If the test fails inside, or the namespace cannot be created.
pub fn run_in_namespace(name: &str) -> Result<bool> {
    if env::var_os(INSIDE).is_some() {
        return Ok(true);
    }
    let namespace = NetworkNamespace::new(format!("e2e-{}-{}", id(), name.len()))?;
    let mut again = Command::new("ip");
    again
        .args(["netns", "exec", &namespace.0])
        .arg(env::current_exe()?)
        .args([name, "--exact", "--nocapture"])
        .env(INSIDE, "1");
    let passed = again.status().context("ip netns exec")?;
    ensure!(passed.success(), "{name} failed in its namespace: {passed}");
    Ok(false)
}

/// Runs `test`, which is the test `name` of this binary, in its own network namespace with a good link.
///
/// # Panics
/// If the test fails, or the namespace cannot be created.
pub fn in_a_network(name: &str, test: impl AsyncFnOnce(ImpairedLink)) {
    if !run_in_namespace(name).expect("the test in its namespace") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async { test(ImpairedLink::new().expect("the link")).await });
}

struct NetworkNamespace(String);

impl NetworkNamespace {
    fn new(name: String) -> Result<Self> {
        run("ip", &["netns", "add", &name])?;
        Ok(Self(name))
    }
}

impl Drop for NetworkNamespace {
    fn drop(&mut self) {
        let _ = run("ip", &["netns", "del", &self.0]);
    }
}

/// The path between the agent and a gateway on 127.0.0.1, in its own namespace ([`run_in_namespace`]).
pub struct ImpairedLink;

/// Which packets of the link are dropped or delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkDirection {
    /// From the agent to the gateway.
    Out,
    /// From the gateway to the agent.
    Back,
}

impl ImpairedLink {
    /// Sets up a good link; call it before the gateway starts.
    pub fn new() -> Result<Self> {
        run("ip", &["link", "set", "lo", "mtu", "1500"])?;
        run("ip", &["link", "set", "lo", "gso_max_segs", "1"])?;
        run("ip", &["link", "set", "lo", "up"])?;
        tc("qdisc add dev lo root handle 1: htb default 10")?;
        tc("class add dev lo parent 1: classid 1:10 htb rate 10gbit quantum 60000")?;
        for way in [LinkDirection::Out, LinkDirection::Back] {
            tc(&format!(
                "class add dev lo parent 1: classid {} htb {FAST}",
                way.class()
            ))?;
        }
        Ok(Self)
    }

    /// Shapes packets to and from this port of the gateway.
    pub fn shape_port(&self, port: u16) -> Result<()> {
        for (way, side) in [
            (LinkDirection::Out, "dport"),
            (LinkDirection::Back, "sport"),
        ] {
            let class = way.class();
            tc(&format!(
                "filter add dev lo parent 1: protocol ip u32 match ip {side} {port} 0xffff flowid {class}"
            ))?;
        }
        Ok(())
    }

    /// Drops, in this direction, every packet of these ports of gateways where it arrives. A queue of the sender that drops
    /// packets is not silent: its kernel sees that, repeats them sooner and counts no keep-alive.
    pub fn lose_all(&self, way: LinkDirection, ports: &[u16]) -> Result<()> {
        let (table, side) = match way {
            LinkDirection::Out => ("out", "dport"),
            LinkDirection::Back => ("back", "sport"),
        };
        let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
        let ports = ports.join(", ");
        let rule = format!("tcp {side} {{ {ports} }} drop");
        let chain = "type filter hook input priority 0;";
        let script = format!("table inet {table} {{ chain input {{ {chain} {rule}; }}; }}");
        run("nft", &[&script])
    }

    /// Ends all [`lose_all`](Self::lose_all).
    pub fn lose_nothing(&self) -> Result<()> {
        run("nft", &["flush ruleset"])
    }

    /// Silently drops every packet of more than 1,200 bytes in this direction: a black hole for full-size packets (RFC
    /// 2923).
    pub fn drop_large(&self, way: LinkDirection) -> Result<()> {
        let class = way.class();
        // The limit is for queued bytes, and this link queues one packet.
        tc(&format!(
            "qdisc replace dev lo parent {class} bfifo limit 1214"
        ))
    }

    /// Lets packets of every size into the queue.
    fn restore(&self, way: LinkDirection) -> Result<()> {
        let class = way.class();
        tc(&format!(
            "qdisc replace dev lo parent {class} bfifo limit 65536"
        ))
    }

    /// 64 kbit/s each way, with a queue of 64 KiB in front.
    pub fn slow_down(&self) -> Result<()> {
        for way in [LinkDirection::Out, LinkDirection::Back] {
            let class = way.class();
            tc(&format!(
                "class change dev lo parent 1: classid {class} htb rate 64kbit ceil 64kbit burst 3k cburst 3k quantum 1514"
            ))?;
            self.restore(way)?;
        }
        Ok(())
    }
}

impl LinkDirection {
    fn class(self) -> &'static str {
        match self {
            Self::Out => "1:20",
            Self::Back => "1:30",
        }
    }
}

fn tc(line: &str) -> Result<()> {
    let words: Vec<_> = line.split(' ').collect();
    run("tc", &words)
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let done = Command::new(program).args(arguments).output();
    let done = done.with_context(|| format!("{program} (iproute2)"))?;
    let printed = String::from_utf8_lossy(&done.stderr);
    ensure!(done.status.success(), "{program} {arguments:?}: {printed}");
    Ok(())
}

const FAST: &str = "rate 10gbit quantum 60000";
const INSIDE: &str = "E2E_INSIDE_NAMESPACE";
