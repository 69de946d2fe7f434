//! The vendor: requests on a gateway's host, each with what became of it.

use anyhow::Result;
use bytes::Bytes;
use e2e::lab::LabHost;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpStream, UnixStream},
    task::JoinHandle,
    time::{sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where and under which name the vendor calls.
#[derive(Clone, Debug)]
pub(crate) struct VendorTarget {
    pub(crate) address: VendorAddress,
    pub(crate) host: String,
}

/// An address on the gateway's host.
#[derive(Clone, Debug)]
pub(crate) enum VendorAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// One request to make.
#[derive(Clone, Debug)]
pub(crate) struct VendorRequest {
    pub(crate) method: Method,
    /// Path and query; the query names the request: `id=`.
    pub(crate) path: String,
    pub(crate) body: Bytes,
    /// When the caller gives up.
    pub(crate) limit: Duration,
}

/// One request that was made.
#[derive(Clone, Debug)]
pub(crate) struct CallRecord {
    /// Its name in Jira's records.
    pub(crate) id: String,
    pub(crate) method: Method,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) outcome: VendorOutcome,
    /// Seconds of the answer's `Retry-After`.
    pub(crate) retry_after: Option<u64>,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VendorOutcome {
    /// Jira's answer arrived whole.
    Answered,
    /// Jira's answer is an error.
    Status(u16),
    /// The agent or the gateway answered instead.
    Problem {
        status: u16,
        kind: String,
        delivery: String,
    },
    /// Nothing listens: nothing was sent.
    Refused,
    /// The connection ended without a whole answer.
    Cut(String),
    /// No answer before the caller gave up.
    TimedOut,
}

impl VendorRequest {
    /// A GET of a small document.
    pub(crate) fn get(id: &str) -> Self {
        Self {
            method: Method::GET,
            path: format!("/rest/api/2/issue/{id}?id={id}"),
            body: Bytes::new(),
            limit: GIVE_UP,
        }
    }

    /// A POST that creates an issue; Jira takes `delay` for it.
    pub(crate) fn post(id: &str, delay: Duration, body: Bytes) -> Self {
        let delay = delay.as_millis();
        Self {
            method: Method::POST,
            path: format!("/rest/api/2/issue/{id}/comment?id={id}&delay={delay}"),
            body,
            limit: GIVE_UP,
        }
    }

    /// The same request, given up later or sooner.
    pub(crate) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

impl CallRecord {
    /// Whether Jira's answer arrived.
    pub(crate) fn is_answered(&self) -> bool {
        self.outcome == VendorOutcome::Answered
    }

    /// Whether the caller knows that nothing reached Jira.
    pub(crate) fn is_not_sent(&self) -> bool {
        match &self.outcome {
            VendorOutcome::Refused => true,
            VendorOutcome::Problem { delivery, .. } => delivery == "not_sent",
            VendorOutcome::Answered
            | VendorOutcome::Status(_)
            | VendorOutcome::Cut(_)
            | VendorOutcome::TimedOut => false,
        }
    }

    /// Whether the caller does not know what happened.
    pub(crate) fn is_lost(&self) -> bool {
        match &self.outcome {
            VendorOutcome::Cut(_) | VendorOutcome::TimedOut => true,
            VendorOutcome::Problem { delivery, .. } => delivery != "not_sent",
            VendorOutcome::Answered | VendorOutcome::Status(_) | VendorOutcome::Refused => false,
        }
    }

    /// How long it took.
    pub(crate) fn took(&self) -> Duration {
        self.ended - self.began
    }

    /// The outcome in a few words.
    pub(crate) fn label(&self) -> String {
        match &self.outcome {
            VendorOutcome::Answered => "answered".to_owned(),
            VendorOutcome::Status(status) => format!("{status}"),
            VendorOutcome::Problem {
                status,
                kind,
                delivery,
            } => format!("{status} {kind}/{delivery}"),
            VendorOutcome::Refused => "refused".to_owned(),
            VendorOutcome::Cut(_) => "cut".to_owned(),
            VendorOutcome::TimedOut => "timed out".to_owned(),
        }
    }
}

/// How many requests had which outcome.
pub(crate) fn tally<'a>(records: impl IntoIterator<Item = &'a CallRecord>) -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for record in records {
        *counts.entry(record.label()).or_default() += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(k, n)| format!("{n} {k}")).collect();
    parts.join(", ")
}

