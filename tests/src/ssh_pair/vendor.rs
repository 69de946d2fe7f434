//! The vendor's side of a forward: plain HTTP over plain TCP.

use super::service::{hex, pattern};
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, StreamBody, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use std::{
    convert::Infallible,
    time::{Duration, Instant},
};
use tokio::net::TcpStream;

type VendorBody = BoxBody<Bytes, Infallible>;

/// One kept-alive connection of a vendor's service.
pub struct VendorConnection {
    sender: SendRequest<VendorBody>,
}

impl VendorConnection {
    /// Connects to a port of 127.0.0.1.
    pub async fn open(port: u16) -> Result<Self> {
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        socket.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a small request and waits for its response.
    pub async fn ping(&mut self) -> Result<()> {
        self.ping_with(None).await
    }

    /// Sends a small request with `Connection: close`.
    pub async fn last_ping(&mut self) -> Result<()> {
        self.ping_with(Some("close")).await
    }

    /// Downloads `length` bytes; returns their digest.
    pub async fn download(&mut self, length: u64) -> Result<String> {
        let response = self.begin_download(length).await?;
        finish_download(response).await
    }

    /// Requests `length` bytes and reads none of them.
    pub async fn begin_download(&mut self, length: u64) -> Result<Incoming> {
        let request = get(&format!("/bytes/{length}"));
        Ok(self.send(request).await?.1)
    }

    /// Uploads `length` bytes of the pattern; returns the digest of what arrived.
    pub async fn upload(&mut self, path: &str, length: u64) -> Result<String> {
        let body = StreamBody::new(pattern(length)).boxed();
        let request = Request::post(path)
            .header(header::HOST, "test")
            .header(header::CONTENT_LENGTH, length)
            .body(body)?;
        let (status, body) = self.send(request).await?;
        let text = body.collect().await?.to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        ensure!(status.is_success(), "{path} answered {status}: {text}");
        Ok(text)
    }

    async fn ping_with(&mut self, connection: Option<&'static str>) -> Result<()> {
        let mut request = get("/ping");
        if let Some(value) = connection {
            let value = HeaderValue::from_static(value);
            request.headers_mut().insert(header::CONNECTION, value);
        }
        let (status, body) = self.send(request).await?;
        let text = body.collect().await?.to_bytes();
        ensure!(status.is_success() && text == "pong", "{status}: {text:?}");
        Ok(())
    }

    async fn send(&mut self, request: Request<VendorBody>) -> Result<(StatusCode, Incoming)> {
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        Ok((head.status, body))
    }
}

/// Reads a download to its end; returns its digest.
pub async fn finish_download(mut body: Incoming) -> Result<String> {
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref() {
            hash.update(data);
        }
    }
    Ok(hex(hash))
}

/// Sends one small request over a new connection.
pub async fn ping(port: u16) -> Result<()> {
    VendorConnection::open(port).await?.ping().await
}

/// Sends `count` small requests over `connections` kept-alive connections; returns the time of each, sorted.
pub async fn pings(port: u16, connections: usize, count: usize) -> Result<Vec<Duration>> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..connections {
        let mut connection = VendorConnection::open(port).await?;
        tasks.spawn(async move {
            let mut times = Vec::new();
            for _ in 0..count / connections {
                let begun = Instant::now();
                connection.ping().await?;
                times.push(begun.elapsed());
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    times.sort_unstable();
    Ok(times)
}

/// Median and 99th percentile of sorted times.
pub fn quantiles(times: &[Duration]) -> Result<(Duration, Duration)> {
    let at = |share: usize| times.get(times.len() * share / 100).copied();
    at(50).zip(at(99)).context("no times")
}

fn get(path: &str) -> Request<VendorBody> {
    let mut request = Request::new(Empty::new().boxed());
    *request.uri_mut() = path.parse().unwrap_or_default();
    request
        .headers_mut()
        .insert(header::HOST, HeaderValue::from_static("test"));
    request
}
