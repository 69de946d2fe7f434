//! One site with agents and a Jira, and one gateway or more, each on a host of its own, joined by links.

use super::{
    balancer::PlaceBalancer,
    jira::ChaosJira,
    vendor::{VendorAddress, VendorTarget},
};
use agent::status::{ConnectionView, LayerState, OverallState, StatusReport};
use anyhow::{Context, Result, ensure};
use e2e::{
    agent::{AgentProcess, binary},
    gateway::{DOMAIN, InstalledGateway},
    lab::{LabHost, LabLink, LinkQuality},
    process::ChildProcess,
    sshd::{Sshd, fingerprint, keygen},
};
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::time::sleep;

/// Kind of gateway, and what the agent binds there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum PlaceKind {
    /// OpenSSH with one TCP port.
    SshdPort,
    /// OpenSSH with one unix socket.
    SshdSocket,
    /// OpenSSH with a TCP port for each connection, and the vendor guide's HAProxy in front.
    SshdSlots,
    /// `deploy/gateway-openssh`: OpenSSH, and HAProxy in front.
    GatewayOpenssh,
    /// server-stub's gateway.
    Stub,
}

impl PlaceKind {
    pub(crate) const ALL: [Self; 5] = [
        Self::SshdPort,
        Self::SshdSocket,
        Self::SshdSlots,
        Self::GatewayOpenssh,
        Self::Stub,
    ];

    /// Its name in the report.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::SshdPort => "sshd port",
            Self::SshdSocket => "sshd socket",
            Self::SshdSlots => "sshd slots",
            Self::GatewayOpenssh => "gateway-openssh",
            Self::Stub => "stub",
        }
    }

    /// OpenSSH as the vendor guide has it, with nothing that holds requests for an agent that is not there.
    pub(crate) fn is_bare_sshd(self) -> bool {
        match self {
            Self::SshdPort | Self::SshdSocket | Self::SshdSlots => true,
            Self::GatewayOpenssh | Self::Stub => false,
        }
    }

    fn user(self) -> &'static str {
        match self {
            Self::SshdPort | Self::SshdSocket | Self::SshdSlots | Self::Stub => "root",
            Self::GatewayOpenssh => CUSTOMER,
        }
    }
}

/// A gateway on a host of its own.
pub(crate) struct ChaosGateway {
    pub(crate) kind: PlaceKind,
    pub(crate) host: LabHost,
    pub(crate) link: LabLink,
    program: Mutex<Option<GatewayProgram>>,
    balancer: Option<PlaceBalancer>,
    folder: PathBuf,
    bind: String,
    ssh: String,
    host_key: String,
    target: VendorTarget,
}

enum GatewayProgram {
    Sshd(Sshd),
    Installed(InstalledGateway),
    Stub { _process: ChildProcess },
}

/// All of it; every process ends when dropped.
pub(crate) struct ChaosWorld {
    // Dropped in this order: agents before the gateways that they would dial again.
    agents: Mutex<Vec<Arc<tokio::sync::Mutex<AgentProcess>>>>,
    pub(crate) gateways: Vec<ChaosGateway>,
    pub(crate) jira: ChaosJira,
    pub(crate) site: LabHost,
    key: PathBuf,
    folder: TempDir,
}

/// What differs from the default world.
#[derive(Clone, Debug, Default)]
pub(crate) struct WorldOptions {
    /// Lines of `[tunnel]`.
    pub(crate) tunnel: String,
    /// Lines of `[[forward]]`.
    pub(crate) forward: String,
    /// Quality of the links.
    pub(crate) quality: LinkQuality,
    /// The links are wires, without that quality and without cuts.
    pub(crate) wire: bool,
    /// Addresses of the gateways, where they are not those of the site.
    pub(crate) gateways: Option<Vec<String>>,
    /// Start no agent.
    pub(crate) without_agent: bool,
    /// How a bare sshd and its kernel notice that the far end is gone.
    pub(crate) timers: SshdTimers,
}

