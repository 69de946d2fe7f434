//! Opens a session: egress, transport, key exchange, host key, login. Each step has a deadline, and a failed or cancelled
//! attempt leaves nothing behind.

use super::{
    HostKeyRefusal, HostKeyRefusalReason, RetryPace, Session, SessionShared,
    algorithms::preferred,
    banner::{BannerCapture, BannerReader, await_banner},
    error::{SessionOpenError, SessionOpenStep},
    handler::{HandlerError, SessionHandler, is_text_not_utf8},
    login::login,
    session::SessionInner,
    unexpected_peer,
};
use crate::tunnel::{
    ChannelAcceptor, GatewayAddress, Hop, HopEvent, HopObserver, InboundChannel, Settings,
    channel::SessionBudget,
    connection_span,
    egress::{AddressChoice, GatewayConnection},
    transport::{SshTransport, TransportHandle, socket},
};
use agent_ssh::address::at_address;
use russh::{Error, Limits, Preferred, SshId, client, keys::Algorithm};
use std::{
    borrow::Cow,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    time::timeout,
};
use tracing::Instrument;

impl Session {
    /// Opens a session to `gateway`. `accept` gets its channels with the number `connection`; `observer` is called for each
    /// hop. The future may be dropped at any point. An address that fails after TCP is remembered: the next attempt starts
    /// at another one.
    pub async fn open(
        settings: Arc<Settings>,
        gateway: GatewayAddress,
        connection: usize,
        accept: Arc<dyn ChannelAcceptor>,
        observer: HopObserver,
    ) -> Result<Self, SessionOpenError> {
        let attempt = SessionAttempt {
            settings,
            gateway,
            connection,
            accept,
            observer,
            until: Until::Login,
            only: None,
            seen: Vec::new(),
        };
        attempt.open().await
    }
}

/// Connects to `gateway` as [`Session::open`] does, and disconnects once its host key is verified (RFC 4253 §8). No
/// authentication begins, so the gateway counts no failed one.
pub async fn verify_host_key(
    settings: Arc<Settings>,
    gateway: GatewayAddress,
    observer: HopObserver,
) -> Result<(), SessionOpenError> {
    let attempt = SessionAttempt {
        settings,
        gateway,
        connection: 0,
        accept: Arc::new(Nothing),
        observer,
        until: Until::HostKey,
        only: None,
        seen: Vec::new(),
    };
    attempt.open().await?.disconnect().await;
    Ok(())
}

/// No forward can be requested before the login.
struct Nothing;

impl ChannelAcceptor for Nothing {
    fn accept(&self, _: InboundChannel) {}
}

/// The last step of an attempt.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The gateway has proven that it holds a trusted host key.
    HostKey,
    /// We are logged in.
    Login,
}

/// One connection to a gateway, and further ones to the same address while it presents a key of another type than the
/// pinned one: a fingerprint does not name its key's type, and a server presents the type that is requested first.
struct SessionAttempt {
    settings: Arc<Settings>,
    gateway: GatewayAddress,
    connection: usize,
    accept: Arc<dyn ChannelAcceptor>,
    observer: HopObserver,
    until: Until,
    /// The address of the previous connection.
    only: Option<SocketAddr>,
    /// Types of the host keys that were presented and refused.
    seen: Vec<Algorithm>,
}

impl SessionAttempt {
    async fn open(self) -> Result<Session, SessionOpenError> {
        let span = connection_span(self.connection, &self.gateway.to_string());
        self.try_key_types().instrument(span).await
    }

    async fn try_key_types(mut self) -> Result<Session, SessionOpenError> {
        let settings = Arc::clone(&self.settings);
        let memory = settings.egress.addresses();
        let mut presented = Vec::new();
        loop {
            let (peer, outcome) = self.run().await;
            let mut refused = match outcome {
                Err(SessionOpenError::HostKey(refused)) => refused,
                outcome => {
                    match (&outcome, peer) {
                        (Ok(_), Some(peer)) => memory.succeeded(peer),
                        (Err(error), Some(peer)) => {
                            memory.failed(peer, error.retry() == RetryPace::Slow);
                        }
                        (_, None) => {}
                    }
                    return outcome;
                }
            };
            presented.push(refused.presented.clone());
            if !self.asks_for_another_key(&refused, peer) {
                refused.presented = presented.join(" and ");
                if let Some(peer) = peer {
                    memory.failed(peer, true);
                }
                return Err(SessionOpenError::HostKey(refused));
            }
        }
    }

