//! D7: stock russh shows empty data as end of file.

use crate::common::within;
use anyhow::{Result, ensure};
use e2e::ssh_pair::vendor;
use e2e::ssh_pair::vendor::Connection;
use e2e::ssh_pair::{Gateway, Options, Tap, digest};

#[tokio::test(flavor = "multi_thread")]
async fn d7_empty_data_does_not_end_a_request() -> Result<()> {
    let options = Options {
        in_clear: true,
        ..Options::default()
    };
    let gateway = Gateway::start(options.clone()).await?;
    let tap = Tap::start(gateway.address()).await?;
    let client = gateway.connect_through(tap.address(), &options).await?;
    within(60, async {
        vendor::ping(client.http).await?;
        let mut connection = Connection::open(client.http).await?;
        let arrived = connection.upload("/up", 5 << 20).await?;
        ensure!(arrived == digest(5 << 20), "the upload was damaged");
        ensure!(tap.injected() > 10, "nothing was put in");
        Ok(())
    })
    .await
}
