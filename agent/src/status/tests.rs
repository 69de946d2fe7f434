use super::*;
use crate::{
    audit::AuditCondition,
    expiry::{CredentialKind, ExpiryUrgency},
    pause::PauseRecord,
};
use std::time::Duration;

fn layer(state: LayerState) -> LayerReport {
    let failed = state == LayerState::Failed;
    LayerReport {
        state,
        proven_seconds_ago: Some(2.0),
        since_seconds: Some(60.0),
        detail: None,
        cause: failed.then(|| "connection refused".to_owned()),
        remedy: failed.then(|| "ask the network team".to_owned()),
    }
}

fn forward(tunnel: LayerState, jira: LayerState, login: LayerState) -> ForwardReport {
    ForwardReport {
        name: "jira".into(),
        bind: "127.0.0.1:8080".into(),
        bound: vec!["127.0.0.1:8080".into()],
        upstream: "https://jira.corp.example/jira".into(),
        service: "jira".into(),
        profile_file: None,
        auth_mode: "pat".into(),
        tunnel: layer(tunnel),
        jira: layer(jira),
        login: layer(login),
        circuit_open: false,
        protection: ProtectionReport::default(),
        paused: None,
        in_flight: 0,
        requests: 3,
    }
}

fn pause() -> PauseRecord {
    PauseRecord {
        since: "2026-11-22T09:30:00Z".into(),
        reason: Some("CHG-7".into()),
        by_uid: Some(0),
    }
}

fn connection(network: LayerState, tunnel: LayerState) -> ConnectionView {
    ConnectionView {
        index: 0,
        gateway: "gw1.vendor.example:443".into(),
        via: None,
        address: None,
        user: "acme".into(),
        phase: ConnectionPhase::Serving,
        since_seconds: 60.0,
        attempt: 0,
        next_retry_seconds: None,
        network: layer(network),
        tunnel: layer(tunnel),
        failed_hop: None,
        suspect_seconds: None,
        rtt_ms: Some(12.3),
        generation: 1,
        host_key: None,
        key_exchange: None,
        cipher: None,
        strict_key_exchange: None,
        channels: 4,
        bytes_received: 2048,
        bytes_sent: 10,
        backlog: 0,
        closed_first: 0,
        channel_resets: 0,
        forwards: Vec::new(),
    }
}

use LayerState::{Degraded, Failed, NotApplicable, Proven, Unknown};

#[test]
fn proven_means_that_every_layer_of_everything_is() {
    let proven = [forward(Proven, Proven, NotApplicable)];
    let fine = [connection(Proven, Proven)];
    assert_eq!(OverallState::of(&fine, &proven), OverallState::Proven);
    for spoiled in [Unknown, Degraded] {
        assert_eq!(
            OverallState::of(&fine, &[forward(Proven, spoiled, Proven)]),
            OverallState::Degraded
        );
    }
    let mut paused = forward(Proven, Proven, Proven);
    paused.paused = Some(pause());
    assert_eq!(OverallState::of(&fine, &[paused]), OverallState::Degraded);
    let one_gateway_away = [connection(Proven, Proven), connection(Failed, Unknown)];
    assert_eq!(
        OverallState::of(&one_gateway_away, &proven),
        OverallState::Degraded
    );
}

#[test]
fn a_lost_record_is_degraded_for_an_hour_and_a_required_audit_that_fails_is_down() {
    let on = AuditCondition {
        on: true,
        ..AuditCondition::default()
    };
    let judged = |condition: AuditCondition| {
        let report = AuditReport::of(&condition);
        let explained = report.cause.is_some() && report.remedy.is_some();
        assert_eq!(explained, matches!(report.state, Degraded | Failed));
        OverallState::Proven.with_audit(&report)
    };
    let lost = |seconds| AuditCondition {
        dropped: 3,
        last_dropped: Some(std::time::Duration::from_secs(seconds)),
        ..on.clone()
    };
    let failing = |required| AuditCondition {
        fault: Some("cannot write to the file /x: No space left on device".into()),
        required,
        ..on.clone()
    };
    assert_eq!(judged(on.clone()), OverallState::Proven);
    assert_eq!(judged(lost(3599)), OverallState::Degraded);
    assert_eq!(judged(lost(3600)), OverallState::Proven);
    assert_eq!(judged(failing(false)), OverallState::Degraded);
    assert_eq!(judged(failing(true)), OverallState::Down);
    assert_eq!(judged(AuditCondition::default()), OverallState::Proven);
}

