//! An HTTP origin in the place of Jira that records what arrives: each answer names its request, every POST is counted,
//! and answers can be held back.

use crate::{
    ssh_pair::{hash, pattern},
    tcp_server::TcpServer,
    wait::PATIENCE,
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::{collections::HashMap, convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    time::{sleep, timeout},
};

/// A running origin; stops when dropped.
///
/// | request | answer |
/// |---|---|
/// | `GET /status` | a Jira that runs |
/// | `GET /rest/api/2/issue/KEY` | [`issue(KEY)`](issue) |
/// | `POST /rest/api/2/issue/KEY/comment` | the same, and counted |
/// | `POST /rest/api/2/issue/KEY/attachments` | SHA-256 of the body |
/// | `GET /secure/attachment/LENGTH/x` | [`pattern(LENGTH)`](pattern) |
///
/// Where KEY begins with `HELD`, nothing is answered and no body read before [`release`](Self::release). Where it begins with
/// `SLOW`, that lasts 300 ms.
pub struct RecordingOrigin {
    /// Address on which the origin listens.
    pub addr: SocketAddr,
    shared: Arc<RecordingState>,
    _server: TcpServer,
}

#[derive(Default)]
struct RecordingState {
    released: watch::Sender<bool>,
    held: watch::Sender<usize>,
    comments: Mutex<HashMap<String, u32>>,
}

type RecordingBody = BoxBody<Bytes, Infallible>;

impl RecordingOrigin {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        Self::on(TcpListener::bind("127.0.0.1:0").await?)
    }

    /// As [`start`](Self::start), with connections that hold little of what is not read.
    pub fn with_small_buffers() -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(64 << 10)?;
        socket.bind(([127, 0, 0, 1], 0).into())?;
        Self::on(socket.listen(1024)?)
    }

    /// Listens on this socket.
    pub fn on(listener: TcpListener) -> anyhow::Result<Self> {
        let shared = Arc::new(RecordingState::default());
        let state = Arc::clone(&shared);
        let answer = move |request| Arc::clone(&state).answer(request);
        let server = TcpServer::http_on(listener, answer)?;
        Ok(Self {
            addr: server.addr,
            shared,
            _server: server,
        })
    }

    /// URL to write as an `upstream`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Waits until `count` requests are held at once.
    pub async fn wait_until_held(&self, count: usize) -> anyhow::Result<()> {
        let mut held = self.shared.held.subscribe();
        let reached = timeout(PATIENCE, held.wait_for(|held| *held >= count)).await;
        anyhow::ensure!(
            matches!(reached, Ok(Ok(_))),
            "{} of {count} requests are held",
            *self.shared.held.borrow()
        );
        Ok(())
    }

    /// Requests that are held now.
    pub fn held(&self) -> usize {
        *self.shared.held.borrow()
    }

    /// Answers what is held, and from now on at once.
    pub fn release(&self) {
        self.shared.released.send_replace(true);
    }

    /// How often a comment has arrived, by issue.
    pub fn comments(&self) -> HashMap<String, u32> {
        self.shared.comments().clone()
    }
}

/// The document of an issue.
pub fn issue(key: &str) -> String {
    format!(r#"{{"key":"{key}","fields":{{"summary":"Printer on fire"}}}}"#)
}

impl RecordingState {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> hyper::Result<Response<RecordingBody>> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match (request.method(), segments.as_slice()) {
            (&Method::GET, ["status"]) => Ok(json(r#"{"state":"RUNNING"}"#.to_owned())),
            (&Method::GET, ["secure", "attachment", length, _]) => {
                let length = length.parse().unwrap_or(0);
                Ok(Response::new(StreamBody::new(pattern(length)).boxed()))
            }
            (&Method::GET, ["rest", "api", "2", "issue", key]) => {
                self.hold(key).await;
                Ok(json(issue(key)))
            }
            (&Method::POST, ["rest", "api", "2", "issue", key, "comment"]) => {
                *self.comments().entry((*key).to_owned()).or_default() += 1;
                self.hold(key).await;
                request.into_body().collect().await?;
                Ok(json(issue(key)))
            }
            (&Method::POST, ["rest", "api", "2", "issue", key, "attachments"]) => {
                self.hold(key).await;
                Ok(Response::new(text(hash(request.into_body()).await?)))
            }
            _ => {
                let mut response = Response::new(text("no such thing".to_owned()));
                *response.status_mut() = StatusCode::NOT_FOUND;
                Ok(response)
            }
        }
    }

    async fn hold(&self, key: &str) {
        if key.starts_with("HELD") {
            let mut released = self.released.subscribe();
            let _held = HeldGuard::new(&self.held);
            let _ = released.wait_for(|released| *released).await;
        }
        if key.starts_with("SLOW") {
            sleep(SLOW).await;
        }
    }

    fn comments(&self) -> parking_lot::MutexGuard<'_, HashMap<String, u32>> {
        self.comments.lock()
    }
}

struct HeldGuard<'a>(&'a watch::Sender<usize>);

impl<'a> HeldGuard<'a> {
    fn new(held: &'a watch::Sender<usize>) -> Self {
        held.send_modify(|held| *held += 1);
        Self(held)
    }
}

impl Drop for HeldGuard<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

fn json(text: String) -> Response<RecordingBody> {
    let mut response = Response::new(self::text(text));
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn text(text: String) -> RecordingBody {
    Full::new(Bytes::from(text)).boxed()
}

/// Of a caller that sends one request after another, one is in flight nearly always.
const SLOW: Duration = Duration::from_millis(300);
