#![allow(clippy::unwrap_used)]
use super::*;
use crate::{
    audit::{AuditRecord, RedactedTarget, RequestOutcome},
    upstream::Delivery,
};
use http::{HeaderValue, Method, StatusCode};
use serde_json::json;
use std::time::Duration;

const DOCUMENT: &str = include_str!("../../../docs/metrics.md");

fn report() -> StatusReport {
    let layer = |state: &str| json!({ "state": state, "proven_seconds_ago": 2.5 });
    let all = json!({
        "network": layer("proven"), "tunnel": layer("proven"),
        "jira": layer("proven"), "login": layer("degraded"),
    });
    let queue = json!({
        "state": "degraded", "cause": "", "remedy": "", "events": 14, "bytes": 250, "max_events": 1000,
        "max_bytes": 1000, "oldest_received": "", "oldest_seconds": 15.5, "next_attempt": null,
        "last_error": "secret", "dead_letters": 16, "dead_bytes": 1, "last_dead": null, "full_since": null,
        "forecast": null, "stored": 17, "repeated": 18, "delivered": 19, "failed_attempts": 20, "given_up": 21,
        "dropped": 22, "refused": 23,
    });
    serde_json::from_value(json!({
        "version": 1, "time": "", "overall": "degraded",
        "agent": { "version": "1.2.3", "pid": 7, "uptime_seconds": 60, "draining": false },
        "layers": all,
        "connections": [{
            "index": 0, "gateway": "gw:443", "user": "acme", "phase": "serving",
            "since_seconds": 1.0, "attempt": 0, "next_retry_seconds": null,
            "network": layer("proven"), "tunnel": layer("proven"), "rtt_ms": 12.5,
            "generation": 3, "host_key": null, "key_exchange": null, "cipher": null,
            "channels": 4, "bytes_received": 10, "bytes_sent": 20, "backlog": 30,
            "closed_first": 0, "channel_resets": 2, "forwards": [],
        }],
        "forwards": [{
            "name": "jira", "bind": "127.0.0.1:0", "bound": ["127.0.0.1:8080"],
            "upstream": "https://jira.corp.example", "auth_mode": "pat",
            "tunnel": layer("proven"), "jira": layer("proven"), "login": layer("degraded"),
            "circuit_open": true, "paused": { "since": "", "reason": null, "by_uid": 0 },
            "in_flight": 5, "requests": 6,
        }],
        "outlets": [{
            "name": "events", "listen": "127.0.0.1:8090", "to": "events.vendor.internal:80", "mode": "store",
            "listener": layer("failed"), "vendor": layer("proven"), "in_flight": 1, "requests": 2,
            "paused": { "since": "", "reason": null, "by_uid": 0 },
            "queue": queue,
        }, {
            "name": "callbacks", "listen": "127.0.0.1:8091", "to": "events.vendor.internal:80", "mode": "pass",
            "listener": layer("proven"), "vendor": layer("unknown"), "in_flight": 0, "requests": 0,
        }],
        "credentials": [{
            "forward": "jira", "credential": "personal_access_token",
            "expires": "2027-01-31T00:00:00Z", "days_left": 6.5,
            "renewed_by_itself": false, "urgency": "within_7_days",
            "summary": "", "remedy": null,
        }],
        "spool": {
            "state": "degraded", "cause": "", "remedy": "", "folder": "", "resets": 11, "reset_seconds_ago": 12.0,
        },
        "state_folder": { "state": "degraded", "cause": "", "remedy": "", "folder": "" },
        "descriptors": {
            "state": "degraded", "cause": "", "remedy": "", "limit": 64, "reserve": 28, "in_use": 1, "refused": 13,
            "refused_seconds_ago": 1.0,
        },
        "audit": { "written": 8, "dropped": 9, "state": "degraded", "summed": 10 },
    }))
    .unwrap()
}

fn record() -> AuditRecord {
    AuditRecord {
        time: SystemTime::UNIX_EPOCH,
        request_id: HeaderValue::from_static("id"),
        agent_request_id: HeaderValue::from_static("own"),
        forward: "jira".into(),
        direction: Default::default(),
        connection: 0,
        originator: "".into(),
        method: Some(Method::GET),
        target: RedactedTarget::redact("/secret-path?token=secret"),
        allowed: true,
        rule: None,
        error: None,
        cause: None,
        status: Some(StatusCode::CREATED),
        request_bytes: 100,
        response_bytes: 200,
        duration: Duration::from_millis(20),
        first_byte: Some(Duration::from_millis(3)),
        delivery: Delivery::Answered,
        outcome: RequestOutcome::Complete,
        user: None,
        event: None,
    }
}

fn page() -> String {
    let traffic = TrafficCounters::new("jira");
    traffic.count_ended(&record());
    traffic.count_ended(&AuditRecord {
        outcome: RequestOutcome::Refused,
        error: Some("policy-refused"),
        status: Some(StatusCode::FORBIDDEN),
        first_byte: None,
        ..record()
    });
    render(&report(), &[Arc::new(traffic)]).unwrap()
}

