//! The supervisor's state as status shows it. Neither writing nor reading it blocks the supervisor.

use super::{
    held_place::HeldPlace,
    ids::IdRegistry,
    machine::{ConnectionSummary, SessionId},
    session_cuts::{self, CutHistory},
    session_liveness::SessionLiveness,
};
use crate::{
    status::{
        ConnectionView, ForwardState, ForwardView, LayerReport, LayerSnapshot, LayerState,
        PlaceState, ProofState, StatusLayer,
    },
    tunnel::{
        Hop, PlaceProof, PlaceTaker, Settings, UnprovenReason,
        channel::SpoolResets,
        session::{ForwardError, Session, SessionEnd, SessionOpenError},
    },
};
use agent_ssh::liveness::LivenessVerdict;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The published state of all connections.
pub(super) struct PublishedState {
    /// Zero of the machine's clock.
    start: Instant,
    inner: Mutex<PublishedStateInner>,
    revision: watch::Sender<u64>,
    stopped: watch::Sender<bool>,
}

struct PublishedStateInner {
    ids: IdRegistry,
    connections: Vec<ConnectionEntry>,
    sessions: HashMap<SessionId, Session>,
    liveness: HashMap<SessionId, Arc<SessionLiveness>>,
    /// Round trip of the last probe of each open session that has answered one.
    round_trips: HashMap<SessionId, Duration>,
    /// By the gateway's number: its last failure, if the last attempt there has failed.
    failures: HashMap<usize, LastFailure>,
    /// By the gateway's number: the sessions that it has cut.
    cuts: HashMap<usize, CutHistory>,
    /// Total of the sessions that have ended.
    spool_resets: SpoolResets,
    /// Names of the forwards that may still have new channels.
    active_forwards: Vec<Arc<str>>,
}

/// Why the last attempt to open a session to a gateway failed.
#[derive(Clone, Debug)]
pub struct LastFailure {
    /// The hop that failed.
    pub hop: Hop,
    /// What failed, in one sentence.
    pub cause: String,
    /// What to do about it.
    pub remedy: String,
    /// When the attempt failed.
    pub at: Instant,
}

impl LastFailure {
    /// The session has ended before it answered a probe.
    fn unproven(ended: &SessionEnd) -> Self {
        Self {
            hop: Hop::Login,
            cause: format!("a session ended as soon as it was open: {ended}"),
            remedy: ended.remedy(),
            at: Instant::now(),
        }
    }
}

struct ConnectionEntry {
    summary: ConnectionSummary,
    since: Instant,
    network: Arc<StatusLayer>,
    tunnel: Arc<StatusLayer>,
    /// The hop at which the last attempt failed; `None` after one has opened a session.
    failed_hop: Option<Hop>,
    /// By the forward's number.
    answers: HashMap<usize, ForwardAnswer>,
}

impl ConnectionEntry {
    fn new(summary: ConnectionSummary, since: Instant) -> Self {
        Self {
            summary,
            since,
            network: Arc::default(),
            tunnel: Arc::default(),
            failed_hop: None,
            answers: HashMap::new(),
        }
    }

    /// The session that serves has answered a probe.
    fn prove(&self, round_trip: Duration) {
        let detail = format!("round trip {:.1} ms", milliseconds(round_trip));
        self.tunnel.proven(Some(&detail));
        self.network.proven(None);
    }
}

/// How the gateway last answered for one forward.
#[derive(Clone, Default)]
struct ForwardAnswer {
    bound: Option<String>,
    cause: Option<String>,
    remedy: Option<String>,
}