#[test]
fn a_state_folder_that_takes_nothing_is_degraded_with_cause_and_remedy() {
    let judged = |found| {
        let report = StateFolderReport::of(std::path::Path::new("/state"), found);
        let is_told = report.cause.is_some() && report.remedy.is_some();
        assert_eq!(is_told, report.state == Degraded);
        OverallState::Proven.with_state_folder(&report)
    };
    assert_eq!(judged(None), OverallState::Proven);
    assert_eq!(judged(Some(Ok(()))), OverallState::Proven);
    assert_eq!(judged(Some(Err("full"))), OverallState::Degraded);
    let full = StateFolderReport::of(std::path::Path::new("/state"), Some(Err("full")));
    assert_eq!(
        OverallState::Down.with_state_folder(&full),
        OverallState::Down
    );
}

#[test]
fn the_cause_of_a_single_connection_stands_once() {
    let mentions = |connections: Vec<ConnectionView>, forwards: usize| {
        let forwards = vec![forward(Failed, Proven, Proven); forwards];
        let document = serde_json::json!({
            "version": REPORT_VERSION,
            "time": "",
            "overall": OverallState::of(&connections, &forwards),
            "agent": { "version": "", "pid": 1, "uptime_seconds": 1, "draining": false },
            "layers": LayerSummary::of(&connections, &forwards),
            "connections": connections,
            "forwards": forwards,
            "audit": AuditReport::default(),
        });
        let report: StatusReport = serde_json::from_value(document).unwrap();
        let text = render(&report, ColorMode::No);
        text.matches("cause:  connection refused").count()
    };
    let failing = || connection(Failed, Failed);
    // Once for each layer.
    assert_eq!(mentions(vec![failing()], 1), 2);
    // Which connection, and which forward.
    assert_eq!(mentions(vec![failing(), failing()], 1), 2 + 4);
    assert_eq!(mentions(vec![failing()], 2), 1 + 1 + 2);
}

#[test]
fn down_means_that_no_request_can_pass_by_any_forward() {
    let fine = [connection(Proven, Proven)];
    let dead = forward(Proven, Proven, Failed);
    assert_eq!(
        OverallState::of(&fine, std::slice::from_ref(&dead)),
        OverallState::Down
    );
    let one_of_two = [dead, forward(Proven, Proven, Proven)];
    assert_eq!(OverallState::of(&fine, &one_of_two), OverallState::Degraded);
    assert_eq!(
        [
            OverallState::Proven,
            OverallState::Degraded,
            OverallState::Down
        ]
        .map(OverallState::exit_code),
        [0, 1, 2]
    );
}

#[test]
fn the_documented_schema_is_the_one_of_the_code() {
    let documented = include_str!("../../../docs/status.schema.json");
    assert_eq!(
        documented,
        schema(),
        "run `make docs` and look at the difference"
    );
}

