//! What the tests of the gate share.

use anyhow::{Context, Result, ensure};
use e2e::ssh_pair::vendor::VendorConnection;
use e2e::ssh_pair::{EndOptions, SshClient, SshGateway, digest};
use e2e::sshd::Sshd;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// `count` transfers of `size` bytes that begin together, every other one an upload; then one small request on each
/// connection.
pub async fn transfers(port: u16, count: usize, size: u64) -> Result<()> {
    let expected = digest(size);
    let begin = Arc::new(Barrier::new(count));
    let arrived = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let (expected, begin, arrived) =
            (expected.clone(), Arc::clone(&begin), Arc::clone(&arrived));
        tasks.spawn(async move {
            let mut connection = VendorConnection::open(port).await?;
            connection.ping().await?;
            begin.wait().await;
            let got = match index % 2 {
                0 => connection.upload("/up", size).await?,
                _ => connection.download(size).await?,
            };
            ensure!(got == expected, "transfer {index} was damaged");
            connection.ping().await?;
            arrived.fetch_add(1, Relaxed);
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done?.with_context(|| format!("{} of {count} had arrived", arrived.load(Relaxed)))?;
    }
    Ok(())
}

pub async fn pair(options: &EndOptions) -> Result<(SshGateway, SshClient)> {
    let gateway = SshGateway::start(EndOptions::default()).await?;
    let client = gateway.connect(options).await?;
    Ok((gateway, client))
}

pub async fn connect(sshd: &Sshd, options: &EndOptions) -> Result<SshClient> {
    let key = russh::keys::load_secret_key(sshd.identity(), None)?;
    SshClient::connect(&sshd.address(), &sshd.user(), key, options).await
}

/// Fails after this many seconds, which only a hang takes.
pub async fn within<T>(seconds: u64, work: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(Duration::from_secs(seconds), work)
        .await
        .with_context(|| format!("hung: not done after {seconds} s"))?
}

/// Resident memory of this process, in bytes.
pub fn resident() -> Result<u64> {
    Ok(e2e::process::resident(std::process::id())?)
}

pub fn resident_since(before: u64) -> Result<u64> {
    Ok(resident()?.saturating_sub(before))
}
