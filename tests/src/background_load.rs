//! Continuous load while parts of the path break, and a summary of what happened to each request.

use crate::{caller::HttpCaller, recording_origin::issue, wait::until_true};
use anyhow::{Result, ensure};
use http::{Response, StatusCode};
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;

/// Workers that alternately read issues and write comments, each over its own connection, which it reopens when it breaks.
/// No two requests name the same issue.
pub struct BackgroundLoad {
    count: Arc<LoadCounters>,
    stop: CancellationToken,
    workers: JoinSet<LoadSummary>,
}

/// What happened to the requests.
#[derive(Debug, Default)]
pub struct LoadSummary {
    /// Answered correctly by Jira.
    pub answered: u64,
    /// Broken off, not connected, or answered with the agent's own error.
    pub failed: u64,
    /// Not sent, because the gateway refused the connection.
    pub refused: u64,
    /// Answered with anything else: one description each.
    pub wrong: Vec<String>,
    /// Issues whose comment was acknowledged.
    confirmed_comments: HashSet<String>,
}

#[derive(Default)]
struct LoadCounters {
    next: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
}

enum CallOutcome {
    Answered,
    Failed,
    Refused,
    Wrong(String),
}

impl BackgroundLoad {
    /// Starts this many workers, which call the gateway's port `addr`.
    pub fn start(addr: SocketAddr, workers: usize) -> Self {
        let count = Arc::new(LoadCounters::default());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..workers {
            tasks.spawn(work(addr, Arc::clone(&count), stop.clone()));
        }
        Self {
            count,
            stop,
            workers: tasks,
        }
    }

    /// Waits until `more` further requests are answered.
    pub async fn until_answered(&self, more: u64) -> Result<()> {
        until(&self.count.answered, more, "answered").await
    }

    /// Waits until `more` further requests have failed.
    pub async fn until_failed(&self, more: u64) -> Result<()> {
        until(&self.count.failed, more, "failed").await
    }

    /// Stops the workers and sums up their requests.
    pub async fn stop(mut self) -> LoadSummary {
        self.stop.cancel();
        let mut summary = LoadSummary::default();
        while let Some(Ok(one)) = self.workers.join_next().await {
            summary.answered += one.answered;
            summary.failed += one.failed;
            summary.refused += one.refused;
            summary.wrong.extend(one.wrong);
            summary.confirmed_comments.extend(one.confirmed_comments);
        }
        summary
    }
}

impl LoadSummary {
    /// Compares it with the comments that arrived: no wrong answer, no comment written twice, no acknowledged comment lost.
    /// `arrived` counts comments by issue.
    pub fn verify_against(&self, arrived: &HashMap<String, u32>) -> Result<()> {
        ensure!(self.wrong.is_empty(), "wrong answers: {:#?}", self.wrong);
        let twice: Vec<_> = arrived.iter().filter(|(_, times)| **times > 1).collect();
        ensure!(twice.is_empty(), "written twice: {twice:?}");
        let lost: Vec<_> = self
            .confirmed_comments
            .iter()
            .filter(|key| !arrived.contains_key(*key))
            .collect();
        ensure!(lost.is_empty(), "acknowledged and not there: {lost:?}");
        ensure!(
            !self.confirmed_comments.is_empty(),
            "no comment was acknowledged"
        );
        Ok(())
    }
}

async fn work(addr: SocketAddr, count: Arc<LoadCounters>, stop: CancellationToken) -> LoadSummary {
    let mut summary = LoadSummary::default();
    let mut caller = None;
    while !stop.is_cancelled() {
        let number = count.next.fetch_add(1, Ordering::Relaxed);
        let key = format!("DEMO-{}", number + 1);
        let writes = number.is_multiple_of(2);
        let outcome = match timeout(GIVE_UP, ask(&mut caller, addr, &key, writes)).await {
            Ok(Ok(answer)) => {
                if closes(&answer) {
                    caller = None;
                }
                classify(&answer, &key)
            }
            Ok(Err(error)) if is_refused(&error) => CallOutcome::Refused,
            Ok(Err(_)) | Err(_) => CallOutcome::Failed,
        };
        let pause = match outcome {
            CallOutcome::Answered => {
                summary.answered += 1;
                count.answered.fetch_add(1, Ordering::Relaxed);
                if writes {
                    summary.confirmed_comments.insert(key);
                }
                REQUEST_INTERVAL
            }
            CallOutcome::Failed => {
                summary.failed += 1;
                count.failed.fetch_add(1, Ordering::Relaxed);
                caller = None;
                AFTER_FAILURE
            }
            CallOutcome::Refused => {
                summary.refused += 1;
                count.failed.fetch_add(1, Ordering::Relaxed);
                AFTER_FAILURE
            }
            CallOutcome::Wrong(what) => {
                summary.wrong.push(what);
                REQUEST_INTERVAL
            }
        };
        tokio::time::sleep(pause).await;
    }
    summary
}

/// The next request needs another connection (RFC 9112 §9.6).
fn closes(answer: &Response<String>) -> bool {
    let connection = answer.headers().get(http::header::CONNECTION);
    connection.is_some_and(|value| value == "close")
}

fn is_refused(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
}

async fn ask(
    caller: &mut Option<HttpCaller>,
    addr: SocketAddr,
    key: &str,
    writes: bool,
) -> Result<Response<String>> {
    let caller = match caller {
        Some(caller) => caller,
        None => caller.insert(HttpCaller::connect(addr).await?),
    };
    let path = format!("/rest/api/2/issue/{key}");
    match writes {
        true => {
            let comment = format!(r#"{{"body":"{key}"}}"#);
            caller.post(&format!("{path}/comment"), &comment).await
        }
        false => caller.get(&path).await,
    }
}

fn classify(answer: &Response<String>, key: &str) -> CallOutcome {
    if answer.status() == StatusCode::OK && *answer.body() == issue(key) {
        return CallOutcome::Answered;
    }
    match answer.status().is_server_error() && answer.headers().contains_key("proxy-status") {
        true => CallOutcome::Failed,
        false => CallOutcome::Wrong(format!("to {key}: {answer:?}")),
    }
}

async fn until(count: &AtomicU64, more: u64, what: &str) -> Result<()> {
    let goal = count.load(Ordering::Relaxed) + more;
    let what = format!("{more} more requests to be {what}");
    until_true(&what, || count.load(Ordering::Relaxed) >= goal).await
}

/// Leaves CPU time for the parts under test.
const REQUEST_INTERVAL: Duration = Duration::from_millis(5);
const AFTER_FAILURE: Duration = Duration::from_millis(50);
/// A request that takes longer has failed.
const GIVE_UP: Duration = Duration::from_secs(10);
