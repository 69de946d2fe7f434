//! Keep-alive connections to one Jira: last in first out, closed when idle too long.
//!
//! A request holds a permit of `protection` for as long as it holds a connection; an idle connection
//! holds none. A new connection is opened only by a permit's holder that found nothing idle, so
//! open connections never exceed the number of permits.

use super::{
    answer_head::AnswerHead,
    exchange::{SendProgress, TrackedBody},
    protection::UpstreamPermit,
    raw_target::RequestLineSwap,
    stream::{EarlyAnswerStream, SocketProbe},
};
use http::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::{collections::VecDeque, sync::Arc, time::Duration};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

pub(super) struct ConnectionPool {
    idle_timeout: Duration,
    idle: Mutex<IdleConnections>,
}

#[derive(Default)]
struct IdleConnections {
    /// Oldest first; taken from the back, so that surplus connections grow old and are closed.
    stack: VecDeque<IdleConnection>,
    /// Whether the task that closes the old ones runs.
    reaper: bool,
}

struct IdleConnection {
    connection: PooledConnection,
    since: Instant,
}

/// One HTTP/1.1 connection and the task that drives it.
pub(super) struct PooledConnection {
    sender: SendRequest<TrackedBody>,
    task: JoinHandle<()>,
    probe: SocketProbe,
    request_line: RequestLineSwap,
    answer_head: AnswerHead,
}

/// A connection in use by one request. Dropping it before [`ConnectionLease::give_back`] closes the connection, which may
/// be in the middle of a message.
pub(super) struct ConnectionLease {
    connection: Option<PooledConnection>,
    pool: Arc<ConnectionPool>,
    permit: UpstreamPermit,
}

impl ConnectionPool {
    pub(super) fn new(idle_timeout: Duration) -> Self {
        Self {
            idle_timeout,
            idle: Mutex::default(),
        }
    }

    /// The connection that was used last and is still open, if there is one.
    pub(super) fn take_idle(&self) -> Option<PooledConnection> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        while let Some(parked) = idle.stack.pop_back() {
            let fresh = now.saturating_duration_since(parked.since) < self.idle_timeout;
            if fresh && parked.connection.is_usable() {
                return Some(parked.connection);
            }
        }
        None
    }

    fn add_idle(self: &Arc<Self>, connection: PooledConnection) {
        let mut idle = self.idle.lock();
        idle.stack.push_back(IdleConnection {
            connection,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut idle.reaper, true) {
            let pool = Arc::downgrade(self);
            let idle_timeout = self.idle_timeout;
            tokio::spawn(async move {
                let mut wake = Instant::now() + idle_timeout;
                loop {
                    sleep_until(wake).await;
                    match pool.upgrade().and_then(|pool| pool.reap()) {
                        Some(next) => wake = next,
                        None => return,
                    }
                }
            });
        }
    }

    /// Closes connections that have been idle for too long. Returns when to call it next; `None` when none is left.
    fn reap(&self) -> Option<Instant> {
        let now = Instant::now();
        let mut idle = self.idle.lock();
        idle.stack.retain(|parked| {
            now < parked.since + self.idle_timeout && !parked.connection.sender.is_closed()
        });
        let next = idle
            .stack
            .front()
            .map(|parked| parked.since + self.idle_timeout);
        idle.reaper = next.is_some();
        next
    }

    /// Closes the connections that no request uses.
    pub(super) fn close_idle(&self) {
        let idle = std::mem::take(&mut self.idle.lock().stack);
        drop(idle);
    }

    #[cfg(test)]
    pub(super) fn idle_count(&self) -> usize {
        self.idle.lock().stack.len()
    }

    /// Lets the idle connections die at their task's next turn, unnoticed until then.
    #[cfg(test)]
    pub(super) fn doom_idle(&self) {
        for parked in &self.idle.lock().stack {
            parked.connection.task.abort();
        }
    }
}

impl PooledConnection {
    /// Makes an HTTP/1.1 connection of a stream; its task ends with it.
    pub(super) async fn new(mut stream: EarlyAnswerStream) -> Result<Self, hyper::Error> {
        let probe = stream.probe();
        let request_line = stream.request_line();
        let answer_head = stream.answer_head();
        let (sender, connection) = http1::Builder::new()
            // Firewalls before Jira write such lines. hyper drops a line with a control character, and removes a space
            // before the colon and a fold (RFC 9110 §5.5, RFC 9112 §5.1 and §5.2).
            .ignore_invalid_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true)
            .max_buf_size(BUFFER)
            .handshake(TokioIo::new(stream))
            .await?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to Jira ended");
            }
        });
        Ok(Self {
            sender,
            task,
            probe,
            request_line,
            answer_head,
        })
    }

    fn is_usable(&self) -> bool {
        self.sender.is_ready() && self.probe.is_quiet()
    }
}

impl ConnectionLease {
    pub(super) fn new(
        pool: Arc<ConnectionPool>,
        permit: UpstreamPermit,
        connection: PooledConnection,
    ) -> Self {
        Self {
            connection: Some(connection),
            pool,
            permit,
        }
    }

    pub(super) fn sender(&mut self) -> Option<&mut SendRequest<TrackedBody>> {
        self.connection
            .as_mut()
            .map(|connection| &mut connection.sender)
    }

    /// The turn of the request that uses the connection.
    pub(super) fn permit(&self) -> &UpstreamPermit {
        &self.permit
    }

    /// Before the request is handed to the sender.
    pub(super) fn prepare(&self, request: &Request<TrackedBody>, progress: &Arc<SendProgress>) {
        self.permit.sent(progress);
        if let Some(connection) = &self.connection {
            connection.request_line.prepare(request);
            connection.answer_head.await_next();
        }
    }

    /// Whether a byte of the answer has come.
    pub(super) fn answer_has_begun(&self) -> bool {
        let connection = self.connection.as_ref();
        connection.is_some_and(|connection| connection.answer_head.has_begun())
    }

    /// The header that the answer was refused for.
    pub(super) fn invalid_header(&self) -> Option<String> {
        self.connection.as_ref()?.answer_head.invalid_header()
    }

    /// Replaces a dead connection under the same permit.
    pub(super) fn replace(&mut self, connection: PooledConnection) {
        self.connection = Some(connection);
    }

    /// After a whole exchange: keeps the connection for the next request, if it stays open.
    pub(super) fn give_back(mut self) {
        let Some(mut connection) = self.connection.take() else {
            return;
        };
        if connection.sender.is_ready() {
            self.pool.add_idle(connection);
            return;
        }
        if connection.sender.is_closed() {
            return;
        }
        // hyper is about to notice that the message is over; until then the permit is held.
        tokio::spawn(async move {
            if let Ok(Ok(())) = timeout(SETTLE, connection.sender.ready()).await {
                self.pool.add_idle(connection);
            } else {
                connection.task.abort();
            }
        });
    }
}

impl Drop for ConnectionLease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.task.abort();
        }
    }
}

/// How long a connection may take from the end of an exchange to readiness for the next: its task needs one poll.
const SETTLE: Duration = Duration::from_secs(1);
/// Bytes that hyper reads at once, and that it gathers before it waits for Jira; also the largest head of an answer. By
/// itself it takes 400 KiB, of which each answer that its vendor does not take holds three. Tomcat writes heads of 8 KiB.
const BUFFER: usize = 32 << 10;
