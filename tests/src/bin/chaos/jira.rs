//! A Jira that records what it sees of each request, and that can freeze, slow down, refuse and break connections.

use anyhow::Result;
use bytes::Bytes;
use e2e::{lab::LabHost, origin::zeros};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::{collections::HashMap, convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

/// A Jira on one host of the lab; it runs until the host is dropped.
pub(crate) struct ChaosJira {
    state: Arc<JiraState>,
}

/// Where in an exchange Jira breaks the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BreakPoint {
    /// After the head, before the body is read.
    Head,
    /// In the middle of the request's body.
    Body,
    /// After the whole request was taken, before the answer.
    Commit,
    /// In the middle of the answer.
    Answer,
}

/// What Jira saw, by the request's name.
#[derive(Clone, Debug, Default)]
pub(crate) struct JiraRecords {
    /// Requests whose head arrived.
    pub(crate) heads: HashMap<String, u32>,
    /// Writes that took effect.
    pub(crate) commits: HashMap<String, u32>,
}

struct JiraState {
    records: Mutex<JiraRecords>,
    load: Mutex<JiraLoad>,
    frozen: watch::Sender<bool>,
    /// Each answer takes at least this long.
    delay: Mutex<Duration>,
    /// Answer 429 with this `Retry-After`.
    limited: Mutex<Option<u64>>,
    /// Break the next request's connection here.
    breaks: Mutex<Option<BreakPoint>>,
    /// Share of connections closed right after an answer although they are kept alive.
    closes: Mutex<f64>,
    /// Ends all connections that are open now.
    epoch: Mutex<CancellationToken>,
}

/// Requests in progress.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct JiraLoad {
    /// Now.
    pub(crate) in_flight: u64,
    /// At most.
    pub(crate) peak: u64,
    /// Requests so far.
    pub(crate) seen: u64,
}

type JiraBody = BoxBody<Bytes, io::Error>;

impl ChaosJira {
    /// Listens on this port of the host's loopback.
    pub(crate) async fn start(host: &LabHost, port: u16) -> Result<Self> {
        let state = Arc::new(JiraState {
            records: Mutex::default(),
            load: Mutex::default(),
            frozen: watch::Sender::new(false),
            delay: Mutex::default(),
            limited: Mutex::default(),
            breaks: Mutex::default(),
            closes: Mutex::default(),
            epoch: Mutex::default(),
        });
        let bound = host.run(async move { TcpListener::bind(("0.0.0.0", port)).await });
        let listener = bound.await??;
        host.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { state })
    }

    /// Accepts nothing and answers nothing, as a stopped process; the kernel still completes connections.
    pub(crate) fn freeze(&self) {
        self.state.frozen.send_replace(true);
    }

    /// Continues after [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) {
        self.state.frozen.send_replace(false);
    }

    /// Takes this long for each answer.
    pub(crate) fn delay(&self, delay: Duration) {
        *self.state.delay.lock() = delay;
    }

    /// Answers 429 with this `Retry-After` from now on, or normally again.
    pub(crate) fn limit(&self, retry_after: Option<u64>) {
        *self.state.limited.lock() = retry_after;
    }

    /// Breaks the connection of the next request of the vendor there.
    pub(crate) fn break_next(&self, at: BreakPoint) {
        *self.state.breaks.lock() = Some(at);
    }

    /// Whether the last [`break_next`](Self::break_next) has happened; forgets it otherwise.
    pub(crate) fn has_broken(&self) -> bool {
        self.state.breaks.lock().take().is_none()
    }

    /// Closes this share of connections shortly after an answer, although they are kept alive.
    pub(crate) fn close_kept_alive(&self, share: f64) {
        *self.state.closes.lock() = share;
    }

    /// Ends every connection that is open now.
    pub(crate) fn close_all(&self) {
        std::mem::take(&mut *self.state.epoch.lock()).cancel();
    }

    /// What it saw so far.
    pub(crate) fn records(&self) -> JiraRecords {
        self.state.records.lock().clone()
    }

    /// Requests in progress now and at most.
    pub(crate) fn load(&self) -> JiraLoad {
        *self.state.load.lock()
    }
}

async fn accept(listener: TcpListener, state: Arc<JiraState>) {
    let mut frozen = state.frozen.subscribe();
    loop {
        let _ = frozen.wait_for(|frozen| !frozen).await;
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        tokio::spawn(serve(stream, Arc::clone(&state)));
    }
}

