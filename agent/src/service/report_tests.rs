//! How a forward is reported, by what its connections show.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::status::ConnectionPhase;
use std::time::Duration;

fn layer(state: LayerState, detail: &str) -> LayerReport {
    LayerReport {
        state,
        detail: Some(detail.to_owned()),
        ..LayerReport::not_applicable("")
    }
}

fn connection(index: usize, tunnel: LayerState) -> ConnectionView {
    ConnectionView {
        index,
        gateway: "gw1.vendor.example:443".into(),
        via: None,
        address: None,
        user: "acme".into(),
        phase: ConnectionPhase::Serving,
        since_seconds: 60.0,
        attempt: 0,
        next_retry_seconds: None,
        network: layer(LayerState::Proven, ""),
        tunnel: layer(tunnel, &format!("connection {index}")),
        failed_hop: None,
        suspect_seconds: None,
        rtt_ms: None,
        generation: 1,
        host_key: None,
        key_exchange: None,
        cipher: None,
        strict_key_exchange: None,
        channels: 0,
        bytes_received: 0,
        bytes_sent: 0,
        backlog: 0,
        closed_first: 0,
        channel_resets: 0,
        forwards: Vec::new(),
    }
}

fn view(state: ForwardState, cause: Option<&str>) -> ForwardView {
    ForwardView {
        name: "jira".into(),
        bind: "127.0.0.1:8080".into(),
        state,
        proof: None,
        unproven: None,
        bound: None,
        cause: cause.map(str::to_owned),
        remedy: cause.map(|_| "ask the vendor".to_owned()),
    }
}

#[test]
fn a_forward_is_as_good_as_the_best_connection_that_holds_it() {
    let connections = [
        connection(0, LayerState::Failed),
        connection(1, LayerState::Proven),
        connection(2, LayerState::Proven),
    ];
    let bound = view(ForwardState::Bound, None);
    let standby = view(ForwardState::Standby, None);
    let views = [
        (&connections[0], &bound),
        (&connections[1], &bound),
        (&connections[2], &standby),
    ];
    let report = tunnel(&views);
    assert_eq!(report.state, LayerState::Proven);
    assert_eq!(report.detail.as_deref(), Some("connection 1"));
    // A standby connection carries no requests.
    assert_eq!(tunnel(&views[..1]).state, LayerState::Failed);
    assert_eq!(tunnel(&views[2..]).state, LayerState::Unknown);
}

#[test]
fn a_refused_forward_fails_on_a_proven_session_and_says_why() {
    let connections = [
        connection(0, LayerState::Proven),
        connection(1, LayerState::Proven),
    ];
    let refused = view(ForwardState::Refused, Some("the port is taken"));
    let pending = view(ForwardState::Pending, None);
    let report = tunnel(&[(&connections[1], &pending), (&connections[0], &refused)]);
    assert_eq!(report.state, LayerState::Failed);
    assert_eq!(report.cause.as_deref(), Some("the port is taken"));
    assert_eq!(report.remedy.as_deref(), Some("ask the vendor"));
}

#[test]
fn a_place_that_is_taken_or_lost_is_no_tunnel_and_a_granted_one_says_so() {
    let connections = [
        connection(0, LayerState::Proven),
        connection(1, LayerState::Proven),
    ];
    let with = |proof| ForwardView {
        proof: Some(proof),
        ..view(ForwardState::Bound, None)
    };
    let broken = |proof| ForwardView {
        cause: Some("another agent answers".into()),
        ..with(proof)
    };
    for state in [PlaceState::Taken, PlaceState::Lost] {
        let report = tunnel(&[(&connections[0], &broken(state))]);
        assert_eq!(report.state, LayerState::Failed);
        assert_eq!(report.cause.as_deref(), Some("another agent answers"));
        let (lost, proven) = (broken(state), with(PlaceState::Proven));
        let report = tunnel(&[(&connections[0], &lost), (&connections[1], &proven)]);
        assert_eq!(report.detail.as_deref(), Some("connection 1"));
    }
    let mut granted = with(PlaceState::Granted);
    let pending = tunnel(&[(&connections[0], &granted)]);
    assert_eq!(pending.detail.as_deref(), Some("connection 0"));
    granted.unproven = Some("the gateway does not let the agent connect".into());
    let known = tunnel(&[(&connections[0], &granted)]);
    assert_eq!(known.state, LayerState::Proven);
    assert_eq!(known.detail.unwrap(), format!("connection 0; {GRANTED}"));
    let (shared, proven) = (with(PlaceState::Shared), with(PlaceState::Proven));
    let report = tunnel(&[(&connections[0], &shared), (&connections[1], &proven)]);
    assert_eq!(report.detail.as_deref(), Some("connection 1"));
    assert_eq!(
        tunnel(&[(&connections[0], &shared)]).state,
        LayerState::Proven
    );
}

/// The prober hangs: nothing fails, and the proof ages all the same.
#[test]
fn a_proof_of_jira_or_login_counts_45_seconds_and_the_time_of_one_probe() {
    let layer = StatusLayer::default();
    layer.proven(Some("acme-bot"));
    let proven_at = layer.snapshot().proven_at.unwrap();
    let upstream = upstream::Settings::new("https://jira.test".parse().unwrap());
    let counts = Duration::from_secs(45) + ControlClient::longest(&upstream);
    let at = |age| probed(&layer, &upstream, proven_at + age);
    assert_eq!(at(counts).state, LayerState::Proven);
    let later = at(counts + Duration::from_secs(1));
    assert_ne!(later.state, LayerState::Proven);
    assert!(later.cause.is_some() && later.remedy.is_some());
}

#[test]
fn nothing_is_claimed_without_a_connection_or_before_it_is_bound() {
    assert_eq!(tunnel(&[]).state, LayerState::Unknown);
    let pending = view(ForwardState::Pending, None);
    let failed = connection(0, LayerState::Failed);
    assert_eq!(tunnel(&[(&failed, &pending)]).state, LayerState::Failed);
}