#[test]
fn what_was_counted_and_what_the_status_says_is_on_the_page() {
    let page = page();
    for line in [
        r#"requests_total{class="2xx",forward="jira",outcome="complete"} 1"#,
        r#"requests_total{class="4xx",forward="jira",outcome="refused"} 1"#,
        r#"requests_total{class="5xx",forward="jira",outcome="complete"} 0"#,
        r#"errors_total{error="policy-refused",forward="jira"} 1"#,
        r#"request_bytes_total{forward="jira"} 200"#,
        r#"response_bytes_total{forward="jira"} 400"#,
        r#"request_duration_seconds_bucket{forward="jira",le="0.01"} 0"#,
        r#"request_duration_seconds_bucket{forward="jira",le="0.025"} 2"#,
        r#"first_byte_seconds_count{forward="jira"} 1"#,
        r#"requests_in_flight{forward="jira"} 5"#,
        r#"forward_bound{forward="jira"} 1"#,
        r#"forward_paused{forward="jira"} 1"#,
        r#"layer_state{forward="jira",layer="login",state="degraded"} 1"#,
        r#"layer_state{forward="jira",layer="login",state="proven"} 0"#,
        r#"layer_state{forward="",layer="network",state="proven"} 1"#,
        r#"layer_proven_age_seconds{forward="",layer="jira"} 2.5"#,
        r#"layer_state{forward="events",layer="listener",state="failed"} 1"#,
        r#"layer_state{forward="events",layer="vendor",state="proven"} 1"#,
        r#"layer_state{forward="events",layer="queue",state="degraded"} 1"#,
        r#"layer_state{forward="callbacks",layer="vendor",state="unknown"} 1"#,
        r#"layer_proven_age_seconds{forward="events",layer="vendor"} 2.5"#,
        r#"forward_paused{forward="events"} 1"#,
        r#"requests_in_flight{forward="events"} 1"#,
        r#"outlet_queue_events{forward="events"} 14"#,
        r#"outlet_queue_bytes{forward="events"} 250"#,
        r#"outlet_queue_used_ratio{forward="events"} 0.25"#,
        r#"outlet_queue_oldest_age_seconds{forward="events"} 15.5"#,
        r#"outlet_dead_letters{forward="events"} 16"#,
        r#"outlet_events_stored_total{forward="events"} 17"#,
        r#"outlet_events_repeated_total{forward="events"} 18"#,
        r#"outlet_events_delivered_total{forward="events"} 19"#,
        r#"outlet_delivery_failures_total{forward="events"} 20"#,
        r#"outlet_events_given_up_total{forward="events"} 21"#,
        r#"outlet_events_dropped_total{forward="events"} 22"#,
        r#"outlet_events_refused_total{forward="events"} 23"#,
        r#"connection_phase{connection="0",phase="serving"} 1"#,
        r#"connection_sessions_total{connection="0"} 3"#,
        r#"connection_round_trip_seconds{connection="0"} 0.0125"#,
        r#"connection_suspect{connection="0"} 0"#,
        r#"connection_channel_resets_total{connection="0"} 2"#,
        r#"login_circuit_open{forward="jira"} 1"#,
        r#"credential_expiry_timestamp_seconds{credential="personal_access_token",forward="jira"} 1801353600"#,
        r#"credential_expiry_warning{credential="personal_access_token",forward="jira",within="7d"} 1"#,
        r#"credential_expiry_warning{credential="personal_access_token",forward="jira",within="30d"} 1"#,
        r#"credential_expiry_warning{credential="personal_access_token",forward="jira",within="over"} 0"#,
        "audit_records_dropped_total 9",
        "spool_degraded 1",
        "spool_resets_total 11",
        "descriptors_refused_total 13",
        "state_folder_degraded 1",
        "audit_refusals_summed_total 10",
        r#"audit_state{state="degraded"} 1"#,
        r#"audit_state{state="proven"} 0"#,
        r#"info{version="1.2.3"} 1"#,
    ] {
        let line = format!("\njira_tunnel_agent_{line}\n");
        assert!(page.contains(&line), "{line} is missing in:\n{page}");
    }
    assert!(!page.contains("secret"), "{page}");
}

#[test]
fn every_family_is_documented_and_every_documented_one_is_there() {
    let page = page();
    let rows: Vec<String> = families::ALL
        .iter()
        .map(|family| {
            assert!(page.contains(&format!("# TYPE {} ", family.name())));
            let labels: Vec<_> = family.labels.iter().map(|l| format!("`{l}`")).collect();
            let kind = format!("{:?}", family.kind).to_lowercase();
            let name = family.name();
            let help = family.help;
            format!("| `{name}` | {kind} | {} | {help} |", labels.join(", "))
        })
        .collect();
    let table = rows.join("\n");
    assert!(
        DOCUMENT.contains(&format!("|---|---|---|---|\n{table}\n\n")),
        "docs/metrics.md lacks:\n{table}"
    );
    let types = page.matches("# TYPE ").count();
    assert_eq!(types, families::ALL.len(), "a family is not in the list");
}
