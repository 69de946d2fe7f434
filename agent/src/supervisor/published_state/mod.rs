//! The supervisor's state as status shows it. Neither writing nor reading it blocks the supervisor.
//!
//! What happens is noted here. `connection_view` makes of it what status shows, and other tasks find their sessions with
//! `lookup`.

mod connection_view;
mod lookup;

use super::{
    ids::IdRegistry,
    machine::{ConnectionSummary, SessionId},
    session_cuts::CutHistory,
    session_liveness::SessionLiveness,
};
use crate::{
    status::{ConnectionView, ProofState, StatusLayer},
    tunnel::{
        Hop,
        channel::SpoolResets,
        session::{ForwardError, Session, SessionEnd, SessionOpenError},
    },
};
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
    /// A drain has begun, and no gateway listens any more.
    released: bool,
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
            cause: format!("a session ended before it served: {ended}"),
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
            released: false,
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
        released: bool,
    ) -> Vec<ConnectionSummary> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        inner.active_forwards = active_forwards;
        inner.released = released;
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
        let known = inner.failures.get(&gateway);
        let failure = match known.filter(|_| error.is_not_tried()) {
            // What the gateway refused, by whichever connection, is what a person must know.
            Some(known) => known.clone(),
            None => LastFailure {
                hop: error.hop(),
                cause: error.to_string(),
                remedy: error.remedy(),
                at: Instant::now(),
            },
        };
        let (cause, remedy) = (&failure.cause, &failure.remedy);
        let serves = entry.summary.current.is_some();
        // The failure of another gateway says nothing about the session; the view shows it as what it is.
        if !serves || entry.summary.gateway == gateway {
            entry.failed_hop = Some(failure.hop);
            match error.reached_ssh() || failure.hop >= Hop::KeyExchange {
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

    fn answer(&self, id: SessionId, forward: usize, answer: ForwardAnswer) {
        let mut inner = self.inner.lock();
        let known = inner.ids.forwards().any(|(known, _)| known == forward);
        if let Some(entry) = inner.current(id).filter(|_| known) {
            entry.answers.insert(forward, answer);
        }
    }

    /// Asks each session for a probe at once.
    pub(super) fn probe_all(&self) {
        for liveness in self.inner.lock().liveness.values() {
            liveness.ask_for_probe();
        }
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

    pub(super) fn views(&self) -> Vec<ConnectionView> {
        let inner = self.inner.lock();
        let views = inner.connections.iter().enumerate();
        views
            .map(|(index, entry)| self.view(index, entry, &inner))
            .collect()
    }
}

impl PublishedStateInner {
    /// The connection, if this is its active session.
    fn current(&mut self, id: SessionId) -> Option<&mut ConnectionEntry> {
        let entry = self.connections.get_mut(id.slot)?;
        (entry.summary.current == Some(id.generation)).then_some(entry)
    }
}

fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