#[test]
fn the_table_names_cause_and_remedy_and_colours_only_when_asked() {
    let connections = vec![connection(Failed, Unknown)];
    let mut forwards = vec![forward(Failed, Proven, Proven)];
    forwards[0].paused = Some(pause());
    let report = StatusReport {
        version: REPORT_VERSION,
        time: String::new(),
        overall: OverallState::of(&connections, &forwards),
        agent: AgentReport {
            version: "0.1.0".into(),
            pid: 1,
            uptime_seconds: 7300,
            draining: false,
        },
        layers: LayerSummary::of(&connections, &forwards),
        connections,
        forwards,
        outlets: Vec::new(),
        credentials: vec![CredentialReport {
            forward: Some("jira".into()),
            credential: CredentialKind::PersonalAccessToken,
            expires: Some("2027-01-31T00:00:00Z".into()),
            days_left: Some(12.3),
            renewed_by_itself: false,
            urgency: ExpiryUrgency::Within14Days,
            summary: "the personal access token ends in 12 days (2027-01-31)".into(),
            remedy: Some("make a new one".into()),
        }],
        spool: SpoolReport {
            state: Degraded,
            cause: Some("no room".into()),
            remedy: Some("make room on it".into()),
            ..SpoolReport::default()
        },
        state_folder: StateFolderReport::of(
            std::path::Path::new("/state"),
            Some(Err("Read-only file system")),
        ),
        descriptors: DescriptorReport {
            state: Degraded,
            cause: Some("too many files are open".into()),
            remedy: Some("raise the limit".into()),
            ..DescriptorReport::default()
        },
        audit: AuditReport::of(&AuditCondition {
            written: 1,
            dropped: 2,
            last_dropped: Some(std::time::Duration::from_secs(7)),
            on: true,
            sink: "the journal".into(),
            sink_reason: "this and that".into(),
            ..AuditCondition::default()
        }),
        configuration: ConfigurationReport {
            loaded: "2026-11-28T07:00:00Z".into(),
            refused: Some(RefusedConfiguration {
                time: "2026-11-28T08:00:00Z".into(),
                problems: vec!["agent.toml:7: tunnel.user: not a user name".into()],
            }),
            restart: vec!["audit".into()],
        },
        upgrade: Some(UpgradeReport {
            state: UpgradeState::Failed,
            version: Some("0.2.0".into()),
            since: "2026-11-28T09:00:00Z".into(),
            cause: Some("it did not prove the tunnel".into()),
            remedy: Some("agent upgrade --retry".into()),
        }),
    };
    let plain = render(&report, ColorMode::No);
    for part in [
        "DOWN",
        "2 h 1 min",
        "cause:  connection refused",
        "remedy: ask the network team",
        "audit\n  to the journal: this and that",
        "upgrade: FAILED at 2026-11-28T09:00:00Z: the new process, version 0.2.0, did not take over; this one, version 0.1.0, keeps serving\n  cause: it did not prove the tunnel\n  remedy: agent upgrade --retry\n",
        "1 written, 2 DROPPED",
        "DEGRADED  2 audit records were lost since the start, the last 7 s ago",
        "spool\n  DEGRADED  no room\n            remedy: make room on it",
        "state folder\n  DEGRADED  cannot write to /state: Read-only file system\n            remedy: free space",
        "descriptors\n  DEGRADED  too many files are open\n            remedy: raise the limit",
        "PAUSED    since 2026-11-22T09:30:00Z by uid 0: CHG-7",
        "WARNING   the personal access token ends in 12 days",
        "remedy: make a new one",
        "REFUSED at 2026-11-28T08:00:00Z; the agent uses the one loaded at 2026-11-28T07:00:00Z",
        "agent.toml:7: tunnel.user",
        "audit changed; to apply it: systemctl restart",
    ] {
        assert!(plain.contains(part), "{part} is missing in:\n{plain}");
    }
    assert!(!plain.contains('\x1b'));
    assert!(render(&report, ColorMode::Yes).contains("\x1b[31mDOWN"));

    let mut later = report.clone();
    later.forwards[0].requests += 5;
    later.connections[0].bytes_received += 4096;
    // A session that began meanwhile counts from its beginning.
    later.connections.push(ConnectionView {
        index: 7,
        bytes_received: 1024,
        bytes_sent: 0,
        ..connection(Proven, Proven)
    });
    let two = Duration::from_secs(2);
    assert_eq!(
        render_rates(&report, &later, two).unwrap(),
        "\nin the last 2.0 s\n  jira  5 requests (2.5 a second)\n  tunnel  5.0 KiB in (2.5 KiB a second)  0 B out (0 B a second)\n"
    );
    later.agent.pid += 1;
    assert_eq!(render_rates(&report, &later, two), None, "restarted");
}

