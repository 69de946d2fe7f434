//! What status shows of one connection: its layers, its session and its forwards, with the causes of what is wrong.

use super::{ConnectionEntry, PublishedState, PublishedStateInner, milliseconds};
use crate::{
    status::{
        ConnectionView, ForwardState, ForwardView, LayerReport, LayerSnapshot, LayerState,
        PlaceState, ProofState, StatusLayer,
    },
    supervisor::{
        ids::IdRegistry, machine::SessionId, session_cuts, session_liveness::SessionLiveness,
    },
    tunnel::{PlaceProof, PlaceTaker, UnprovenReason, session::Session},
};
use agent_ssh::liveness::LivenessVerdict;
use std::time::{Duration, Instant};

impl PublishedState {
    pub(super) fn view(
        &self,
        index: usize,
        entry: &ConnectionEntry,
        inner: &PublishedStateInner,
    ) -> ConnectionView {
        let ids = &inner.ids;
        let summary = &entry.summary;
        let now = Instant::now();
        let id = summary.current.map(|generation| SessionId {
            slot: index,
            generation,
        });
        let session = id.and_then(|id| inner.sessions.get(&id));
        let liveness = id.and_then(|id| inner.liveness.get(&id));
        // A session keeps the settings that it was opened with.
        let settings = session.map_or(&ids.settings, Session::settings);
        let gateway = session.map(Session::gateway);
        let gateway = gateway.or_else(|| ids.gateway(summary.gateway));
        let negotiated = session.and_then(Session::negotiated);
        let budget = session.map(Session::budget);
        let transport = budget.map(|b| b.transport());
        let report = |layer: &StatusLayer| match liveness {
            Some(liveness) => live_layer(layer.snapshot(), now, liveness),
            None => LayerReport::new(&layer.snapshot(), now, STALE_AFTER),
        };
        let clock = now.saturating_duration_since(self.start);
        let mut tunnel = report(&entry.tunnel);
        let suspect_since = liveness.and_then(|liveness| liveness.suspect_since());
        let cuts = inner.cuts.get(&summary.gateway);
        if let Some(pattern) = cuts.and_then(|cuts| cuts.pattern(now))
            && tunnel.state == LayerState::Proven
        {
            // It answers now, and will be cut again soon.
            tunnel.state = LayerState::Degraded;
            tunnel.cause = Some(pattern);
            tunnel.remedy = Some(session_cuts::REMEDY.to_owned());
        }
        let forwards = forward_views(ids, entry, session);
        let broken = forwards.iter().find(|view| view.is_broken());
        if let Some(view) = broken.filter(|_| tunnel.state == LayerState::Proven) {
            tunnel.state = LayerState::Degraded;
            (tunnel.cause, tunnel.remedy) = (view.cause.clone(), view.remedy.clone());
        }
        if let Some(missing) = missing_home(entry, inner)
            && session.is_some()
            && tunnel.state == LayerState::Proven
        {
            tunnel.state = LayerState::Degraded;
            (tunnel.cause, tunnel.remedy) = missing;
        }
        ConnectionView {
            index,
            gateway: gateway.map(ToString::to_string).unwrap_or_default(),
            via: gateway
                .and_then(|gateway| settings.egress.proxy(gateway))
                .map(ToString::to_string),
            address: session
                .and_then(Session::peer)
                .map(|peer| peer.ip().to_string()),
            user: settings.user.clone(),
            phase: summary.phase,
            since_seconds: now.saturating_duration_since(entry.since).as_secs_f64(),
            attempt: summary.attempt,
            next_retry_seconds: summary
                .next_dial
                .map(|at| at.saturating_sub(clock).as_secs_f64()),
            network: report(&entry.network),
            tunnel,
            failed_hop: entry.failed_hop,
            suspect_seconds: suspect_since
                .map(|at| now.saturating_duration_since(at).as_secs_f64()),
            rtt_ms: id
                .and_then(|id| inner.round_trips.get(&id))
                .map(|rtt| milliseconds(*rtt)),
            generation: summary.sessions,
            host_key: negotiated.map(|f| f.host_key.clone()),
            key_exchange: negotiated.map(|f| f.key_exchange.clone()),
            cipher: negotiated.map(|f| f.cipher.clone()),
            strict_key_exchange: negotiated.map(|f| f.strict),
            channels: session.map_or(0, Session::open_channels),
            bytes_received: transport.map_or(0, |m| m.received()),
            bytes_sent: transport.map_or(0, |m| m.sent()),
            backlog: transport.map_or(0, |m| m.backlog()),
            closed_first: budget.map_or(0, |b| b.closed_first()),
            channel_resets: budget.map_or(0, |b| b.resets()),
            forwards,
        }
    }
}

/// Cause and remedy while a connection has its session at another gateway than its own, which then has none.
fn missing_home(
    entry: &ConnectionEntry,
    inner: &PublishedStateInner,
) -> Option<(Option<String>, Option<String>)> {
    let (home, now) = (entry.summary.home, entry.summary.gateway);
    let gateway = inner.ids.gateway(home).filter(|_| home != now)?;
    let failure = inner.failures.get(&home);
    let cause = match failure {
        Some(failure) => format!(
            "the session of gateway {gateway} is missing, and this connection serves at another gateway meanwhile: {}",
            failure.cause
        ),
        None => format!("this connection serves at another gateway, and moves to {gateway} now"),
    };
    let remedy = failure.map_or_else(
        || "none if it ends within seconds".to_owned(),
        |failure| failure.remedy.clone(),
    );
    Some((Some(cause), Some(remedy)))
}

