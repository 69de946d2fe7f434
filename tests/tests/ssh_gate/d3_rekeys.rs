//! D3: a rekey that stock russh starts kills the session when much data is under way.

use crate::common::{connect, pair, within};
use anyhow::{Result, ensure};
use e2e::ssh_pair::vendor::VendorConnection;
use e2e::ssh_pair::{EndOptions, SshClient, SshGateway, digest};
use e2e::sshd::Sshd;
use e2e::wait::until_true;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn d3_forty_rekeys_from_our_side_under_load_behind_our_gateway() -> Result<()> {
    let (_gateway, client) = pair(&EndOptions::default()).await?;
    own_rekeys(&client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_forty_rekeys_from_our_side_under_load_behind_openssh() -> Result<()> {
    let sshd = Sshd::start()?;
    own_rekeys(&connect(&sshd, &EndOptions::default()).await?).await
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_forty_rekeys_from_our_gateways_side_under_load() -> Result<()> {
    let often = EndOptions {
        rekey_after: 8 << 20,
        ..EndOptions::default()
    };
    let gateway = SshGateway::start(often).await?;
    let client = gateway.connect(&EndOptions::default()).await?;
    rekeys(&client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_forty_rekeys_from_openssh_under_load() -> Result<()> {
    let sshd = Sshd::with(&["RekeyLimit 8M"])?;
    rekeys(&connect(&sshd, &EndOptions::default()).await?).await
}

async fn own_rekeys(client: &SshClient) -> Result<()> {
    under_load(client, async {
        for done in 2..=41 {
            client.rekey().await?;
            until_true("new keys", || {
                client.key_exchanges() >= done || client.is_closed()
            })
            .await?;
            ensure!(
                !client.is_closed(),
                "the session died of rekey {}",
                done - 1
            );
        }
        Ok(())
    })
    .await
}

async fn rekeys(client: &SshClient) -> Result<()> {
    under_load(client, async {
        until_true("40 rekeys", || {
            client.key_exchanges() > 40 || client.is_closed()
        })
        .await?;
        ensure!(
            !client.is_closed(),
            "the session died after {} rekeys",
            client.key_exchanges() - 1
        );
        Ok(())
    })
    .await
}

/// Six uploads and six downloads at any time, until `work` is done; each must arrive undamaged.
async fn under_load(client: &SshClient, work: impl Future<Output = Result<()>>) -> Result<()> {
    const SIZE: u64 = 10 << 20;
    let expected = digest(SIZE);
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for index in 0..12 {
        let (stop, expected, port) = (Arc::clone(&stop), expected.clone(), client.http);
        load.spawn(async move {
            let mut connection = VendorConnection::open(port).await?;
            while !stop.load(Relaxed) {
                let arrived = match index % 2 {
                    0 => connection.upload("/up", SIZE).await?,
                    _ => connection.download(SIZE).await?,
                };
                ensure!(arrived == expected, "a transfer was damaged");
            }
            anyhow::Ok(())
        });
    }
    within(90, async {
        work.await?;
        stop.store(true, Relaxed);
        while let Some(done) = load.join_next().await {
            done??;
        }
        Ok(())
    })
    .await
}
