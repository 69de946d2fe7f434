//! Remote forwards: one listener, served by every live session of its agent that asked for it.

mod bind;
mod carry;
mod listen;
mod open;

pub(super) use bind::{Bind, BindError, Bytes, Listener, Originator, Place};
pub(super) use carry::Carried;
pub(super) use listen::listen;
pub(super) use open::{OpenError, open};

use super::{AgentName, session::Session};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize},
};
use tokio_util::sync::CancellationToken;

/// One place that is listened on for one agent.
pub(super) struct Forward {
    /// Counts up, so that the lowest is an agent's first.
    pub id: u64,
    /// Whose it is.
    pub agent: AgentName,
    /// Where it is.
    pub place: Place,
    /// What went through.
    pub traffic: Traffic,
    /// Ends the listener; connections that are under way go on.
    pub stop: CancellationToken,
    serving: Mutex<Vec<Serving>>,
}

/// A session that serves a forward.
#[derive(Clone)]
pub(super) struct Serving {
    /// The session.
    pub session: Arc<Session>,
    /// What it asked for; port 0 where it left the choice.
    pub asked: Bind,
    /// The same with the port that it got: what its channels are opened by.
    pub bind: Bind,
}

/// A session by which a channel of a forward can be opened.
#[derive(Clone)]
pub(super) struct Candidate {
    /// The forward.
    pub forward: Arc<Forward>,
    /// Who serves it.
    pub serving: Serving,
}

impl Forward {
    pub(super) fn new(id: u64, agent: AgentName, place: Place, stop: CancellationToken) -> Self {
        Self {
            id,
            agent,
            place,
            traffic: Traffic::default(),
            stop,
            serving: Mutex::default(),
        }
    }

    /// The sessions that serve it now.
    pub(super) fn serving(&self) -> MutexGuard<'_, Vec<Serving>> {
        // Each change is one push or one retain: a panic leaves a whole list.
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this session is one of them.
    pub(super) fn is_served_by(&self, session: u64) -> bool {
        let serving = self.serving();
        serving.iter().any(|serving| serving.session.id == session)
    }

    /// Every session that serves it, to choose from.
    pub(super) fn candidates(self: &Arc<Self>) -> Vec<Candidate> {
        self.serving()
            .iter()
            .map(|serving| Candidate {
                forward: Arc::clone(self),
                serving: serving.clone(),
            })
            .collect()
    }
}

/// Bytes and channels, counted where they pass.
#[derive(Default)]
pub(super) struct Traffic {
    /// Channels open now.
    pub channels: AtomicUsize,
    /// Channels opened ever.
    pub opened: AtomicU64,
    /// Bytes that came from the agent.
    pub from_agent: AtomicU64,
    /// Bytes that went to the agent.
    pub to_agent: AtomicU64,
    /// HTTP requests sent.
    pub requests: AtomicU64,
}

/// The order to ask in: those that answer before those that owe an answer, the least busy first, and
/// equals by chance: taking turns falls into step with callers that take turns themselves.
pub(super) fn rank(candidates: &mut [Candidate]) {
    if candidates.len() < 2 {
        return;
    }
    candidates.rotate_left(rand::random_range(0..candidates.len()));
    candidates.sort_by_key(|candidate| {
        let session = &candidate.serving.session;
        (session.owes_answer(), session.busy())
    });
}
