//! Records what a vendor's client sends to the gateway, to compare it with what reaches Jira.

use crate::{raw_http, tcp_server::TcpServer};
use anyhow::Result;
use parking_lot::Mutex;
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::TcpStream,
};

/// A TCP port that forwards to another and records what clients send; stops when dropped.
pub struct CapturingProxy {
    /// Address that clients connect to.
    pub addr: SocketAddr,
    /// One per connection.
    captured: Arc<Mutex<Vec<Vec<u8>>>>,
    _server: TcpServer,
}

impl CapturingProxy {
    /// Listens on a free port and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let captured = Arc::new(Mutex::new(Vec::new()));
        let sent = Arc::clone(&captured);
        let server =
            TcpServer::start(move |client| connection(client, target, Arc::clone(&sent))).await?;
        Ok(Self {
            addr: server.addr,
            captured,
            _server: server,
        })
    }

    /// The requests so far, grouped by connection, in their order.
    pub fn requests(&self) -> Vec<raw_http::RawRequest> {
        let sent = self.captured.lock();
        sent.iter()
            .flat_map(|bytes| raw_http::requests(bytes))
            .collect()
    }
}

async fn connection(
    client: TcpStream,
    target: SocketAddr,
    sent: Arc<Mutex<Vec<Vec<u8>>>>,
) -> Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(target).await?.into_split();
    let index = {
        let mut sent = sent.lock();
        sent.push(Vec::new());
        sent.len() - 1
    };
    let up = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            sent.lock()[index].extend_from_slice(&buffer[..n]);
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    // When either side ends, the other is closed too.
    tokio::select! {
        () = up => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
    Ok(())
}