/// Longest time between two answers that follow each other, for those that ended after `since`.
pub(crate) fn longest_gap(records: &[CallRecord], since: Instant) -> Duration {
    let mut ends: Vec<Instant> = records
        .iter()
        .filter(|r| r.is_answered() && r.ended >= since)
        .map(|r| r.ended)
        .collect();
    ends.sort();
    ends.windows(2)
        .map(|pair| pair[1] - pair[0])
        .max()
        .unwrap_or_default()
}

/// The value that this share of the values does not exceed.
pub(crate) fn quantile(mut values: Vec<Duration>, share: f64) -> Duration {
    values.sort();
    let at = (values.len() as f64 * share) as usize;
    let last = values.len().saturating_sub(1);
    values.get(at.min(last)).copied().unwrap_or_default()
}

/// Makes one request on a connection of its own. Call it on the gateway's host.
pub(crate) async fn call(target: VendorTarget, request: VendorRequest) -> CallRecord {
    let began = Instant::now();
    let id = named(&request.path);
    let method = request.method.clone();
    let limit = request.limit;
    let (outcome, retry_after) = match timeout(limit, attempt(&target, request)).await {
        Ok(outcome) => outcome,
        Err(_) => (VendorOutcome::TimedOut, None),
    };
    CallRecord {
        id,
        method,
        began,
        ended: Instant::now(),
        outcome,
        retry_after,
    }
}

async fn attempt(target: &VendorTarget, request: VendorRequest) -> (VendorOutcome, Option<u64>) {
    let Ok(mut sender) = connect(&target.address).await else {
        return (VendorOutcome::Refused, None);
    };
    match send(&mut sender, target, request, true).await {
        Ok(outcome) => outcome,
        Err(error) => (VendorOutcome::Cut(format!("{error:#}")), None),
    }
}

async fn send(
    sender: &mut SendRequest<Full<Bytes>>,
    target: &VendorTarget,
    request: VendorRequest,
    closes: bool,
) -> Result<(VendorOutcome, Option<u64>)> {
    let mut message = Request::builder()
        .method(request.method)
        .uri(request.path)
        .header(header::HOST, &target.host)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-atlassian-token", "no-check");
    if closes {
        message = message.header(header::CONNECTION, "close");
    }
    let response = sender
        .send_request(message.body(Full::new(request.body))?)
        .await?;
    let status = response.status().as_u16();
    let value = |name: &str| response.headers().get(name)?.to_str().ok();
    let is_problem = value("content-type").is_some_and(|kind| kind.contains("problem+json"));
    let retry_after = value("retry-after").and_then(|seconds| seconds.parse().ok());
    let mut body = response.into_body();
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Some(data) = frame?.data_ref()
            && is_problem
        {
            text.extend_from_slice(data);
        }
    }
    let outcome = match status {
        _ if is_problem => {
            let problem: serde_json::Value = serde_json::from_slice(&text)?;
            let member = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
            let kind = member("type");
            let kind = kind.rsplit(':').next().unwrap_or_default().to_owned();
            VendorOutcome::Problem {
                status,
                kind,
                delivery: member("delivery"),
            }
        }
        200..=399 => VendorOutcome::Answered,
        _ => VendorOutcome::Status(status),
    };
    Ok((outcome, retry_after))
}

async fn connect(address: &VendorAddress) -> Result<SendRequest<Full<Bytes>>> {
    match address {
        VendorAddress::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(sender)
        }
        VendorAddress::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
            tokio::spawn(connection);
            Ok(sender)
        }
    }
}

/// A kept-alive connection of the vendor. Use it on the gateway's host.
pub(crate) struct KeptConnection {
    sender: SendRequest<Full<Bytes>>,
    target: VendorTarget,
}

impl KeptConnection {
    pub(crate) async fn open(target: VendorTarget) -> Result<Self> {
        let sender = connect(&target.address).await?;
        Ok(Self { sender, target })
    }

