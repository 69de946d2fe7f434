//! D2: two stock russh peers that both wait in a socket write never read again.

use crate::common::{pair, transfers, within};
use anyhow::{Result, ensure};
use e2e::ssh_pair::EndOptions;

#[tokio::test(flavor = "multi_thread")]
async fn d2_sixty_two_way_transfers_between_two_russh_peers_complete() -> Result<()> {
    let (gateway, client) = pair(&EndOptions::default()).await?;
    within(90, transfers(client.http, 60, 20 << 20)).await?;
    let peaks = [&client.budget, &gateway.budget()?].map(|budget| budget.transport().peak());
    println!("peak backlogs {peaks:?}");
    // The high mark; on a machine that moves nothing for 10 ms, also russh's queue of 100 messages and a chunk of each
    // writer.
    ensure!(peaks.iter().all(|peak| *peak < 8 << 20), "{peaks:?}");
    Ok(())
}
