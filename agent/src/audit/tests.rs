#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::upstream::Delivery;
use http::{HeaderValue, Method, StatusCode};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

fn record(id: &str) -> Box<Record> {
    Box::new(Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_125),
        request_id: HeaderValue::from_str(id).unwrap(),
        forward: "jira".into(),
        connection: 1,
        originator: "192.0.2.7:55000".into(),
        method: Some(Method::POST),
        target: Target::redact("/rest/api/2/search?jql=CANARY"),
        allowed: true,
        rule: Some("preset ticketing: POST /rest/api/2/search".into()),
        error: None,
        cause: None,
        status: Some(StatusCode::OK),
        request_bytes: 12,
        response_bytes: 345,
        duration: Duration::from_micros(1500),
        first_byte: Some(Duration::from_millis(1)),
        delivery: Delivery::Answered,
        outcome: Outcome::Complete,
        user: Some(HeaderValue::from_static("agent-user")),
    })
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_record_becomes_one_line_with_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (audit, task) = Audit::spawn(Settings {
        sink: Sink::File(path.clone()),
        queue: 16,
    });
    audit.submit(record("id-1"));
    assert!(task.shutdown(LIMIT).await);
    assert_eq!(
        lines(&path),
        [serde_json::json!({
            "time": "2023-11-14T22:13:20.125Z",
            "request_id": "id-1",
            "forward": "jira",
            "connection": 1,
            "originator": "192.0.2.7:55000",
            "method": "POST",
            "target": "/rest/api/2/search?jql=*",
            "decision": "allowed",
            "rule": "preset ticketing: POST /rest/api/2/search",
            "error": null,
            "cause": null,
            "status": 200,
            "request_bytes": 12,
            "response_bytes": 345,
            "duration_ms": 1.5,
            "first_byte_ms": 1.0,
            "delivery": "answered",
            "outcome": "complete",
            "user": "agent-user",
        })]
    );
    assert_eq!((audit.written(), audit.dropped()), (1, 0));
}

/// A fifo that nobody reads is a disk that hangs: the writer blocks in `open`.
#[tokio::test]
async fn a_hung_disk_delays_nobody_and_what_is_lost_is_counted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let (audit, task) = Audit::spawn(Settings {
        sink: Sink::File(path.clone()),
        queue: 8,
    });
    // `submit` has no way to wait: were it to, this loop would never end.
    for number in 0..10_000 {
        audit.submit(record(&format!("id-{number}")));
    }
    let dropped = audit.dropped();
    // All but one batch and one queue.
    assert!((9_000..10_000).contains(&dropped), "{dropped}");
    let reader = tokio::task::spawn_blocking(move || std::fs::read_to_string(path).unwrap());
    assert!(task.shutdown(LIMIT).await);
    let text = reader.await.unwrap();
    let told: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["event"] == "audit_records_dropped")
        .collect();
    let sum: u64 = told
        .iter()
        .map(|line| line["dropped"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, dropped);
    assert_eq!(audit.written() + dropped, 10_000);
}

#[tokio::test]
async fn shutdown_gives_a_hung_disk_up_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("fifo");
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let (audit, task) = Audit::spawn(Settings {
        sink: Sink::File(path),
        queue: 8,
    });
    audit.submit(record("id-1"));
    assert!(!task.shutdown(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn a_sink_that_refuses_is_counted_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later").join("audit.log");
    let (audit, task) = Audit::spawn(Settings {
        sink: Sink::File(path.clone()),
        queue: 8,
    });
    audit.submit(record("id-1"));
    while audit.write_errors() == 0 {
        tokio::task::yield_now().await;
    }
    std::fs::create_dir(folder.path().join("later")).unwrap();
    audit.submit(record("id-2"));
    assert!(task.shutdown(LIMIT).await);
    let lines = lines(&path);
    assert!(lines.iter().any(|line| line["request_id"] == "id-2"));
    assert!(lines.iter().any(|line| line["dropped"] == 1));
    assert_eq!((audit.written(), audit.dropped()), (1, 1));
}

#[tokio::test]
async fn an_audit_that_is_off_costs_and_counts_nothing() {
    let (audit, task) = Audit::spawn(Settings {
        sink: Sink::Off,
        queue: 8,
    });
    audit.submit(record("id-1"));
    assert!(task.shutdown(LIMIT).await);
    assert_eq!((audit.written(), audit.dropped()), (0, 0));
}