fn storing(queue: QueueReport) -> OutletReport {
    OutletReport {
        name: "events".into(),
        listen: "127.0.0.1:8090".into(),
        to: "events.vendor.internal:80".into(),
        mode: "store".into(),
        listener: layer(Proven),
        vendor: layer(Proven),
        paused: None,
        queue: Some(queue),
        in_flight: 0,
        requests: 12,
    }
}

/// The report of an agent whose only fault is this queue.
fn with_queue(queue: QueueReport) -> StatusReport {
    let (connections, forwards) = (
        [connection(Proven, Proven)],
        [forward(Proven, Proven, Proven)],
    );
    let outlets = [storing(queue)];
    let document = serde_json::json!({
        "version": REPORT_VERSION,
        "time": "",
        "overall": OverallState::of(&connections, &forwards).with_outlets(&outlets),
        "agent": { "version": "1", "pid": 1, "uptime_seconds": 1, "draining": false },
        "layers": LayerSummary::of(&connections, &forwards),
        "connections": connections,
        "forwards": forwards,
        "outlets": outlets,
        "audit": AuditReport::default(),
    });
    serde_json::from_value(document).unwrap()
}

#[test]
fn a_queue_that_needs_a_person_degrades_and_names_cause_and_remedy_within_80_columns() {
    let degraded = QueueReport {
        state: Degraded,
        cause: Some("3 dead letters, the last one given up 12 min ago".into()),
        remedy: Some("see why: agent events --dead; then: agent events retry --all".into()),
        events: 1204,
        bytes: 12 << 20,
        max_events: 200_000,
        max_bytes: 512 << 20,
        oldest_seconds: Some(7500.0),
        next_attempt: Some("2026-11-30T20:00:40Z".into()),
        last_error: Some("the vendor's host answered 503 Service Unavailable".into()),
        dead_letters: 3,
        forecast: Some("full in about 3 h".into()),
        ..QueueReport::default()
    };
    let report = with_queue(degraded.clone());
    assert_eq!(report.overall, OverallState::Degraded);
    assert_eq!(
        headline(&report),
        "degraded: outlet events queue: 3 dead letters, the last one given up 12 min ago"
    );
    let text = render_within(&report, ColorMode::No, Some(80));
    let shown = text.split_once("\noutlets\n").unwrap().1;
    let shown = shown.split_once("     queue ").unwrap().1;
    assert_eq!(
        shown,
        "   degraded  1204 events wait, the oldest for 2 h 5 min (12.0 MiB of\n\
         \x20             512.0 MiB)\n\
         \x20             cause:  3 dead letters, the last one given up 12 min ago\n\
         \x20             remedy: see why: agent events --dead; then: agent events retry\n\
         \x20               --all\n\
         \x20             WARNING full in about 3 h\n\
         \x20             last attempt failed: the vendor's host answered 503 Service\n\
         \x20               Unavailable; next attempt at 2026-11-30T20:00:40Z\n\
         \x20             3 dead letters: agent events --outlet events --dead\n"
    );
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    let failed = with_queue(QueueReport::unusable(
        "agent.redb is damaged",
        "move it away",
    ));
    assert_eq!(failed.overall, OverallState::Degraded);
    assert_eq!(
        headline(&failed),
        "degraded: outlet events queue: agent.redb is damaged"
    );
    let text = render(&failed, ColorMode::No);
    assert!(
        text.contains("     queue    FAILED\n              cause:  agent.redb is damaged\n"),
        "{text}"
    );
    let fine = with_queue(QueueReport {
        state: Proven,
        ..degraded
    });
    assert_eq!(fine.overall, OverallState::Proven);
}

#[test]
fn an_empty_queue_is_one_line() {
    let report = with_queue(QueueReport {
        state: Proven,
        max_bytes: 1,
        ..QueueReport::default()
    });
    let text = render(&report, ColorMode::No);
    assert!(text.ends_with("     queue    proven    empty\n"), "{text}");
    assert!(text.contains("mode store  12 requests, 0 in progress"));
}
