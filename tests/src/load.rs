//! Load with a fixed number of requests, for the benchmarks and for tests under load.

use crate::origin::zeros;
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty, combinators::BoxBody};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinSet};

type LoadBody = BoxBody<Bytes, Infallible>;

/// Sends `total` GETs of `path` over `connections` kept-alive connections; returns how long it took.
pub async fn keep_alive(
    addr: SocketAddr,
    path: &'static str,
    connections: usize,
    total: u64,
) -> anyhow::Result<Duration> {
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(addr).await?);
    }
    let left = Arc::new(AtomicU64::new(total));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for mut sender in senders {
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            while take(&left) {
                get(&mut sender, addr, path).await?;
            }
            anyhow::Ok(())
        });
    }
    join(tasks).await?;
    Ok(start.elapsed())
}

/// Sends `total` GETs, each over its own connection, `concurrent` at once; returns how long it took.
pub async fn new_connections(
    addr: SocketAddr,
    path: &'static str,
    concurrent: usize,
    total: u64,
) -> anyhow::Result<Duration> {
    let left = Arc::new(AtomicU64::new(total));
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..concurrent {
        let left = Arc::clone(&left);
        tasks.spawn(async move {
            while take(&left) {
                get(&mut connect(addr).await?, addr, path).await?;
            }
            anyhow::Ok(())
        });
    }
    join(tasks).await?;
    Ok(start.elapsed())
}

/// Downloads `bytes` in one answer; returns how long it took.
pub async fn download(addr: SocketAddr, bytes: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut sender = connect(addr).await?;
    let path = format!("/secure/attachment/{bytes}/blob.bin");
    let received = get(&mut sender, addr, &path).await?;
    anyhow::ensure!(received == bytes, "{received} of {bytes} bytes came");
    Ok(start.elapsed())
}

/// Uploads `bytes` in one request; returns how long it took.
pub async fn upload(addr: SocketAddr, bytes: u64) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let mut sender = connect(addr).await?;
    let request = Request::post("/rest/api/2/issue/DEMO-1/attachments")
        .header(header::HOST, addr.to_string())
        .header(header::CONTENT_TYPE, "multipart/form-data; boundary=x")
        .header("x-atlassian-token", "no-check")
        .body(zeros(bytes))?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(
        response.status().is_success(),
        "answered {}",
        response.status()
    );
    let text = response.into_body().collect().await?.to_bytes();
    anyhow::ensure!(
        text == bytes.to_string(),
        "{text:?} of {bytes} bytes arrived"
    );
    Ok(start.elapsed())
}

async fn connect(addr: SocketAddr) -> anyhow::Result<SendRequest<LoadBody>> {
    let stream = TcpStream::connect(addr).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn get(
    sender: &mut SendRequest<LoadBody>,
    addr: SocketAddr,
    path: &str,
) -> anyhow::Result<u64> {
    let request = Request::get(path)
        .header(header::HOST, addr.to_string())
        .header(header::ACCEPT, "application/json")
        .body(Empty::new().boxed())?;
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    anyhow::ensure!(
        response.status().is_success(),
        "{path} answered {}",
        response.status()
    );
    let mut body = response.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(length)
}

fn take(left: &AtomicU64) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}

async fn join(mut tasks: JoinSet<anyhow::Result<()>>) -> anyhow::Result<()> {
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(())
}
