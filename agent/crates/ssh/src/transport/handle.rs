//! The view of a transport outside russh: its backlog, its last activity, and the abort.

use super::{
    TcpPair, TransportLimits,
    queue::{GateAnswer, PushError, Ticket, WriteQueue},
    socket::ResettableSocket,
};
use crate::liveness::SendSample;
use futures_util::task::AtomicWaker;
use parking_lot::{Mutex, MutexGuard};
use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Waker},
    time::Duration,
};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

/// The shared view of one transport. Liveness is checked here, outside russh, because a russh session that hangs cannot
/// check itself.
pub struct TransportHandle {
    pub(super) limits: TransportLimits,
    queue: Mutex<WriteQueue>,
    /// Wakes the writer task.
    pub(super) work: Notify,
    reader: AtomicWaker,
    backlog: AtomicUsize,
    peak: AtomicUsize,
    received: AtomicU64,
    taken: AtomicU64,
    start: Instant,
    /// Microseconds since `start`.
    last_received: AtomicU64,
    last_taken: AtomicU64,
    /// When more than a small reply was written after the last received byte; 0 if there was none.
    unanswered_since: AtomicU64,
    /// Bytes written after the last received byte.
    unanswered: AtomicU64,
    /// A task waits for the next byte in either direction.
    activity_armed: AtomicBool,
    activity: Notify,
    tcp: OnceLock<TcpPair>,
    resettable: Mutex<Option<ResettableSocket>>,
    shutdown_deadline: Mutex<Option<Instant>>,
    death: OnceLock<TransportDeath>,
    dead: CancellationToken,
}

struct TransportDeath {
    kind: io::ErrorKind,
    reason: String,
}

impl TransportHandle {
    pub(super) fn new(limits: TransportLimits) -> Arc<Self> {
        let start = Instant::now();
        Arc::new(Self {
            queue: Mutex::new(WriteQueue::new(&limits, start)),
            limits,
            work: Notify::new(),
            reader: AtomicWaker::new(),
            backlog: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            received: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            start,
            last_received: AtomicU64::new(0),
            last_taken: AtomicU64::new(0),
            unanswered_since: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            activity_armed: AtomicBool::new(false),
            activity: Notify::new(),
            tcp: OnceLock::new(),
            resettable: Mutex::new(None),
            shutdown_deadline: Mutex::new(None),
            death: OnceLock::new(),
            dead: CancellationToken::new(),
        })
    }

    /// Bytes handed down by russh that the kernel has not taken.
    pub fn backlog(&self) -> usize {
        self.backlog.load(Relaxed)
    }

    /// The largest backlog so far, in bytes.
    pub fn peak(&self) -> usize {
        self.peak.load(Relaxed)
    }