async fn serve(stream: TcpStream, state: Arc<JiraState>) {
    let end = CancellationToken::new();
    let epoch = state.epoch.lock().clone();
    let answer = service_fn(|request| answer(request, Arc::clone(&state), end.clone()));
    let mut serving = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
    let is_broken = tokio::select! {
        _ = &mut serving => false,
        () = end.cancelled() => true,
        () = epoch.cancelled() => true,
    };
    // Half of the broken connections end with a reset, half with a FIN.
    if is_broken && rand::random() {
        let stream = serving.into_parts().io.into_inner();
        let _ = stream.set_zero_linger();
    }
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<JiraState>,
    end: CancellationToken,
) -> Result<Response<JiraBody>, Infallible> {
    let _in_flight = InFlight::of(&state);
    let uri = request.uri().clone();
    let is_post = request.method() == Method::POST;
    let query: HashMap<String, String> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let number = |name: &str| query.get(name).and_then(|value| value.parse::<u64>().ok());
    let id = query.get("id").cloned();
    if let Some(id) = &id {
        let mut records = state.records.lock();
        *records.heads.entry(id.clone()).or_default() += 1;
    }
    let broken = |at: BreakPoint| id.is_some() && take_break(&state, at);
    if broken(BreakPoint::Head) {
        return cut(&end).await;
    }
    let _ = state.frozen.subscribe().wait_for(|frozen| !frozen).await;
    if uri.path().ends_with("/stall") {
        // Never reads the body, until the connection ends.
        std::future::pending::<()>().await;
    }
    let mut body = request.into_body();
    let mut length = 0u64;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            return cut(&end).await;
        };
        length += frame.data_ref().map_or(0, |data| data.len() as u64);
        if broken(BreakPoint::Body) {
            return cut(&end).await;
        }
    }
    let limited = *state.limited.lock();
    if let (Some(id), true, None) = (&id, is_post, limited) {
        let mut records = state.records.lock();
        *records.commits.entry(id.clone()).or_default() += 1;
    }
    if broken(BreakPoint::Commit) {
        return cut(&end).await;
    }
    let delay = number("delay").map_or_else(|| *state.delay.lock(), Duration::from_millis);
    if !delay.is_zero() {
        sleep(delay).await;
    }
    let _ = state.frozen.subscribe().wait_for(|frozen| !frozen).await;
    if broken(BreakPoint::Answer) {
        return Ok(half_an_answer(end));
    }
    let closes = *state.closes.lock();
    if closes > 0.0 && rand::random::<f64>() < closes {
        tokio::spawn(async move {
            sleep(Duration::from_micros(u64::from(rand::random::<u16>()) / 16)).await;
            end.cancel();
        });
    }
    let mut response = match (limited, number("size")) {
        (Some(_), _) if id.is_some() => json("{}".to_owned()),
        (_, Some(size)) => Response::new(zeros(size).map_err(|never| match never {}).boxed()),
        (_, None) if uri.path() == "/status" => json(r#"{"state":"RUNNING"}"#.to_owned()),
        (_, None) => json(format!(
            r#"{{"version":"9.12.2","deploymentType":"Server","received":{length}}}"#
        )),
    };
    if let (Some(seconds), true) = (limited, id.is_some()) {
        *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, seconds.into());
    }
    let name = header::HeaderValue::from_static("acme-bot");
    response.headers_mut().insert("x-ausername", name);
    Ok(response)
}

fn json(text: String) -> Response<JiraBody> {
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
    let mut response = Response::new(body.boxed());
    let kind = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn take_break(state: &JiraState, at: BreakPoint) -> bool {
    let mut breaks = state.breaks.lock();
    let is_due = *breaks == Some(at);
    if is_due {
        *breaks = None;
    }
    is_due
}

/// Ends the connection without an answer.
async fn cut(end: &CancellationToken) -> Result<Response<JiraBody>, Infallible> {
    end.cancel();
    std::future::pending().await
}

/// An answer whose second half never comes.
fn half_an_answer(end: CancellationToken) -> Response<JiraBody> {
    let first = futures_util::stream::once(async {
        Ok::<_, io::Error>(Frame::data(Bytes::from_static(&[b'x'; 512])))
    });
    let then = futures_util::stream::once(async move {
        sleep(Duration::from_millis(2)).await;
        end.cancel();
        Err(io::Error::other("broken on purpose"))
    });
    let body = StreamBody::new(futures_util::StreamExt::chain(first, then));
    let mut response = Response::new(BodyExt::boxed(body));
    response
        .headers_mut()
        .insert(header::CONTENT_LENGTH, 1024.into());
    response
}

/// One request in progress.
struct InFlight(Arc<JiraState>);

impl InFlight {
    fn of(state: &Arc<JiraState>) -> Self {
        let mut load = state.load.lock();
        load.in_flight += 1;
        load.seen += 1;
        load.peak = load.peak.max(load.in_flight);
        Self(Arc::clone(state))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.load.lock().in_flight -= 1;
    }
}
