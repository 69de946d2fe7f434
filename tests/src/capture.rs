//! Listens in on the connections between a vendor's client and the gateway, to compare what was sent with what arrived.

use crate::raw_http;
use anyhow::Result;
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A TCP port that leads to another and remembers what clients send; gone when dropped.
pub struct CapturingProxy {
    /// Address that clients connect to.
    pub addr: SocketAddr,
    /// One per connection.
    captured: Arc<Mutex<Vec<Vec<u8>>>>,
    task: JoinHandle<()>,
}

impl CapturingProxy {
    /// Listens on a free port and forwards to `target`.
    pub async fn start(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let addr = listener.local_addr()?;
        let sent = Arc::new(Mutex::new(Vec::new()));
        let kept = sent.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let kept = kept.clone();
                tokio::spawn(async move { connection(client, target, kept).await });
            }
        });
        Ok(Self {
            addr,
            captured: sent,
            task,
        })
    }

    /// The requests so far, of each connection in their order.
    pub fn requests(&self) -> Vec<raw_http::RawRequest> {
        let sent = self.captured.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter()
            .flat_map(|bytes| raw_http::requests(bytes))
            .collect()
    }
}

impl Drop for CapturingProxy {
    fn drop(&mut self) {
        self.task.abort();
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
        let mut sent = sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(Vec::new());
        sent.len() - 1
    };
    let up = async {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(n @ 1..) = from_client.read(&mut buffer).await {
            sent.lock().unwrap_or_else(PoisonError::into_inner)[index]
                .extend_from_slice(&buffer[..n]);
            if to_server.write_all(&buffer[..n]).await.is_err() {
                break;
            }
        }
    };
    // Either side's end is the end of both.
    tokio::select! {
        () = up => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
    Ok(())
}
