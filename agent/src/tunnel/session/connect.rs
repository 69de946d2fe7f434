//! Opens a session: the way to the gateway, transport, key exchange, host key, login; each step within its deadline, and
//! without leaving anything behind where it fails or is no longer wanted.

use super::{
    HostKeyRefusal, HostKeyRefusalReason, RetryPace, Session, SessionShared,
    algorithms::preferred,
    answer,
    banner::{BannerCapture, BannerReader, await_banner},
    error::{SessionOpenError, SessionOpenStep},
    handler::{HandlerError, SessionHandler, is_text_not_utf8},
    login::login,
    session::SessionInner,
};
use crate::tunnel::{
    ChannelAcceptor, GatewayAddress, Hop, HopEvent, HopObserver, InboundChannel, Settings,
    channel::SessionBudget,
    egress::{AddressChoice, GatewayConnection, at_address},
    transport::{SshTransport, TransportHandle, socket},
};
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

impl Session {
    /// Opens a session to `gateway`; `connection` is the number that channels are handed to `accept`
    /// with. `observer` hears of each hop as it is passed. May be dropped at any point: what has been
    /// begun then ends by itself. An address that fails past TCP is remembered: the next attempt begins at another one.
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

/// Goes to `gateway` as [`Session::open`] does, and leaves once its host key is verified (RFC 4253 §8): no authentication
/// is begun, so that none is counted there.
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

/// Nobody can have asked for a forward before the login.
struct Nothing;

impl ChannelAcceptor for Nothing {
    fn accept(&self, _: InboundChannel) {}
}

/// How far an attempt goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The gateway has shown that it has the host key.
    HostKey,
    /// We are logged in.
    Login,
}

/// One connection to a gateway, and then others to the same address for as long as that presents a key of another type
/// than the one that is pinned: a fingerprint does not say its key's type, and a server presents the type that is asked
/// for first.
struct SessionAttempt {
    settings: Arc<Settings>,
    gateway: GatewayAddress,
    connection: usize,
    accept: Arc<dyn ChannelAcceptor>,
    observer: HopObserver,
    until: Until,
    /// The address of the connection before.
    only: Option<SocketAddr>,
    /// Types of the host keys that were presented and refused.
    seen: Vec<Algorithm>,
}

