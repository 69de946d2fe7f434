//! D1: stock russh waits for the reader of each channel, and with it the whole session.

use crate::common::{connect, pair, resident, resident_since, within};
use agent::tunnel::channel;
use anyhow::{Context, Result, ensure};
use e2e::ssh_pair::vendor;
use e2e::ssh_pair::vendor::VendorConnection;
use e2e::ssh_pair::{EndOptions, SshClient, digest};
use e2e::sshd::Sshd;
use e2e::wait::until_true;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn d1_stalled_transfers_delay_nothing_behind_our_gateway() -> Result<()> {
    let (_gateway, client) = pair(&EndOptions::default()).await?;
    within(180, stalled_transfers(&client)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_stalled_transfers_delay_nothing_behind_openssh() -> Result<()> {
    // The far side ends the session, too, if it gets no answers.
    let sshd = Sshd::with(&["ClientAliveInterval 2", "ClientAliveCountMax 2"])?;
    let client = connect(&sshd, &EndOptions::default()).await?;
    within(180, stalled_transfers(&client)).await
}

/// One upload and one download of 50 MB each whose readers read nothing; meanwhile and afterwards, 1,000 small requests
/// over 20 connections, and probes.
async fn stalled_transfers(client: &SshClient) -> Result<()> {
    const SIZE: u64 = 50 << 20;
    let alone = vendor::quantiles(&vendor::pings(client.http, 20, 1000).await?)?;
    let resident = resident()?;
    let mut stalled = VendorConnection::open(client.http).await?;
    let upload = tokio::spawn(async move { stalled.upload("/held", SIZE).await });
    let download = VendorConnection::open(client.http)
        .await?
        .begin_download(SIZE)
        .await?;
    live_requests(client).await?;
    until_true("the upload has come in whole", || {
        client.budget.used() >= SIZE - MOST_READ
    })
    .await?;
    let beside = vendor::quantiles(&live_requests(client).await?)?;
    println!("(median, 99 %) alone {alone:?}, beside stalled transfers {beside:?}");

    // 1 MiB of the channel, data on its way to the disk, and the buffers of vendor and gateway in this process; 100 MB
    // are in the tunnel.
    let grown = resident_since(resident)?;
    println!("resident + {} KiB", grown >> 10);
    ensure!(grown < 32 << 20, "resident memory grew by {grown} bytes");
    let memory = client.budget.memory();
    ensure!(memory < 3 << 20, "{memory} bytes in memory");

    client.service.release();
    ensure!(upload.await?? == digest(SIZE), "the upload was damaged");
    let download = vendor::finish_download(download).await?;
    ensure!(download == digest(SIZE), "the download was damaged");
    ensure!(client.budget.resets() == 0);
    until_true("the account is settled", || client.budget.used() == 0).await
}

async fn live_requests(client: &SshClient) -> Result<Vec<Duration>> {
    let times = timeout(LIVELY, vendor::pings(client.http, 20, 1000))
        .await
        .context("small requests hung beside the stalled transfers")??;
    timeout(LIVELY, client.probe())
        .await
        .context("the probe was not answered")??;
    Ok(times)
}

/// For a thousand requests that take a second or two on a busy machine.
const LIVELY: Duration = Duration::from_secs(30);
/// The head of a request is read, and with it the beginning of the body.
const MOST_READ: u64 = 512 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn d1_twenty_stalled_uploads_delay_nothing() -> Result<()> {
    const SIZE: u64 = 20 << 20;
    let (_gateway, client) = pair(&EndOptions::default()).await?;
    let before = resident()?;
    within(120, async {
        let mut uploads = JoinSet::new();
        for _ in 0..20 {
            let mut connection = VendorConnection::open(client.http).await?;
            uploads.spawn(async move { connection.upload("/held", SIZE).await });
        }
        until_true("the uploads have come in whole", || {
            client.budget.used() >= 20 * (SIZE - MOST_READ)
        })
        .await?;
        vendor::pings(client.http, 20, 200).await?;
        client.probe().await?;
        println!("resident + {} KiB", resident_since(before)? >> 10);
        // Each at most its 1 MiB and three batches of 256 KiB.
        ensure!(
            client.budget.memory() < 20 * (7 << 18),
            "{}",
            client.budget.memory()
        );
        client.service.release();
        while let Some(done) = uploads.join_next().await {
            ensure!(done?? == digest(SIZE), "an upload was damaged");
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_past_its_cap_only_the_stalled_channel_is_reset() -> Result<()> {
    let options = EndOptions {
        channel: channel::ChannelLimits {
            spool_per_channel: 8 << 20,
            ..channel::ChannelLimits::default()
        },
        ..EndOptions::default()
    };
    let (_gateway, client) = pair(&options).await?;
    within(60, async {
        let mut stalled = VendorConnection::open(client.http).await?;
        let upload = stalled.upload("/held", 50 << 20).await;
        ensure!(upload.is_err(), "the upload passed its cap");
        ensure!(client.budget.resets() == 1);
        vendor::pings(client.http, 10, 100).await?;
        client.probe().await
    })
    .await
}
