//! nginx in the place of Jira, and wrk in the vendor's, where requests per second are measured: both cost so little
//! that what is measured on two cores is the tunnel.

use crate::{process::ChildProcess, sshd::free_addr, wait::until_listening};
use anyhow::Context;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

/// A running nginx, one process; ends when dropped.
pub struct Nginx {
    /// Where it listens, on 127.0.0.1.
    pub addr: SocketAddr,
    _process: ChildProcess,
}

impl Nginx {
    /// Starts it with its files in `dir`. Every path answers a small issue, as the user `acme-bot`.
    pub async fn start(dir: &Path) -> anyhow::Result<Self> {
        let addr = free_addr()?;
        let config = format!(
            "daemon off;\nmaster_process off;\npid {dir}/nginx.pid;\nerror_log {dir}/nginx.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n  access_log off;\n  keepalive_requests 1000000000;\n  keepalive_timeout 600s;\n\
             client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n  fastcgi_temp_path {dir}/fastcgi;\n\
             uwsgi_temp_path {dir}/uwsgi;\n  scgi_temp_path {dir}/scgi;\n  default_type application/json;\n\
             server {{ listen {addr}; add_header X-AUSERNAME acme-bot; location / {{ return 200 '{ISSUE}'; }} }}\n}}\n",
            dir = dir.display(),
        );
        let file = dir.join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-e").arg("stderr");
        let mut process = ChildProcess::spawn(command, &dir.join("nginx.out"))
            .context("nginx does not start; tools/setup bench installs it")?;
        let listening = until_listening(addr, || process.is_running()).await;
        listening.with_context(|| format!("nginx: {}", process.log()))?;
        Ok(Self {
            addr,
            _process: process,
        })
    }
}

/// What wrk has measured.
pub struct WrkResult {
    /// Requests answered with success.
    pub requests: u64,
    /// How long that took.
    pub took: Duration,
}

/// GETs of `path` for `seconds`, over `connections` kept-alive connections, from one thread.
pub async fn wrk(
    addr: SocketAddr,
    path: &str,
    connections: usize,
    seconds: u64,
) -> anyhow::Result<WrkResult> {
    let out = tokio::process::Command::new("wrk")
        .args(["-t", "1", "-c", &connections.to_string()])
        .args(["-d", &format!("{seconds}s"), "--timeout", "10s"])
        .args(["-H", "Accept: application/json"])
        .arg(format!("http://{addr}{path}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("wrk does not start; tools/setup bench installs it")?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    anyhow::ensure!(
        out.status.success() && !text.contains("Non-2xx") && !text.contains("Socket errors"),
        "wrk: {text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let line = text.lines().find(|line| line.contains(" requests in "));
    let mut words = line
        .unwrap_or_default()
        .split([' ', ','])
        .filter(|w| !w.is_empty());
    let requests = words.next().and_then(|n| n.parse().ok());
    let took = words.nth(2).and_then(decimal);
    match (requests, took) {
        (Some(requests), Some(took)) => Ok(WrkResult { requests, took }),
        _ => anyhow::bail!("wrk said something else: {text}"),
    }
}

/// `10.03s`.
fn decimal(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s')?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// Like Jira's answer for one issue with few fields.
const ISSUE: &str = r#"{"id":"10001","key":"DEMO-1","self":"http://jira/rest/api/2/issue/10001","fields":{"summary":"Printer on fire","status":{"name":"To Do","id":"1"},"issuetype":{"name":"Bug","id":"1"},"project":{"key":"DEMO","id":"10000"},"assignee":{"name":"acme-bot"},"created":"2026-01-01T00:00:00.000+0000"}}"#;
