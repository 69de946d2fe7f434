//! One logged-in SSH session of an agent: its identity, its traffic, and how a channel is opened on it.

mod accept;
mod config;
mod direct_channel;
mod handler;
mod login_queue;
mod monitor;
mod permitted_target;

pub(super) use accept::{connections, listener};
pub(super) use config::config;

use super::{
    AgentName,
    forward::{ChannelOpenError, Originator, RequestedBind, TrafficCounters},
    settings::GatewayLimits,
};
use agent_ssh::{
    channel::{ChannelStream, SessionBudget},
    liveness::LivenessClock,
    transport::TransportHandle,
};
use parking_lot::Mutex;
use russh::{ChannelOpenFailure, server};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant, SystemTime},
};

/// A session after its login.
pub(super) struct AgentSession {
    /// Counts up over the life of the gateway.
    pub id: u64,
    /// Name of the agent that logged in.
    pub agent: AgentName,
    /// Address of the client.
    pub remote: SocketAddr,
    /// SSH identification of the client without `SSH-2.0-`; printable, at most 64 characters.
    pub client: String,
    /// Key fingerprint or certificate of the login.
    pub login: String,
    /// When it logged in.
    pub connected_at: SystemTime,
    /// Counters of the session's channels and bytes.
    pub traffic: TrafficCounters,
    handle: server::Handle,
    budget: Arc<SessionBudget>,
    transport: Arc<TransportHandle>,
    max_channels: usize,
    open_patience: Duration,
    pending: AtomicUsize,
    busy: AtomicUsize,
    /// HTTP requests among them.
    requests: AtomicUsize,
    /// Round-trip time of the last opened channel, in microseconds.
    round_trip: AtomicU64,
    liveness: Mutex<SessionLiveness>,
    clock: Mutex<LivenessClock>,
}

/// Reasons to doubt that the client is alive. Data that it sends later settles the doubt.
#[derive(Default)]
struct SessionLiveness {
    /// A newer session of the same agent logged in.
    newer_session_since: Option<Instant>,
    /// A channel open was not answered within its patience.
    open_overdue_since: Option<Instant>,
}

impl AgentSession {
    #[expect(
        clippy::too_many_arguments,
        reason = "built in one place, from one login"
    )]
    fn new(
        id: u64,
        agent: AgentName,
        login: String,
        remote: SocketAddr,
        client: String,
        handle: server::Handle,
        budget: Arc<SessionBudget>,
        transport: Arc<TransportHandle>,
        limits: &GatewayLimits,
    ) -> Self {
        Self {
            id,
            agent,
            remote,
            client,
            login,
            connected_at: SystemTime::now(),
            traffic: TrafficCounters::default(),
            clock: Mutex::new(monitor::clock(
                &transport,
                limits.probe_interval,
                limits.probe_timeout,
            )),
            handle,
            budget,
            transport,
            max_channels: limits.max_channels,
            open_patience: limits.open_patience,
            pending: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            round_trip: AtomicU64::new(0),
            liveness: Mutex::default(),
        }
    }

    /// Opens a channel. Must run to completion: never cancel it.
    pub(super) async fn open(
        &self,
        bind: &RequestedBind,
        originator: &Originator,
    ) -> Result<ChannelStream, ChannelOpenError> {
        let _pending = CountGuard::new(&self.pending);
        if self.traffic.channels.load(Relaxed) + self.pending.load(Relaxed) > self.max_channels {
            return Err(ChannelOpenError::Busy);
        }
        let started = Instant::now();
        let opened = match bind {
            RequestedBind::Tcp { host, port } => {
                self.handle
                    .channel_open_forwarded_tcpip(
                        host.clone(),
                        u32::from(*port),
                        originator.host.clone(),
                        u32::from(originator.port),
                    )
                    .await
            }
            RequestedBind::Socket(path) => {
                self.handle
                    .channel_open_forwarded_streamlocal(path.clone())
                    .await
            }
        };
        let answered = |session: &Self| {
            let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            session.round_trip.store(micros, Relaxed);
            *session.liveness.lock() = SessionLiveness::default();
        };
        match opened {
            Ok(channel) => {
                answered(self);
                Ok(ChannelStream::new(Arc::clone(&self.budget), channel))
            }
            Err(russh::Error::ChannelOpenFailure(reason)) => {
                answered(self);
                Err(match reason {
                    ChannelOpenFailure::ResourceShortage => ChannelOpenError::Busy,
                    ChannelOpenFailure::AdministrativelyProhibited
                    | ChannelOpenFailure::ConnectFailed
                    | ChannelOpenFailure::UnknownChannelType
                    | ChannelOpenFailure::Other { .. } => ChannelOpenError::Refused,
                })
            }
            Err(_) => Err(ChannelOpenError::SessionLost),
        }
    }

    /// How long a channel open may take before another session is asked too: four times the last
    /// round trip, but at least the setting.
    pub(super) fn open_patience(&self) -> Duration {
        let usual = Duration::from_micros(self.round_trip.load(Relaxed));
        self.open_patience.max(usual.saturating_mul(4))
    }

    /// Records that a channel open was not answered within the patience.
    pub(super) fn mark_overdue(&self) {
        self.liveness
            .lock()
            .open_overdue_since
            .get_or_insert_with(Instant::now);
    }

    /// Records that a newer session of the same agent logged in, so that this one may be dead.
    pub(super) fn mark_superseded(&self) {
        self.liveness.lock().newer_session_since = Some(Instant::now());
    }

    /// Whether a channel open is overdue and the client has sent nothing since.
    pub(super) fn owes_answer(&self) -> bool {
        let overdue = self.liveness.lock().open_overdue_since;
        overdue.is_some_and(|since| !self.heard_since(since))
    }

    /// Whether the session must answer a channel open before one of its idle channels gets a request.
    pub(super) fn needs_proof(&self) -> bool {
        let superseded = self.liveness.lock().newer_session_since;
        superseded.is_some_and(|since| !self.heard_since(since))
            || self.owes_answer()
            || self.is_probe_overdue()
            || self.is_suspect()
    }

    /// Number of open requests and raw connections.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Relaxed)
    }

    /// Counts one connection as open until the guard is dropped.
    pub(super) fn count_busy(self: &Arc<Self>) -> BusyGuard {
        self.busy.fetch_add(1, Relaxed);
        BusyGuard {
            session: Arc::clone(self),
            requests: 0,
        }
    }

    /// Counts one HTTP request as in flight until the guard is dropped.
    pub(super) fn count_request(self: &Arc<Self>) -> BusyGuard {
        self.busy.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        BusyGuard {
            session: Arc::clone(self),
            requests: 1,
        }
    }

    fn requests_in_flight(&self) -> usize {
        self.requests.load(Relaxed)
    }

    /// Time since the client sent anything.
    pub(super) fn silent_for(&self) -> Duration {
        self.transport.rx_age()
    }

    /// Ends the session at once, without a disconnect message.
    pub(super) fn abort(&self, why: &'static str) {
        self.transport.abort(why);
    }

    fn heard_since(&self, moment: Instant) -> bool {
        self.transport.rx_age() < moment.elapsed()
    }
}

/// Counts one open request or connection.
pub(super) struct BusyGuard {
    session: Arc<AgentSession>,
    /// 1 for an HTTP request, 0 for a raw connection.
    requests: usize,
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.session.busy.fetch_sub(1, Relaxed);
        self.session.requests.fetch_sub(self.requests, Relaxed);
    }
}

struct CountGuard<'a>(&'a AtomicUsize);

impl<'a> CountGuard<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for CountGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