/// When sshd and its kernel end a session whose far end is gone; by default as the vendor guide recommends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SshdTimers {
    /// Seconds of `ClientAliveInterval`.
    pub(crate) interval: u32,
    /// `ClientAliveCountMax`.
    pub(crate) count: u32,
    /// `net.ipv4.tcp_retries2` on the gateway, also of gateway-openssh; `None` as in the shipped `sysctl.conf`.
    pub(crate) retries2: Option<u32>,
}

impl Default for SshdTimers {
    fn default() -> Self {
        Self {
            interval: 3,
            count: 2,
            retries2: None,
        }
    }
}

impl ChaosWorld {
    /// One gateway of this kind, and an agent with default settings that serves.
    pub(crate) async fn start(kind: PlaceKind) -> Result<Self> {
        Self::with(&[kind], WorldOptions::default()).await
    }

    /// As [`start`](Self::start), on a link of this quality.
    pub(crate) async fn on_link(kind: PlaceKind, quality: LinkQuality) -> Result<Self> {
        let options = WorldOptions {
            quality,
            ..WorldOptions::default()
        };
        Self::with(&[kind], options).await
    }

    /// These gateways, and one agent that serves at the first of them.
    pub(crate) async fn with(kinds: &[PlaceKind], options: WorldOptions) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("chaos-").tempdir()?;
        let key = folder.path().join("agent_key");
        keygen(&key, &["-t", "ed25519"], "")?;
        let number = next_world();
        let site = LabHost::new(&format!("{number}site"))?;
        site.congestion_control("cubic")?;
        let jira = ChaosJira::start(&site, JIRA_PORT).await?;
        let mut gateways = Vec::new();
        for (at, kind) in kinds.iter().enumerate() {
            let host = LabHost::new(&format!("{number}gw{}", at + 1))?;
            host.congestion_control("cubic")?;
            let link = u8::try_from(at + 1)?;
            let link = match options.wire {
                true => LabLink::wire(&site, &host, link)?,
                false => LabLink::join(&site, &host, link, options.quality)?,
            };
            let place = folder.path().join(format!("gw{}", at + 1));
            fs::create_dir(&place)?;
            if *kind != PlaceKind::Stub {
                let retries2 = options.timers.retries2.map_or_else(shipped_retries2, Ok)?;
                host.set("ipv4/tcp_retries2", &retries2.to_string())?;
            }
            let timers = options.timers;
            gateways.push(ChaosGateway::start(*kind, host, link, place, &key, timers).await?);
        }
        let world = Self {
            agents: Mutex::default(),
            gateways,
            jira,
            site,
            key,
            folder,
        };
        if !options.without_agent {
            world.add_agent("agent", &options).await?;
            world.ready().await?;
        }
        Ok(world)
    }

    /// The first gateway.
    pub(crate) fn gateway(&self) -> &ChaosGateway {
        &self.gateways[0]
    }

    /// The first agent.
    pub(crate) fn agent(&self) -> AgentHandle {
        self.agent_at(0)
    }

    /// An agent by the order in which they started.
    pub(crate) fn agent_at(&self, at: usize) -> AgentHandle {
        AgentHandle(Arc::clone(&self.agents.lock()[at]))
    }

    /// Starts one more agent on the site.
    pub(crate) async fn add_agent(
        &self,
        name: &str,
        options: &WorldOptions,
    ) -> Result<AgentHandle> {
        self.add_agent_on(&self.site, name, options).await
    }

    /// Starts one more agent on this host, on which the gateways' addresses and a Jira must be reachable.
    pub(crate) async fn add_agent_on(
        &self,
        host: &LabHost,
        name: &str,
        options: &WorldOptions,
    ) -> Result<AgentHandle> {
        let dir = self.folder.path().join(name);
        let config = self.config(&dir, options);
        let started = host.blocking(move || AgentProcess::start(&dir, &config));
        let agent = Arc::new(tokio::sync::Mutex::new(started.await??));
        self.agents.lock().push(Arc::clone(&agent));
        Ok(AgentHandle(agent))
    }

    /// Waits until the first gateway's vendor gets an answer and the agent says proven.
    pub(crate) async fn ready(&self) -> Result<()> {
        let serves = async {
            self.gateway().serves(START).await?;
            self.agent().until_proven(START).await
        };
        let ready = serves.await;
        if ready.is_err() {
            eprintln!("{}", self.logs().await);
        }
        ready
    }

    fn config(&self, dir: &Path, options: &WorldOptions) -> String {
        let of_site = || self.gateways.iter().map(|g| g.ssh.clone()).collect();
        let gateways: Vec<String> = options.gateways.clone().unwrap_or_else(of_site);
        let host_keys: Vec<&str> = self.gateways.iter().map(|g| g.host_key.as_str()).collect();
        format!(
            "[tunnel]\ngateways = {gateways:?}\nuser = \"{user}\"\nidentity_file = \"{key}\"\nhost_keys = {host_keys:?}\n{tunnel}\n\
             [audit]\nsink = \"file\"\nfile = \"{audit}\"\n\
             [[forward]]\nname = \"jira\"\nbind = \"{bind}\"\nupstream = \"http://127.0.0.1:{JIRA_PORT}\"\n{forward}\n\
             [forward.auth]\nmode = \"pass-through\"\n[forward.policy]\nallow = [\"* /**\"]\n",
            user = self.gateway().kind.user(),
            key = self.key.display(),
            tunnel = options.tunnel,
            bind = self.gateway().bind,
            audit = dir.join("audit.log").display(),
            forward = options.forward,
        )
    }

    /// A folder for what a scenario needs.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The agents' private key, which every gateway knows.
    pub(crate) fn key(&self) -> &Path {
        &self.key
    }

    /// The ends of the logs, for a scenario that failed.
    pub(crate) async fn logs(&self) -> String {
        let agents = self.agents.lock().clone();
        let mut text = String::new();
        for agent in agents {
            let log = agent.lock().await.log();
            let from = log.len().saturating_sub(3000);
            text += &format!("---- agent ----\n{}\n", log.get(from..).unwrap_or_default());
        }
        text
    }
}

