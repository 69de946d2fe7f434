//! The last requests that reached Jira, byte for byte as far as hyper provides them, for tests.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::login::AuthKind;

/// A request as Jira received it.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// HTTP method of the request.
    pub method: String,
    /// The raw request target: path and query as in the request line, including the context path. hyper
    /// removes a `#` and what follows.
    pub target: Vec<u8>,
    /// Names in lower case, values unchanged, repeated names in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// User of the request; `None` if anonymous or not authenticated yet.
    pub user: Option<String>,
    /// Login method; `None` for requests that were answered before authentication.
    pub auth: Option<AuthKind>,
    /// The first 64 KiB of the body.
    pub body_head: Vec<u8>,
    /// Number of bytes of the body that Jira has read.
    pub body_length: u64,
    /// Whether Jira has read the whole body.
    pub body_complete: bool,
    /// Trailers of the body.
    pub trailers: Vec<(String, Vec<u8>)>,
    /// Status of the response; `None` until there is one.
    pub status: Option<u16>,
}

impl ReceivedRequest {
    /// The target as text.
    pub fn target_text(&self) -> String {
        String::from_utf8_lossy(&self.target).into_owned()
    }

    /// The first value of a header, as text.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }
}

/// The last requests, at most [`MAX_KEPT`].
pub(super) struct RequestLog {
    entries: Mutex<VecDeque<RequestLogEntry>>,
    count: watch::Sender<u64>,
}

type RequestLogEntry = Arc<Mutex<ReceivedRequest>>;

/// The entry of one request, completed while the request is served.
#[derive(Clone)]
pub(super) struct RequestLogSlot(RequestLogEntry);

impl RequestLog {
    pub(super) fn new() -> Self {
        Self {
            entries: Mutex::new(VecDeque::new()),
            count: watch::Sender::new(0),
        }
    }

    /// Records the head of a request, and its body while it is read.
    pub(super) fn record(&self, request: Request<Body>) -> (Request<Body>, RequestLogSlot) {
        let (parts, body) = request.into_parts();
        let entry = Arc::new(Mutex::new(ReceivedRequest {
            method: parts.method.to_string(),
            target: parts.uri.to_string().into_bytes(),
            headers: pairs(&parts.headers),
            user: None,
            auth: None,
            body_head: Vec::new(),
            body_length: 0,
            body_complete: http_body::Body::is_end_stream(&body),
            trailers: Vec::new(),
            status: None,
        }));
        let slot = RequestLogSlot(entry.clone());
        {
            let mut entries = self.entries.lock();
            if entries.len() == MAX_KEPT {
                entries.pop_front();
            }
            entries.push_back(entry);
        }
        self.count.send_modify(|count| *count += 1);
        let seen = slot.clone();
        let body = Body::new(RecordedBody { body, slot: seen });
        (Request::from_parts(parts, body), slot)
    }

    /// The recorded requests, oldest first.
    pub(super) fn snapshot(&self) -> Vec<ReceivedRequest> {
        let entries = self.entries.lock();
        entries.iter().map(|entry| entry.lock().clone()).collect()
    }

    pub(super) fn clear(&self) {
        self.entries.lock().clear();
    }

    /// The number of requests since the start, to read or to wait for.
    pub(super) fn count(&self) -> watch::Receiver<u64> {
        self.count.subscribe()
    }
}

impl RequestLogSlot {
    pub(super) fn set_user(&self, user: Option<&str>, auth: AuthKind) {
        self.with(|received| {
            received.user = user.map(str::to_owned);
            received.auth = Some(auth);
        });
    }

    pub(super) fn set_status(&self, status: u16) {
        self.with(|received| received.status = Some(status));
    }

    fn add_body_data(&self, data: &Bytes) {
        self.with(|received| {
            received.body_length += data.len() as u64;
            let free = MAX_BODY_HEAD - received.body_head.len();
            received
                .body_head
                .extend_from_slice(&data[..data.len().min(free)]);
        });
    }

    fn with(&self, change: impl FnOnce(&mut ReceivedRequest)) {
        change(&mut self.0.lock());
    }
}

/// A body that records what is read of it.
struct RecordedBody {
    body: Body,
    slot: RequestLogSlot,
}

impl http_body::Body for RecordedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, axum::Error>>> {
        let polled = std::pin::Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            std::task::Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    self.slot.add_body_data(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.slot
                        .with(|received| received.trailers = pairs(trailers));
                }
                if self.body.is_end_stream() {
                    self.slot.with(|received| received.body_complete = true);
                }
            }
            std::task::Poll::Ready(None) => {
                self.slot.with(|received| received.body_complete = true);
            }
            std::task::Poll::Ready(_) | std::task::Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Reads an unused body, so that it is recorded and the connection can be reused.
pub(super) async fn drain(body: Body) {
    let mut body = body;
    while let Some(Ok(_)) = body.frame().await {}
}

fn pairs(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()))
        .collect()
}

/// With [`MAX_BODY_HEAD`] at most 64 MiB, if every request has a large body.
const MAX_KEPT: usize = 1024;
const MAX_BODY_HEAD: usize = 64 << 10;
