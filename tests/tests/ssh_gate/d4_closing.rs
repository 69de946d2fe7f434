//! D4: stock russh keeps 3.5 KiB for each channel that is closed from our side first.

use crate::common::{connect, pair, resident, resident_since, within};
use anyhow::{Context, Result, ensure};
use e2e::ssh_pair::vendor::VendorConnection;
use e2e::ssh_pair::{EndOptions, SshGateway};
use e2e::sshd::{Sshd, ssh_client};
use e2e::wait::until_true;
use futures_util::future::try_join_all;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn d4_twenty_thousand_short_connections_leave_the_agents_memory_flat() -> Result<()> {
    let sshd = Sshd::start()?;
    let client = connect(&sshd, &EndOptions::default()).await?;
    within(170, async {
        short_connections(client.http, 2_000).await?;
        let before = resident()?;
        short_connections(client.http, 20_000).await?;
        until_true("all are closed", || client.budget.open_channels() == 0).await?;
        let grown = resident_since(before)?;
        println!("resident + {} KiB", grown >> 10);
        // Leaked, they are 70 MB.
        ensure!(grown < 12 << 20, "resident memory grew by {grown} bytes");
        ensure!(
            client.budget.closed_first() == 0,
            "{}",
            client.budget.closed_first()
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_short_connections_leave_the_gateways_memory_flat_behind_ssh() -> Result<()> {
    let origin = e2e::origin::OriginServer::start().await?;
    let gateway = SshGateway::start(EndOptions::default()).await?;
    let folder = tempfile::tempdir()?;
    let (_ssh, port) = ssh_remote_forward(&gateway, folder.path(), origin.addr).await?;
    within(120, async {
        broken_connections(port, 500).await?;
        let before = resident()?;
        broken_connections(port, 5_000).await?;
        let theirs = gateway.budget()?;
        until_true("all are closed", || theirs.open_channels() == 0).await?;
        let grown = resident_since(before)?;
        println!("resident + {} KiB", grown >> 10);
        // Leaked, they are 17 MB.
        ensure!(grown < 6 << 20, "resident memory grew by {grown} bytes");
        ensure!(theirs.closed_first() == 0, "{}", theirs.closed_first());
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn d4_between_two_russh_peers_only_the_gateway_closes_first() -> Result<()> {
    let (gateway, client) = pair(&EndOptions::default()).await?;
    within(60, async {
        short_connections(client.http, 1_000).await?;
        let theirs = gateway.budget()?;
        until_true("all are closed", || {
            client.budget.open_channels() + theirs.open_channels() == 0
        })
        .await?;
        ensure!(theirs.closed_first() > 0, "nobody closed first");
        ensure!(
            client.budget.closed_first() == 0,
            "{}",
            client.budget.closed_first()
        );
        Ok(())
    })
    .await
}

/// Half of them closed by the server, half by the client; 8 at once.
async fn short_connections(port: u16, count: usize) -> Result<()> {
    let workers = (0..8).map(|_| {
        tokio::spawn(async move {
            for index in 0..count / 8 {
                let mut connection = VendorConnection::open(port).await?;
                match index % 2 {
                    0 => connection.last_ping().await?,
                    _ => connection.ping().await?,
                }
            }
            anyhow::Ok(())
        })
    });
    for done in try_join_all(workers).await? {
        done?;
    }
    Ok(())
}

/// Connections that the vendor resets during an answer, 8 at once: only the other side's CLOSE is left to wait for.
async fn broken_connections(port: u16, count: usize) -> Result<()> {
    let workers = (0..8).map(|_| {
        tokio::spawn(async move {
            for _ in 0..count / 8 {
                let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
                socket.set_zero_linger()?;
                socket
                    .write_all(b"GET /secure/attachment/50000/x HTTP/1.1\r\nHost: test\r\n\r\n")
                    .await?;
                socket.read_u8().await?;
            }
            anyhow::Ok(())
        })
    });
    for done in try_join_all(workers).await? {
        done?;
    }
    Ok(())
}

/// `ssh -R` as the agent; returns it with the port on the gateway.
async fn ssh_remote_forward(
    gateway: &SshGateway,
    folder: &std::path::Path,
    to: SocketAddr,
) -> Result<(e2e::process::ChildProcess, u16)> {
    let key = folder.join("id");
    e2e::sshd::keygen(&key, &["-t", "ed25519"], "")?;
    let address: SocketAddr = gateway.address().parse()?;
    let mut ssh = ssh_client(address.port(), "agent", &key);
    ssh.args(["-N", "-o", "ExitOnForwardFailure=yes"]);
    ssh.args(["-R", &format!("127.0.0.1:0:{to}"), "127.0.0.1"]);
    let ssh = e2e::process::ChildProcess::spawn(ssh, &folder.join("log"))?;
    let mut port = None;
    until_true("ssh has its port", || {
        port = ssh.log().lines().find_map(|line| {
            line.strip_prefix("Allocated port ")?
                .split(' ')
                .next()?
                .parse()
                .ok()
        });
        port.is_some()
    })
    .await
    .with_context(|| ssh.log())?;
    Ok((ssh, port.context("no port")?))
}
