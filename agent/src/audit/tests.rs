#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::upstream::Delivery;
use http::{HeaderValue, Method, StatusCode};
use std::{
    path::Path,
    time::{Duration, SystemTime},
};

fn record(id: &str) -> Box<AuditRecord> {
    Box::new(AuditRecord {
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_125),
        request_id: HeaderValue::from_str(id).unwrap(),
        agent_request_id: HeaderValue::from_static("own-id"),
        forward: "jira".into(),
        direction: Default::default(),
        connection: 1,
        originator: "192.0.2.7:55000".into(),
        method: Some(Method::POST),
        target: RedactedTarget::redact("/rest/api/2/search?jql=CANARY"),
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
        outcome: RequestOutcome::Complete,
        user: Some(HeaderValue::from_static("agent-user")),
        event: None,
    })
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn settings(sink: SinkSetting, queue: usize) -> Settings {
    Settings {
        sink,
        queue,
        required: false,
        floor: FreeSpaceFloor::NONE,
    }
}

fn fifo(folder: &Path) -> std::path::PathBuf {
    let path = folder.join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

/// The numbers of all lines, which must be of one run.
fn numbers(lines: &[serde_json::Value]) -> Vec<u64> {
    assert!(lines.iter().all(|line| line["run"] == lines[0]["run"]));
    let number = |line: &serde_json::Value| line["seq"].as_u64().unwrap();
    lines.iter().map(number).collect()
}

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_record_becomes_one_line_with_every_field() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (audit, task) = AuditHandle::spawn(settings(SinkSetting::File(path.clone()), 16));
    audit.submit(record("id-1"), None);
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
            "direction": "in",
            "agent_request_id": "own-id",
            "target_hidden_bytes": 0,
            "run": audit.condition().run,
            "seq": 1,
        })]
    );
    let condition = audit.condition();
    assert_eq!((condition.written, condition.dropped), (1, 0));
}

/// A fifo that nobody reads is a disk that hangs: the writer blocks in `open`.
#[tokio::test]
async fn a_hung_disk_delays_nobody_and_what_is_lost_is_counted_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let (audit, task) = AuditHandle::spawn(settings(SinkSetting::File(path.clone()), 8));
    // `submit` has no way to wait: were it to, this loop would never end.
    for number in 0..10_000 {
        audit.submit(record(&format!("id-{number}")), None);
    }
    let dropped = audit.condition().dropped;
    assert!(audit.condition().has_lost_recently());
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
    assert_eq!(audit.condition().written + dropped, 10_000);
    // Each record, written or lost, has its number, and so have the lines that tell of the lost ones.
    let all: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let last = *numbers(&all).last().unwrap();
    assert_eq!(last, 10_000 + told.len() as u64);
}

#[tokio::test]
async fn shutdown_gives_a_hung_disk_up_at_its_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let path = fifo(folder.path());
    let (audit, task) = AuditHandle::spawn(settings(SinkSetting::File(path), 8));
    audit.submit(record("id-1"), None);
    assert!(!task.shutdown(Duration::from_millis(50)).await);
}

#[tokio::test]
async fn what_a_sink_refuses_is_kept_and_written_once_it_takes_lines_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("later").join("audit.log");
    let (audit, task) = AuditHandle::spawn(settings(SinkSetting::File(path.clone()), 8));
    audit.submit(record("id-1"), None);
    while audit.condition().write_errors == 0 {
        tokio::task::yield_now().await;
    }
    let condition = audit.condition();
    assert!(condition.fault.unwrap().contains("later/audit.log: "));
    assert_eq!(condition.dropped, 0);
    std::fs::create_dir(folder.path().join("later")).unwrap();
    audit.submit(record("id-2"), None);
    assert!(task.shutdown(LIMIT).await);
    let lines = lines(&path);
    let ids: Vec<_> = lines.iter().map(|line| &line["request_id"]).collect();
    assert_eq!(ids, ["id-1", "id-2"]);
    assert_eq!(numbers(&lines), [1, 2]);
    let condition = audit.condition();
    assert_eq!((condition.written, condition.dropped), (2, 0));
}

#[tokio::test]
async fn what_cannot_be_written_before_the_agent_ends_is_counted_as_lost() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none such").join("audit.log");
    let (audit, task) = AuditHandle::spawn(settings(SinkSetting::File(path), 8));
    for _ in 0..3 {
        audit.submit(record("id"), None);
    }
    assert!(task.shutdown(LIMIT).await);
    assert_eq!(audit.condition().dropped, 3);
}

