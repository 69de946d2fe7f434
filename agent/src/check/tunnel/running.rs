//! While the agent runs: its own sessions show how far they got, and only hops without a credential are tried separately.

use super::{
    hop_recorder::{HopRecorder, SESSION_HOPS, key_exchange, login},
    listens, round_trip,
};
use crate::{
    check::step::{StepRecorder, StepResult},
    http,
    status::{ConnectionView, ForwardState, ForwardView, LayerState, PlaceState},
    supervisor::LastFailure,
    tunnel::{
        GatewayAddress, Hop, Settings,
        session::{Session, probe_banner, probe_first_hop},
    },
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// The state of the running agent that a check uses.
pub struct RunningAgent {
    /// The connections, as in the status.
    pub connections: Vec<ConnectionView>,
    /// One entry per configured gateway: the last attempt, if it failed.
    pub failures: Vec<Option<LastFailure>>,
    /// The forwards to check.
    pub forwards: Vec<ForwardUnderTest>,
}

/// One forward of the running agent.
pub struct ForwardUnderTest {
    /// Name of the forward in the configuration.
    pub name: Arc<str>,
    /// `None` if raw bytes are forwarded.
    pub http: Option<Arc<http::HttpForward>>,
    /// Context path of the Jira behind the forward.
    pub context_path: String,
    /// The sessions that hold it, each with the number of its connection.
    pub sessions: Vec<(usize, Session)>,
}

/// Checks all gateways at once, so that two silent ones cost the time of one.
pub(in crate::check) async fn check(
    settings: &Settings,
    running: &RunningAgent,
) -> Vec<StepRecorder> {
    let mut each = Vec::new();
    for (index, gateway) in settings.gateways.iter().enumerate() {
        each.push(check_gateway(settings, running, index, gateway));
    }
    join_all(each).await
}

async fn check_gateway(
    settings: &Settings,
    running: &RunningAgent,
    index: usize,
    gateway: &GatewayAddress,
) -> StepRecorder {
    let mut steps = StepRecorder::for_gateway(gateway);
    let name = gateway.to_string();
    let connections: Vec<_> = running
        .connections
        .iter()
        .filter(|c| c.gateway == name)
        .collect();
    let session = connections.iter().copied().find(|c| c.host_key.is_some());
    let failure = running.failures.get(index).and_then(Option::as_ref);
    let reached = check_route(&mut steps, settings, gateway, session.is_some(), failure).await;
    match (session, failure) {
        (Some(connection), _) => report_session(&mut steps, settings, connection),
        (None, Some(failure)) => report_last_failure(&mut steps, failure, reached),
        (None, None) => {
            let why =
                "no connection of the agent uses this gateway now; the key is not tried separately";
            steps.add("login", StepResult::skipped(why));
        }
    }
    for forward_under_test in &running.forwards {
        forward(&mut steps, forward_under_test, &connections).await;
    }
    steps
}

/// Connects again as far as no credential is needed. Returns whether it reached the banner.
async fn check_route(
    steps: &mut StepRecorder,
    settings: &Settings,
    gateway: &GatewayAddress,
    session: bool,
    failure: Option<&LastFailure>,
) -> bool {
    let hops = HopRecorder::begin();
    let proxy = settings.egress.proxy(gateway);
    let has_credential = proxy.is_some_and(|proxy| proxy.credential.is_some());
    let observer = hops.observer();
    let attempt = async {
        match has_credential {
            true => probe_first_hop(settings, gateway, &observer).await,
            false => probe_banner(settings, gateway, &observer).await,
        }
    };
    // Each wait has its own limit; this one is for their sum.
    let Ok(outcome) = timeout(ROUTE_TIMEOUT, attempt).await else {
        hops.record(steps, settings, gateway, None, None);
        let cause = format!(
            "connecting to the gateway took longer than {} s",
            ROUTE_TIMEOUT.as_secs()
        );
        let remedy =
            "try again; if it persists, ask the network team what delays outbound connections";
        steps.add_timed("banner", StepResult::fail(cause, remedy), ROUTE_TIMEOUT);
        return false;
    };
    hops.record(steps, settings, gateway, None, outcome.as_ref().err());
    if outcome.is_err() || !has_credential {
        return outcome.is_ok();
    }
    let proxy = proxy.map(ToString::to_string).unwrap_or_default();
    match failure {
        _ if session => {
            let seen = format!(
                "{proxy} accepted the agent's own session; its credential is not tried again"
            );
            steps.add("proxy", StepResult::ok(seen));
        }
        // The proxy's answer belongs to the hop `proxy`.
        Some(failure) if failure.hop == Hop::Proxy => steps.add("proxy", failure_result(failure)),
        _ => {
            let why = "the proxy credential is not tried separately from the agent's own attempts";
            steps.add("proxy", StepResult::skipped(why));
        }
    }
    false
}

/// There is a session: all of its hops were passed.
fn report_session(steps: &mut StepRecorder, settings: &Settings, connection: &ConnectionView) {
    let joined = |parts: [&Option<String>; 2]| {
        let parts: Vec<_> = parts.into_iter().flatten().cloned().collect();
        parts.join(", ")
    };
    let agreed = joined([&connection.key_exchange, &connection.cipher]);
    steps.add(
        "key-exchange",
        key_exchange(agreed, connection.strict_key_exchange != Some(false)),
    );
    let fingerprint = connection.host_key.clone().unwrap_or_default();
    steps.add("host-key", StepResult::ok(fingerprint));
    let who = format!("{}, by connection {}", login(settings), connection.index);
    steps.add("login", StepResult::ok(who));
    let layer = &connection.tunnel;
    let ago = layer.proven_seconds_ago.unwrap_or_default();
    let found = match (layer.state, &layer.cause, &layer.remedy) {
        (LayerState::Proven, ..) => {
            let seen = layer.detail.clone().unwrap_or_default();
            StepResult::ok(format!("answered a probe {ago:.0} s ago, {seen}"))
        }
        (_, Some(cause), Some(remedy)) => StepResult::warn(cause.clone(), remedy.clone()),
        _ => StepResult::skipped("not probed yet"),
    };
    steps.add("session", found);
}

/// There is no session: the agent's last attempt shows how far it got.
fn report_last_failure(steps: &mut StepRecorder, failure: &LastFailure, reached: bool) {
    for hop in SESSION_HOPS {
        match hop {
            hop if hop < failure.hop => {
                let seen = "passed in the agent's last attempt";
                steps.add(hop.name(), StepResult::ok(seen));
            }
            hop if hop == failure.hop => steps.add(hop.name(), failure_result(failure)),
            _ => {}
        }
    }
    if failure.hop < Hop::KeyExchange && reached {
        let cause = format!(
            "the agent's last attempt failed {} s ago: {}",
            failure.at.elapsed().as_secs(),
            failure.cause
        );
        let found = StepResult::warn(
            cause,
            "the gateway is reachable now, and the agent retries by itself; check again in a minute",
        );
        steps.add("session", found);
    }
}

/// A step that fails as the agent's own last attempt did.
fn failure_result(failure: &LastFailure) -> StepResult {
    let seen = format!(
        "the agent's last attempt, {} s ago; not tried again now",
        failure.at.elapsed().as_secs()
    );
    StepResult::fail(failure.cause.clone(), failure.remedy.clone()).with_detail(seen)
}

/// `connections` are those to this gateway.
async fn forward(
    steps: &mut StepRecorder,
    forward_under_test: &ForwardUnderTest,
    connections: &[&ConnectionView],
) {
    steps.set_forward(Some(&forward_under_test.name));
    let mut connected = Vec::new();
    let mut views: Vec<&ForwardView> = Vec::new();
    for connection in connections {
        if connection.host_key.is_some() {
            connected.push(connection.index);
            let forwards = connection.forwards.iter();
            views.extend(forwards.filter(|view| *view.name == *forward_under_test.name));
        }
    }
    if !connected.is_empty() {
        let has_had_sessions = connections.iter().any(|c| c.generation > 1);
        steps.add("forward", bind_result(&views, has_had_sessions));
    }
    let holder = forward_under_test
        .sessions
        .iter()
        .find(|(index, _)| connected.contains(index));
    if let Some((_, session)) = holder {
        let (name, path) = (&forward_under_test.name, &forward_under_test.context_path);
        round_trip::check(steps, session, name, forward_under_test.http.as_ref(), path).await;
    }
    steps.set_forward(None);
}

/// The best bind result among the connections to one gateway. `has_had_sessions`: sessions of this agent there have ended,
/// which the gateway may not know.
fn bind_result(views: &[&ForwardView], has_had_sessions: bool) -> StepResult {
    let in_state = |state| views.iter().find(move |view| view.state == state);
    let bound = views
        .iter()
        .filter(|view| view.state == ForwardState::Bound);
    // One that serves is shown before one whose requests do not arrive.
    let best = bound.min_by_key(|view| (view.is_broken(), view.proof != Some(PlaceState::Proven)));
    if let Some(view) = best {
        let place = view.bound.as_ref().unwrap_or(&view.bind);
        let seen = match place.parse() {
            Ok(bind) => listens(&bind),
            Err(_) => format!("the gateway listens, asked for {place}"),
        };
        let seen = match view.proof {
            Some(PlaceState::Proven) => format!("{seen}; requests through it arrive"),
            Some(
                PlaceState::Granted | PlaceState::Shared | PlaceState::Taken | PlaceState::Lost,
            )
            | None => seen,
        };
        return match (&view.cause, &view.remedy) {
            (Some(cause), Some(remedy)) if view.is_broken() => {
                StepResult::fail(cause, remedy).with_detail(seen)
            }
            (Some(cause), Some(remedy)) => StepResult::warn(cause, remedy).with_detail(seen),
            _ => StepResult::ok(seen),
        };
    }
    if let Some(view) = in_state(ForwardState::Standby) {
        let seen = view.cause.clone().unwrap_or_default();
        return StepResult::ok(format!("standby for {}: {seen}", view.bind));
    }
    match in_state(ForwardState::Refused) {
        Some(view) => {
            let cause = view.cause.clone().unwrap_or_default();
            let remedy = view.remedy.clone().unwrap_or_default();
            match has_had_sessions {
                true => StepResult::fail(
                    format!("{cause}; {DEAD_TWIN}"),
                    format!("{DEAD_TWIN_REMEDY}; otherwise: {remedy}"),
                ),
                false => StepResult::fail(cause, remedy),
            }
        }
        None => StepResult::warn(
            "the gateway has not answered the request to listen yet",
            "check again in a few seconds; if it persists, check the log",
        ),
    }
}

const DEAD_TWIN: &str =
    "an earlier session of this agent has ended, and the gateway may still keep its place";
const DEAD_TWIN_REMEDY: &str = "if the link of that session was lost, the gateway frees its place by itself: at rest after the time of \
     \"ClientAliveInterval 3\" and \"ClientAliveCountMax 2\", under traffic within seconds with net.ipv4.tcp_retries2=4, or else after \
     up to 16 minutes; a bind with {slot} does not wait for it";
/// Above the sum of the default limits of DNS, TCP, proxy, TLS and banner.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::step::StepVerdict;

    fn view(proof: PlaceState, cause: Option<&str>) -> ForwardView {
        ForwardView {
            name: "jira".into(),
            bind: "127.0.0.1:8080".into(),
            state: ForwardState::Bound,
            proof: Some(proof),
            unproven: None,
            bound: None,
            cause: cause.map(str::to_owned),
            remedy: cause.map(|_| "ask the vendor".to_owned()),
        }
    }

    fn verdict(views: &[&ForwardView]) -> StepVerdict {
        let mut steps = StepRecorder::new(None);
        steps.add("forward", bind_result(views, false));
        steps.into_vec()[0].verdict
    }

    #[test]
    fn a_place_whose_requests_do_not_arrive_fails_unless_another_one_serves() {
        let granted = view(PlaceState::Granted, None);
        for broken in [PlaceState::Taken, PlaceState::Lost] {
            let broken = view(broken, Some("nothing listens"));
            assert_eq!(verdict(&[&broken]), StepVerdict::Fail);
            assert_eq!(verdict(&[&broken, &granted]), StepVerdict::Ok);
        }
    }
}