impl ChaosGateway {
    async fn start(
        kind: PlaceKind,
        host: LabHost,
        link: LabLink,
        folder: PathBuf,
        key: &Path,
        timers: SshdTimers,
    ) -> Result<Self> {
        let mut gateway = Self {
            kind,
            link,
            program: Mutex::default(),
            balancer: None,
            bind: String::new(),
            ssh: String::new(),
            host_key: String::new(),
            target: VendorTarget {
                address: VendorAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], 8080))),
                host: "jira".to_owned(),
            },
            folder,
            host,
        };
        let address = gateway.link.second();
        let public = key.with_extension("pub");
        match kind {
            PlaceKind::SshdPort | PlaceKind::SshdSocket | PlaceKind::SshdSlots => {
                let started = gateway.host.blocking(move || {
                    let listen = format!("ListenAddress 0.0.0.0:{SSH_PORT}");
                    let interval = format!("ClientAliveInterval {}", timers.interval);
                    let count = format!("ClientAliveCountMax {}", timers.count);
                    // With these the agent can prove its place.
                    let calls = ["AllowTcpForwarding yes", "AllowStreamLocalForwarding yes"];
                    let sshd = Sshd::with(&[&*listen, &*interval, &*count, calls[0], calls[1]])?;
                    sshd.authorize(&public, "")?;
                    anyhow::Ok(sshd)
                });
                let sshd = started.await??;
                gateway.ssh = format!("{address}:{SSH_PORT}");
                gateway.host_key = sshd.fingerprint()?;
                "127.0.0.1:8080".clone_into(&mut gateway.bind);
                if kind == PlaceKind::SshdSocket {
                    let socket = gateway.folder.join("jira.sock");
                    gateway.bind = socket.display().to_string();
                    gateway.target.address = VendorAddress::Unix(socket);
                }
                *gateway.program.get_mut() = Some(GatewayProgram::Sshd(sshd));
                if kind == PlaceKind::SshdSlots {
                    "127.0.0.1:{8080+slot}".clone_into(&mut gateway.bind);
                    let balancer = PlaceBalancer::start(&gateway.host, &gateway.folder).await?;
                    gateway.target.address = VendorAddress::Tcp(balancer.services());
                    gateway.balancer = Some(balancer);
                }
            }
            PlaceKind::GatewayOpenssh => {
                let started = gateway.host.blocking(move || {
                    let installed = InstalledGateway::start_on("0.0.0.0")?;
                    let said =
                        installed.customer(&["add", CUSTOMER, &public.display().to_string()])?;
                    anyhow::Ok((installed, said))
                });
                let (installed, said) = started.await??;
                let bind = said.lines().find_map(|line| line.strip_prefix("bind:"));
                bind.context("no bind")?
                    .trim()
                    .clone_into(&mut gateway.bind);
                gateway.ssh = format!("{address}:{}", installed.ssh_port());
                installed.host_key().clone_into(&mut gateway.host_key);
                gateway.target.address = VendorAddress::Tcp(installed.services());
                gateway.target.host = format!("{CUSTOMER}.{DOMAIN}");
                let backend = format!("customer-{CUSTOMER}");
                let balancer = PlaceBalancer::running(installed.monitoring(), &backend);
                gateway.balancer = Some(balancer);
                *gateway.program.get_mut() = Some(GatewayProgram::Installed(installed));
            }
            PlaceKind::Stub => {
                let agents = gateway.folder.join("agents/root");
                fs::create_dir_all(&agents)?;
                fs::copy(&public, agents.join("authorized_keys"))?;
                gateway.target.address =
                    VendorAddress::Tcp(SocketAddr::from(([127, 0, 0, 1], STUB_HTTP)));
                "root.gateway.localhost".clone_into(&mut gateway.target.host);
                "127.0.0.1:8080".clone_into(&mut gateway.bind);
                gateway.ssh = format!("{address}:{SSH_PORT}");
                gateway.start_stub().await?;
                let public = gateway.folder.join("host.pub");
                let host_key = gateway.folder.join("ssh_host_ed25519_key");
                let derived = Command::new("ssh-keygen")
                    .arg("-yf")
                    .arg(host_key)
                    .output()?;
                fs::write(&public, derived.stdout)?;
                gateway.host_key = fingerprint(&public)?;
            }
        }
        Ok(gateway)
    }

    /// How the vendor calls here.
    pub(crate) fn target(&self) -> VendorTarget {
        self.target.clone()
    }

    /// Address of its SSH server, as the agent dials it.
    pub(crate) fn ssh(&self) -> &str {
        &self.ssh
    }

    /// What the agent binds here.
    pub(crate) fn bind(&self) -> &str {
        &self.bind
    }

    /// Port of its SSH server.
    pub(crate) fn ssh_port(&self) -> u16 {
        let port = self.ssh.rsplit(':').next();
        port.and_then(|port| port.parse().ok()).unwrap_or_default()
    }

    /// Ports of agents with an established connection here.
    pub(crate) fn sessions(&self) -> HashSet<u16> {
        let port = self.ssh_port();
        let here = |(local, remote): (u16, u16)| (local == port).then_some(remote);
        self.host
            .established()
            .into_iter()
            .filter_map(here)
            .collect()
    }

    /// Places that the gateway's HAProxy sends requests to; `None` where there is none.
    pub(crate) fn places_up(&self) -> Option<HashSet<String>> {
        let balancer = self.balancer.as_ref()?;
        Some(balancer.places_up(&self.host))
    }

    /// Log of its sshd; empty for the stub.
    pub(crate) fn log(&self) -> String {
        match &*self.program.lock() {
            Some(GatewayProgram::Sshd(sshd)) => sshd.log(),
            Some(GatewayProgram::Installed(installed)) => installed.log(),
            Some(GatewayProgram::Stub { .. }) | None => String::new(),
        }
    }

    /// Waits until the vendor gets an answer.
    pub(crate) async fn serves(&self, limit: Duration) -> Result<()> {
        use super::vendor::{VendorRequest, call};
        let deadline = Instant::now() + limit;
        loop {
            let request = VendorRequest::get("ready").within(Duration::from_secs(5));
            let record = self.host.run(call(self.target(), request)).await?;
            if record.is_answered() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "{} does not serve: {:?}",
                self.kind.name(),
                record.outcome
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Kills everything that accepts or holds sessions, as a crash of the machine would; HAProxy stays.
    pub(crate) fn kill(&self) {
        self.host.signal(self.program_name(), "KILL");
    }

    /// Ends the sessions' processes (`sshd` only; the stub is one process).
    pub(crate) fn kill_sessions(&self) -> Result<()> {
        let listener = match &*self.program.lock() {
            Some(GatewayProgram::Sshd(sshd)) => sshd.pid(),
            Some(GatewayProgram::Installed(_) | GatewayProgram::Stub { .. }) | None => None,
        };
        let listener = listener.context("sessions are no processes of their own here")?;
        // The balancer runs on this host too.
        for pid in self.host.pids_of("sshd") {
            if pid != listener {
                let _ = e2e::sshd::signal(pid, "KILL");
            }
        }
        Ok(())
    }

    /// Stops (`STOP`) or continues (`CONT`) its processes.
    pub(crate) fn signal(&self, name: &str) {
        self.host.signal(self.program_name(), name);
    }

    /// Resets the agents' connections here for this long.
    pub(crate) async fn reset_for(&self, time: Duration) -> Result<()> {
        let port = self.ssh_port();
        self.host.nft(&format!(
            "table inet lab_reset {{\n chain in {{\n type filter hook input priority 0;\n \
             tcp dport {port} reject with tcp reset;\n }}\n}}\n"
        ))?;
        sleep(time).await;
        self.host.nft("delete table inet lab_reset\n")
    }

    /// Starts what [`kill`](Self::kill) ended, on the same address.
    pub(crate) async fn start_again(&self) -> Result<()> {
        let program = self.program.lock().take();
        let program = match program {
            Some(GatewayProgram::Sshd(mut sshd)) => {
                let started = self.host.blocking(move || sshd.restart().map(|()| sshd));
                GatewayProgram::Sshd(started.await??)
            }
            Some(GatewayProgram::Installed(mut installed)) => {
                let started = self
                    .host
                    .blocking(move || installed.restart_sshd().map(|()| installed));
                GatewayProgram::Installed(started.await??)
            }
            Some(GatewayProgram::Stub { .. }) | None => return self.start_stub().await,
        };
        *self.program.lock() = Some(program);
        Ok(())
    }

    /// Ends it with SIGTERM and starts it again at once.
    pub(crate) async fn restart(&self) -> Result<()> {
        self.signal("TERM");
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.host.listens(self.ssh_port()) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
        self.start_again().await
    }

    async fn start_stub(&self) -> Result<()> {
        let mut command = Command::new(binary("server-stub"));
        command
            .arg("gateway")
            .arg("--data")
            .arg(&self.folder)
            .args(["--ssh", &format!("0.0.0.0:{SSH_PORT}")])
            .args(["--http", &format!("127.0.0.1:{STUB_HTTP}")]);
        let log = self.folder.join("stub.log");
        let started = self
            .host
            .blocking(move || ChildProcess::spawn(command, &log));
        *self.program.lock() = Some(GatewayProgram::Stub {
            _process: started.await??,
        });
        let deadline = Instant::now() + START;
        while !self.host.listens(SSH_PORT) {
            ensure!(Instant::now() < deadline, "the stub does not listen");
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn program_name(&self) -> &'static str {
        match self.kind {
            PlaceKind::SshdPort
            | PlaceKind::SshdSocket
            | PlaceKind::SshdSlots
            | PlaceKind::GatewayOpenssh => "sshd",
            PlaceKind::Stub => "server-stub",
        }
    }
}

/// One agent of the world.
#[derive(Clone)]
pub(crate) struct AgentHandle(Arc<tokio::sync::Mutex<AgentProcess>>);

impl AgentHandle {
    /// Its status; `None` while it does not answer.
    pub(crate) async fn status(&self) -> Option<StatusReport> {
        let agent = self.0.lock().await;
        let asked = tokio::time::timeout(Duration::from_secs(3), agent.status()).await;
        asked.ok()?.ok()
    }

    /// Its log so far.
    pub(crate) async fn log(&self) -> String {
        self.0.lock().await.log()
    }

    /// Its audit records so far.
    pub(crate) async fn audit(&self) -> Vec<serde_json::Value> {
        self.0.lock().await.audit()
    }

    /// Process id.
    pub(crate) async fn pid(&self) -> u32 {
        self.0.lock().await.process().pid()
    }

    /// Its folder.
    pub(crate) async fn dir(&self) -> PathBuf {
        self.0.lock().await.dir().to_owned()
    }

    /// Waits until every layer is proven.
    pub(crate) async fn until_proven(&self, limit: Duration) -> Result<()> {
        self.until("every layer to be proven", limit, |status| {
            status.overall == OverallState::Proven
        })
        .await
        .map(drop)
    }

    /// Waits until the status is as wanted; returns how long that took.
    pub(crate) async fn until(
        &self,
        what: &str,
        limit: Duration,
        wanted: impl Fn(&StatusReport) -> bool,
    ) -> Result<Duration> {
        let began = Instant::now();
        loop {
            let status = self.status().await;
            if status.as_ref().is_some_and(&wanted) {
                return Ok(began.elapsed());
            }
            ensure!(
                began.elapsed() < limit,
                "waited {limit:?} for {what}; {}",
                status.map_or_else(|| "no status".to_owned(), |status| summary(&status))
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Another command of the same binary on the same folder.
    pub(crate) async fn command(&self, arguments: &[&str]) -> Command {
        let dir = self.dir().await;
        e2e::agent::command(Command::new(binary("agent")), &dir, arguments)
    }

    /// Sends a signal to the agent's process.
    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        e2e::sshd::signal(self.pid().await, name)
    }

    /// Waits until its process has ended.
    pub(crate) async fn ended(&self, limit: Duration) -> Result<()> {
        let mut agent = self.0.lock().await;
        agent.process().wait(limit).await.map(drop)
    }

    /// Starts it again, on this host.
    pub(crate) async fn start_again(&self, host: &LabHost) -> Result<()> {
        let agent = Arc::clone(&self.0);
        host.blocking(move || agent.blocking_lock().restart())
            .await?
    }
}

/// Whether the agent's configuration has this key.
pub(crate) fn has_key(key: &str) -> bool {
    let printed = Command::new(binary("agent"))
        .args(["config", "reference"])
        .output();
    printed.is_ok_and(|done| String::from_utf8_lossy(&done.stdout).contains(&format!("`{key}`")))
}

/// The status in one line.
pub(crate) fn summary(status: &StatusReport) -> String {
    let connections: Vec<String> = status
        .connections
        .iter()
        .map(|c| {
            let cause = c.tunnel.cause.as_deref().unwrap_or_default();
            let (gateway, phase, state) = (&c.gateway, &c.phase, c.tunnel.state);
            format!("{gateway} {phase} tunnel {state:?} {cause}")
        })
        .collect();
    format!("{:?}: {}", status.overall, connections.join("; "))
}

/// Whether a connection serves and is proven.
pub(crate) fn is_proven(connection: &ConnectionView) -> bool {
    connection.tunnel.state == LayerState::Proven
}

/// What `install` sets on a gateway.
fn shipped_retries2() -> Result<u32> {
    let mut lines = SHIPPED_SYSCTL.lines();
    let value = lines.find_map(|line| line.strip_prefix("net.ipv4.tcp_retries2 = "));
    Ok(value.context("sysctl.conf sets no tcp_retries2")?.parse()?)
}

fn next_world() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

const SHIPPED_SYSCTL: &str = include_str!("../../../../deploy/gateway-openssh/sysctl.conf");
/// Customer of gateway-openssh; no user of this machine has this name.
const CUSTOMER: &str = "chaos-acme";
const SSH_PORT: u16 = 2222;
const STUB_HTTP: u16 = 8088;
/// Port of the Jira on the site.
pub(crate) const JIRA_PORT: u16 = 9000;
/// Generous: only a broken start waits this long.
const START: Duration = Duration::from_secs(30);