    /// Whether the gateway may have another key that is the pinned one.
    fn asks_for_another_key(&mut self, refused: &HostKeyRefusal, peer: Option<SocketAddr>) -> bool {
        let pinned = self.settings.host_keys.pins();
        let again = self.seen.contains(&refused.kind);
        self.seen.push(refused.kind.clone());
        self.only = peer;
        pinned
            && refused.reason == HostKeyRefusalReason::Changed
            && !again
            && self.seen.len() < MAX_KEY_TYPES
    }

    /// One connection: its address, and the session or the error.
    async fn run(&self) -> (Option<SocketAddr>, Result<Session, SessionOpenError>) {
        let options = socket::SocketOptions {
            // For the case that the probing task hangs.
            user_timeout: (self.settings.probe_timeout * PROBE_TIMEOUTS)
                .min(self.settings.stall_timeout),
            unproven_timeout: Some(self.settings.probe_timeout * ANSWERS_UNPROVEN),
            congestion_control: self.settings.congestion_control.clone(),
            ..socket::SocketOptions::default()
        };
        let choice = AddressChoice {
            connection: Some(self.connection),
            only: self.only,
        };
        let observer = self.observer();
        let settings = &self.settings;
        let link = settings
            .egress
            .open(
                &self.gateway,
                settings.connect_timeout,
                &options,
                &observer,
                choice,
            )
            .await
            .map_err(|error| SessionOpenError::from_egress(&self.gateway, error));
        let link = match link {
            Ok(link) => link,
            Err(error) => return (None, Err(error)),
        };
        let peer = link.peer;
        (peer, self.handshake_over(link, observer).await)
    }

    /// The observer; on a further connection it is called only for the hops not passed yet.
    fn observer(&self) -> HopObserver {
        let observer = Arc::clone(&self.observer);
        match self.seen.is_empty() {
            true => observer,
            false => Arc::new(move |passed| {
                if matches!(passed, HopEvent::HostKey(_) | HopEvent::Login) {
                    observer(passed);
                }
            }),
        }
    }

    async fn handshake_over(
        &self,
        link: GatewayConnection,
        observer: HopObserver,
    ) -> Result<Session, SessionOpenError> {
        let settings = Arc::clone(&self.settings);
        let banner = BannerCapture::default();
        let (transport, handle) = SshTransport::new(
            banner.wrap(link.reader, Arc::clone(&observer)),
            link.writer,
            settings.transport.clone(),
        );
        if let Some(tcp) = link.tcp {
            handle.set_tcp_pair(tcp);
        }
        if let Some(socket) = link.resettable {
            handle.set_resettable(socket);
        }
        let budget = SessionBudget::new(Arc::clone(&handle), settings.channel.clone());
        let limit = settings.login_timeout;
        let (gateway, accept) = (self.gateway.clone(), Arc::clone(&self.accept));
        let mut shared =
            SessionShared::new(settings, gateway, self.connection, accept, budget, observer);
        shared.peer = link.peer;
        shared.lease = link.lease;
        shared.round_trip = link.round_trip;
        let shared = Arc::new(shared);
        let preferred = preferred(&shared.settings.host_keys, &shared.gateway, &self.seen);

        // russh's handshake must not be cancelled: its task would stay. It runs as a task, and the handle ends it.
        let guard = AbortOnDrop(Some(Arc::clone(&handle)));
        let handshake = handshake(
            Arc::clone(&shared),
            transport,
            banner.clone(),
            preferred,
            self.until,
        );
        let task = tokio::spawn(handshake.in_current_span());
        let session = match timeout(limit, task).await {
            Ok(Ok(outcome)) => outcome?,
            Ok(Err(panic)) => {
                return Err(shared.lost(SessionOpenStep::KeyExchange, panic.to_string()));
            }
            Err(_) => return Err(too_late(&shared, &banner, limit)),
        };
        guard.disarm();
        tokio::spawn(watch(handle, Arc::clone(&shared)));
        Ok(session)
    }
}

/// How soon the gateway should be tried again: soon if it has another address, whatever this one refused.
pub fn retry(settings: &Settings, gateway: &GatewayAddress, error: &SessionOpenError) -> RetryPace {
    let pace = error.retry();
    if matches!(pace, RetryPace::After(_)) {
        return pace;
    }
    let straight = settings.egress.proxy(gateway).is_none();
    let memory = settings.egress.addresses();
    match straight && memory.has_open(&gateway.host, gateway.port) {
        true => RetryPace::Soon,
        false => pace,
    }
}

/// Whether another attempt would go to another address of the gateway. Not after a refused key or host key, which a
/// single attempt tries once.
pub fn has_untried_address(
    settings: &Settings,
    gateway: &GatewayAddress,
    error: &SessionOpenError,
) -> bool {
    let refused = matches!(
        error,
        SessionOpenError::LoginRefused { .. } | SessionOpenError::HostKey(_)
    );
    let straight = settings.egress.proxy(gateway).is_none();
    let memory = settings.egress.addresses();
    straight
        && !refused
        && error.hop() > Hop::Tcp
        && memory.has_untried(&gateway.host, gateway.port)
}

