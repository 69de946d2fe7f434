//! Jira's side: events of many issues. An event of an issue is sent until it is accepted, and only then the next one.

use parking_lot::Mutex;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};

/// What the source was told.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SentEvents {
    /// Events that got 202.
    pub(super) accepted: u64,
    /// Calls with another answer.
    pub(super) refused: u64,
    /// Calls without an answer: whether the event was stored is unknown.
    pub(super) broken: u64,
}

/// Sends all events, from several threads of Jira.
pub(super) struct EventSource {
    counts: Arc<Mutex<SentEvents>>,
    wanted: u64,
    tasks: Vec<JoinHandle<()>>,
}

impl EventSource {
    /// Sends `wanted` events to this URL.
    pub(super) fn start(url: &str, wanted: u64) -> Self {
        let counts = Arc::default();
        let next = Arc::new(AtomicU64::new(0));
        let work = |worker| {
            let source = Worker {
                url: url.to_owned(),
                client: reqwest::Client::builder().no_proxy().build().unwrap(),
                counts: Arc::clone(&counts),
                next: Arc::clone(&next),
                wanted,
            };
            tokio::spawn(source.run(worker))
        };
        let tasks = (0..WORKERS).map(work).collect();
        Self {
            counts,
            wanted,
            tasks,
        }
    }

    /// Whether all events were accepted.
    pub(super) fn is_done(&self) -> bool {
        self.counts.lock().accepted >= self.wanted
    }

    pub(super) async fn stop(self) -> SentEvents {
        for task in self.tasks {
            task.await.unwrap();
        }
        *self.counts.lock()
    }
}

struct Worker {
    url: String,
    client: reqwest::Client,
    counts: Arc<Mutex<SentEvents>>,
    /// Events that a worker has taken.
    next: Arc<AtomicU64>,
    wanted: u64,
}

impl Worker {
    /// Each worker has issues of its own, so that the events of one issue are sent one after another.
    async fn run(self, worker: u32) {
        let mut sequence = 0_u64;
        while self.next.fetch_add(1, Ordering::Relaxed) < self.wanted {
            let own = ISSUES / WORKERS;
            let issue = worker * own + u32::try_from(sequence).unwrap() % own;
            self.send(issue, sequence).await;
            sequence += 1;
        }
    }

    /// Counts one call; whether the event was accepted.
    fn note(&self, status: Option<u16>) -> bool {
        let mut counts = self.counts.lock();
        let counted = match status {
            Some(202) => &mut counts.accepted,
            Some(_) => &mut counts.refused,
            None => &mut counts.broken,
        };
        *counted += 1;
        status == Some(202)
    }

    async fn send(&self, issue: u32, sequence: u64) {
        let body = json!({
            "timestamp": 1_780_000_000_000_u64 + sequence,
            "sequence": sequence,
            "webhookEvent": "jira:issue_updated",
            "issue": {
                "id": (10_000 + issue).to_string(),
                "key": format!("SEC-{issue}"),
                "fields": { "project": { "key": "SEC" }, "summary": "x".repeat(300) },
            },
        });
        let body = serde_json::to_vec(&body).unwrap();
        loop {
            let call = self
                .client
                .post(&self.url)
                .header("content-type", "application/json")
                // The same in each repeat of one event.
                .header(
                    "x-atlassian-webhook-identifier",
                    format!("{issue}-{sequence}"),
                )
                .timeout(Duration::from_secs(10))
                .body(body.clone());
            let status = call.send().await.map(|answer| answer.status().as_u16());
            if self.note(status.ok()) {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

const WORKERS: u32 = 16;
/// Issues that have events; a multiple of the workers.
pub(super) const ISSUES: u32 = 480;
