#![allow(clippy::unwrap_used, clippy::expect_used)]
//! The queue on a real disk. No test waits for a time of the wall clock: the writer's thread does not run by the paused clock
//! of the runtime.

mod crash;
mod disk;
mod events;

use crate::{EventId, EventQueue, NewEvent, QueueLimits, StoreError, Stored, tables::QueueFile};
use bytes::Bytes;
use std::path::PathBuf;

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hooks.redb");
    (folder, path)
}

fn limits() -> QueueLimits {
    QueueLimits {
        // The disk of the tests is not this crate's affair.
        reserve_bytes: 0,
        ..QueueLimits::default()
    }
}

async fn open(path: &std::path::Path) -> EventQueue {
    EventQueue::open(path.to_owned(), "hooks", limits())
        .await
        .unwrap()
}

/// An event of an issue, with a number in its body.
fn event(issue: u32, number: u32) -> NewEvent {
    let body = format!(r#"{{"issue":{{"id":"{issue}"}},"number":{number}}}"#);
    NewEvent {
        method: "POST".into(),
        target: "/hook".into(),
        headers: vec![("x-test".into(), b"1".to_vec())],
        source: "10.0.0.1".into(),
        identifier: None,
        body: Bytes::from(body),
    }
}

async fn store(queue: &EventQueue, event: NewEvent) -> EventId {
    match queue.store(event).await.unwrap() {
        Stored::New { id, .. } | Stored::Repeated(id) => id,
    }
}

/// Leases and delivers all that is due, in the order in which it is lent.
async fn drain(queue: &EventQueue) -> Vec<(EventId, Bytes)> {
    let mut delivered = Vec::new();
    while let Some(lease) = queue.lease_next(tokio::time::Instant::now()).await.unwrap() {
        delivered.push((lease.head.id, lease.body.clone()));
        queue.delivered(lease).await.unwrap();
    }
    delivered
}
