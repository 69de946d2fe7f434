//! Basic operation, without a defect of russh behind it.

use crate::common::{connect, pair, transfers, within};
use anyhow::{Result, ensure};
use e2e::ssh_pair::vendor::VendorConnection;
use e2e::ssh_pair::{EndOptions, digest, pattern};
use e2e::sshd::Sshd;
use e2e::wait::until_true;
use futures_util::StreamExt;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_megabytes_arrive_both_ways_behind_openssh() -> Result<()> {
    let sshd = Sshd::start()?;
    let client = connect(&sshd, &EndOptions::default()).await?;
    within(90, transfers(client.http, 2, 200_000_000)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_megabytes_arrive_both_ways_behind_our_gateway() -> Result<()> {
    let (_gateway, client) = pair(&EndOptions::default()).await?;
    within(90, transfers(client.http, 2, 200_000_000)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_channels_transfer_at_once() -> Result<()> {
    let sshd = Sshd::start()?;
    let client = connect(&sshd, &EndOptions::default()).await?;
    within(60, transfers(client.http, 100, 2 << 20)).await?;
    let (_gateway, client) = pair(&EndOptions::default()).await?;
    within(60, transfers(client.http, 100, 2 << 20)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_half_closed_connection_still_gets_its_answer() -> Result<()> {
    let sshd = Sshd::start()?;
    let client = connect(&sshd, &EndOptions::default()).await?;
    within(60, half_closed(client.raw)).await?;
    let (_gateway, client) = pair(&EndOptions::default()).await?;
    within(60, half_closed(client.raw)).await
}

/// Sends, shuts down its sending side, and only then reads.
async fn half_closed(port: u16) -> Result<()> {
    const SIZE: u64 = 20 << 20;
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut pieces = Box::pin(pattern(SIZE));
    while let Some(Ok(frame)) = pieces.next().await {
        if let Some(data) = frame.data_ref() {
            socket.write_all(data).await?;
        }
    }
    socket.shutdown().await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(answer == digest(SIZE), "{answer:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_leaves_a_download_ends_it_at_once() -> Result<()> {
    let (gateway, client) = pair(&EndOptions::default()).await?;
    within(60, async {
        for _ in 0..20 {
            let mut connection = VendorConnection::open(client.http).await?;
            drop(connection.begin_download(1 << 40).await?);
        }
        let theirs = gateway.budget()?;
        until_true("all writers to have ended", || {
            client.service.live() + client.budget.open_channels() + theirs.open_channels() == 0
        })
        .await
    })
    .await
}
