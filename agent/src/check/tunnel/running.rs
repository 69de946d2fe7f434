//! Where the agent runs: its own sessions tell how far they came, and only what takes no credential is tried anew.

use super::{
    hop_recorder::{HopRecorder, SESSION_HOPS, key_exchange, login},
    listens, round_trip,
};
use crate::{
    check::step::{StepRecorder, StepResult},
    http,
    status::{ConnectionView, ForwardState, ForwardView, LayerState},
    supervisor::LastFailure,
    tunnel::{
        GatewayAddress, Hop, Settings,
        session::{Session, probe_banner, probe_first_hop},
    },
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// What a check sees of the running agent.
pub struct RunningAgent {
    /// As in its status.
    pub connections: Vec<ConnectionView>,
    /// One per gateway as configured: the last attempt, where that has failed.
    pub failures: Vec<Option<LastFailure>>,
    /// The forwards that are to be looked at.
    pub forwards: Vec<ForwardUnderTest>,
}

/// One forward of the running agent.
pub struct ForwardUnderTest {
    /// Name of the forward in the configuration.
    pub name: Arc<str>,
    /// `None` where bytes are forwarded as they are.
    pub http: Option<Arc<http::HttpForward>>,
    /// Context path of the Jira behind the forward.
    pub context_path: String,
    /// The sessions that hold it, each with the number of its connection.
    pub sessions: Vec<(usize, Session)>,
}

/// All gateways at once, so that two that are silent cost the time of one.
pub(in crate::check) async fn check(settings: &Settings, live: &RunningAgent) -> Vec<StepRecorder> {
    let mut each = Vec::new();
    for (index, gateway) in settings.gateways.iter().enumerate() {
        each.push(check_gateway(settings, live, index, gateway));
    }
    join_all(each).await
}

async fn check_gateway(
    settings: &Settings,
    live: &RunningAgent,
    index: usize,
    gateway: &GatewayAddress,
) -> StepRecorder {
    let mut steps = StepRecorder::for_gateway(gateway);
    let name = gateway.to_string();
    let connections: Vec<_> = live
        .connections
        .iter()
        .filter(|c| c.gateway == name)
        .collect();
    let standing = connections.iter().copied().find(|c| c.host_key.is_some());
    let failure = live.failures.get(index).and_then(Option::as_ref);
    let reached = check_route(&mut steps, settings, gateway, standing.is_some(), failure).await;
    match (standing, failure) {
        (Some(connection), _) => report_session(&mut steps, settings, connection),
        (None, Some(failure)) => report_last_failure(&mut steps, failure, reached),
        (None, None) => {
            let why = "no connection of the agent is for this gateway now: its key is not tried beside them";
            steps.add("login", StepResult::skipped(why));
        }
    }
    for lane in &live.forwards {
        forward(&mut steps, lane, &connections).await;
    }
    steps
}

/// Anew, as far as no credential is needed. Whether it came to the banner.
async fn check_route(
    steps: &mut StepRecorder,
    settings: &Settings,
    gateway: &GatewayAddress,
    standing: bool,
    failure: Option<&LastFailure>,
) -> bool {
    let trace = HopRecorder::begin();
    let proxy = settings.egress.proxy(gateway);
    let has_login = proxy.is_some_and(|proxy| proxy.credential.is_some());
    let tell = trace.observer();
    let attempt = async {
        match has_login {
            true => probe_first_hop(settings, gateway, &tell).await,
            false => probe_banner(settings, gateway, &tell).await,
        }
    };
    // Each of its waits has a limit; this is for their sum.
    let Ok(outcome) = timeout(ROUTE_TIMEOUT, attempt).await else {
        trace.record(steps, settings, gateway, None, None);
        let cause = format!(
            "the way to the gateway took longer than {} s",
            ROUTE_TIMEOUT.as_secs()
        );
        let remedy =
            "try again; if it stays, ask the network team what holds up this host's way out";
        steps.add_timed("banner", StepResult::fail(cause, remedy), ROUTE_TIMEOUT);
        return false;
    };
    trace.record(steps, settings, gateway, None, outcome.as_ref().err());
    if outcome.is_err() || !has_login {
        return outcome.is_ok();
    }
    let proxy = proxy.map(ToString::to_string).unwrap_or_default();
    match failure {
        _ if standing => {
            let seen = format!(
                "{proxy} has let the agent's own session through; its login is not tried anew"
            );
            steps.add("proxy", StepResult::ok(seen));
        }
        // What it said then is told where its hop is.
        Some(failure) if failure.hop == Hop::Proxy => steps.add("proxy", failure_result(failure)),
        _ => {
            let why = "the login at the proxy is not tried beside the agent's own attempts";
            steps.add("proxy", StepResult::skipped(why));
        }
    }
    false
}

/// A session stands: all of its hops are passed.
fn report_session(steps: &mut StepRecorder, settings: &Settings, connection: &ConnectionView) {
    let words = |parts: [&Option<String>; 2]| {
        let parts: Vec<_> = parts.into_iter().flatten().cloned().collect();
        parts.join(", ")
    };
    let agreed = words([&connection.key_exchange, &connection.cipher]);
    steps.add(
        "key-exchange",
        key_exchange(agreed, connection.strict_key_exchange != Some(false)),
    );
    let print = connection.host_key.clone().unwrap_or_default();
    steps.add("host-key", StepResult::ok(print));
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
        _ => StepResult::skipped("it has not been probed yet"),
    };
    steps.add("session", found);
}

