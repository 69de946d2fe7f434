//! Where the agent runs: its own sessions tell how far they came, and only what takes no credential is tried anew.

use super::{
    listens, round_trip,
    trace::{INSIDE, Trace, key_exchange, login},
};
use crate::{
    check::step::{Found, Steps},
    http,
    status::{ConnectionView, ForwardState, ForwardView, LayerState},
    supervisor::LastFailure,
    tunnel::{
        Gateway, Hop, Settings,
        session::{Session, greet, reach},
    },
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// What a check sees of the running agent.
pub struct Live {
    /// As in its status.
    pub connections: Vec<ConnectionView>,
    /// One per gateway as configured: the last attempt, where that has failed.
    pub failures: Vec<Option<LastFailure>>,
    /// The forwards that are to be looked at.
    pub lanes: Vec<Lane>,
}

/// One forward of the running agent.
pub struct Lane {
    /// As configured.
    pub name: Arc<str>,
    /// `None` where bytes are forwarded as they are.
    pub http: Option<Arc<http::Forward>>,
    /// Jira's context path.
    pub context_path: String,
    /// The sessions that hold it, each with the number of its connection.
    pub holders: Vec<(usize, Session)>,
}

/// All gateways at once, so that two that are silent cost the time of one.
pub(in crate::check) async fn check(settings: &Settings, live: &Live) -> Vec<Steps> {
    let mut each = Vec::new();
    for (index, gateway) in settings.gateways.iter().enumerate() {
        each.push(one(settings, live, index, gateway));
    }
    join_all(each).await
}

async fn one(settings: &Settings, live: &Live, index: usize, gateway: &Gateway) -> Steps {
    let mut steps = Steps::to(gateway);
    let name = gateway.to_string();
    let connections: Vec<_> = live
        .connections
        .iter()
        .filter(|c| c.gateway == name)
        .collect();
    let standing = connections.iter().copied().find(|c| c.host_key.is_some());
    let failure = live.failures.get(index).and_then(Option::as_ref);
    let reached = way(&mut steps, settings, gateway, standing.is_some(), failure).await;
    match (standing, failure) {
        (Some(connection), _) => inside(&mut steps, settings, connection),
        (None, Some(failure)) => outside(&mut steps, failure, reached),
        (None, None) => {
            let why = "no connection of the agent is for this gateway now: its key is not tried beside them";
            steps.add("login", Found::skipped(why));
        }
    }
    for lane in &live.lanes {
        forward(&mut steps, lane, &connections).await;
    }
    steps
}

/// Anew, as far as no credential is needed. Whether it came to the banner.
async fn way(
    steps: &mut Steps,
    settings: &Settings,
    gateway: &Gateway,
    standing: bool,
    failure: Option<&LastFailure>,
) -> bool {
    let trace = Trace::begin();
    let proxy = settings.egress.proxy(gateway);
    let has_login = proxy.is_some_and(|proxy| proxy.login.is_some());
    let tell = trace.tell();
    let attempt = async {
        match has_login {
            true => reach(settings, gateway, &tell).await,
            false => greet(settings, gateway, &tell).await,
        }
    };
    // Each of its waits has a limit; this is for their sum.
    let Ok(outcome) = timeout(WAY, attempt).await else {
        trace.note(steps, settings, gateway, None, None);
        let cause = format!(
            "the way to the gateway took longer than {} s",
            WAY.as_secs()
        );
        let remedy =
            "try again; if it stays, ask the network team what holds up this host's way out";
        steps.took("banner", Found::fail(cause, remedy), WAY);
        return false;
    };
    trace.note(steps, settings, gateway, None, outcome.as_ref().err());
    if outcome.is_err() || !has_login {
        return outcome.is_ok();
    }
    let proxy = proxy.map(ToString::to_string).unwrap_or_default();
    match failure {
        _ if standing => {
            let seen = format!(
                "{proxy} has let the agent's own session through; its login is not tried anew"
            );
            steps.add("proxy", Found::ok(seen));
        }
        // What it said then is told where its hop is.
        Some(failure) if failure.hop == Hop::Proxy => steps.add("proxy", of(failure)),
        _ => {
            let why = "the login at the proxy is not tried beside the agent's own attempts";
            steps.add("proxy", Found::skipped(why));
        }
    }
    false
}

/// A session stands: all of its hops are passed.
fn inside(steps: &mut Steps, settings: &Settings, connection: &ConnectionView) {
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
    steps.add("host-key", Found::ok(print));
    let who = format!("{}, by connection {}", login(settings), connection.index);
    steps.add("login", Found::ok(who));
    let layer = &connection.tunnel;
    let ago = layer.proven_seconds_ago.unwrap_or_default();
    let found = match (layer.state, &layer.cause, &layer.remedy) {
        (LayerState::Proven, ..) => {
            let seen = layer.detail.clone().unwrap_or_default();
            Found::ok(format!("answered a probe {ago:.0} s ago, {seen}"))
        }
        (_, Some(cause), Some(remedy)) => Found::warn(cause.clone(), remedy.clone()),
        _ => Found::skipped("it has not been probed yet"),
    };
    steps.add("session", found);
}

/// No session stands: the agent's last attempt tells how far it came.
fn outside(steps: &mut Steps, failure: &LastFailure, reached: bool) {
    for hop in INSIDE {
        match hop {
            hop if hop < failure.hop => {
                let seen = "passed by the agent's last attempt";
                steps.add(hop.name(), Found::ok(seen));
            }
            hop if hop == failure.hop => steps.add(hop.name(), of(failure)),
            _ => {}
        }
    }
    if failure.hop < Hop::KeyExchange && reached {
        let cause = format!(
            "the agent's last attempt, {} s ago, failed: {}",
            failure.at.elapsed().as_secs(),
            failure.cause
        );
        let found = Found::warn(
            cause,
            "the way is open now, and the agent tries again by itself; check again in a minute",
        );
        steps.add("session", found);
    }
}

/// The agent's own last attempt.
fn of(failure: &LastFailure) -> Found {
    let seen = format!(
        "the agent's last attempt, {} s ago; not tried again now",
        failure.at.elapsed().as_secs()
    );
    Found::fail(failure.cause.clone(), failure.remedy.clone()).seen(seen)
}

/// `connections` are those to this gateway.
async fn forward(steps: &mut Steps, lane: &Lane, connections: &[&ConnectionView]) {
    steps.about(Some(&lane.name));
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
        steps.add("forward", bound(&views));
    }
    let holder = lane.holders.iter().find(|(index, _)| held.contains(index));
    if let Some((_, session)) = holder {
        let (name, path) = (&lane.name, &lane.context_path);
        round_trip::check(steps, session, name, lane.http.as_ref(), path).await;
    }
    steps.about(None);
}

