//! `make bench`: `ssh -R` and `agent` side by side through one sshd on loopback, alternating, as ratios.
//!
//! The agent runs with policy, an injected login and the audit file on; `ssh -R` forwards bytes. Both lead to the same
//! origin. Medians of the rounds are compared; the JSON holds every round.
#![forbid(unsafe_code)]

use anyhow::Context;
use e2e::{
    agent::{binary, write_secret},
    load,
    nginx::{Nginx, wrk},
    origin::OriginServer,
    process::ChildProcess,
    sshd::{Sshd, free_port},
};
use serde_json::json;
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let plan = BenchPlan::from_environment();
    let bench = BenchSetup::start().await?;
    println!(
        "ssh -R and agent through the same sshd, {} rounds, alternating\n",
        plan.rounds
    );
    let idle = (
        bench.ssh.process.resident()?,
        bench.agent.process.resident()?,
    );

    let mut rows = Vec::new();
    for measure in MEASURES
        .into_iter()
        .filter(|m| plan.only.is_none_or(|o| o == *m))
    {
        let mut results = [Vec::new(), Vec::new()];
        for _ in 0..plan.rounds {
            for (side, results) in [&bench.ssh, &bench.agent].into_iter().zip(&mut results) {
                results.push(side.measure(measure, &plan).await?);
            }
        }
        let row = ResultRow::new(measure, results);
        println!("{row}");
        rows.push(row);
    }
    let after = (
        bench.ssh.process.peak_resident()?,
        bench.agent.process.peak_resident()?,
    );
    println!(
        "\nresident memory, MiB   idle: ssh {:.1}, agent {:.1}   peak: ssh {:.1}, agent {:.1}",
        mib(idle.0),
        mib(idle.1),
        mib(after.0),
        mib(after.1)
    );

    let report = json!({
        "rounds": plan.rounds,
        "idle_bytes": { "ssh": idle.0, "agent": idle.1 },
        "peak_bytes": { "ssh": after.0, "agent": after.1 },
        "measures": rows.iter().map(ResultRow::json).collect::<Vec<_>>(),
    });
    let path = std::env::var_os("BENCH_JSON")
        .map_or_else(|| PathBuf::from("target/bench.json"), PathBuf::from);
    fs::write(&path, serde_json::to_vec_pretty(&report)?)
        .with_context(|| format!("writing {}", path.display()))?;
    println!("every round: {}", path.display());
    Ok(())
}

/// Amount of work; smaller by environment variables for a quick run.
struct BenchPlan {
    /// One measure alone, for a profile of it.
    only: Option<BenchMeasure>,
    rounds: usize,
    bytes: u64,
    /// Per round of kept-alive requests.
    seconds: u64,
    connections: u64,
}

