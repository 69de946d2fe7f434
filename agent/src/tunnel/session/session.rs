//! A session that stands: requests to the gateway, its probe, its end.

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
    BindAddress, ChannelAcceptor, GatewayAddress, HopObserver, RemoteForward, Settings,
    channel::{ChannelStream, SessionBudget},
    egress::AddressLease,
};
use russh::{ChannelOpenFailure, Disconnect, Error, client::Handle, keys::Certificate};
use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

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

/// A channel to one of our own forwards was not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenDirectError {
    /// The gateway does not let this user open channels there.
    #[error("the gateway does not let the agent call {0}")]
    Prohibited(String),
    /// It would, and cannot: nothing listens there, or it has too much to do.
    #[error("the gateway cannot connect to {0} ({1})")]
    Failed(String, String),
    /// The gateway did not answer within this.
    #[error("the gateway did not answer a call within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The session is gone.
    #[error("{0}")]
    Lost(SessionEnd),
}

/// A probe was not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// The session stands as far as we know, but has not answered within the deadline.
    #[error("no answer to a probe within {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// The session is gone.
    #[error("{0}")]
    Lost(SessionEnd),
}

impl Session {
    pub(super) fn new(inner: SessionInner) -> Self {
        Self(Arc::new(inner))
    }

    /// Asks the gateway to listen. May be dropped; the request then goes its way all the same.
    /// From the call on no probe goes out before the answer has come.
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

    /// Asks the gateway to listen no more. Channels that are open stay open.
    pub async fn cancel_forward(&self, name: &str) -> Result<(), ForwardError> {
        let (this, name) = (self.clone(), name.to_owned());
        let task = tokio::spawn(async move { this.0.cancel(&name).await });
        match task.await {
            Ok(outcome) => outcome,
            Err(_) => Err(ForwardError::Lost(SessionEnd::Panicked)),
        }
    }

    /// Cancels all forwards: no new channels come, those that are open stay.
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

    /// A probe without a deadline: whoever asks knows what to make of a silence. Behind every request for a forward that
    /// has no answer yet. May be dropped; the question then goes its way all the same.
    pub async fn probe_without_deadline(&self) -> Result<Duration, SessionEnd> {
        let inner = Arc::clone(&self.0);
        let task = tokio::spawn(async move { probe::probe(&inner).await });
        task.await.unwrap_or(Err(SessionEnd::Panicked))
    }

