//! D6: a stock writer on a channel that the peer has closed waits forever.

use crate::common::{pair, within};
use anyhow::{Context, Result};
use e2e::ssh_pair::EndOptions;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread")]
async fn d6_an_upload_that_is_answered_early_ends_at_once() -> Result<()> {
    let (_gateway, client) = pair(&EndOptions::default()).await?;
    within(60, answered_early(client.http)).await
}

async fn answered_early(port: u16) -> Result<()> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket
        .write_all(b"POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000000\r\n\r\n")
        .await?;
    let block = vec![0; 64 << 10];
    let mut sent = 0u64;
    // The answer arrived long before; a writer that ignores it must not hang.
    let refused = timeout(Duration::from_secs(20), async {
        while socket.write_all(&block).await.is_ok() {
            sent += block.len() as u64;
        }
    })
    .await;
    println!("refused after {} MiB", sent >> 20);
    refused.context("the writer hangs")
}
