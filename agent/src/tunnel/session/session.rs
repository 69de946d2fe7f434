//! An open session: requests to the gateway, its probe, its end.

use super::{
    ForwardError, ForwardRefusal, SessionEnd,
    connect::describe_gateway,
    error::{SessionOpenError, SessionOpenStep},
    exec::{self, ExecError, ExecOutput},
    forwards::SessionForwards,
    handler::SessionHandler,
    probe::{self, SessionProbes},
};
use crate::tunnel::{
    BindAddress, ChannelAcceptor, GatewayAddress, HopObserver, ListeningPlace, RemoteForward,
    Settings,
    channel::{ChannelStream, SessionBudget},
    egress::AddressLease,
};
use parking_lot::Mutex;
use russh::{ChannelOpenFailure, Disconnect, Error, client::Handle, keys::Certificate};
use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, watch},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// An SSH session that is logged in. Clones are the same session; it ends when the last is dropped.
#[derive(Clone)]
pub struct Session(Arc<SessionInner>);

/// What the key exchange of a session negotiated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NegotiatedParameters {
    /// `SHA256:…` of the verified host key.
    pub host_key: String,
    /// Key exchange algorithm that was negotiated.
    pub key_exchange: String,
    /// Cipher toward the gateway.
    pub cipher: String,
    /// Strict key exchange (protection against prefix truncation, CVE-2023-48795).
    pub strict: bool,
}

/// Where the gateway listens for a forward, with the port that it chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundForward(pub BindAddress);

impl fmt::Display for BoundForward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A channel to one of our own forwards, or to a target of the gateway, was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenDirectError {
    /// The gateway does not let this user open channels there.
    #[error("the gateway does not let the agent call {0}")]
    Prohibited(String),
    /// The gateway could not connect: nothing listens there, or it is overloaded.
    #[error("the gateway cannot connect to {0} ({1})")]
    Failed(String, String),
    /// The gateway has too many channels open.
    #[error("the gateway has no channel left for a call of {0}")]
    Busy(String),
    /// The gateway did not answer within this.
    #[error("the gateway did not answer a call within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The session has ended.
    #[error("{0}")]
    Lost(SessionEnd),
}

/// A probe was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The session has not answered within the deadline; it may still be alive.
    #[error("no answer to a probe within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The session has ended, for this reason.
    #[error("{0}")]
    Lost(SessionEnd),
}

impl Session {
    pub(super) fn new(inner: SessionInner) -> Self {
        Self(Arc::new(inner))
    }

    /// Asks the gateway to listen. The request continues if the future is dropped. No probe is sent between the call and
    /// the answer.
    pub fn forward(
        &self,
        forward: &RemoteForward,
    ) -> impl Future<Output = Result<BoundForward, ForwardError>> + Send + use<> {
        let (this, forward) = (self.clone(), forward.clone());
        let pending = self.0.probes.forward_pending();
        let task = tokio::spawn(async move {
            let outcome = this.0.forward(&forward).await;
            drop(pending);
            outcome
        });
        async move {
            match task.await {
                Ok(outcome) => outcome,
                Err(_) => Err(ForwardError::Lost(SessionEnd::Panicked)),
            }
        }
    }