/// The promise of `required`: a request that may go on has its line.
#[tokio::test]
async fn a_required_audit_gives_a_place_only_where_a_line_can_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("later");
    let path = missing.join("audit.log");
    let (audit, task) = AuditHandle::spawn(Settings {
        required: true,
        ..settings(SinkSetting::File(path.clone()), 16)
    });
    // It is known before the first request comes.
    while audit.condition().fault.is_none() {
        tokio::task::yield_now().await;
    }
    let refused = audit.reserve().err().unwrap();
    assert!(refused.cause.starts_with("cannot write to "), "{refused}");

    std::fs::create_dir(&missing).unwrap();
    while audit.condition().fault.is_some() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let places: Vec<_> = (0..16).map(|_| audit.reserve().unwrap()).collect();
    let full = audit.reserve().err().unwrap();
    assert!(full.cause.contains("audit.queue"), "{full}");
    for place in places {
        audit.submit(record("id"), Some(place));
    }
    assert!(task.shutdown(LIMIT).await);
    let lines = lines(&path);
    assert_eq!(lines.len(), 16);
    assert_eq!(numbers(&lines), (1..=16).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_required_audit_whose_disk_is_below_its_floor_gives_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let (audit, _task) = AuditHandle::spawn(Settings {
        required: true,
        floor: FreeSpaceFloor {
            bytes: u64::MAX,
            parts: 1,
        },
        ..settings(SinkSetting::File(folder.path().join("audit.log")), 16)
    });
    while audit.condition().fault.is_none() {
        tokio::task::yield_now().await;
    }
    let refused = audit.reserve().err().unwrap();
    assert!(refused.cause.contains("must stay free"), "{refused}");
}

/// What an upgrade, a crash or a kill leaves: another run, which begins at 1.
#[tokio::test]
async fn lines_of_two_runs_can_be_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    for _ in 0..2 {
        let (audit, task) = AuditHandle::spawn(settings(SinkSetting::File(path.clone()), 8));
        audit.submit(record("id"), None);
        assert!(task.shutdown(LIMIT).await);
    }
    let lines = lines(&path);
    assert_eq!([&lines[0]["seq"], &lines[1]["seq"]], [1, 1]);
    assert_ne!(lines[0]["run"], lines[1]["run"]);
}

#[tokio::test]
async fn many_refused_requests_have_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let (audit, task) = AuditHandle::spawn(settings(SinkSetting::File(path.clone()), 8));
    for _ in 0..1000 {
        audit.count_refusal(&"jira".into(), "policy-refused", 1);
    }
    audit.count_refusal(&"jira".into(), "malformed-request", 1);
    assert!(task.shutdown(LIMIT).await);
    let lines = lines(&path);
    assert_eq!(lines.len(), 1);
    assert_eq!(lines[0]["event"], "refused_requests");
    assert_eq!(lines[0]["forward"], "jira");
    assert_eq!(lines[0]["count"], 1001);
    let errors = serde_json::json!({"policy-refused": 1000, "malformed-request": 1});
    assert_eq!(lines[0]["errors"], errors);
    assert!(lines[0]["first"].as_str() <= lines[0]["last"].as_str());
    assert_eq!(audit.condition().summed, 1001);
}

/// Whatever a peer writes into a request: the queue's places times this is what the audit can put onto a disk.
#[test]
fn no_line_is_longer_than_its_bound() {
    let worst = "\"".repeat(40_000);
    let header = |text: &str| HeaderValue::from_str(text).unwrap();
    let line = AuditRecord {
        request_id: header(&worst),
        agent_request_id: header(&"x".repeat(36)),
        originator: worst.as_str().into(),
        forward: "f".repeat(64).into(),
        method: Some(Method::from_bytes("M".repeat(15_000).as_bytes()).unwrap()),
        target: RedactedTarget::redact(&format!("/{worst}")),
        rule: Some(worst.as_str().into()),
        user: Some(header(&worst)),
        event: Some(AuditedEvent {
            id: worst.as_str().into(),
            attempts: Some(u32::MAX),
        }),
        ..*record("id")
    };
    let line = serde_json::to_string(&line).unwrap();
    assert!(line.len() < record::MAX_LINE - 100, "{}", line.len());
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["method"], format!("{}…", "M".repeat(32)));
}

#[tokio::test]
async fn an_audit_that_is_off_costs_and_counts_nothing() {
    let (audit, task) = AuditHandle::spawn(settings(SinkSetting::Off, 8));
    audit.submit(record("id-1"), None);
    assert!(task.shutdown(LIMIT).await);
    let condition = audit.condition();
    assert_eq!((condition.written, condition.dropped), (0, 0));
    assert!(!condition.on);
}