    /// One request; how long it took.
    pub(crate) async fn call(&mut self, request: VendorRequest) -> Result<Duration> {
        let began = Instant::now();
        let limit = request.limit;
        self.sender.ready().await?;
        let (outcome, _) =
            timeout(limit, send(&mut self.sender, &self.target, request, false)).await??;
        anyhow::ensure!(outcome == VendorOutcome::Answered, "{outcome:?}");
        Ok(began.elapsed())
    }
}

/// The `id` of a path's query.
fn named(path: &str) -> String {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let id = query.split('&').find_map(|pair| pair.strip_prefix("id="));
    id.unwrap_or_default().to_owned()
}

/// Requests that go on while parts of the path break.
pub(crate) struct SteadyLoad {
    records: Arc<Mutex<Vec<CallRecord>>>,
    stop: CancellationToken,
    running: TaskTracker,
    driver: Vec<JoinHandle<()>>,
}

impl SteadyLoad {
    /// A GET every `interval`, each on its own connection; none waits for another.
    pub(crate) fn every(host: &LabHost, target: &VendorTarget, interval: Duration) -> Self {
        let load = Self::empty();
        let (records, stop, running) = (
            Arc::clone(&load.records),
            load.stop.clone(),
            load.running.clone(),
        );
        let target = target.clone();
        let driver = host.spawn(async move {
            let mut due = tokio::time::Instant::now();
            while !stop.is_cancelled() {
                let (records, target) = (Arc::clone(&records), target.clone());
                running.spawn(async move {
                    let record = call(target, VendorRequest::get(&next_id())).await;
                    records.lock().push(record);
                });
                due += interval;
                sleep_until(due).await;
            }
        });
        load.with(driver)
    }

    /// This many workers that POST one issue after another, for which Jira takes `delay`.
    pub(crate) fn workers(
        host: &LabHost,
        target: &VendorTarget,
        count: usize,
        delay: Duration,
    ) -> Self {
        let mut load = Self::empty();
        for _ in 0..count {
            let (records, stop) = (Arc::clone(&load.records), load.stop.clone());
            let target = target.clone();
            let worker = host.spawn(async move {
                while !stop.is_cancelled() {
                    let body = Bytes::from_static(b"{}");
                    let request = VendorRequest::post(&next_id(), delay, body);
                    let record = call(target.clone(), request).await;
                    let is_answered = record.is_answered();
                    records.lock().push(record);
                    if !is_answered {
                        sleep(AFTER_FAILURE).await;
                    }
                }
            });
            load.driver.push(worker);
        }
        load
    }

    fn empty() -> Self {
        Self {
            records: Arc::default(),
            stop: CancellationToken::new(),
            running: TaskTracker::new(),
            driver: Vec::new(),
        }
    }

    fn with(mut self, driver: JoinHandle<()>) -> Self {
        self.driver.push(driver);
        self
    }

    /// All requests that have ended.
    pub(crate) fn records(&self) -> Vec<CallRecord> {
        self.records.lock().clone()
    }

    /// Time from `since` to the end of the first answered request that began after it.
    pub(crate) async fn first_answer(&self, since: Instant, limit: Duration) -> Option<Duration> {
        let deadline = Instant::now() + limit;
        loop {
            let first = {
                let records = self.records.lock();
                let after = records
                    .iter()
                    .filter(|r| r.is_answered() && r.began >= since);
                after.map(|r| r.ended).min()
            };
            if let Some(first) = first {
                return Some(first - since);
            }
            if Instant::now() > deadline {
                return None;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops, waits for what is in flight, and returns all requests in the order in which they began.
    pub(crate) async fn stop(self) -> Vec<CallRecord> {
        self.stop.cancel();
        for driver in self.driver {
            let _ = driver.await;
        }
        self.running.close();
        self.running.wait().await;
        let mut records = self.records.lock().clone();
        records.sort_by_key(|record| record.began);
        records
    }
}

/// A name that no other request of this process has.
pub(crate) fn next_id() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("r{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Longer than any part of the path gives up.
const GIVE_UP: Duration = Duration::from_secs(60);
const AFTER_FAILURE: Duration = Duration::from_millis(50);