/// The best of what the connections to one gateway say.
fn bound(views: &[&ForwardView]) -> Found {
    let in_state = |state| views.iter().find(move |view| view.state == state);
    if let Some(view) = in_state(ForwardState::Bound) {
        let place = view.bound.as_ref().unwrap_or(&view.bind);
        let seen = match place.parse() {
            Ok(bind) => listens(&bind),
            Err(_) => format!("the gateway listens, asked for {place}"),
        };
        return match (&view.cause, &view.remedy) {
            (Some(cause), Some(remedy)) => Found::warn(cause, remedy).seen(seen),
            _ => Found::ok(seen),
        };
    }
    if let Some(view) = in_state(ForwardState::Standby) {
        let seen = view.cause.clone().unwrap_or_default();
        return Found::ok(format!("standing by for {}: {seen}", view.bind));
    }
    match in_state(ForwardState::Refused) {
        Some(view) => Found::fail(
            view.cause.clone().unwrap_or_default(),
            view.remedy.clone().unwrap_or_default(),
        ),
        None => Found::warn(
            "the gateway has not answered yet whether it listens",
            "check again in a few seconds; if it stays, look at the log",
        ),
    }
}

/// Above resolver, TCP, proxy, TLS and banner with their default limits.
const WAY: Duration = Duration::from_secs(60);