    /// Bytes read from the socket.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes the kernel took.
    pub fn sent(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Bytes handed down by russh, whether the kernel has taken them or not.
    pub fn written(&self) -> u64 {
        self.sent().saturating_add(self.backlog() as u64)
    }

    /// Since when something sent has been without any byte from the peer, or has waited for the kernel. Replies to probes
    /// and other small packets do not count.
    pub fn unanswered_since(&self) -> Option<std::time::Instant> {
        let at = match self.unanswered_since.load(Relaxed) {
            0 if self.backlog() > 0 => self.last_received.load(Relaxed),
            0 => return None,
            at => at,
        };
        Some(self.start.into_std() + Duration::from_micros(at))
    }

    /// Sets the TCP connection below, for [`send_sample`](Self::send_sample).
    pub fn set_tcp_pair(&self, tcp: TcpPair) {
        // Set once, before the first byte.
        let _ = self.tcp.set(tcp);
    }

    /// Bytes that the far kernel has acknowledged, at least; where ours does not report that, the bytes ours took. Inside
    /// TLS the number is a little too small until everything is acknowledged.
    pub async fn send_sample(&self) -> SendSample {
        let taken = self.sent();
        let queue = match self.tcp.get() {
            Some(tcp) => tcp.send_queue().await,
            None => None,
        };
        SendSample {
            acknowledged: taken.saturating_sub(queue.map_or(0, |queue| queue.unacknowledged)),
            retransmissions: queue.and_then(|queue| queue.retransmissions),
        }
    }

    /// Bytes that the far kernel has not acknowledged, of those that ours took; `None` where ours lists no such connection.
    pub(super) async fn unacknowledged(&self) -> Option<u64> {
        let queue = self.tcp.get()?.send_queue().await?;
        Some(queue.unacknowledged)
    }

    pub(super) fn has_tcp(&self) -> bool {
        self.tcp.get().is_some()
    }

    /// Until then a shutdown may deliver what was written, as long as bytes still arrive. To be set before it begins.
    pub fn set_shutdown_deadline(&self, deadline: Instant) {
        *self.shutdown_deadline.lock() = Some(deadline);
    }

    pub(super) fn shutdown_deadline(&self) -> Option<Instant> {
        *self.shutdown_deadline.lock()
    }

    /// Arms [`activity`](Self::activity) for the next byte in either direction.
    pub fn arm_activity(&self) {
        self.activity_armed.store(true, Relaxed);
    }

    /// Waits for the first byte in either direction after [`arm_activity`](Self::arm_activity).
    pub async fn activity(&self) {
        self.activity.notified().await;
    }

    /// Time since the socket last delivered a byte.
    pub fn rx_age(&self) -> Duration {
        self.since(&self.last_received)
    }

    /// How long bytes have waited without the kernel taking one; zero without a backlog.
    pub fn tx_age(&self) -> Duration {
        match self.backlog() {
            0 => Duration::ZERO,
            _ => self.taken_age(),
        }
    }

    /// Time since the kernel last took a byte, or since there was one to take.
    pub(super) fn taken_age(&self) -> Duration {
        self.since(&self.last_taken)
    }

    /// Sets the connection that [`abort`](Self::abort) resets.
    pub fn set_resettable(&self, socket: ResettableSocket) {
        *self.resettable.lock() = Some(socket);
    }

    /// The other end answered a probe after this time: where it is [`NEAR`](super::socket::NEAR), keeps the queue of
    /// received bytes short, as [`adapt_to_distance`](super::socket::adapt_to_distance) does. For a side that does not
    /// know the distance earlier. A queue can make an answer late, nothing can make it early: one such answer is proof.
    pub fn on_answer_after(&self, round_trip: Duration) {
        if round_trip >= super::socket::NEAR {
            return;
        }
        if let Some(socket) = &mut *self.resettable.lock() {
            socket.on_near();
        }
    }

    /// The peer has answered a first probe: from now on probes judge the link, and the kernel's limits are the usual ones.
    pub fn on_proven(&self) {
        if let Some(socket) = &mut *self.resettable.lock() {
            socket.on_proven();
        }
    }

    /// Ends the session at once: reads and writes of russh fail, waiting writers are released, queued bytes are dropped,
    /// and the connection is reset. Only the first reason is kept.
    pub fn abort(&self, reason: impl Into<String>) {
        let socket = self.resettable.lock().take();
        if let Some(socket) = socket
            && !self.is_dead()
        {
            socket.reset_on_close();
        }
        self.kill(io::ErrorKind::ConnectionAborted, reason);
    }

    /// Whether this transport has ended.
    pub fn is_dead(&self) -> bool {
        self.death.get().is_some()
    }

    /// Why the transport ended; `None` while it is alive.
    pub fn death_reason(&self) -> Option<&str> {
        self.death.get().map(|death| death.reason.as_str())
    }

    /// Whether the transport has ended because the far kernel did not answer.
    pub fn is_silent(&self) -> bool {
        let death = self.death.get();
        death.is_some_and(|death| death.kind == io::ErrorKind::TimedOut)
    }

    /// Waits until the transport has ended, for any reason.
    pub async fn died(&self) {
        self.dead.cancelled().await;
    }

    /// The socket failed; `doing` is what was tried.
    pub(super) fn fail(&self, doing: &str, error: &io::Error) {
        let reason = match error.kind() == io::ErrorKind::TimedOut {
            true => format!("the other host has not answered ({error})"),
            false => format!("{doing} the gateway's socket failed: {error}"),
        };
        self.kill(error.kind(), reason);
    }

    pub(super) fn kill(&self, kind: io::ErrorKind, reason: impl Into<String>) {
        let reason = reason.into();
        // The connection must not stay open for it.
        *self.resettable.lock() = None;
        if self.death.set(TransportDeath { kind, reason }).is_ok() {
            self.dead.cancel();
            self.reader.wake();
            wake(self.queue().release_all());
        }
    }

    pub(super) fn error(&self) -> Option<io::Error> {
        self.death
            .get()
            .map(|death| io::Error::new(death.kind, death.reason.clone()))
    }

    /// Registers the reader to be woken when the transport ends.
    pub(super) fn register_reader(&self, cx: &Context<'_>) {
        self.reader.register(cx.waker());
    }

    pub(super) fn note_received(&self, n: usize) {
        self.last_received.store(self.now(), Relaxed);
        self.unanswered.store(0, Relaxed);
        self.unanswered_since.store(0, Relaxed);
        self.received.fetch_add(n as u64, Relaxed);
        self.signal_activity();
    }

    /// Appends what russh writes. Never waits.
    pub(super) fn push(&self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(error) = self.error() {
            return Err(error);
        }
        let pushed = {
            let mut queue = self.queue();
            let now = self.now();
            let unanswered =
                self.unanswered.fetch_add(bytes.len() as u64, Relaxed) + bytes.len() as u64;
            if unanswered > SMALL_REPLY && self.unanswered_since.load(Relaxed) == 0 {
                self.unanswered_since.store(now.max(1), Relaxed);
            }
            if queue.backlog() == 0 {
                self.last_taken.store(now, Relaxed);
            }
            let pushed = queue.push(bytes, Instant::now());
            self.publish_backlog(&queue);
            pushed
        };
        match pushed {
            Ok(wakers) => {
                self.work.notify_one();
                self.signal_activity();
                wake(wakers);
                Ok(bytes.len())
            }
            Err(PushError::Closing) => Err(io::ErrorKind::BrokenPipe.into()),
            Err(PushError::OverCap) => {
                let reason = format!(
                    "the far side takes too little: {} bytes waited for the kernel, the cap is {}",
                    self.backlog(),
                    self.limits.cap
                );
                self.kill(io::ErrorKind::OutOfMemory, reason);
                Err(io::ErrorKind::OutOfMemory.into())
            }
        }
    }

    pub(super) fn note_taken(&self, n: usize) {
        self.last_taken.store(self.now(), Relaxed);
        self.taken.fetch_add(n as u64, Relaxed);
        let wakers = {
            let mut queue = self.queue();
            let wakers = queue.taken(n, Instant::now());
            self.publish_backlog(&queue);
            wakers
        };
        wake(wakers);
    }

    pub(super) fn ask(
        &self,
        ticket: Option<Ticket>,
        bytes: usize,
        finish: &mut u64,
        waker: &Waker,
    ) -> GateAnswer {
        let mut queue = self.queue();
        if self.is_dead() {
            return GateAnswer::Pass { generation: 0 };
        }
        let answer = match ticket {
            None => queue.ask(bytes, finish, waker),
            Some(ticket) => queue.ask_again(ticket, waker),
        };
        if queue.is_shut() {
            // The writer task checks whether the admitted bytes are ever written.
            self.work.notify_one();
        }
        answer
    }

    pub(super) fn give_back(&self, bytes: usize, generation: u64) {
        let wakers = self.queue().give_back(bytes, generation);
        wake(wakers);
    }

    pub(super) fn leave(&self, ticket: Ticket, bytes: usize) {
        let wakers = self.queue().leave(ticket, bytes);
        wake(wakers);
    }

    pub(super) fn forget_admitted(&self) {
        let wakers = self.queue().forget_admitted();
        wake(wakers);
    }

    fn signal_activity(&self) {
        if self.activity_armed.load(Relaxed) && self.activity_armed.swap(false, Relaxed) {
            self.activity.notify_one();
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, WriteQueue> {
        self.queue.lock()
    }

    fn publish_backlog(&self, queue: &WriteQueue) {
        self.backlog.store(queue.backlog(), Relaxed);
        self.peak.fetch_max(queue.backlog(), Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn since(&self, stamp: &AtomicU64) -> Duration {
        Duration::from_micros(self.now().saturating_sub(stamp.load(Relaxed)))
    }
}

/// An encrypted packet with a reply, a probe, or more window is at most this long, and needs no answer.
const SMALL_REPLY: u64 = 64;

/// Outside the lock: a waker may run anything.
fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}
