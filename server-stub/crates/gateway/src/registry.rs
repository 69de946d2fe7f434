//! The connected agents, their sessions and their forwards. Only this module changes them.

use super::{
    AgentName,
    forward::{
        AgentForward, BindError, ForwardListener, ListenAddress, OpenCandidate, RequestedBind,
        ServingSession,
    },
    session::AgentSession,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::watch;

/// All agents that have logged in since the gateway started, bounded by the number of names with keys.
pub(super) struct AgentRegistry {
    agents: Mutex<BTreeMap<AgentName, RegisteredAgent>>,
    folder: PathBuf,
    max_sessions: usize,
    max_forwards: usize,
    ids: AtomicU64,
    changed: watch::Sender<()>,
}

/// The sessions, forwards and byte counts of one agent.
#[derive(Clone, Default)]
pub(super) struct RegisteredAgent {
    /// Its sessions, oldest first.
    pub sessions: Vec<Arc<AgentSession>>,
    /// Its forwards, oldest first.
    pub forwards: Vec<Arc<AgentForward>>,
    /// When its last session ended.
    pub left_at: Option<SystemTime>,
    /// When one of its sessions last ended, or released a forward.
    last_goodbye: Option<Instant>,
    /// Bytes from and to the agent in sessions that have ended.
    pub ended_bytes: (u64, u64),
}

/// Where an HTTP request for an agent can go.
pub(super) enum AgentRoute {
    /// The agent has no session now.
    Offline,
    /// The agent has sessions, but none serves such a forward.
    NoForward,
    /// One of these sessions can carry the request.
    To(Vec<OpenCandidate>),
}

impl AgentRegistry {
    /// `folder` contains one folder per agent, for its sockets.
    pub(super) fn new(folder: PathBuf, max_sessions: usize, max_forwards: usize) -> Self {
        Self {
            agents: Mutex::default(),
            folder,
            max_sessions,
            max_forwards,
            ids: AtomicU64::new(1),
            changed: watch::channel(()).0,
        }
    }

    /// A number that is unique over the life of the gateway.
    pub(super) fn next_id(&self) -> u64 {
        self.ids.fetch_add(1, Relaxed)
    }

    /// Changes whenever a session or forward is added or removed, or a session becomes suspect.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Signals [`changes`](Self::changes) for a change inside a session.
    pub(super) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// Adds a session after its login. Older sessions of the agent must then prove that they are alive.
    /// Beyond the limit the session that was silent longest is aborted, so that dead sessions never keep
    /// out a live one.
    pub(super) fn add_session(&self, session: Arc<AgentSession>) {
        let mut agents = self.agents.lock();
        let agent = agents.entry(session.agent.clone()).or_default();
        for older in &agent.sessions {
            older.mark_superseded();
        }
        if agent.sessions.len() >= self.max_sessions
            && let Some(silent) = agent.sessions.iter().max_by_key(|s| s.silent_for())
        {
            silent.abort("a newer session of the same agent needs its address");
        }
        agent.sessions.push(session);
        drop(agents);
        self.changed.send_replace(());
    }

    /// Removes a session that has ended and releases the forwards that only it served. May be called twice.
    pub(super) fn remove_session(&self, session: &AgentSession) {
        let mut agents = self.agents.lock();
        let Some(agent) = agents.get_mut(&session.agent) else {
            return;
        };
        let before = agent.sessions.len();
        agent.sessions.retain(|other| other.id != session.id);
        if agent.sessions.len() == before {
            return;
        }
        agent.ended_bytes.0 += session.traffic.from_agent.load(Relaxed);
        agent.ended_bytes.1 += session.traffic.to_agent.load(Relaxed);
        if agent.sessions.is_empty() {
            agent.left_at = Some(SystemTime::now());
        }
        self.release(agent, |serving| serving.session.id == session.id);
        drop(agents);
        self.changed.send_replace(());
    }

    /// Lets `session` serve the forward at `requested` and returns the bind with the chosen port. If the
    /// agent already listens there, the session joins; otherwise `run` gets the new listener.
    pub(super) fn listen(
        &self,
        session: &Arc<AgentSession>,
        requested: &RequestedBind,
        run: impl FnOnce(Arc<AgentForward>, ForwardListener),
    ) -> Result<RequestedBind, BindError> {
        let address = requested.listen_address(&session.agent, &self.folder)?;
        let mut agents = self.agents.lock();
        for (name, other) in agents.iter_mut() {
            if *name == session.agent {
                continue;
            }
            // Nothing of another agent's waits at the cost of this one.
            other.forwards.retain(|forward| {
                let gives_way = forward.is_unserved() && forward.address.conflicts_with(&address);
                if gives_way {
                    forward.close();
                }
                !gives_way
            });
        }
        let holder = agents.iter().find_map(|(name, agent)| {
            // An agent owns its port on every loopback address, because clients of `localhost` may try them all.
            let takes = |own_forwards: &ListenAddress| match *name == session.agent {
                true => *own_forwards == address,
                false => own_forwards.conflicts_with(&address),
            };
            let forward = agent.forwards.iter().find(|f| takes(&f.address))?;
            Some((name.clone(), Arc::clone(forward)))
        });
        let agent = agents.get_mut(&session.agent).ok_or(BindError::Ended)?;
        if !agent.sessions.iter().any(|live| live.id == session.id) {
            return Err(BindError::Ended);
        }
        let own_forwards = agent
            .forwards
            .iter()
            .filter(|forward| forward.is_served_by(session.id))
            .count();
        if own_forwards >= self.max_forwards {
            return Err(BindError::TooMany);
        }
        let (forward, listener) = match holder {
            Some((name, _)) if name != session.agent => return Err(BindError::InUseBy(name)),
            Some((_, forward)) if forward.is_served_by(session.id) => {
                return Err(BindError::AlreadyBound);
            }
            Some((_, forward)) if forward.has_its_address() => (forward, None),
            // The socket was removed or replaced: all sessions that serve the forward get its new one.
            Some((_, forward)) => {
                let (listener, _) = ForwardListener::bind(&address)?;
                forward.replace_listener(&listener);
                (forward, Some(listener))
            }
            None => {
                let (listener, address) = ForwardListener::bind(&address)?;
                let forward = Arc::new(AgentForward::new(
                    self.next_id(),
                    session.agent.clone(),
                    address,
                    &listener,
                ));
                agent.forwards.push(Arc::clone(&forward));
                (forward, Some(listener))
            }
        };
        let bind = requested.with_port(&forward.address);
        {
            let mut serving = forward.serving();
            serving.push(ServingSession {
                session: Arc::clone(session),
                requested: requested.clone(),
                bind: bind.clone(),
            });
            forward.announce(&serving);
        }
        if let Some(listener) = listener {
            run(forward, listener);
        }
        drop(agents);
        self.changed.send_replace(());
        Ok(bind)
    }

    /// The listen address of `bind` if it is a forward of the session's own agent.
    pub(super) fn listen_address_of(
        &self,
        session: &AgentSession,
        bind: &RequestedBind,
    ) -> Option<ListenAddress> {
        let address = bind.listen_address(&session.agent, &self.folder).ok()?;
        let agents = self.agents.lock();
        let forwards = &agents.get(&session.agent)?.forwards;
        let own = forwards.iter().any(|forward| forward.address == address);
        own.then_some(address)
    }

    /// The forward at `address`, if this session itself serves it.
    pub(super) fn own_candidate(
        &self,
        session: &AgentSession,
        address: &ListenAddress,
    ) -> Option<OpenCandidate> {
        let agents = self.agents.lock();
        let forwards = &agents.get(&session.agent)?.forwards;
        let forward = forwards.iter().find(|f| f.address == *address)?;
        let mut own = forward.candidates().into_iter();
        own.find(|own| own.serving.session.id == session.id)
    }

    /// Stops serving `bind` by `session`. Returns the forward if the session served it.
    pub(super) fn cancel(
        &self,
        session: &AgentSession,
        bind: &RequestedBind,
    ) -> Option<Arc<AgentForward>> {
        let mut agents = self.agents.lock();
        let agent = agents.get_mut(&session.agent)?;
        let released = self.release(agent, |serving| {
            serving.session.id == session.id && serving.bind == *bind
        });
        drop(agents);
        self.changed.send_replace(());
        released.into_iter().next()
    }

    /// Ends the service of each session that is `leaving`, and returns the forwards concerned. One that none serves any more
    /// keeps listening for a while, unless its port was chosen by the gateway, which the agent would not request again.
    fn release(
        &self,
        agent: &mut RegisteredAgent,
        leaving: impl Fn(&ServingSession) -> bool,
    ) -> Vec<Arc<AgentForward>> {
        let unserved = agent.forwards.iter().filter(|f| f.is_unserved()).count();
        let mut room = self.max_forwards.saturating_sub(unserved);
        let mut released = Vec::new();
        agent.forwards.retain(|forward| {
            let mut serving = forward.serving();
            let is_fixed = serving
                .iter()
                .any(|serving| serving.requested == serving.bind);
            let before = serving.len();
            serving.retain(|serving| !leaving(serving));
            if serving.len() == before {
                return true;
            }
            released.push(Arc::clone(forward));
            forward.announce(&serving);
            if !serving.is_empty() {
                return true;
            }
            if is_fixed && room > 0 {
                room -= 1;
                return true;
            }
            forward.close();
            false
        });
        if !released.is_empty() || agent.sessions.is_empty() {
            agent.last_goodbye = Some(Instant::now());
        }
        released
    }

    /// Closes a forward for which no session has come back. False: one has.
    pub(super) fn close_unserved(&self, forward: &AgentForward) -> bool {
        let mut agents = self.agents.lock();
        if !forward.is_unserved() {
            return false;
        }
        if let Some(agent) = agents.get_mut(&forward.agent) {
            agent.forwards.retain(|other| other.id != forward.id);
        }
        forward.close();
        true
    }

    /// Whether a session of the agent ended, or released a forward, within `wait`.
    pub(super) fn has_left_within(&self, name: &AgentName, wait: Duration) -> bool {
        let agents = self.agents.lock();
        let goodbye = agents.get(name).and_then(|agent| agent.last_goodbye);
        goodbye.is_some_and(|at| at.elapsed() < wait)
    }

    /// The forward for a request. With a label, the one that has it. Without, the agent's oldest forward,
    /// and those that its other sessions requested in the same words: with port 0 each session has
    /// another port.
    pub(super) fn route(&self, name: &AgentName, label: Option<&str>) -> AgentRoute {
        let agents = self.agents.lock();
        let Some(agent) = agents.get(name).filter(|agent| !agent.sessions.is_empty()) else {
            return AgentRoute::Offline;
        };
        let mut candidates: Vec<OpenCandidate> = agent
            .forwards
            .iter()
            .flat_map(AgentForward::candidates)
            .collect();
        match label {
            Some(label) => candidates.retain(|c| c.serving.bind.label() == label),
            None => {
                let first = candidates.first().map(|c| c.serving.requested.clone());
                candidates.retain(|c| Some(&c.serving.requested) == first.as_ref());
            }
        }
        let mut seen = Vec::new();
        candidates.retain(|candidate| {
            let id = candidate.serving.session.id;
            let first = !seen.contains(&id);
            seen.push(id);
            first
        });
        if candidates.is_empty() {
            AgentRoute::NoForward
        } else {
            AgentRoute::To(candidates)
        }
    }

    /// A copy of all agents as they are now.
    pub(super) fn all(&self) -> BTreeMap<AgentName, RegisteredAgent> {
        self.agents.lock().clone()
    }
}
