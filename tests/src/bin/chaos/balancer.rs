//! HAProxy in front of places: that of gateway-openssh, or one with the backend of the vendor guide.

use anyhow::{Context, Result, ensure};
use e2e::{lab::LabHost, process::ChildProcess};
use std::{
    collections::HashSet,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// A running HAProxy on a gateway's host.
pub(crate) struct PlaceBalancer {
    monitoring: SocketAddr,
    backend: String,
    _process: Option<ChildProcess>,
}

impl PlaceBalancer {
    /// One that runs already.
    pub(crate) fn running(monitoring: SocketAddr, backend: &str) -> Self {
        Self {
            monitoring,
            backend: backend.to_owned(),
            _process: None,
        }
    }

    /// Starts one with the backend that the vendor guide shows for a port of each slot.
    pub(crate) async fn start(host: &LabHost, folder: &Path) -> Result<Self> {
        let guide = GUIDE.split_once("backend acme\n").context("no backend")?.1;
        let backend = guide.split_once("```").context("no end of the backend")?.0;
        let config = folder.join("haproxy.cfg");
        fs::write(&config, FRONTENDS.to_owned() + backend + SECOND_HOST)?;
        let mut command = Command::new("haproxy");
        command.args(["-db", "-f"]).arg(&config);
        let log = folder.join("haproxy.log");
        let process = host.blocking(move || ChildProcess::spawn(command, &log));
        let balancer = Self {
            _process: Some(process.await??),
            ..Self::running(SocketAddr::from(([127, 0, 0, 1], MONITORING)), "acme")
        };
        let deadline = Instant::now() + START;
        while !host.listens(SERVICES) {
            ensure!(Instant::now() < deadline, "HAProxy does not listen");
            sleep(Duration::from_millis(20)).await;
        }
        Ok(balancer)
    }

    /// Where the vendor calls one that [`start`](Self::start) made.
    pub(crate) fn services(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], SERVICES))
    }

    /// Servers that get requests.
    pub(crate) fn places_up(&self, host: &LabHost) -> HashSet<String> {
        let monitoring = self.monitoring;
        let page = host.inside(move || {
            let mut stream = TcpStream::connect(monitoring)?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
            let mut page = String::new();
            stream.read_to_string(&mut page)?;
            Ok(page)
        });
        let before = format!(
            "haproxy_server_status{{proxy=\"{}\",server=\"slot-",
            self.backend
        );
        let up = |line: &str| {
            let slot = line.strip_prefix(&*before)?;
            let slot = slot.strip_suffix("\",state=\"UP\"} 1")?;
            Some(slot.to_owned())
        };
        page.unwrap_or_default().lines().filter_map(up).collect()
    }
}

const GUIDE: &str = include_str!("../../../../docs/vendor-guide.md");
const SERVICES: u16 = 8070;
const MONITORING: u16 = 8404;
const START: Duration = Duration::from_secs(10);

/// What the guide leaves to the vendor; its timeouts are longer than those of the agent.
const FRONTENDS: &str = "defaults
    mode http
    timeout connect 5s
    timeout client 150s
    timeout server 150s
    http-error status 503 content-type application/problem+json string '{\"type\":\"urn:x:no-place\",\"delivery\":\"not_sent\"}'
frontend services
    bind 127.0.0.1:8070
    default_backend acme
frontend operations
    bind 127.0.0.1:8404
    http-request use-service prometheus-exporter if { path /metrics }
    http-request return status 404
backend acme
";

/// What the guide says of the slots 4 to 7.
const SECOND_HOST: &str = "    server slot-4 127.0.0.1:8084
    server slot-5 127.0.0.1:8085
    server slot-6 127.0.0.1:8086
    server slot-7 127.0.0.1:8087
";