/// Connects to `gateway` as a session does, sends and receives the SSH banner, and disconnects. No key is presented and no
/// open session is disturbed. `observer` is called for each hop.
pub async fn probe_banner(
    settings: &Settings,
    gateway: &GatewayAddress,
    observer: &HopObserver,
) -> Result<(), SessionOpenError> {
    let options = socket::SocketOptions::default();
    let mut link = settings
        .egress
        .open(
            gateway,
            settings.connect_timeout,
            &options,
            observer,
            AddressChoice::default(),
        )
        .await
        .map_err(|error| SessionOpenError::from_egress(gateway, error))?;
    let peer = link.peer;
    let banner = BannerCapture::default();
    let mut reader = banner.wrap(link.reader, Arc::clone(observer));
    let limit = settings.login_timeout;
    let place = || describe_gateway(settings, gateway, peer);
    let banner_read = async {
        // A server of another protocol answers this as it would answer a session.
        let own = format!("{CLIENT_ID}\r\n");
        link.writer.write_all(own.as_bytes()).await?;
        link.writer.flush().await?;
        await_banner(&mut reader, &banner).await
    };
    match timeout(limit, banner_read).await {
        Ok(_) if banner.is_ssh() => Ok(()),
        Ok(Err(error)) if banner.is_empty() => Err(SessionOpenError::Lost {
            gateway: place(),
            step: SessionOpenStep::Banner,
            problem: error.to_string(),
        }),
        Ok(_) => Err(no_banner(place(), &banner)),
        Err(_) if banner.is_empty() => Err(SessionOpenError::Timeout {
            gateway: place(),
            step: SessionOpenStep::Banner,
            after: limit,
        }),
        Err(_) => Err(no_banner(place(), &banner)),
    }
}

fn no_banner(place: String, banner: &BannerCapture) -> SessionOpenError {
    unexpected_peer::without_banner(place, &banner.bytes(), banner.first_line())
}

/// Tests the first hop to `gateway` alone, because the next one would send the credential to the proxy.
pub async fn probe_first_hop(
    settings: &Settings,
    gateway: &GatewayAddress,
    observer: &HopObserver,
) -> Result<(), SessionOpenError> {
    let reached = settings
        .egress
        .probe_first_hop(gateway, settings.connect_timeout, observer)
        .await;
    reached.map_err(|error| SessionOpenError::from_egress(gateway, error))
}

/// The gateway with its address or proxy, for errors: any of them may be at fault.
pub(super) fn describe_gateway(
    settings: &Settings,
    gateway: &GatewayAddress,
    peer: Option<SocketAddr>,
) -> String {
    match settings.egress.proxy(gateway) {
        Some(proxy) => format!("{gateway} (through {proxy})"),
        None => at_address(&gateway.to_string(), &gateway.host, peer),
    }
}

async fn handshake<R: AsyncRead + Send + Unpin + 'static>(
    shared: Arc<SessionShared>,
    transport: SshTransport<BannerReader<R>>,
    banner: BannerCapture,
    preferred: Preferred,
    until: Until,
) -> Result<Session, SessionOpenError> {
    let config = Arc::new(config(&shared, preferred));
    let handler = SessionHandler::new(Arc::clone(&shared));
    let mut handle = client::connect_stream(config, transport, handler)
        .await
        .map_err(|failure| classify(&shared, &banner, failure))?;
    if until == Until::Login {
        login(&mut handle, &shared).await?;
        shared.logged_in.store(true, Ordering::Relaxed);
        (shared.observer)(HopEvent::Login);
    }
    Ok(Session::new(SessionInner::new(handle, shared)))
}

fn config(shared: &SessionShared, preferred: Preferred) -> client::Config {
    let settings = &shared.settings;
    let window = settings.channel.window_at(Some(shared.round_trip));
    let round_trip_ms = shared.round_trip.as_secs_f64() * 1e3;
    tracing::debug!(
        window,
        round_trip_ms,
        "the SSH window follows the round trip"
    );
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(CLIENT_ID)),
        limits: Limits {
            rekey_write_limit: REKEY_BYTES,
            rekey_read_limit: REKEY_BYTES,
            rekey_time_limit: REKEY_AGE,
        },
        window_size: window,
        maximum_packet_size: PACKET,
        channel_buffer_size: CHANNEL_QUEUE,
        preferred,
        // The supervisor probes, and knows a slow link from a dead one.
        keepalive_interval: None,
        inactivity_timeout: None,
        ..client::Config::default()
    }
}