impl SessionAttempt {
    async fn open(mut self) -> Result<Session, SessionOpenError> {
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

    /// Where it led, and what came of it.
    async fn run(&self) -> (Option<SocketAddr>, Result<Session, SessionOpenError>) {
        let options = socket::SocketOptions {
            // The second net, where even the task that asks hangs.
            user_timeout: (self.settings.cut_after() * 3 / 2).min(self.settings.stall_timeout),
            ..socket::SocketOptions::default()
        };
        let choice = AddressChoice {
            connection: Some(self.connection),
            only: self.only,
        };
        let observer = self.observer();
        let settings = &self.settings;
        let way = settings
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
        let way = match way {
            Ok(way) => way,
            Err(error) => return (None, Err(error)),
        };
        let peer = way.peer;
        (peer, self.handshake_over(way, observer).await)
    }

    /// What was passed already is not told again.
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
        way: GatewayConnection,
        observer: HopObserver,
    ) -> Result<Session, SessionOpenError> {
        let settings = Arc::clone(&self.settings);
        let banner = BannerCapture::default();
        let (transport, handle) = SshTransport::new(
            banner.wrap(way.reader, Arc::clone(&observer)),
            way.writer,
            settings.transport.clone(),
        );
        if let Some(tcp) = way.tcp {
            handle.set_tcp_pair(tcp);
        }
        let budget = SessionBudget::new(Arc::clone(&handle), settings.channel.clone());
        let limit = settings.login_timeout;
        let (gateway, accept) = (self.gateway.clone(), Arc::clone(&self.accept));
        let mut shared =
            SessionShared::new(settings, gateway, self.connection, accept, budget, observer);
        shared.peer = way.peer;
        shared.lease = way.lease;
        let shared = Arc::new(shared);
        let preferred = preferred(&shared.settings.host_keys, &shared.gateway, &self.seen);

        // russh's handshake must not be cancelled: its task would stay. It runs beside us, and the handle
        // is what ends it.
        let guard = AbortOnDrop(Some(Arc::clone(&handle)));
        let task = tokio::spawn(handshake(
            Arc::clone(&shared),
            transport,
            banner.clone(),
            preferred,
            self.until,
        ));
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

/// How soon another attempt at the gateway makes sense: what one of its addresses refused says nothing of the others.
pub fn retry(settings: &Settings, gateway: &GatewayAddress, error: &SessionOpenError) -> RetryPace {
    let straight = settings.egress.proxy(gateway).is_none();
    let memory = settings.egress.addresses();
    match straight && memory.has_open(&gateway.host, gateway.port) {
        true => RetryPace::Soon,
        false => error.retry(),
    }
}

/// Whether another attempt goes to another address of the gateway, after this error at one of them. Not where key or host key
/// were refused: who tries once tries them once.
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

/// Goes to `gateway` as a session would, waits for its SSH banner, and leaves without having said more than our own: no
/// key is shown, and no session that stands is disturbed. `observer` hears of each hop as it is passed.
pub async fn probe_banner(
    settings: &Settings,
    gateway: &GatewayAddress,
    observer: &HopObserver,
) -> Result<(), SessionOpenError> {
    let options = socket::SocketOptions::default();
    let mut way = settings
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
    let peer = way.peer;
    let banner = BannerCapture::default();
    let mut reader = banner.wrap(way.reader, Arc::clone(observer));
    let limit = settings.login_timeout;
    let place = || describe_gateway(settings, gateway, peer);
    let banner_read = async {
        // Whoever speaks something else answers to this, as it would to a session.
        let own = format!("{CLIENT_ID}\r\n");
        way.writer.write_all(own.as_bytes()).await?;
        way.writer.flush().await?;
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
    answer::without_banner(place, &banner.bytes(), banner.first_line())
}

/// The first hop to `gateway` alone, where the next one would take a login at the proxy.
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

/// The gateway, and its address or the proxy that leads to it, for errors: any of them may be at fault.
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
    let keepalive_max = settings.keepalive_max.max(2);
    let beyond_keepalive = u32::try_from(keepalive_max.saturating_add(2)).unwrap_or(u32::MAX);
    let keepalive = (!shared.rejects_keep_alive()).then_some(settings.keepalive_interval);
    client::Config {
        client_id: SshId::Standard(Cow::Borrowed(CLIENT_ID)),
        limits: Limits {
            rekey_write_limit: REKEY_BYTES,
            rekey_read_limit: REKEY_BYTES,
            rekey_time_limit: REKEY_AGE,
        },
        window_size: settings.channel.window,
        maximum_packet_size: PACKET,
        channel_buffer_size: CHANNEL_QUEUE,
        preferred,
        keepalive_interval: keepalive,
        keepalive_max,
        // A last net only: keep-alives are to notice first.
        inactivity_timeout: keepalive.map(|interval| interval.saturating_mul(beyond_keepalive)),
        ..client::Config::default()
    }
}

/// The stall timer outside russh. It lives exactly as long as the transport.
async fn watch(handle: Arc<TransportHandle>, shared: Arc<SessionShared>) {
    let settings = &shared.settings;
    // Silence proves something only where keep-alives must have been answered meanwhile.
    let peer_must_speak = settings.stall_timeout > settings.keepalive_interval.saturating_mul(2);
    handle.watch(settings.stall_timeout, peer_must_speak).await;
}

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
            shared.lost(SessionOpenStep::KeyExchange, text(&error))
        }
        other => {
            let (fault, problem) = answer::of_exchange(&other);
            let gateway = gateway();
            SessionOpenError::KeyExchange {
                gateway,
                problem,
                fault,
            }
        }
    }
}

fn text(error: &Error) -> String {
    match error {
        Error::Disconnect | Error::HUP => "the far side closed the connection".to_owned(),
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
    // A banner is small, and what follows is not: ML-KEM alone has more than a thousand bytes.
    if step == SessionOpenStep::KeyExchange {
        shared.suspect_mtu();
    }
    SessionOpenError::Timeout {
        gateway,
        step,
        after,
    }
}

/// Ends the transport unless the session has come to stand.
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
/// RFC 4253 §6.1.
const PACKET: u32 = 32 << 10;
/// Messages between russh and a channel's pump.
const CHANNEL_QUEUE: usize = 100;
/// A last net. A key exchange that russh starts ends the session when more than twice the window is on
/// its way to us (docs/dev/ssh.md, D3), so a session is replaced long before ([`supervisor`](crate::supervisor)),
/// which is a new key exchange too, and one that the gateway starts is harmless. Half of what RFC 4344
/// §3.2 allows a 128-bit block cipher (2^32 blocks), and by packets of at least 16 bytes half of the
/// sequence numbers that are chacha20-poly1305's nonces.
const REKEY_BYTES: usize = 32 << 30;
const REKEY_AGE: Duration = Duration::from_secs(48 * 3600);
/// Ed25519, three curves of ECDSA, RSA: what a gateway can present, one after the other.
const MAX_KEY_TYPES: usize = 5;