fn forward_views(
    ids: &IdRegistry,
    entry: &ConnectionEntry,
    session: Option<&Session>,
) -> Vec<ForwardView> {
    let each = ids.forwards().zip(&entry.summary.forwards);
    let views = each.map(|((number, forward), state)| {
        let answer = entry.answers.get(&number).cloned().unwrap_or_default();
        let bound = *state == ForwardState::Bound;
        let refused = *state == ForwardState::Refused;
        let standby = *state == ForwardState::Standby;
        let exposed = bound && session.is_some_and(|session| session.is_exposed(&forward.name));
        let place = session.and_then(|session| session.place(&forward.name));
        let place = place
            .filter(|_| bound)
            .map(|place| (place.bind(), place.proof()));
        let (proof, unproven) = place
            .as_ref()
            .map_or((None, None), |(_, proof)| view_of(proof));
        let lost = place.and_then(|(bind, proof)| {
            let remedy = proof.remedy(&bind).map(str::to_owned);
            proof.cause(&bind).map(|cause| (cause, remedy))
        });
        let shown = refused || exposed || lost.is_some();
        let (cause, remedy) = match lost {
            Some((cause, remedy)) => (Some(cause), remedy),
            None if exposed => (Some(EXPOSED.to_owned()), Some(EXPOSED_REMEDY.to_owned())),
            None => (answer.cause.clone(), answer.remedy.clone()),
        };
        ForwardView {
            name: forward.name.to_string(),
            bind: forward.bind.to_string(),
            state: *state,
            proof,
            unproven: unproven.map(|reason| reason.text().to_owned()),
            bound: answer.bound.filter(|_| bound),
            cause: match standby {
                true => Some(STANDBY.to_owned()),
                false => cause.filter(|_| shown),
            },
            remedy: remedy.filter(|_| shown),
        }
    });
    views.collect()
}

fn view_of(proof: &PlaceProof) -> (Option<PlaceState>, Option<UnprovenReason>) {
    match proof {
        PlaceProof::Granted(reason) => (Some(PlaceState::Granted), *reason),
        PlaceProof::Proven => (Some(PlaceState::Proven), None),
        PlaceProof::Taken(PlaceTaker::OwnConnection(_)) => (Some(PlaceState::Shared), None),
        PlaceProof::Taken(PlaceTaker::OtherAgent | PlaceTaker::OtherProgram(..)) => {
            (Some(PlaceState::Taken), None)
        }
        PlaceProof::Lost(_) => (Some(PlaceState::Lost), None),
    }
}

/// A layer while a session is open: each byte from the gateway renews its proof, and silence ends it.
fn live_layer(
    mut snapshot: LayerSnapshot,
    now: Instant,
    liveness: &SessionLiveness,
) -> LayerReport {
    let verdict = liveness.verdict(now);
    if snapshot.state == ProofState::Proven {
        let heard_at = liveness.heard_at();
        snapshot.proven_at = snapshot.proven_at.max(Some(heard_at));
        let problem = match verdict {
            LivenessVerdict::Alive => None,
            LivenessVerdict::Delayed(silence) => {
                let seconds = silence.as_secs();
                let cause = format!(
                    "nothing has come from the gateway for {seconds} s; a probe still waits behind other data"
                );
                Some((cause, DELAYED_REMEDY))
            }
            LivenessVerdict::Suspect(silence) | LivenessVerdict::Dead(silence) => {
                let seconds = silence.as_secs();
                let cause = format!("the gateway has not answered for {seconds} s");
                Some((cause, SUSPECT_REMEDY))
            }
        };
        if let Some((cause, remedy)) = problem {
            snapshot.state = ProofState::Degraded;
            snapshot.changed_at = Some(liveness.suspect_since().unwrap_or(heard_at));
            snapshot.cause = Some(cause);
            snapshot.remedy = Some(remedy.to_owned());
        }
    }
    LayerReport::new(&snapshot, now, liveness.stale_after())
}

const DELAYED_REMEDY: &str = "the link is slow or full: what is sent still arrives; if it stays, ask the network team for its bandwidth";
const SUSPECT_REMEDY: &str = "the session is suspect: it is ended when the next answer is missing too, and opened again; if it \
     stays, ask the vendor whether the gateway hangs, and the network team whether packets to it are dropped";
/// The gateway refused, as it does while the port is in use. Whether it would grant a free port is not proven.
const STANDBY: &str =
    "another connection of this agent holds it; this one asks again when that one ends";
const EXPOSED: &str = "connections from other machines come by this forward, although it was asked for on the gateway's loopback address alone";
const EXPOSED_REMEDY: &str = "ask the vendor for \"GatewayPorts no\" or \"GatewayPorts clientspecified\" on the gateway: with \"yes\" it listens on all addresses";
/// Without a session each attempt proves the network, at least once a minute; one may be missed.
const STALE_AFTER: Duration = Duration::from_secs(120);