    /// Asks the gateway to stop listening. Open channels stay open.
    pub async fn cancel_forward(&self, name: &str) -> Result<(), ForwardError> {
        let (this, name) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move { this.0.cancel(&name).await });
        match task.await {
            Ok(outcome) => outcome,
            Err(_) => Err(ForwardError::Lost(SessionEnd::Panicked)),
        }
    }

    /// Cancels all forwards. Open channels stay open.
    pub async fn cancel_forwards(&self) {
        for name in self.0.shared.forwards.names() {
            if let Err(ForwardError::Lost(_)) = self.cancel_forward(&name).await {
                return;
            }
        }
    }

    /// Asks for a reply and returns the round-trip time. Proves the session, not just the socket.
    pub async fn probe(&self, limit: Duration) -> Result<Duration, ProbeError> {
        match timeout(limit, self.probe_without_deadline()).await {
            Ok(answer) => answer.map_err(ProbeError::Lost),
            Err(_) => Err(ProbeError::NoAnswer(limit)),
        }
    }

    /// A probe without a deadline: the caller judges a silence. It is sent after all pending requests for forwards are
    /// answered. The probe continues if the future is dropped.
    pub async fn probe_without_deadline(&self) -> Result<Duration, SessionEnd> {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move { probe::probe(&inner).await });
        task.await.unwrap_or(Err(SessionEnd::Panicked))
    }

    /// Runs one command and waits at most `limit` for its end. For a session that is used for nothing else.
    pub async fn exec(
        &self,
        command: &str,
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<ExecOutput, ExecError> {
        let (this, command) = (self.clone(), command.to_owned());
        // A task: opening a channel must not be cancelled.
        let task = tokio::spawn(async move { exec::run(&this.0.handle, &command, input).await });
        match timeout(limit, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(ExecError::Lost),
            Err(_) => {
                self.abort("a command did not end in time");
                Err(ExecError::Timeout(limit))
            }
        }
    }

    /// When the last probe that the gateway has answered was sent: all that it sent before that has arrived.
    pub fn answered_probe_sent_at(&self) -> Option<Instant> {
        self.0.probes.answered_sent_at()
    }

    /// Where the gateway listens for this forward, and what requests through that place have shown.
    pub fn place(&self, name: &str) -> Option<Arc<ListeningPlace>> {
        self.0.shared.forwards.place(name)
    }

    /// Whether the gateway has not answered in time. Health requests then get 503, so that it prefers other sessions.
    pub fn set_suspect(&self, suspect: bool) {
        for place in self.0.shared.forwards.places() {
            place.set_suspect(suspect);
        }
    }

    /// Where the gateway listens for this forward of ours, if this session holds it.
    pub fn bound(&self, name: &str) -> Option<BoundForward> {
        self.0.shared.forwards.bound(name).map(BoundForward)
    }

    /// Connects to one of our own forwards as the vendor's services do: the gateway connects to the port or socket where
    /// it listens for us (`direct-tcpip`, RFC 4254 §7.2, or `direct-streamlocal@openssh.com`), and opens the other end as
    /// a forwarded channel. The request continues if the future is dropped.
    pub async fn open_direct(
        &self,
        bound: &BoundForward,
    ) -> Result<ChannelStream, OpenDirectError> {
        if self.0.unanswered_opens.load(Relaxed) >= MAX_UNANSWERED_OPENS {
            return Err(OpenDirectError::NoAnswer(ANSWER_TIMEOUT));
        }
        let (this, bind) = (self.clone(), bound.0.clone());
        // A cancelled open would end the session or orphan the channel.
        let mut task = tokio::spawn(async move { this.0.open_direct(&bind).await });
        match timeout(ANSWER_TIMEOUT, &mut task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(OpenDirectError::Lost(SessionEnd::Panicked)),
            Err(_) => {
                let inner = Arc::clone(&self.0);
                inner.unanswered_opens.fetch_add(1, Relaxed);
                tokio::spawn(async move {
                    let _ = task.await;
                    inner.unanswered_opens.fetch_sub(1, Relaxed);
                });
                Err(OpenDirectError::NoAnswer(ANSWER_TIMEOUT))
            }
        }
    }

    /// Connects to a host and port as the gateway sees them (`direct-tcpip`, RFC 4254 §7.2). The gateway decides whether it
    /// permits that (`PermitOpen` of an sshd). The request continues if the future is dropped, and counts until the gateway
    /// answers: an sshd whose target is silent takes two minutes.
    pub async fn open_target(
        &self,
        host: &str,
        port: u16,
    ) -> Result<ChannelStream, OpenDirectError> {
        let bind = BindAddress::Tcp {
            host: host.to_owned(),
            port,
        };
        let Ok(permit) = Arc::clone(&self.0.target_opens).try_acquire_owned() else {
            return Err(OpenDirectError::Busy(bind.to_string()));
        };
        let this = self.clone();
        // A cancelled open would end the session or orphan the channel.
        let task = tokio::spawn(async move {
            let _permit = permit;
            this.0.open_direct(&bind).await
        });
        match timeout(ANSWER_TIMEOUT, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(OpenDirectError::Lost(SessionEnd::Panicked)),
            Err(_) => Err(OpenDirectError::NoAnswer(ANSWER_TIMEOUT)),
        }
    }

    /// Waits until the session has ended, for any reason.
    pub async fn ended(&self) -> SessionEnd {
        self.0.shared.ended().await
    }

    /// Sends SSH_MSG_DISCONNECT and waits a few seconds for the end. Open channels are cut off.
    pub async fn disconnect(&self) {
        self.disconnect_within(DISCONNECT_TIMEOUT).await;
    }

    /// Sends SSH_MSG_DISCONNECT, and waits at most `limit` for the end while bytes that were sent before still arrive: the
    /// end of an answer may be among them. Open channels are cut off.
    pub async fn disconnect_within(&self, limit: Duration) {
        let inner = &*self.0;
        let transport = inner.shared.budget.transport();
        let latest = Instant::now() + limit;
        transport.set_shutdown_deadline(latest.into());
        inner.shared.disconnecting.store(true, Relaxed);
        let goodbye = inner.handle.disconnect(
            Disconnect::ByApplication,
            "the agent is disconnecting",
            "en",
        );
        let _ = timeout(DISCONNECT_TIMEOUT, goodbye).await;
        let mut before = transport.send_sample().await.acknowledged;
        while timeout(DISCONNECT_QUIET, self.ended()).await.is_err() {
            let acknowledged = transport.send_sample().await.acknowledged;
            if acknowledged <= before || Instant::now() >= latest {
                return self.abort("it did not end after our goodbye");
            }
            before = acknowledged;
        }
    }

    /// Ends the session at once, without SSH_MSG_DISCONNECT.
    pub fn abort(&self, reason: &str) {
        self.0.shared.budget.transport().abort(reason);
    }

    /// Ends a session whose gateway is silent. `in_flight`: more than probes was being sent, so that the packet size may be
    /// the cause; the next connection to this address then uses smaller segments.
    pub fn abort_silent(&self, reason: &str, in_flight: bool) {
        let shared = &self.0.shared;
        if in_flight && shared.budget.open_channels() > 0 {
            shared.suspect_mtu();
        }
        self.abort(reason);
    }

    /// The gateway has answered a first probe: from now on probes judge the link.
    pub fn on_proven(&self) {
        self.0.shared.budget.transport().on_proven();
    }

    /// Whether a request for a forward is not answered yet. No probe is sent meanwhile.
    pub fn is_awaiting_forward(&self) -> bool {
        self.0.probes.is_forward_pending()
    }

    /// Signals to the channels that a new session serves ([`InboundChannel::replaced`](crate::tunnel::InboundChannel::replaced)).
    pub fn mark_replaced(&self) {
        self.0.shared.replaced.cancel();
    }

    /// The settings that the session was opened with.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.0.shared.settings
    }

    /// The span of its connection, for the log.
    pub fn span(&self) -> &Span {
        &self.0.shared.span
    }

    /// The gateway that the session is connected to.
    pub fn gateway(&self) -> &GatewayAddress {
        &self.0.shared.gateway
    }

    /// Time since the connection was opened.
    pub fn age(&self) -> Duration {
        self.0.shared.opened_at.elapsed()
    }

    /// Whether another machine has opened a channel of this forward, although it is bound to the gateway's loopback
    /// address.
    pub fn is_exposed(&self, forward: &str) -> bool {
        let exposed = self.0.shared.exposed.lock();
        exposed.iter().any(|name| **name == *forward)
    }

    /// The gateway's address; `None` behind a proxy, which resolves the name.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.0.shared.peer
    }

    /// What the key exchange negotiated.
    pub fn negotiated(&self) -> Option<&NegotiatedParameters> {
        self.0.shared.negotiated.get()
    }

    /// Bounds and counters of its channels, and its transport.
    pub fn budget(&self) -> &Arc<SessionBudget> {
        &self.0.shared.budget
    }

    /// Number of channels that are open now.
    pub fn open_channels(&self) -> usize {
        self.0.shared.budget.open_channels()
    }

    /// Channels refused because too many were open.
    pub fn refused_channels(&self) -> u64 {
        self.0.shared.refused_channels.load(Relaxed)
    }
}

