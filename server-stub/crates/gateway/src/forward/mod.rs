//! Remote forwards: one listener, served by every session of its agent that requested it.

mod bind;
mod counted_channel;
mod listen;
mod open;

use bind::SocketFile;
pub(super) use bind::{
    BindError, ForwardListener, ListenAddress, Originator, RequestedBind, VendorStream,
};
pub(super) use counted_channel::CountedChannel;
pub(super) use listen::listen;
pub(super) use open::{ChannelOpenError, open};

use super::{AgentName, session::AgentSession};
use parking_lot::{Mutex, MutexGuard};
use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// One listener for one agent.
pub(super) struct AgentForward {
    /// Increases, so that the lowest is an agent's first.
    pub id: u64,
    /// Name of the agent that requested it.
    pub agent: AgentName,
    /// Address that the gateway listens on for it.
    pub address: ListenAddress,
    /// Counters of the channels and bytes of this forward.
    pub traffic: TrafficCounters,
    listener: Mutex<ActiveListener>,
    serving: Mutex<Vec<ServingSession>>,
    /// How many sessions serve it.
    served: watch::Sender<usize>,
}

/// The listener of a forward now. It is replaced if another program replaces its socket.
struct ActiveListener {
    /// Ends it; open connections continue.
    stop: CancellationToken,
    file: Option<SocketFile>,
}

/// A session that serves a forward.
#[derive(Clone)]
pub(super) struct ServingSession {
    /// The session that serves the forward.
    pub session: Arc<AgentSession>,
    /// The bind that it requested; port 0 for any port.
    pub requested: RequestedBind,
    /// That bind with its actual port, which its channels name.
    pub bind: RequestedBind,
}

/// A session that can open a channel of a forward.
#[derive(Clone)]
pub(super) struct OpenCandidate {
    /// The forward of the channel.
    pub forward: Arc<AgentForward>,
    /// The session to ask for a channel.
    pub serving: ServingSession,
}

impl AgentForward {
    pub(super) fn new(
        id: u64,
        agent: AgentName,
        address: ListenAddress,
        listener: &ForwardListener,
    ) -> Self {
        Self {
            id,
            agent,
            address,
            traffic: TrafficCounters::default(),
            listener: Mutex::new(ActiveListener::new(listener)),
            serving: Mutex::default(),
            served: watch::channel(0).0,
        }
    }

    /// Cancelled at the end of the listener that it has now.
    pub(super) fn listener_stop(&self) -> CancellationToken {
        self.listener.lock().stop.clone()
    }

    /// Ends its listener; this one takes its place.
    pub(super) fn replace_listener(&self, listener: &ForwardListener) {
        let before = std::mem::replace(&mut *self.listener.lock(), ActiveListener::new(listener));
        before.stop.cancel();
    }

    /// Whether clients that connect to its address reach its listener. Only a path can be taken from it. One system call.
    pub(super) fn has_its_address(&self) -> bool {
        let file = self.listener.lock().file;
        match (&self.address, file) {
            (ListenAddress::Socket(path), Some(file)) => file.is_at(path),
            (ListenAddress::Tcp(_) | ListenAddress::Socket(_), _) => true,
        }
    }

    /// Ends its listener, and removes its socket if it still is its own.
    pub(super) fn close(&self) {
        if let ListenAddress::Socket(path) = &self.address
            && self.has_its_address()
        {
            let _ = std::fs::remove_file(path);
        }
        self.listener.lock().stop.cancel();
    }

    /// The sessions that serve it now.
    pub(super) fn serving(&self) -> MutexGuard<'_, Vec<ServingSession>> {
        self.serving.lock()
    }

    /// The number of sessions that serve it, whenever that changes.
    pub(super) fn served(&self) -> watch::Receiver<usize> {
        self.served.subscribe()
    }

    /// Call it after a change of [`AgentForward::serving`].
    pub(super) fn announce(&self, serving: &[ServingSession]) {
        self.served.send_replace(serving.len());
    }

    /// Whether no session serves it: it waits for its agent to come back.
    pub(super) fn is_unserved(&self) -> bool {
        self.serving().is_empty()
    }

    /// Whether this session serves the forward.
    pub(super) fn is_served_by(&self, session: u64) -> bool {
        let serving = self.serving();
        serving.iter().any(|serving| serving.session.id == session)
    }

    /// One candidate per session that serves the forward.
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

impl ActiveListener {
    fn new(listener: &ForwardListener) -> Self {
        Self {
            stop: CancellationToken::new(),
            file: listener.socket_file(),
        }
    }
}

/// Counters of channels, bytes and requests.
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

/// Puts responsive sessions before those that are suspect or owe an answer, then the least busy first. Equals are
/// ordered at random, since taking turns falls into step with callers that take turns.
pub(super) fn order_candidates(candidates: &mut [OpenCandidate]) {
    if candidates.len() < 2 {
        return;
    }
    candidates.rotate_left(rand::random_range(0..candidates.len()));
    candidates.sort_by_key(|candidate| {
        let session = &candidate.serving.session;
        (session.is_suspect(), session.owes_answer(), session.busy())
    });
}