impl PublishedState {
    pub(super) fn new(ids: IdRegistry, start: Instant, summaries: Vec<ConnectionSummary>) -> Self {
        let connections = summaries
            .into_iter()
            .map(|s| ConnectionEntry::new(s, start));
        let inner = PublishedStateInner {
            connections: connections.collect(),
            ids,
            sessions: HashMap::new(),
            liveness: HashMap::new(),
            round_trips: HashMap::new(),
            failures: HashMap::new(),
            cuts: HashMap::new(),
            spool_resets: SpoolResets::default(),
            active_forwards: Vec::new(),
        };
        Self {
            start,
            inner: Mutex::new(inner),
            revision: watch::Sender::new(0),
            stopped: watch::Sender::new(false),
        }
    }

    /// Publishes the machine's state. Returns the previous state of the connections that still exist.
    pub(super) fn publish(
        &self,
        ids: &IdRegistry,
        summaries: Vec<ConnectionSummary>,
        active_forwards: Vec<Arc<str>>,
    ) -> Vec<ConnectionSummary> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.active_forwards = active_forwards;
        let now = Instant::now();
        if !Arc::ptr_eq(&inner.ids.settings, &ids.settings) {
            inner.ids = ids.clone();
            let gateways: Vec<_> = ids.gateways().collect();
            inner.failures.retain(|number, _| gateways.contains(number));
            inner.cuts.retain(|number, _| gateways.contains(number));
            let forwards: Vec<_> = ids.forwards().map(|(number, _)| number).collect();
            for entry in &mut inner.connections {
                entry.answers.retain(|number, _| forwards.contains(number));
            }
        }
        inner.connections.truncate(summaries.len());
        let mut before = Vec::new();
        for (index, summary) in summaries.into_iter().enumerate() {
            match inner.connections.get_mut(index) {
                Some(entry) => {
                    if entry.summary.phase != summary.phase {
                        entry.since = now;
                    }
                    let before_that = std::mem::replace(&mut entry.summary, summary);
                    // It was proven before it took the place of another.
                    if entry.summary.current != before_that.current
                        && let Some(generation) = entry.summary.current
                        && let Some(rtt) = inner.round_trips.get(&SessionId {
                            slot: index,
                            generation,
                        })
                    {
                        entry.prove(*rtt);
                    }
                    before.push(before_that);
                }
                None => inner.connections.push(ConnectionEntry::new(summary, now)),
            }
        }
        drop(guard);
        self.revision.send_modify(|r| *r += 1);
        before
    }

    pub(super) fn opened(&self, id: SessionId, session: &Session) {
        let mut inner = self.inner.lock();
        inner.sessions.insert(id, session.clone());
        inner.liveness.insert(id, SessionLiveness::new(session));
        if let Some(entry) = inner.connections.get_mut(id.slot) {
            entry.failed_hop = None;
        }
        let gateways = inner.ids.numbers_of(session.gateway());
        for gateway in gateways {
            inner.failures.remove(&gateway);
        }
    }

    /// The SSH server has answered, so the network works.
    pub(super) fn reached(&self, slot: usize) {
        if let Some(entry) = self.inner.lock().connections.get(slot) {
            entry.network.proven(None);
        }
    }

    /// Returns whether this failure of the gateway is news for the log.
    pub(super) fn open_failed(
        &self,
        id: SessionId,
        gateway: usize,
        error: &SessionOpenError,
    ) -> bool {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(entry) = inner.connections.get_mut(id.slot) else {
            return false;
        };
        let failure = LastFailure {
            hop: error.hop(),
            cause: error.to_string(),
            remedy: error.remedy(),
            at: Instant::now(),
        };
        let (cause, remedy) = (&failure.cause, &failure.remedy);
        let serves = entry.summary.current.is_some();
        // The failure of another gateway says nothing about the session; the view shows it as what it is.
        if !serves || entry.summary.gateway == gateway {
            entry.failed_hop = Some(error.hop());
            match error.reached_ssh() {
                true => entry.network.proven(None),
                false => entry.network.failed(ProofState::Failed, cause, remedy),
            };
            // While a session serves, its replacement has failed.
            let state = match serves {
                true => ProofState::Degraded,
                false => ProofState::Failed,
            };
            entry.tunnel.failed(state, cause, remedy);
        }
        let known = inner.failures.get(&gateway);
        let changed = known.is_none_or(|known| known.cause != failure.cause);
        inner.failures.insert(gateway, failure);
        changed
    }

    pub(super) fn ended(&self, id: SessionId, ended: &SessionEnd) {
        let mut inner = self.inner.lock();
        let session = inner.sessions.remove(&id);
        let entry = inner.connections.get(id.slot);
        let succeeds = entry.is_some_and(|e| e.summary.successor == Some(id.generation));
        if let Some(session) = &session {
            let resets = session.budget().spool_resets();
            inner.spool_resets.add(&resets);
            let failed = inner.ids.numbers_of(session.gateway());
            for gateway in failed.into_iter().filter(|_| succeeds) {
                inner.failures.insert(gateway, LastFailure::unproven(ended));
            }
        }
        inner.liveness.remove(&id);
        inner.round_trips.remove(&id);
        let number = inner.connections.get(id.slot);
        let number = number.filter(|entry| entry.summary.current == Some(id.generation));
        let number = number.map(|entry| entry.summary.gateway);
        if let (Some(session), Some(number)) = (session, number)
            && ended.is_cut()
        {
            let cuts = inner.cuts.entry(number).or_default();
            cuts.note(Instant::now(), session.age());
        }
        if let Some(entry) = inner.connections.get_mut(id.slot)
            && entry.summary.current == Some(id.generation)
        {
            let remedy = ended.remedy();
            entry
                .tunnel
                .failed(ProofState::Failed, &ended.to_string(), &remedy);
        }
    }

    /// The session has answered a probe.
    pub(super) fn probe_answered(&self, id: SessionId, rtt: Duration) {
        let mut inner = self.inner.lock();
        if inner.sessions.contains_key(&id) {
            inner.round_trips.insert(id, rtt);
        }
        if let Some(entry) = inner.current(id) {
            entry.prove(rtt);
        }
        drop(inner);
        self.revision.send_modify(|r| *r += 1);
    }

    /// Something that status shows has changed.
    pub(super) fn changed(&self) {
        self.revision.send_modify(|r| *r += 1);
    }

    pub(super) fn granted(&self, id: SessionId, forward: usize, bound: String) {
        self.answer(
            id,
            forward,
            ForwardAnswer {
                bound: Some(bound),
                ..ForwardAnswer::default()
            },
        );
    }

    pub(super) fn refused(&self, id: SessionId, forward: usize, error: &ForwardError) {
        let answer = ForwardAnswer {
            bound: None,
            cause: Some(error.to_string()),
            remedy: Some(error.remedy()),
        };
        self.answer(id, forward, answer);
    }

    /// Cause and remedy of the last [`refused`](Self::refused).
    pub(super) fn refusal(&self, slot: usize, forward: usize) -> (Option<String>, Option<String>) {
        let inner = self.inner.lock();
        let entry = inner.connections.get(slot);
        let answer = entry.and_then(|entry| entry.answers.get(&forward));
        answer.map_or((None, None), |answer| {
            (answer.cause.clone(), answer.remedy.clone())
        })
    }

    fn answer(&self, id: SessionId, forward: usize, answer: ForwardAnswer) {
        let mut inner = self.inner.lock();
        let known = inner.ids.forwards().any(|(known, _)| known == forward);
        if let Some(entry) = inner.current(id).filter(|_| known) {
            entry.answers.insert(forward, answer);
        }
    }

    pub(super) fn liveness(&self, id: SessionId) -> Option<Arc<SessionLiveness>> {
        self.inner.lock().liveness.get(&id).cloned()
    }

    /// Asks each session for a probe at once.
    pub(super) fn probe_all(&self) {
        for liveness in self.inner.lock().liveness.values() {
            liveness.ask_for_probe();
        }
    }

    /// The gateway of this connection's session, or the one that it dials.
    pub(super) fn dialed_gateway(&self, slot: usize) -> Option<String> {
        let inner = self.inner.lock();
        let gateway = inner.connections.get(slot)?.summary.gateway;
        inner.ids.gateway(gateway).map(ToString::to_string)
    }

    pub(super) fn session(&self, id: SessionId) -> Option<Session> {
        self.inner.lock().sessions.get(&id).cloned()
    }

    /// One per gateway: its last failure, if the last attempt there has failed.
    pub(super) fn failures(&self) -> Vec<Option<LastFailure>> {
        let inner = self.inner.lock();
        let gateways = inner.ids.gateways();
        gateways
            .map(|gateway| inner.failures.get(&gateway).cloned())
            .collect()
    }

    /// The settings that new sessions are opened with.
    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.inner.lock().ids.settings)
    }

    /// The sessions that hold this forward, each with the number of its connection.
    pub(super) fn holders(&self, forward: &str) -> Vec<(usize, Session)> {
        let inner = self.inner.lock();
        let mut forwards = inner.ids.forwards();
        let index = forwards.position(|(_, known)| *known.name == *forward);
        drop(forwards);
        let mut holders = Vec::new();
        for (slot, entry) in inner.connections.iter().enumerate() {
            let bound = index.and_then(|index| entry.summary.forwards.get(index));
            let (Some(ForwardState::Bound), Some(generation)) = (bound, entry.summary.current)
            else {
                continue;
            };
            let session = inner.sessions.get(&SessionId { slot, generation });
            holders.extend(session.map(|session| (slot, session.clone())));
        }
        holders
    }

    /// The places that active sessions hold.
    pub(super) fn held_places(&self) -> Vec<HeldPlace> {
        let inner = self.inner.lock();
        let mut held = Vec::new();
        for (slot, entry) in inner.connections.iter().enumerate() {
            let id = entry.summary.current;
            let Some(id) = id.map(|generation| SessionId { slot, generation }) else {
                continue;
            };
            let Some(session) = inner.sessions.get(&id) else {
                continue;
            };
            for ((forward, wanted), state) in inner.ids.forwards().zip(&entry.summary.forwards) {
                let place = session.place(&wanted.name);
                let bound = *state == ForwardState::Bound;
                held.extend(place.filter(|_| bound).map(|place| HeldPlace {
                    name: Arc::clone(&wanted.name),
                    session: session.clone(),
                    connection: slot,
                    place,
                    id,
                    forward,
                }));
            }
        }
        held
    }

    /// Whether a forward that `which` selects may still have new channels.
    pub(super) fn expects_channels(&self, which: impl Fn(&str) -> bool) -> bool {
        self.inner
            .lock()
            .active_forwards
            .iter()
            .any(|name| which(name))
    }

    pub(super) fn open_channels(&self) -> usize {
        let inner = self.inner.lock();
        inner.sessions.values().map(Session::open_channels).sum()
    }

    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    pub(super) async fn stopped(&self) {
        let mut stopped = self.stopped.subscribe();
        // The sender is in `self`.
        let _ = stopped.wait_for(|s| *s).await;
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// All resets since the agent started.
    pub(super) fn spool_resets(&self) -> SpoolResets {
        let inner = self.inner.lock();
        let mut all = inner.spool_resets.clone();
        for session in inner.sessions.values() {
            all.add(&session.budget().spool_resets());
        }
        all
    }

    pub(super) fn views(&self) -> Vec<ConnectionView> {
        let inner = self.inner.lock();
        let views = inner.connections.iter().enumerate();
        views
            .map(|(index, entry)| self.view(index, entry, &inner))
            .collect()
    }

    fn view(
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

impl PublishedStateInner {
    /// The connection, if this is its active session.
    fn current(&mut self, id: SessionId) -> Option<&mut ConnectionEntry> {
        let entry = self.connections.get_mut(id.slot)?;
        (entry.summary.current == Some(id.generation)).then_some(entry)
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

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
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