pub(super) struct SessionInner {
    pub(super) handle: Handle<SessionHandler>,
    pub(super) shared: Arc<SessionShared>,
    /// One request at a time: otherwise a channel that overtakes the answer to port 0 could not be assigned, and one
    /// unanswered probe would shift all later answers.
    pub(super) one_at_a_time: tokio::sync::Mutex<()>,
    pub(super) probes: SessionProbes,
    /// Direct channels that the gateway has left unanswered for too long.
    unanswered_opens: AtomicUsize,
    /// Direct channels to the vendor's hosts that the gateway has not answered yet.
    target_opens: Arc<Semaphore>,
}

impl SessionInner {
    pub(super) fn new(handle: Handle<SessionHandler>, shared: Arc<SessionShared>) -> Self {
        let probes = SessionProbes::new(shared.rejects_keep_alive());
        Self {
            handle,
            shared,
            one_at_a_time: tokio::sync::Mutex::new(()),
            probes,
            unanswered_opens: AtomicUsize::new(0),
            target_opens: Arc::new(Semaphore::new(MAX_TARGET_OPENS)),
        }
    }

    async fn forward(&self, forward: &RemoteForward) -> Result<BoundForward, ForwardError> {
        let _guard = self.one_at_a_time.lock().await;
        self.require_ordered_replies()
            .await
            .map_err(ForwardError::Lost)?;
        let forwards = &self.shared.forwards;
        forwards.ask(forward);
        let name = &*forward.name;
        let outcome = match &forward.bind {
            BindAddress::Tcp { host, port } => {
                let request = self.handle.tcpip_forward(host.as_str(), u32::from(*port));
                self.answer(request).await.map(|given| {
                    // The answer is 0 if we named the port.
                    if let (0, Ok(given)) = (*port, u16::try_from(given)) {
                        forwards.given(name, given);
                    }
                })
            }
            BindAddress::Socket(path) => {
                let request = self.handle.streamlocal_forward(path.as_str());
                self.answer(request).await
            }
        };
        if outcome.is_ok() {
            self.shared.granted.store(true, Relaxed);
        }
        match outcome {
            Ok(()) => Ok(BoundForward(
                forwards.bound(name).unwrap_or_else(|| forward.bind.clone()),
            )),
            Err(error) => {
                forwards.forget(name);
                Err(match error {
                    None => self.shared.refusal(forward.bind.clone()),
                    Some(ended) => ForwardError::Lost(ended),
                })
            }
        }
    }

