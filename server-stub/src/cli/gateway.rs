//! `server-stub gateway`: its arguments, and running it until a signal.

use crate::gateway::{AgentName, Gateway, Settings};
use crate::output::outln;
use anyhow::bail;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Run the SSH gateway and its HTTP listener
///
/// Agents log in over SSH as the user NAME with a key from DIR/agents/NAME/authorized_keys and request
/// remote forwards. Services call them as `http://NAME.DOMAIN:PORT`. The page / lists the agents.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Address of the SSH server; port 0 takes a free port
    #[arg(long, default_value = "127.0.0.1:2222", value_name = "ADDRESS:PORT")]
    ssh: SocketAddr,
    /// Address of the HTTP listener; port 0 takes a free port
    #[arg(long, default_value = "127.0.0.1:8088", value_name = "ADDRESS:PORT")]
    http: SocketAddr,
    /// Folder with the host key (created on the first start), agents/NAME/authorized_keys and, optionally,
    /// user_ca.pub and revoked_keys
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Services call agents as NAME.DOMAIN
    #[arg(long, default_value = "gateway.localhost", value_name = "DOMAIN")]
    domain: String,
    /// Additional authorized_keys file of an agent; may be repeated
    #[arg(long, value_name = "NAME=FILE", value_parser = extra_keys)]
    authorized_keys: Vec<(AgentName, PathBuf)>,
    /// Idle HTTP channels kept open per session and forward; 0 for an upstream that serves one connection
    /// at a time
    #[arg(long, default_value_t = 2, value_name = "COUNT")]
    preopened: usize,
    /// When the gateway stops, ask the agents to log in again after this many seconds and up to half as many more
    #[arg(long, value_name = "SECONDS")]
    retry_after: Option<u64>,
}

/// Runs until SIGINT or SIGTERM.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    for (name, file) in &args.authorized_keys {
        if !file.is_file() {
            bail!(
                "--authorized-keys {name}={}: file not found",
                file.display()
            );
        }
    }
    let mut settings = Settings::new(args.data);
    settings.ssh = args.ssh;
    settings.http = args.http;
    settings.domain = args.domain;
    settings.authorized_keys = args.authorized_keys;
    settings.limits.preopened = args.preopened;
    settings.limits.retry_after = args.retry_after.map(Duration::from_secs);
    let data = settings.data.display().to_string();
    let domain = settings.domain.clone();
    let running = Gateway::start(settings).await?;
    outln!("SSH         {}", running.ssh_addr);
    outln!("host key    {}", running.host_key_fingerprint);
    outln!("known_hosts {}", running.known_hosts_line);
    outln!("HTTP        http://{}/", running.http_addr);
    outln!(
        "agents      http://NAME.{domain}:{}/ (keys in {data}/agents/NAME/authorized_keys)",
        running.http_addr.port()
    );
    super::interrupted().await?;
    running.stop().await;
    Ok(())
}

fn extra_keys(text: &str) -> Result<(AgentName, PathBuf), String> {
    let (name, file) = text
        .split_once('=')
        .ok_or("expected NAME=FILE, for example acme=/home/acme/.ssh/id_ed25519.pub")?;
    let name = name
        .parse()
        .map_err(|error: crate::gateway::AgentNameError| error.to_string())?;
    Ok((name, PathBuf::from(file)))
}
