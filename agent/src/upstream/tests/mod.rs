//! The way to Jira against real sockets: servers that read and write bytes by script.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod body;
mod cloud;
mod delivery;
mod failures;
mod pool;
mod protection;
mod tcp;
mod tls;
mod wire;

use super::*;
use http_body_util::{BodyExt, Empty, Full, StreamBody, channel::Channel};
use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// One accepted connection of a scripted server.
struct Peer<S = TcpStream> {
    /// From 0, in the order of acceptance.
    index: usize,
    stream: S,
    unread: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    /// The next request head up to its empty line; `None` when the agent has closed.
    async fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.fill().await {
                return None;
            }
        }
    }

    async fn body(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            assert!(self.fill().await, "the body ended early");
        }
        self.unread.drain(..length).collect()
    }

    /// Everything until the agent closes; a reset counts as closing.
    async fn rest(&mut self) -> Vec<u8> {
        while self.fill().await {}
        std::mem::take(&mut self.unread)
    }

    async fn fill(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.stream.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.unread.extend_from_slice(&buffer[..count]);
                true
            }
        }
    }

    async fn say(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    async fn ok(&mut self, body: &str) {
        self.say(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .await;
    }

    /// Answers every request with the connection's index.
    async fn serve(mut self) {
        while self.head().await.is_some() {
            self.ok(&self.index.to_string()).await;
        }
    }
}

/// Starts a server that hands each connection to `script`.
async fn server<F, R>(script: F) -> SocketAddr
where
    F: Fn(Peer) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for index in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(script(Peer {
                index,
                stream,
                unread: Vec::new(),
            }));
        }
    });
    address
}

/// Settings for `http://jira.test`, connected to `address`.
fn settings(address: SocketAddr) -> Settings {
    let mut settings = Settings::new("http://jira.test/jira".parse().unwrap());
    settings.address = Some(address);
    settings
}

fn upstream(address: SocketAddr) -> Upstream {
    Upstream::new(settings(address)).unwrap()
}

fn get(target: &str) -> Request<UpstreamBody> {
    request("GET", target, empty())
}

fn request(method: &str, target: &str, body: UpstreamBody) -> Request<UpstreamBody> {
    Request::builder()
        .method(method)
        .uri(target)
        .body(body)
        .unwrap()
}

fn empty() -> UpstreamBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn full(bytes: impl Into<Bytes>) -> UpstreamBody {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body fed by hand; it ends when the sender is dropped.
fn fed() -> (
    http_body_util::channel::Sender<Bytes, BodyError>,
    UpstreamBody,
) {
    let (sender, body) = Channel::new(1);
    (sender, body.boxed_unsync())
}

async fn text(response: Response<UpstreamBody>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Gives other tasks turns until `done`.
async fn until(what: &str, done: impl Fn() -> bool) {
    let patience = tokio::time::Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(tokio::time::Instant::now() < patience, "never: {what}");
        tokio::task::yield_now().await;
    }
}

/// Waits for something that must come, however slow the machine.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("never: {what}"),
    }
}