    async fn cancel(&self, name: &str) -> Result<(), ForwardError> {
        let _guard = self.one_at_a_time.lock().await;
        let forwards = &self.shared.forwards;
        let Some(bind) = forwards.bound(name) else {
            return Ok(());
        };
        self.require_ordered_replies()
            .await
            .map_err(ForwardError::Lost)?;
        let outcome = match &bind {
            BindAddress::Tcp { host, port } => {
                let request = self
                    .handle
                    .cancel_tcpip_forward(host.as_str(), u32::from(*port));
                self.answer(request).await
            }
            BindAddress::Socket(path) => {
                let request = self.handle.cancel_streamlocal_forward(path.as_str());
                self.answer(request).await
            }
        };
        forwards.forget(name);
        outcome.map_err(|error| match error {
            None => self.shared.refusal(bind.clone()),
            Some(ended) => ForwardError::Lost(ended),
        })
    }

    async fn open_direct(&self, bind: &BindAddress) -> Result<ChannelStream, OpenDirectError> {
        let opened = match bind {
            BindAddress::Tcp { host, port } => {
                let (host, port) = (connect_host(host), u32::from(*port));
                self.handle
                    .channel_open_direct_tcpip(host, port, ORIGINATOR, 0)
                    .await
            }
            BindAddress::Socket(path) => {
                self.handle
                    .channel_open_direct_streamlocal(path.as_str())
                    .await
            }
        };
        match opened {
            Ok(channel) => Ok(ChannelStream::new(Arc::clone(&self.shared.budget), channel)),
            Err(Error::ChannelOpenFailure(reason)) => Err(match reason {
                ChannelOpenFailure::AdministrativelyProhibited
                | ChannelOpenFailure::UnknownChannelType => {
                    OpenDirectError::Prohibited(bind.to_string())
                }
                ChannelOpenFailure::ResourceShortage => OpenDirectError::Busy(bind.to_string()),
                other @ (ChannelOpenFailure::ConnectFailed | ChannelOpenFailure::Other { .. }) => {
                    OpenDirectError::Failed(bind.to_string(), format!("{other:?}"))
                }
            }),
            Err(_) => Err(OpenDirectError::Lost(self.shared.end_of_dead().await)),
        }
    }

