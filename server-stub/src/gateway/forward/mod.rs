//! Remote forwards: one listener, served by every live session of its agent that asked for it.

mod bind;
mod counted_channel;
mod listen;
mod open;

pub(super) use bind::{
    BindError, ForwardListener, ListenAddress, Originator, RequestedBind, VendorStream,
};
pub(super) use counted_channel::CountedChannel;
pub(super) use listen::listen;
pub(super) use open::{ChannelOpenError, open};

use super::{AgentName, session::AgentSession};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicU64, AtomicUsize},
};
use tokio_util::sync::CancellationToken;

/// One address that is listened on for one agent.
pub(super) struct AgentForward {
    /// Counts up, so that the lowest is an agent's first.
    pub id: u64,
    /// Name of the agent that asked for it.
    pub agent: AgentName,
    /// Address that the gateway listens on for it.
    pub address: ListenAddress,
    /// Counters of the channels and bytes of this forward.
    pub traffic: TrafficCounters,
    /// Ends the listener; connections that are under way go on.
    pub stop: CancellationToken,
    serving: Mutex<Vec<ServingSession>>,
}

/// A session that serves a forward.
#[derive(Clone)]
pub(super) struct ServingSession {
    /// The session that serves the forward.
    pub session: Arc<AgentSession>,
    /// What it asked for; port 0 where it left the choice.
    pub requested: RequestedBind,
    /// The same with the port that it got: what its channels are opened by.
    pub bind: RequestedBind,
}

/// A session by which a channel of a forward can be opened.
#[derive(Clone)]
pub(super) struct OpenCandidate {
    /// The forward that a channel is wanted for.
    pub forward: Arc<AgentForward>,
    /// The session to ask for a channel.
    pub serving: ServingSession,
}

impl AgentForward {
    pub(super) fn new(
        id: u64,
        agent: AgentName,
        address: ListenAddress,
        stop: CancellationToken,
    ) -> Self {
        Self {
            id,
            agent,
            address,
            traffic: TrafficCounters::default(),
            stop,
            serving: Mutex::default(),
        }
    }

    /// The sessions that serve it now.
    pub(super) fn serving(&self) -> MutexGuard<'_, Vec<ServingSession>> {
        // Each change is one push or one retain: a panic leaves a whole list.
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this session is one of them.
    pub(super) fn is_served_by(&self, session: u64) -> bool {
        let serving = self.serving();
        serving.iter().any(|serving| serving.session.id == session)
    }

    /// Every session that serves it, to choose from.
    pub(super) fn candidates(self: &Arc<Self>) -> Vec<OpenCandidate> {
        self.serving()
            .iter()
            .map(|serving| OpenCandidate {
                forward: Arc::clone(self),
                serving: serving.clone(),
            })
            .collect()
    }
}

/// Bytes and channels, counted where they pass.
#[derive(Default)]
pub(super) struct TrafficCounters {
    /// Number of channels open now.
    pub channels: AtomicUsize,
    /// Number of channels opened since the start.
    pub opened: AtomicU64,
    /// Bytes that came from the agent.
    pub from_agent: AtomicU64,
    /// Bytes that went to the agent.
    pub to_agent: AtomicU64,
    /// Number of HTTP requests sent.
    pub requests: AtomicU64,
}

/// The order to ask in: those that answer before those that owe an answer, the least busy first, and
/// equals by chance: taking turns falls into step with callers that take turns themselves.
pub(super) fn order_candidates(candidates: &mut [OpenCandidate]) {
    if candidates.len() < 2 {
        return;
    }
    candidates.rotate_left(rand::random_range(0..candidates.len()));
    candidates.sort_by_key(|candidate| {
        let session = &candidate.serving.session;
        (session.owes_answer(), session.busy())
    });
}