/// No session stands: the agent's last attempt tells how far it came.
fn report_last_failure(steps: &mut StepRecorder, failure: &LastFailure, reached: bool) {
    for hop in SESSION_HOPS {
        match hop {
            hop if hop < failure.hop => {
                let seen = "passed by the agent's last attempt";
                steps.add(hop.name(), StepResult::ok(seen));
            }
            hop if hop == failure.hop => steps.add(hop.name(), failure_result(failure)),
            _ => {}
        }
    }
    if failure.hop < Hop::KeyExchange && reached {
        let cause = format!(
            "the agent's last attempt, {} s ago, failed: {}",
            failure.at.elapsed().as_secs(),
            failure.cause
        );
        let found = StepResult::warn(
            cause,
            "the way is open now, and the agent tries again by itself; check again in a minute",
        );
        steps.add("session", found);
    }
}

/// The agent's own last attempt.
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
    lane: &ForwardUnderTest,
    connections: &[&ConnectionView],
) {
    steps.set_forward(Some(&lane.name));
    let mut held = Vec::new();
    let mut views: Vec<&ForwardView> = Vec::new();
    for connection in connections {
        if connection.host_key.is_some() {
            held.push(connection.index);
            let forwards = connection.forwards.iter();
            views.extend(forwards.filter(|view| *view.name == *lane.name));
        }
    }
    if !held.is_empty() {
        steps.add("forward", bind_result(&views));
    }
    let holder = lane.sessions.iter().find(|(index, _)| held.contains(index));
    if let Some((_, session)) = holder {
        let (name, path) = (&lane.name, &lane.context_path);
        round_trip::check(steps, session, name, lane.http.as_ref(), path).await;
    }
    steps.set_forward(None);
}

/// The best of what the connections to one gateway say.
fn bind_result(views: &[&ForwardView]) -> StepResult {
    let in_state = |state| views.iter().find(move |view| view.state == state);
    if let Some(view) = in_state(ForwardState::Bound) {
        let place = view.bound.as_ref().unwrap_or(&view.bind);
        let seen = match place.parse() {
            Ok(bind) => listens(&bind),
            Err(_) => format!("the gateway listens, asked for {place}"),
        };
        return match (&view.cause, &view.remedy) {
            (Some(cause), Some(remedy)) => StepResult::warn(cause, remedy).with_detail(seen),
            _ => StepResult::ok(seen),
        };
    }
    if let Some(view) = in_state(ForwardState::Standby) {
        let seen = view.cause.clone().unwrap_or_default();
        return StepResult::ok(format!("standing by for {}: {seen}", view.bind));
    }
    match in_state(ForwardState::Refused) {
        Some(view) => StepResult::fail(
            view.cause.clone().unwrap_or_default(),
            view.remedy.clone().unwrap_or_default(),
        ),
        None => StepResult::warn(
            "the gateway has not answered yet whether it listens",
            "check again in a few seconds; if it stays, look at the log",
        ),
    }
}

/// Above resolver, TCP, proxy, TLS and banner with their default limits.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(60);
