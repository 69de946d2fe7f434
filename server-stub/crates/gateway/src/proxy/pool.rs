//! HTTP connections over open, idle channels, per session and forward.

use super::{MAX_HEADERS, body::ForwardedBody};
use crate::{
    GatewayState,
    forward::{AgentForward, CountedChannel},
    session::AgentSession,
};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// The idle connections of all agents.
#[derive(Default)]
pub(crate) struct ConnectionPool {
    slots: Mutex<HashMap<PoolKey, PoolSlot>>,
    ids: AtomicU64,
}

/// The ids of session and forward.
pub(crate) type PoolKey = (u64, u64);

#[derive(Default)]
struct PoolSlot {
    idle: Vec<PooledConnection>,
    /// Channels being opened ahead of need.
    opening: usize,
}

/// One HTTP/1.1 connection over one channel.
pub(super) struct PooledConnection {
    id: u64,
    /// Key of the pool slot that the connection belongs to.
    pub key: PoolKey,
    /// The session of its channel.
    pub session: Arc<AgentSession>,
    forward: Arc<AgentForward>,
    /// Sends requests on this connection.
    pub sender: SendRequest<ForwardedBody>,
}

impl ConnectionPool {
    /// Takes the most recently used connection, which is the least likely to be closed.
    pub(super) fn take(&self, key: PoolKey) -> Option<PooledConnection> {
        let mut slots = self.slots.lock();
        let slot = slots.get_mut(&key)?;
        while let Some(connection) = slot.idle.pop() {
            if connection.sender.is_ready() {
                return Some(connection);
            }
        }
        None
    }

    /// Number of idle connections of a session and forward.
    pub(crate) fn idle(&self, session: u64, forward: u64) -> usize {
        self.slots
            .lock()
            .get(&(session, forward))
            .map_or(0, |slot| slot.idle.len())
    }

    /// Starts HTTP on a channel, and drives the connection in a task until it ends.
    pub(super) async fn connect(
        shared: &Arc<GatewayState>,
        channel: CountedChannel,
    ) -> Result<PooledConnection, hyper::Error> {
        let key = (channel.session().id, channel.forward().id);
        let (session, forward) = (Arc::clone(channel.session()), Arc::clone(channel.forward()));
        let (sender, connection) = http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(shared.settings.limits.max_head)
            .max_headers(MAX_HEADERS)
            .handshake(TokioIo::new(channel))
            .await?;
        let id = shared.pool.ids.fetch_add(1, Relaxed);
        let owner = Arc::clone(shared);
        shared.tasks.spawn(async move {
            tokio::select! {
                () = owner.stop.cancelled() => {}
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(%error, "channel's HTTP connection ended");
                    }
                }
            }
            owner.pool.forget(key, id);
        });
        Ok(PooledConnection {
            id,
            key,
            session,
            forward,
            sender,
        })
    }

    /// Returns a connection once it can take the next request; closes it if that takes too long.
    pub(super) fn put_idle(shared: &Arc<GatewayState>, mut connection: PooledConnection) {
        let owner = Arc::clone(shared);
        shared.tasks.spawn(async move {
            let ready = tokio::time::timeout(IDLE_READY_TIMEOUT, connection.sender.ready()).await;
            if matches!(ready, Ok(Ok(()))) {
                owner.pool.put(connection, owner.settings.limits.max_idle);
            }
        });
    }

    /// Closes the idle connections of a forward that its session no longer serves.
    pub(crate) fn close_idle(&self, key: PoolKey) {
        if let Some(slot) = self.slots.lock().get_mut(&key) {
            slot.idle.clear();
        }
    }

    fn put(&self, connection: PooledConnection, max_idle: usize) {
        let mut slots = self.slots.lock();
        // Under the lock: the driver removes its connection only after closing it, and a forward is
        // released before its idle connections are closed.
        let served = connection.forward.is_served_by(connection.session.id);
        if connection.sender.is_closed() || !served {
            return;
        }
        let slot = slots.entry(connection.key).or_default();
        if slot.idle.len() < max_idle {
            slot.idle.push(connection);
        }
    }

    fn forget(&self, key: PoolKey, id: u64) {
        let mut slots = self.slots.lock();
        if let Some(slot) = slots.get_mut(&key) {
            slot.idle.retain(|connection| connection.id != id);
            if slot.idle.is_empty() && slot.opening == 0 {
                slots.remove(&key);
            }
        }
    }

    /// Whether one more channel should be opened ahead of need. The caller then opens it and calls
    /// [`ConnectionPool::opened_ahead`].
    pub(super) fn wants_more(&self, key: PoolKey, preopened: usize) -> bool {
        let mut slots = self.slots.lock();
        if preopened == 0 {
            return false;
        }
        let slot = slots.entry(key).or_default();
        let wanted = slot.idle.len() + slot.opening < preopened;
        if wanted {
            slot.opening += 1;
        }
        wanted
    }

    /// Completes [`ConnectionPool::wants_more`], with the connection if there is one.
    pub(super) fn opened_ahead(
        &self,
        key: PoolKey,
        connection: Option<PooledConnection>,
        max_idle: usize,
    ) {
        {
            let mut slots = self.slots.lock();
            if let Some(slot) = slots.get_mut(&key) {
                slot.opening = slot.opening.saturating_sub(1);
                if slot.idle.is_empty() && slot.opening == 0 {
                    slots.remove(&key);
                }
            }
        }
        if let Some(connection) = connection {
            self.put(connection, max_idle);
        }
    }
}

/// How long a connection may still be busy with its request after the response.
const IDLE_READY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(1);
