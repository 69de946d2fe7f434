//! What other tasks look up of the sessions: who holds what, with which settings, and what has failed.

use super::{LastFailure, PublishedState};
use crate::{
    status::ForwardState,
    supervisor::{
        LivingSession, held_place::HeldPlace, machine::SessionId, session_liveness::SessionLiveness,
    },
    tunnel::{Settings, channel::SpoolResets, session::Session},
};
use std::sync::Arc;

impl PublishedState {
    /// Cause and remedy of the last [`refused`](Self::refused).
    pub(in crate::supervisor) fn refusal(
        &self,
        slot: usize,
        forward: usize,
    ) -> (Option<String>, Option<String>) {
        let inner = self.inner.lock();
        let entry = inner.connections.get(slot);
        let answer = entry.and_then(|entry| entry.answers.get(&forward));
        answer.map_or((None, None), |answer| {
            (answer.cause.clone(), answer.remedy.clone())
        })
    }

    pub(in crate::supervisor) fn liveness(&self, id: SessionId) -> Option<Arc<SessionLiveness>> {
        self.inner.lock().liveness.get(&id).cloned()
    }

    /// The gateway of this connection's session, or the one that it dials.
    pub(in crate::supervisor) fn dialed_gateway(&self, slot: usize) -> Option<String> {
        let inner = self.inner.lock();
        let gateway = inner.connections.get(slot)?.summary.gateway;
        inner.ids.gateway(gateway).map(ToString::to_string)
    }

    pub(in crate::supervisor) fn session(&self, id: SessionId) -> Option<Session> {
        self.inner.lock().sessions.get(&id).cloned()
    }

    /// One per gateway: its last failure, if the last attempt there has failed.
    pub(in crate::supervisor) fn failures(&self) -> Vec<Option<LastFailure>> {
        let inner = self.inner.lock();
        let gateways = inner.ids.gateways();
        gateways
            .map(|gateway| inner.failures.get(&gateway).cloned())
            .collect()
    }

    /// The settings that new sessions are opened with.
    pub(in crate::supervisor) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.inner.lock().ids.settings)
    }

    /// The sessions that hold this forward, each with the number of its connection.
    pub(in crate::supervisor) fn holders(&self, forward: &str) -> Vec<(usize, Session)> {
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
    pub(in crate::supervisor) fn held_places(&self) -> Vec<HeldPlace> {
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

    /// The active sessions of which no answer is missing.
    pub(in crate::supervisor) fn living_sessions(&self) -> Vec<LivingSession> {
        let inner = self.inner.lock();
        let mut living = Vec::new();
        for (slot, entry) in inner.connections.iter().enumerate() {
            let id = entry.summary.current;
            let Some(id) = id.map(|generation| SessionId { slot, generation }) else {
                continue;
            };
            let found = inner.sessions.get(&id).zip(inner.liveness.get(&id));
            living.extend(found.map(|(session, liveness)| LivingSession {
                session: session.clone(),
                liveness: Arc::clone(liveness),
            }));
        }
        drop(inner);
        living.retain(|session| !session.is_suspect());
        living
    }

    /// Whether a forward that `which` selects may still have new channels.
    pub(in crate::supervisor) fn expects_channels(&self, which: impl Fn(&str) -> bool) -> bool {
        self.inner
            .lock()
            .active_forwards
            .iter()
            .any(|name| which(name))
    }

    /// Whether a drain has begun, and no gateway listens any more.
    pub(in crate::supervisor) fn has_released(&self) -> bool {
        self.inner.lock().released
    }

    pub(in crate::supervisor) fn open_channels(&self) -> usize {
        let inner = self.inner.lock();
        inner.sessions.values().map(Session::open_channels).sum()
    }

    /// All resets since the agent started.
    pub(in crate::supervisor) fn spool_resets(&self) -> SpoolResets {
        let inner = self.inner.lock();
        let mut all = inner.spool_resets.clone();
        for session in inner.sessions.values() {
            all.add(&session.budget().spool_resets());
        }
        all
    }
}