impl BenchPlan {
    fn from_environment() -> Self {
        let number = |name: &str, default: u64| {
            std::env::var(name)
                .ok()
                .and_then(|text| text.parse().ok())
                .unwrap_or(default)
        };
        let only = std::env::var("BENCH_ONLY").ok();
        Self {
            only: MEASURES
                .into_iter()
                .find(|measure| only.as_deref() == Some(measure.name())),
            rounds: number("BENCH_ROUNDS", 5) as usize,
            bytes: number("BENCH_MIB", 1024) << 20,
            seconds: number("BENCH_SECONDS", 10),
            connections: number("BENCH_CONNECTIONS", 4_000),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BenchMeasure {
    Download,
    Upload,
    KeepAlive,
    NewConnections,
}

impl BenchMeasure {
    /// As `BENCH_ONLY` names it.
    fn name(self) -> &'static str {
        match self {
            Self::KeepAlive => "keep-alive",
            Self::NewConnections => "new-connections",
            Self::Download => "download",
            Self::Upload => "upload",
        }
    }
}

const MEASURES: [BenchMeasure; 4] = [
    BenchMeasure::KeepAlive,
    BenchMeasure::NewConnections,
    BenchMeasure::Download,
    BenchMeasure::Upload,
];

/// One side of the comparison: its process, and the gateway's port that leads through it.
struct BenchSide {
    process: ChildProcess,
    /// Leads to the origin that counts bytes.
    addr: SocketAddr,
    /// Leads to nginx.
    requests: SocketAddr,
}

struct BenchSample {
    /// Bytes, requests or connections.
    amount: f64,
    seconds: f64,
    cpu: f64,
}

impl BenchSide {
    async fn wait_reachable(process: ChildProcess, ports: [u16; 2]) -> anyhow::Result<Self> {
        for port in ports {
            reachable(port, &process).await?;
        }
        Ok(Self {
            process,
            addr: local(ports[0]),
            requests: local(ports[1]),
        })
    }

    async fn measure(
        &self,
        measure: BenchMeasure,
        plan: &BenchPlan,
    ) -> anyhow::Result<BenchSample> {
        let cpu = self.process.cpu_seconds()?;
        let path = "/rest/api/2/issue/DEMO-1";
        let mebibytes = plan.bytes as f64 / (1 << 20) as f64;
        let measured = match measure {
            BenchMeasure::Download => load::download(self.addr, plan.bytes)
                .await
                .map(|took| (mebibytes, took)),
            BenchMeasure::Upload => load::upload(self.addr, plan.bytes)
                .await
                .map(|took| (mebibytes, took)),
            BenchMeasure::KeepAlive => wrk(self.requests, path, CONCURRENT, plan.seconds)
                .await
                .map(|load| (load.requests as f64, load.took)),
            BenchMeasure::NewConnections => {
                load::new_connections(self.requests, path, CONCURRENT, plan.connections)
                    .await
                    .map(|took| (plan.connections as f64, took))
            }
        };
        let (amount, took) = measured.with_context(|| self.process.log())?;
        Ok(BenchSample {
            amount,
            seconds: took.as_secs_f64(),
            cpu: self.process.cpu_seconds()? - cpu,
        })
    }
}

/// Medians of one measure, for both sides.
struct ResultRow {
    name: &'static str,
    unit: &'static str,
    rate: [f64; 2],
    cpu: [f64; 2],
    cpu_unit: &'static str,
    rates: [Vec<f64>; 2],
    goal: f64,
}

impl ResultRow {
    fn new(measure: BenchMeasure, samples: [Vec<BenchSample>; 2]) -> Self {
        // CPU seconds are shown per this amount.
        let (name, unit, per, cpu_unit, goal) = match measure {
            BenchMeasure::Download => ("download", "MiB/s", 1024.0, "s/GiB", 1.3),
            BenchMeasure::Upload => ("upload", "MiB/s", 1024.0, "s/GiB", 1.3),
            BenchMeasure::KeepAlive => ("requests, keep-alive", "req/s", 1000.0, "s/1000 req", 2.5),
            BenchMeasure::NewConnections => (
                "requests, new connections",
                "req/s",
                1000.0,
                "s/1000 req",
                2.0,
            ),
        };
        let rates = samples.each_ref().map(|side| {
            side.iter()
                .map(|s| s.amount / s.seconds)
                .collect::<Vec<_>>()
        });
        let cpu = samples.map(|side| median(side.iter().map(|s| s.cpu * per / s.amount).collect()));
        let rate = rates.each_ref().map(|side| median(side.clone()));
        Self {
            name,
            unit,
            rate,
            cpu,
            cpu_unit,
            rates,
            goal,
        }
    }

    fn ratio(&self) -> f64 {
        self.rate[1] / self.rate[0]
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "name": self.name, "unit": self.unit, "ratio": self.ratio(), "goal": self.goal,
            "ssh": { "median": self.rate[0], "rounds": self.rates[0], "cpu": self.cpu[0] },
            "agent": { "median": self.rate[1], "rounds": self.rates[1], "cpu": self.cpu[1] },
            "cpu_unit": self.cpu_unit,
        })
    }
}