/// The stall timer outside russh. It ends with the transport.
async fn watch(handle: Arc<TransportHandle>, shared: Arc<SessionShared>) {
    // Silence is judged by the supervisor, which probes.
    handle.watch(shared.settings.stall_timeout, false).await;
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these errors of russh have a text of their own"
)]
fn classify(
    shared: &SessionShared,
    banner: &BannerCapture,
    failure: HandlerError,
) -> SessionOpenError {
    let gateway = || shared.describe_gateway();
    let error = match failure {
        HandlerError::HostKey(refused) => return SessionOpenError::HostKey(refused),
        HandlerError::Ssh(error) => error,
    };
    if !banner.is_ssh() {
        return match banner.is_empty() {
            true => shared.lost(SessionOpenStep::Banner, text(&error)),
            false => no_banner(gateway(), banner),
        };
    }
    if let Some(problem) = banner.unusable() {
        return SessionOpenError::Identification {
            gateway: gateway(),
            problem,
        };
    }
    match error {
        error if is_text_not_utf8(&error) => SessionOpenError::TextNotUtf8 {
            gateway: gateway(),
            step: SessionOpenStep::KeyExchange,
        },
        Error::IO(_) | Error::Disconnect | Error::HUP | Error::Join(_) => {
            // A banner is small, the key exchange is not: ML-KEM alone has more than a thousand bytes.
            if shared.budget.transport().is_silent() {
                shared.suspect_mtu();
            }
            shared.lost(SessionOpenStep::KeyExchange, text(&error))
        }
        other => {
            let (fault, problem) = unexpected_peer::of_exchange(&other);
            let gateway = gateway();
            SessionOpenError::KeyExchange {
                gateway,
                problem,
                fault,
            }
        }
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these errors of russh have a text of their own"
)]
fn text(error: &Error) -> String {
    match error {
        Error::Disconnect | Error::HUP => "the far side closed the connection".to_owned(),
        Error::IO(error) if error.kind() == std::io::ErrorKind::TimedOut => {
            format!("the gateway's host has not answered: {error}")
        }
        other => other.to_string(),
    }
}

fn too_late(shared: &SessionShared, banner: &BannerCapture, after: Duration) -> SessionOpenError {
    let gateway = shared.describe_gateway();
    if !banner.is_empty() && !banner.is_ssh() {
        return no_banner(gateway, banner);
    }
    let step = match (banner.is_empty(), shared.negotiated.get()) {
        (true, _) => SessionOpenStep::Banner,
        (false, None) => SessionOpenStep::KeyExchange,
        (false, Some(_)) => SessionOpenStep::Login,
    };
    if step == SessionOpenStep::KeyExchange {
        shared.suspect_mtu();
    }
    SessionOpenError::Timeout {
        gateway,
        step,
        after,
    }
}

/// Aborts the transport unless the session was opened.
struct AbortOnDrop(Option<Arc<TransportHandle>>);

impl AbortOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(handle) = &self.0 {
            handle.abort("the session was given up before it stood");
        }
    }
}

/// RFC 4253 §4.2 allows no minus sign in the software version.
const CLIENT_ID: &str = concat!("SSH-2.0-JiraTunnelAgent_", env!("CARGO_PKG_VERSION"));
/// `TCP_USER_TIMEOUT`, 32 s by default: longer than a living link of 64 kbit/s goes without an acknowledgment.
const PROBE_TIMEOUTS: u32 = 20;
/// Until a session is proven the kernel ends it after this many times `probe_timeout` without a packet from the other
/// host, which a probe's two answers take too.
const ANSWERS_UNPROVEN: u32 = 2;
/// RFC 4253 §6.1.
const PACKET: u32 = 32 << 10;
/// Messages between russh and a channel's pump, which no budget counts: a megabyte of whole packets.
const CHANNEL_QUEUE: usize = 32;
/// A fallback. A key exchange that russh starts ends the session when more than twice the window is in flight to us
/// (docs/dev/ssh.md, D3). So a session is replaced long before, which is a key exchange too; one that the gateway starts is
/// harmless. This is half of what RFC 4344 §3.2 allows a 128-bit block cipher (2^32 blocks), and, with packets of at least
/// 16 bytes, half of the sequence numbers, which are chacha20-poly1305's nonces.
const REKEY_BYTES: usize = 32 << 30;
const REKEY_AGE: Duration = Duration::from_secs(48 * 3600);
/// Types of host key that a gateway can present: Ed25519, three curves of ECDSA, RSA.
const MAX_KEY_TYPES: usize = 5;
