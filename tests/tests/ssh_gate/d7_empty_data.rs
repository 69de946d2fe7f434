//! D7: stock russh shows empty data as end of file.

use crate::common::within;
use anyhow::{Result, ensure};
use e2e::ssh_pair::vendor;
use e2e::ssh_pair::vendor::VendorConnection;
use e2e::ssh_pair::{EndOptions, PacketInjector, SshGateway, digest};

#[tokio::test(flavor = "multi_thread")]
async fn d7_empty_data_does_not_end_a_request() -> Result<()> {
    let options = EndOptions {
        unencrypted: true,
        ..EndOptions::default()
    };
    let gateway = SshGateway::start(options.clone()).await?;
    let injector = PacketInjector::start(gateway.address()).await?;
    let client = gateway
        .connect_through(&injector.address(), &options)
        .await?;
    within(60, async {
        vendor::ping(client.http).await?;
        let mut connection = VendorConnection::open(client.http).await?;
        let arrived = connection.upload("/up", 5 << 20).await?;
        ensure!(arrived == digest(5 << 20), "the upload was damaged");
        ensure!(injector.injected() > 10, "nothing was put in");
        Ok(())
    })
    .await
}