    /// Ends a session whose gateway has left a probe unanswered: russh would take the next answer for that of the probe
    /// (docs/dev/ssh.md, D10). A new session asks for its forwards first.
    async fn require_ordered_replies(&self) -> Result<(), SessionEnd> {
        if !self.probes.ignores_global_requests() {
            return Ok(());
        }
        let transport = self.shared.budget.transport();
        transport.abort(
            "the gateway leaves keep-alive requests unanswered, and forwards can change with a new session only",
        );
        Err(self.shared.end_of_dead().await)
    }

    /// Waits until nothing was received for as long as an answer may take, and at most ten times as long: on a slow link
    /// bulk data delays the answer.
    async fn wait_until_quiet(&self) {
        let transport = self.shared.budget.transport();
        let deadline = Instant::now() + ANSWER_TIMEOUT * MAX_WAITS;
        loop {
            let quiet = transport.rx_age();
            let left = deadline.saturating_duration_since(Instant::now());
            if quiet >= ANSWER_TIMEOUT || left.is_zero() {
                return;
            }
            sleep((ANSWER_TIMEOUT - quiet).min(left)).await;
        }
    }

    /// The answer to a global request; `Err(None)` is a refusal. A session without an answer is ended, because a late
    /// grant would go unnoticed.
    async fn answer<T>(
        &self,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Option<SessionEnd>> {
        let patience = async {
            // Silence before the request proves nothing.
            sleep(ANSWER_TIMEOUT).await;
            self.wait_until_quiet().await;
        };
        let answer = tokio::select! {
            answer = request => Some(answer),
            () = patience => None,
            ended = self.shared.ended() => return Err(Some(ended)),
        };
        match answer {
            Some(Ok(value)) => Ok(value),
            Some(Err(Error::RequestDenied)) => Err(None),
            Some(Err(_)) => Err(Some(self.shared.end_of_dead().await)),
            None => {
                let transport = self.shared.budget.transport();
                transport.abort("a request for a forward was not answered");
                Err(Some(self.shared.end_of_dead().await))
            }
        }
    }
}

impl Drop for SessionInner {
    fn drop(&mut self) {
        // Dropping the handle ends russh's task, except during a key exchange that the far side never finishes.
        let transport = Arc::clone(self.shared.budget.transport());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if timeout(DISCONNECT_TIMEOUT, transport.died()).await.is_err() {
                    transport.abort("it did not end after it was dropped");
                }
            });
        }
    }
}