impl std::fmt::Display for ResultRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:<26} ssh {:>9.0}  agent {:>9.0} {:<6} ratio {:>5.2}",
            self.name,
            self.rate[0],
            self.rate[1],
            self.unit,
            self.ratio()
        )?;
        write!(
            f,
            " (goal {})   CPU: ssh {:.3}, agent {:.3} {}",
            self.goal, self.cpu[0], self.cpu[1], self.cpu_unit
        )
    }
}

struct BenchSetup {
    ssh: BenchSide,
    agent: BenchSide,
    _sshd: Sshd,
    _origin: OriginServer,
    _nginx: Nginx,
    _folder: tempfile::TempDir,
}

impl BenchSetup {
    async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let origin = OriginServer::start().await?;
        let sshd = Sshd::with(&["LogLevel ERROR"])?;
        let nginx = Nginx::start(folder.path()).await?;
        let ways = |ports: [u16; 2]| [(ports[0], origin.addr), (ports[1], nginx.addr)];
        let (ssh_ports, agent_ports) = ([free_port()?, free_port()?], [free_port()?, free_port()?]);

        let process = start_ssh(folder.path(), &sshd, ways(ssh_ports))?;
        let ssh = BenchSide::wait_reachable(process, ssh_ports).await?;
        let process = start_agent(folder.path(), &sshd, ways(agent_ports))?;
        let agent = BenchSide::wait_reachable(process, agent_ports).await?;
        // Let both settle before idle memory is read.
        tokio::time::sleep(Duration::from_secs(2)).await;
        Ok(Self {
            ssh,
            agent,
            _sshd: sshd,
            _origin: origin,
            _nginx: nginx,
            _folder: folder,
        })
    }
}

/// Ports on the gateway and their targets.
type PortTargets = [(u16, SocketAddr); 2];

fn start_ssh(dir: &Path, sshd: &Sshd, ways: PortTargets) -> anyhow::Result<ChildProcess> {
    let mut command = sshd.ssh();
    command.args(["-N", "-o", "ExitOnForwardFailure=yes"]);
    for (port, to) in ways {
        command.args(["-R", &format!("127.0.0.1:{port}:{to}")]);
    }
    command.arg("127.0.0.1");
    ChildProcess::spawn(command, &dir.join("ssh.log"))
}

fn start_agent(dir: &Path, sshd: &Sshd, ways: PortTargets) -> anyhow::Result<ChildProcess> {
    write_secret(&dir.join("token"), "bench-token\n")?;
    let mut config = format!(
        "[tunnel]\ngateways = [\"{gateway}\"]\nuser = \"{user}\"\nidentity_file = \"{identity}\"\n\
         host_keys = [\"{fingerprint}\"]\nconnections = 1\n\n[audit]\nsink = \"file\"\nfile = \"{dir}/audit.log\"\n",
        gateway = sshd.address(),
        user = sshd.user(),
        identity = sshd.identity().display(),
        fingerprint = sshd.fingerprint()?,
        dir = dir.display(),
    );
    for (port, to) in ways {
        config += &format!(
            "\n[[forward]]\nname = \"jira-{port}\"\nbind = \"127.0.0.1:{port}\"\nupstream = \"http://{to}\"\n\
             [forward.auth]\nmode = \"pat\"\ntoken_file = \"token\"\n[forward.policy]\npresets = [\"ticketing\"]\n"
        );
    }
    fs::write(dir.join("agent.toml"), config)?;
    let mut command = Command::new(binary("agent"));
    command
        .arg("run")
        .env("JIRA_TUNNEL_AGENT_CONFIG", dir.join("agent.toml"))
        .env("STATE_DIRECTORY", dir.join("state"))
        .env("RUNTIME_DIRECTORY", dir.join("run"));
    ChildProcess::spawn(command, &dir.join("agent.log"))
}

async fn reachable(port: u16, process: &ChildProcess) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(15);
    while tokio::net::TcpStream::connect(local(port)).await.is_err() {
        anyhow::ensure!(
            Instant::now() < deadline,
            "port {port} does not answer:\n{}",
            process.log()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1 << 20) as f64
}

/// Concurrent requests.
const CONCURRENT: usize = 32;