    /// Runs one command and waits for its end, `limit` at most. Meant for a session that is there for nothing else.
    pub async fn exec(
        &self,
        command: &str,
        input: Vec<u8>,
        limit: Duration,
    ) -> Result<ExecOutput, ExecError> {
        let (this, command) = (self.clone(), command.to_owned());
        // What opens a channel must not be dropped midway.
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

    /// Where the gateway listens for this forward of ours, if this session holds it.
    pub fn bound(&self, name: &str) -> Option<BoundForward> {
        self.0.shared.forwards.bound(name).map(BoundForward)
    }

    /// Calls one of our own forwards as the vendor's services do: the gateway connects to where it listens for us
    /// (`direct-tcpip`, RFC 4254 §7.2, or `direct-streamlocal@openssh.com`), and the other end comes back as a
    /// forwarded channel. May be dropped; the request then goes its way all the same.
    pub async fn open_direct(
        &self,
        bound: &BoundForward,
    ) -> Result<ChannelStream, OpenDirectError> {
        let (this, bind) = (self.clone(), bound.0.clone());
        // A cancelled open would kill the session or orphan the channel.
        let task = tokio::spawn(async move { this.0.open_direct(&bind).await });
        match timeout(ANSWER_TIMEOUT, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(OpenDirectError::Lost(SessionEnd::Panicked)),
            Err(_) => Err(OpenDirectError::NoAnswer(ANSWER_TIMEOUT)),
        }
    }

    /// Waits for the end, whoever brings it about.
    pub async fn ended(&self) -> SessionEnd {
        self.0.shared.ended().await
    }

    /// Says goodbye and waits for the end, a few seconds at most. Open channels are cut off.
    pub async fn disconnect(&self) {
        let inner = &*self.0;
        inner.shared.disconnecting.store(true, Relaxed);
        let goodbye =
            inner
                .handle
                .disconnect(Disconnect::ByApplication, "the agent is leaving", "en");
        let _ = timeout(DISCONNECT_TIMEOUT, goodbye).await;
        if timeout(DISCONNECT_TIMEOUT, self.ended()).await.is_err() {
            self.abort("it did not end after our goodbye");
        }
    }

    /// Ends the session at once, without a goodbye.
    pub fn abort(&self, reason: &str) {
        self.0.shared.budget.transport().abort(reason);
    }

    /// Ends the session at once, since the gateway has fallen silent. `in_flight`: with more than questions on the way, so
    /// that the size of the packets may be why; the next connection to this address then has smaller ones.
    pub fn abort_silent(&self, reason: &str, in_flight: bool) {
        let shared = &self.0.shared;
        if in_flight && shared.budget.open_channels() > 0 {
            shared.suspect_mtu();
        }
        self.abort(reason);
    }

    /// Tells the channels that a successor is there ([`Inbound::leaving`](crate::tunnel::InboundChannel::replaced)).
    pub fn mark_replaced(&self) {
        self.0.shared.replaced.cancel();
    }

    /// What it was opened by.
    pub fn settings(&self) -> &Arc<Settings> {
        &self.0.shared.settings
    }

    /// The gateway that the session is connected to.
    pub fn gateway(&self) -> &GatewayAddress {
        &self.0.shared.gateway
    }

    /// How long ago its connection was opened.
    pub fn age(&self) -> Duration {
        self.0.shared.opened_at.elapsed()
    }

    /// Whether a channel came from another machine by this forward, although only the gateway itself should reach it.
    pub fn is_exposed(&self, forward: &str) -> bool {
        let exposed = self.0.shared.exposed.lock();
        let exposed = exposed.unwrap_or_else(PoisonError::into_inner);
        exposed.iter().any(|name| **name == *forward)
    }

    /// The gateway's address; none behind a proxy, which alone knows it.
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
    /// One request at a time: a channel that overtakes the answer to port 0 could not be told otherwise, and a server
    /// that leaves a probe unanswered would shift all answers behind it by one.
    pub(super) one_at_a_time: tokio::sync::Mutex<()>,
    pub(super) probes: SessionProbes,
}

impl SessionInner {
    pub(super) fn new(handle: Handle<SessionHandler>, shared: Arc<SessionShared>) -> Self {
        let probes = SessionProbes::new(shared.rejects_keep_alive());
        Self {
            handle,
            shared,
            one_at_a_time: tokio::sync::Mutex::new(()),
            probes,
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
                    // The answer is 0 where we named the port.
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
                other => OpenDirectError::Failed(bind.to_string(), format!("{other:?}")),
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

    /// Waits until nothing has come for as long as an answer may take, or for much longer in any case: behind bulk data on
    /// a slow link an answer takes its time.
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

    /// The answer to a global request; `Err(None)` is a refusal. A gateway that gives none is ended: what
    /// it would grant later nobody would know of.
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
        // Dropping the handle makes russh leave, except in the middle of a key exchange that the far
        // side never finishes.
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

/// What the session and its handler both see.
pub(super) struct SessionShared {
    pub(super) settings: Arc<Settings>,
    pub(super) gateway: GatewayAddress,
    /// Where the connection leads, if not through a proxy.
    pub(super) peer: Option<SocketAddr>,
    /// Other connections begin at other addresses meanwhile.
    pub(super) lease: Option<AddressLease>,
    /// The last texts for people that came during the login; printable. A server may send one sentence in pieces.
    banner_text: Mutex<VecDeque<String>>,
    /// It was logged in.
    pub(super) logged_in: AtomicBool,
    /// A forward of it was granted.
    granted: AtomicBool,
    /// The certificate by which the gateway let us in, if it was one.
    pub(super) certificate: OnceLock<Certificate>,
    pub(super) connection: usize,
    pub(super) accept: Arc<dyn ChannelAcceptor>,
    pub(super) budget: Arc<SessionBudget>,
    pub(super) forwards: SessionForwards,
    pub(super) negotiated: OnceLock<NegotiatedParameters>,
    /// Since the way was opened.
    opened_at: Instant,
    /// Names of loopback forwards by which a channel from another machine came.
    exposed: Mutex<Vec<Arc<str>>>,
    /// Hears of each hop until the session stands.
    pub(super) observer: HopObserver,
    pub(super) refused_channels: AtomicU64,
    /// Whether we have said goodbye.
    disconnecting: AtomicBool,
    /// Cancelled once a successor serves.
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
            banner_text: Mutex::default(),
            logged_in: AtomicBool::new(false),
            granted: AtomicBool::new(false),
            opened_at: Instant::now(),
            exposed: Mutex::default(),
            certificate: OnceLock::new(),
            connection,
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

    /// The session task is over; `told` is what russh said of it.
    pub(super) fn end(&self, told: Option<SessionEnd>, panicked: bool) {
        let leaving = self.disconnecting.load(Relaxed);
        let death = self.budget.transport().death_reason().map(str::to_owned);
        let ended = match (told, death) {
            _ if panicked => SessionEnd::Panicked,
            (Some(SessionEnd::Closed) | None, _) if leaving => SessionEnd::ByUs,
            // Our own abort shows in russh as a broken socket; the transport knows why.
            (Some(SessionEnd::Broken(_)) | None, Some(reason)) => SessionEnd::Broken(reason),
            (Some(told), _) => told,
            (None, None) => SessionEnd::Broken("the session task ended".to_owned()),
        };
        self.record_address_failure(&ended, leaving);
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(ended);
            first
        });
    }

    /// An address where sessions fall silent, break, or end before they have been of use, is not tried first again. One
    /// that was cut after it had served is as good as before: what cuts there by rule cuts at the others too.
    fn record_address_failure(&self, ended: &SessionEnd, leaving: bool) {
        let logged_in = self.logged_in.load(Relaxed) && !leaving && *ended != SessionEnd::ByUs;
        let served = ended.is_cut() && self.granted.load(Relaxed);
        if let Some(peer) = self.peer.filter(|_| logged_in && !served) {
            self.settings.egress.addresses().failed(peer, false);
        }
    }

    /// Packets of full size may be lost on the way to the gateway, or from it.
    pub(super) fn suspect_mtu(&self) {
        let Some(peer) = self.peer else {
            return;
        };
        if self.settings.egress.addresses().suspect_mtu(peer) {
            tracing::warn!(
                connection = self.connection,
                gateway = self.describe_gateway(),
                "the connection fell silent under load: packets of full size may be lost on the way (path MTU); the next \
                 connections to this address have smaller ones, for a day; if the log then has no more of this, tell the \
                 network team (VPN, PPPoE, blocked ICMP)"
            );
        }
    }

    /// Whether the gateway is known to end sessions for a keep-alive.
    pub(super) fn rejects_keep_alive(&self) -> bool {
        let memory = self.settings.egress.addresses();
        memory.rejects_keep_alive(&self.describe_gateway())
    }

    pub(super) async fn ended(&self) -> SessionEnd {
        let mut end = self.end.subscribe();
        let ended = end.wait_for(Option::is_some).await;
        // The sender lives in `self`, so that the wait cannot fail.
        ended
            .ok()
            .and_then(|e| e.clone())
            .unwrap_or(SessionEnd::Panicked)
    }

    /// The end of a session that is known to be dead; its task may still be on its way out.
    pub(super) async fn end_of_dead(&self) -> SessionEnd {
        let silent = || SessionEnd::Broken("the session task does not answer".to_owned());
        timeout(DISCONNECT_TIMEOUT, self.ended())
            .await
            .unwrap_or_else(|_| silent())
    }

    /// A channel came by a forward that only programs on the gateway were to reach, from another machine. Whether that is
    /// the first such.
    pub(super) fn note_exposed(&self, forward: &Arc<str>) -> bool {
        let mut exposed = self.exposed.lock().unwrap_or_else(PoisonError::into_inner);
        let first = !exposed.contains(forward);
        if first {
            exposed.push(Arc::clone(forward));
        }
        first
    }

    /// The gateway said no to listening, or to listening no more.
    fn refusal(&self, bind: BindAddress) -> ForwardError {
        let (user, certificate) = (&self.settings.user, self.certificate.get());
        ForwardError::Refused(Box::new(ForwardRefusal::new(bind, user, certificate)))
    }

    /// The gateway says something to people.
    pub(super) fn set_banner_text(&self, text: String) {
        let text = text.trim();
        if text.is_empty() {
            return;
        }
        let mut texts = self
            .banner_text
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if texts.len() == MAX_BANNER_TEXTS {
            texts.pop_front();
        }
        texts.push_back(text.to_owned());
    }

    /// What it said last.
    pub(super) fn banner_text(&self) -> Option<String> {
        let texts = self
            .banner_text
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let pieces: Vec<&str> = texts.iter().map(String::as_str).collect();
        (!pieces.is_empty()).then(|| pieces.join(" "))
    }

    /// The gateway, and its address or the proxy that leads to it, for errors: any of them may be at fault.
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

/// Where a forward on this host of the gateway's can be connected to: "any address" is none.
fn connect_host(host: &str) -> &str {
    match host {
        "" | "*" | "0.0.0.0" => "127.0.0.1",
        "::" => "::1",
        named => named,
    }
}

/// Who calls, where RFC 4254 §7.2 wants to know; no machine of the vendor's reads it.
const ORIGINATOR: &str = "127.0.0.1";
/// A gateway that does not answer a request for a forward within this, and says nothing else meanwhile, does not answer
/// at all.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Texts for people that are kept of one login.
const MAX_BANNER_TEXTS: usize = 3;
/// So many times as long may pass where other bytes come.
const MAX_WAITS: u32 = 10;
/// For the goodbye to go out, and for the session task to end.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);