/// State that the session shares with its handler.
pub(super) struct SessionShared {
    pub(super) settings: Arc<Settings>,
    pub(super) gateway: GatewayAddress,
    /// The gateway's address, if not through a proxy.
    pub(super) peer: Option<SocketAddr>,
    /// Makes other connections prefer other addresses.
    pub(super) lease: Option<AddressLease>,
    /// Round trip to the gateway when the connection was made.
    pub(super) round_trip: Duration,
    /// The last texts for people that the gateway sent, printable. A server may send one sentence in pieces.
    banner_text: Mutex<VecDeque<String>>,
    /// The login has succeeded.
    pub(super) logged_in: AtomicBool,
    /// A forward was granted.
    granted: AtomicBool,
    /// The user certificate that the gateway accepted, if it was one.
    pub(super) certificate: OnceLock<Certificate>,
    pub(super) connection: usize,
    /// The span of the connection. russh's task and those that we spawn do not inherit it.
    pub(super) span: Span,
    pub(super) accept: Arc<dyn ChannelAcceptor>,
    pub(super) budget: Arc<SessionBudget>,
    pub(super) forwards: SessionForwards,
    pub(super) negotiated: OnceLock<NegotiatedParameters>,
    /// When the connection was opened.
    opened_at: Instant,
    /// Loopback forwards that another machine has opened a channel of.
    exposed: Mutex<Vec<Arc<str>>>,
    /// Called for each hop until the session is open.
    pub(super) observer: HopObserver,
    pub(super) refused_channels: AtomicU64,
    /// Whether we have sent SSH_MSG_DISCONNECT.
    disconnecting: AtomicBool,
    /// Cancelled once a new session serves.
    pub(super) replaced: CancellationToken,
    end: watch::Sender<Option<SessionEnd>>,
}

impl SessionShared {
    pub(super) fn new(
        settings: Arc<Settings>,
        gateway: GatewayAddress,
        connection: usize,
        accept: Arc<dyn ChannelAcceptor>,
        budget: Arc<SessionBudget>,
        observer: HopObserver,
    ) -> Self {
        Self {
            observer,
            settings,
            gateway,
            peer: None,
            lease: None,
            round_trip: Duration::ZERO,
            banner_text: Mutex::default(),
            logged_in: AtomicBool::new(false),
            granted: AtomicBool::new(false),
            opened_at: Instant::now(),
            exposed: Mutex::default(),
            certificate: OnceLock::new(),
            connection,
            span: Span::current(),
            accept,
            budget,
            forwards: SessionForwards::default(),
            negotiated: OnceLock::new(),
            refused_channels: AtomicU64::new(0),
            disconnecting: AtomicBool::new(false),
            replaced: CancellationToken::new(),
            end: watch::Sender::new(None),
        }
    }

