//! Where webhooks arrive: records each request, and answers as the test asks.

use bytes::Bytes;
use e2e::{tcp_server::TcpServer, wait::soon};
use http::{HeaderMap, Response};
use http_body_util::{BodyExt, Empty};
use parking_lot::Mutex;
use serde_json::Value;
use std::{collections::VecDeque, convert::Infallible, sync::Arc};
use tokio::sync::watch;

/// A running sink; stops when dropped.
pub(crate) struct HookSink {
    /// `http://127.0.0.1:PORT`
    pub url: String,
    state: Arc<SinkState>,
    _server: TcpServer,
}

/// A webhook as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Hook {
    /// Path and query.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Default)]
struct SinkState {
    hooks: Mutex<Vec<Hook>>,
    /// Statuses of the next answers; then 200.
    statuses: Mutex<VecDeque<u16>>,
    count: watch::Sender<usize>,
    held: watch::Sender<bool>,
}

impl HookSink {
    pub(crate) async fn start() -> Self {
        let state = Arc::new(SinkState::default());
        let shared = state.clone();
        let answer = move |request: http::Request<hyper::body::Incoming>| {
            let state = shared.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                state.hooks.lock().push(Hook {
                    target: head.uri.to_string(),
                    headers: head.headers,
                    body,
                });
                state.count.send_modify(|count| *count += 1);
                let mut held = state.held.subscribe();
                let _ = held.wait_for(|held| !held).await;
                let status = state.statuses.lock().pop_front().unwrap_or(200);
                let answer = Response::builder().status(status);
                Ok::<_, Infallible>(answer.body(Empty::<Bytes>::new()).unwrap())
            }
        };
        let server = TcpServer::http(answer).await.unwrap();
        Self {
            url: format!("http://{}", server.addr),
            state,
            _server: server,
        }
    }

    /// Answers the next requests with these statuses, later ones with 200.
    pub(crate) fn answer_with(&self, statuses: &[u16]) {
        self.state.statuses.lock().extend(statuses);
    }

    /// Answers nothing until this is called with `false`.
    pub(crate) fn hold(&self, held: bool) {
        self.state.held.send_replace(held);
    }

    /// Waits for this many requests and returns all.
    pub(crate) async fn hooks(&self, count: usize) -> Vec<Hook> {
        let mut counted = self.state.count.subscribe();
        let _ = soon(counted.wait_for(|n| *n >= count)).await.unwrap();
        self.state.hooks.lock().clone()
    }

    /// The same, as the names of the events.
    pub(crate) async fn events(&self, count: usize) -> Vec<String> {
        let hooks = self.hooks(count).await;
        hooks.iter().map(Hook::event).collect()
    }
}

impl Hook {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn event(&self) -> String {
        self.json()["webhookEvent"].as_str().unwrap().to_owned()
    }
}
