//! The services behind the forwards, and the bytes that they send.

use super::ByteStream;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256};
use std::{
    convert::Infallible,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::watch,
};

/// Answers `GET /ping`, `GET /bytes/N`, `POST /up` (the digest of the body) and `POST /held` (the same, but reads
/// nothing before [`release`](Self::release)). Everything else is 404, and its body is not read.
pub struct EchoService {
    released: watch::Sender<bool>,
    sent: AtomicU64,
    live: AtomicUsize,
}

impl Default for EchoService {
    fn default() -> Self {
        Self {
            released: watch::Sender::new(false),
            sent: AtomicU64::new(0),
            live: AtomicUsize::new(0),
        }
    }
}

type ServiceBody = BoxBody<Bytes, Infallible>;

impl EchoService {
    /// Lets held requests continue.
    pub fn release(&self) {
        self.released.send_replace(true);
    }

    /// Bytes of `/bytes/N` sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Number of open connections.
    pub fn live(&self) -> usize {
        self.live.load(Relaxed)
    }

    /// Serves one HTTP/1.1 connection until it ends.
    pub(super) async fn http(self: Arc<Self>, stream: Box<dyn ByteStream>) {
        self.live.fetch_add(1, Relaxed);
        let answer = service_fn(|request| Arc::clone(&self).answer(request));
        // Peers that leave early make it end with an error, as intended.
        let _ = http1::Builder::new()
            .half_close(false)
            .serve_connection(TokioIo::new(stream), answer)
            .await;
        self.live.fetch_sub(1, Relaxed);
    }

    /// Reads to the end of file, then answers with the digest and closes.
    pub(super) async fn raw(&self, mut stream: Box<dyn ByteStream>) {
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break,
                Ok(n) => hash.update(&buffer[..n]),
                Err(_) => return,
            }
        }
        let _ = stream.write_all(hex(hash).as_bytes()).await;
        let _ = stream.shutdown().await;
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> hyper::Result<Response<ServiceBody>> {
        let path = request.uri().path().to_owned();
        let body = match (request.method(), path.as_str()) {
            (&Method::GET, "/ping") => text("pong"),
            (&Method::POST, "/up") => text(hash(request.into_body()).await?),
            (&Method::POST, "/held") => {
                let mut released = self.released.subscribe();
                let _ = released.wait_for(|released| *released).await;
                text(hash(request.into_body()).await?)
            }
            (&Method::GET, _) if path.starts_with("/bytes/") => {
                let length = path["/bytes/".len()..].parse().unwrap_or(0);
                let counted = pattern(length).inspect(move |_| {
                    self.sent.fetch_add(PIECE, Relaxed);
                });
                BodyExt::boxed(StreamBody::new(counted))
            }
            _ => {
                let mut response = Response::new(text("no such thing"));
                *response.status_mut() = StatusCode::NOT_FOUND;
                return Ok(response);
            }
        };
        Ok(Response::new(body))
    }
}

/// `length` bytes whose digest changes by a gap, a repetition or a wrong order; made without copying.
pub fn pattern(length: u64) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync {
    stream::iter(pieces(length).map(|piece| Ok(Frame::data(piece))))
}

/// The digest of [`pattern`], in hexadecimal.
pub fn digest(length: u64) -> String {
    let mut hash = Sha256::new();
    pieces(length).for_each(|piece| hash.update(&piece));
    hex(hash)
}

fn pieces(length: u64) -> impl Iterator<Item = Bytes> + Send + Sync {
    (0..length.div_ceil(PIECE)).map(move |index| {
        let start = (index * 7919 % (BASE - PIECE)) as usize;
        let size = (length - index * PIECE).min(PIECE) as usize;
        NOISE.slice(start..start + size)
    })
}

/// The digest of a body, in hexadecimal.
pub(crate) async fn hash(mut body: Incoming) -> hyper::Result<String> {
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            hash.update(&data);
        }
    }
    Ok(hex(hash))
}

pub(super) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

fn text(text: impl Into<Bytes>) -> ServiceBody {
    Full::new(text.into()).boxed()
}

const PIECE: u64 = 64 << 10;
const BASE: u64 = 1 << 20;

static NOISE: LazyLock<Bytes> = LazyLock::new(|| {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    })
    .take(BASE as usize / 8)
    .flatten()
    .collect()
});