    /// The session task has ended; `reported` is the reason that russh gave.
    pub(super) fn end(&self, reported: Option<SessionEnd>, panicked: bool) {
        let disconnecting = self.disconnecting.load(Relaxed);
        let death = self.budget.transport().death_reason().map(str::to_owned);
        let ended = match (reported, death) {
            _ if panicked => SessionEnd::Panicked,
            (Some(SessionEnd::Closed) | None, _) if disconnecting => SessionEnd::ByUs,
            // russh reports our own abort as a broken socket; the transport has the reason.
            (Some(SessionEnd::Broken(_)) | None, Some(reason)) => SessionEnd::Broken(reason),
            (Some(reported), _) => reported,
            (None, None) => SessionEnd::Broken("the session task ended".to_owned()),
        };
        self.record_address_failure(&ended, disconnecting);
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(ended);
            first
        });
    }

    /// An address where sessions break, fall silent, or end before they serve is not tried first again. A cut after the
    /// session has served does not count: a rule that cuts there cuts at the other addresses too.
    fn record_address_failure(&self, ended: &SessionEnd, disconnecting: bool) {
        let logged_in =
            self.logged_in.load(Relaxed) && !disconnecting && *ended != SessionEnd::ByUs;
        let served = ended.is_cut() && self.granted.load(Relaxed);
        if let Some(peer) = self.peer.filter(|_| logged_in && !served) {
            self.settings.egress.addresses().failed(peer, false);
        }
    }

    /// Notes that packets of full size may be lost between this host and the gateway.
    pub(super) fn suspect_mtu(&self) {
        let Some(peer) = self.peer else {
            return;
        };
        if self.settings.egress.addresses().suspect_mtu(peer) {
            let _entered = self.span.enter();
            tracing::warn!(
                gateway = self.describe_gateway(),
                remedy = "if the log does not repeat this, tell the network team (VPN, PPPoE, blocked ICMP)",
                "the connection fell silent under load: packets of full size may be lost (path MTU); the next connections to \
                 this address use smaller ones, for a day"
            );
        }
    }

    /// Whether the gateway is known to end sessions that send a keep-alive.
    pub(super) fn rejects_keep_alive(&self) -> bool {
        let memory = self.settings.egress.addresses();
        memory.rejects_keep_alive(&self.describe_gateway())
    }

    pub(super) async fn ended(&self) -> SessionEnd {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        // The sender is in `self`, so the wait cannot fail.
        ended
            .ok()
            .and_then(|e| e.clone())
            .unwrap_or(SessionEnd::Panicked)
    }

    /// The end of a session that is known to be dead; its task may not have ended yet.
    pub(super) async fn end_of_dead(&self) -> SessionEnd {
        let silent = || SessionEnd::Broken("the session task does not answer".to_owned());
        timeout(DISCONNECT_TIMEOUT, self.ended())
            .await
            .unwrap_or_else(|_| silent())
    }

    /// Another machine has opened a channel of a loopback forward. Returns whether it is the first one.
    pub(super) fn note_exposed(&self, forward: &Arc<str>) -> bool {
        let mut exposed = self.exposed.lock();
        let first = !exposed.contains(forward);
        if first {
            exposed.push(Arc::clone(forward));
        }
        first
    }

    /// The error for a gateway that refuses to listen, or to stop listening.
    fn refusal(&self, bind: BindAddress) -> ForwardError {
        let (user, certificate) = (&self.settings.user, self.certificate.get());
        ForwardError::Refused(Box::new(ForwardRefusal::new(bind, user, certificate)))
    }

    /// Keeps a text for people that the gateway sent.
    pub(super) fn set_banner_text(&self, text: String) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let mut texts = self.banner_text.lock();
        if texts.len() == MAX_BANNER_TEXTS {
            texts.pop_front();
        }
        texts.push_back(text.to_owned());
    }

    /// The last texts for people, joined.
    pub(super) fn banner_text(&self) -> Option<String> {
        let texts = self.banner_text.lock();
        let pieces: Vec<&str> = texts.iter().map(String::as_str).collect();
        (!pieces.is_empty()).then(|| pieces.join(" "))
    }

    /// The gateway with its address or proxy, for errors: any of them may be at fault.
    pub(super) fn describe_gateway(&self) -> String {
        describe_gateway(&self.settings, &self.gateway, self.peer)
    }

    pub(super) fn lost(&self, step: SessionOpenStep, problem: String) -> SessionOpenError {
        SessionOpenError::Lost {
            gateway: self.describe_gateway(),
            step,
            problem,
        }
    }
}

/// The address to connect to for a forward on this host of the gateway: "any address" is not one.
pub fn connect_host(host: &str) -> &str {
    match host {
        "" | "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        named => named,
    }
}

/// Originator of a direct channel (RFC 4254 §7.2).
const ORIGINATOR: &str = "127.0.0.1";
/// A gateway that sends nothing for this long does not answer a request for a forward.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Each costs a task and a channel until the gateway answers, at the latest until the session ends.
const MAX_UNANSWERED_OPENS: usize = 16;
/// As many as one outlet may open at a time.
const MAX_TARGET_OPENS: usize = 64;
/// Number of texts for people that are kept.
const MAX_BANNER_TEXTS: usize = 3;
/// The wait for an answer is extended up to this many times while other bytes arrive.
const MAX_WAITS: u32 = 10;
/// Time limit of sending SSH_MSG_DISCONNECT, and of the end of the session task.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For the end of the session task while no byte arrives; longer than the transport waits.
const DISCONNECT_QUIET: Duration = Duration::from_secs(7);
