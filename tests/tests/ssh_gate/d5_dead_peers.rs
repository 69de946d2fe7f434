//! D5: keep-alives of stock russh do not run while a socket write waits.

use crate::common::connect;
use anyhow::{Result, ensure};
use e2e::ssh_pair::EndOptions;
use e2e::ssh_pair::vendor::VendorConnection;
use e2e::sshd::Sshd;
use e2e::wait::until_true;
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn d5_a_far_side_stopped_under_load_is_noticed_by_keep_alive() -> Result<()> {
    let options = EndOptions {
        keepalive: Some(Duration::from_secs(1)),
        ..EndOptions::default()
    };
    let took = stopped_under_load(&options).await?;
    println!("noticed after {took:?} (keep-alive 1 s, 3 unanswered)");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_a_far_side_stopped_under_load_is_noticed_by_the_stall_timer() -> Result<()> {
    let options = EndOptions {
        keepalive: None,
        stall_timeout: Some(Duration::from_secs(3)),
        ..EndOptions::default()
    };
    let took = stopped_under_load(&options).await?;
    println!("noticed after {took:?} (stall timer 3 s)");
    Ok(())
}

async fn stopped_under_load(options: &EndOptions) -> Result<Duration> {
    let sshd = Sshd::start()?;
    let client = connect(&sshd, options).await?;
    let mut downloads = JoinSet::new();
    for _ in 0..20 {
        let mut connection = VendorConnection::open(client.http).await?;
        // Enough to be still in progress when the far side stops.
        downloads.spawn(async move { connection.download(1 << 40).await });
    }
    until_true("the downloads flow", || client.service.sent() > 64 << 20).await?;
    sshd.signal("STOP")?;
    let took = client.wait_closed(Duration::from_secs(30)).await;
    sshd.signal("CONT")?;
    if options.stall_timeout.is_some() {
        let reason = client
            .budget
            .transport()
            .death_reason()
            .unwrap_or_default()
            .to_owned();
        ensure!(reason.starts_with("stalled"), "{reason:?}");
    }
    took
}
