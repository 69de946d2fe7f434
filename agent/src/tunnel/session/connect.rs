//! Opens a session: the way to the gateway, transport, key exchange, host key, login; each step within its deadline, and
//! without leaving anything behind where it fails or is no longer wanted.

use super::{
    Session, Shared,
    error::{OpenError, Step},
    greeting::{Greeting, Listening, await_banner},
    handler::{Failure, SessionHandler},
    login::login,
    preferred::preferred,
    session::Inner,
};
use crate::tunnel::{
    Accept, Gateway, Passed, Settings, Tell,
    channel::SessionBudget,
    transport::{Meter, Transport, socket},
};
use russh::{Error, Limits, SshId, client};
use std::{borrow::Cow, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    time::timeout,
};

impl Session {
    /// Opens a session to `gateway`; `connection` is the number that channels are handed to `accept`
    /// with. `tell` hears of each hop as it is passed. May be dropped at any point: what has been
    /// begun then ends by itself.
    pub async fn open(
        settings: Arc<Settings>,
        gateway: Gateway,
        connection: usize,
        accept: Arc<dyn Accept>,
        tell: Tell,
    ) -> Result<Self, OpenError> {
        let options = socket::Options {
            // The second net, where even the task that asks hangs.
            user_timeout: (settings.cut_after() * 3 / 2).min(settings.stall_timeout),
            ..socket::Options::default()
        };
        let way = settings
            .egress
            .open(&gateway, settings.connect_timeout, &options, &tell)
            .await
            .map_err(|error| OpenError::no_way(&gateway, error))?;
        let greeting = Greeting::default();
        let (transport, meter) = Transport::new(
            greeting.listen(way.reader, Arc::clone(&tell)),
            way.writer,
            settings.transport.clone(),
        );
        if let Some(tcp) = way.tcp {
            meter.tie_to(tcp);
        }
        let budget = SessionBudget::new(Arc::clone(&meter), settings.channel.clone());
        let limit = settings.login_timeout;
        let shared = Shared::new(settings, gateway, connection, accept, budget, tell);
        let shared = Arc::new(shared);

        // russh's handshake must not be cancelled: its task would stay. It runs beside us, and the meter
        // is what ends it.
        let guard = AbortOnDrop(Some(Arc::clone(&meter)));
        let task = tokio::spawn(handshake(Arc::clone(&shared), transport, greeting.clone()));
        let session = match timeout(limit, task).await {
            Ok(Ok(outcome)) => outcome?,
            Ok(Err(panic)) => return Err(shared.lost(Step::KeyExchange, panic.to_string())),
            Err(_) => return Err(too_late(&shared, &greeting, limit)),
        };
        guard.disarm();
        tokio::spawn(watch(meter, Arc::clone(&shared)));
        Ok(session)
    }
}

/// Goes to `gateway` as a session would, waits for its SSH banner, and leaves without having said more than our own: no
/// key is shown, and no session that stands is disturbed. `tell` hears of each hop as it is passed.
pub async fn greet(settings: &Settings, gateway: &Gateway, tell: &Tell) -> Result<(), OpenError> {
    let options = socket::Options::default();
    let mut way = settings
        .egress
        .open(gateway, settings.connect_timeout, &options, tell)
        .await
        .map_err(|error| OpenError::no_way(gateway, error))?;
    let greeting = Greeting::default();
    let mut reader = greeting.listen(way.reader, Arc::clone(tell));
    let limit = settings.login_timeout;
    let place = || place(settings, gateway);
    let greeted = async {
        // Whoever speaks something else answers to this, as it would to a session.
        let own = format!("{CLIENT_ID}\r\n");
        way.writer.write_all(own.as_bytes()).await?;
        way.writer.flush().await?;
        await_banner(&mut reader, &greeting).await
    };
    match timeout(limit, greeted).await {
        Ok(_) if greeting.is_ssh() => Ok(()),
        Ok(Err(error)) if greeting.is_empty() => Err(OpenError::Lost {
            gateway: place(),
            step: Step::Banner,
            problem: error.to_string(),
        }),
        Ok(_) => Err(OpenError::NotSsh {
            gateway: place(),
            answer: greeting.first_line(),
        }),
        Err(_) if greeting.is_empty() => Err(OpenError::Timeout {
            gateway: place(),
            step: Step::Banner,
            after: limit,
        }),
        Err(_) => Err(OpenError::NotSsh {
            gateway: place(),
            answer: greeting.first_line(),
        }),
    }
}

/// The first hop to `gateway` alone, where the next one would take a login at the proxy.
pub async fn reach(settings: &Settings, gateway: &Gateway, tell: &Tell) -> Result<(), OpenError> {
    let reached = settings
        .egress
        .reach(gateway, settings.connect_timeout, tell)
        .await;
    reached.map_err(|error| OpenError::no_way(gateway, error))
}

/// The gateway, and the proxy that leads to it, for errors below the login: either may be at fault.
pub(super) fn place(settings: &Settings, gateway: &Gateway) -> String {
    match settings.egress.proxy(gateway) {
        Some(proxy) => format!("{gateway} (through {proxy})"),
        None => gateway.to_string(),
    }
}

async fn handshake<R: AsyncRead + Send + Unpin + 'static>(
    shared: Arc<Shared>,
    transport: Transport<Listening<R>>,
    greeting: Greeting,
) -> Result<Session, OpenError> {
    let config = Arc::new(config(&shared));
    let handler = SessionHandler::new(Arc::clone(&shared));
    let mut handle = client::connect_stream(config, transport, handler)
        .await
        .map_err(|failure| classify(&shared, &greeting, failure))?;
    login(&mut handle, &shared).await?;
    (shared.tell)(Passed::Login);
    Ok(Session::new(Inner::new(handle, shared)))
}

fn config(shared: &Shared) -> client::Config {
    let settings = &shared.settings;
    let keepalive_max = settings.keepalive_max.max(2);
    let beyond_keepalive = u32::try_from(keepalive_max.saturating_add(2)).unwrap_or(u32::MAX);
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
        preferred: preferred(&settings.host_keys, &shared.gateway),
        keepalive_interval: Some(settings.keepalive_interval),
        keepalive_max,
        // A last net only: keep-alives are to notice first.
        inactivity_timeout: Some(settings.keepalive_interval.saturating_mul(beyond_keepalive)),
        ..client::Config::default()
    }
}

/// The stall timer outside russh. It lives exactly as long as the transport.
async fn watch(meter: Arc<Meter>, shared: Arc<Shared>) {
    let settings = &shared.settings;
    // Silence proves something only where keep-alives must have been answered meanwhile.
    let peer_must_speak = settings.stall_timeout > settings.keepalive_interval.saturating_mul(2);
    meter.watch(settings.stall_timeout, peer_must_speak).await;
}

fn classify(shared: &Shared, greeting: &Greeting, failure: Failure) -> OpenError {
    let gateway = || shared.place();
    let error = match failure {
        Failure::HostKey(refused) => return OpenError::HostKey(refused),
        Failure::Ssh(error) => error,
    };
    if !greeting.is_ssh() {
        return match greeting.is_empty() {
            true => shared.lost(Step::Banner, text(&error)),
            false => OpenError::NotSsh {
                gateway: gateway(),
                answer: greeting.first_line(),
            },
        };
    }
    match error {
        Error::IO(_) | Error::Disconnect | Error::HUP | Error::Join(_) => {
            shared.lost(Step::KeyExchange, text(&error))
        }
        other => OpenError::KeyExchange {
            gateway: gateway(),
            problem: other.to_string(),
        },
    }
}

fn text(error: &Error) -> String {
    match error {
        Error::Disconnect | Error::HUP => "the far side closed the connection".to_owned(),
        other => other.to_string(),
    }
}

fn too_late(shared: &Shared, greeting: &Greeting, after: Duration) -> OpenError {
    let gateway = shared.place();
    if !greeting.is_empty() && !greeting.is_ssh() {
        let answer = greeting.first_line();
        return OpenError::NotSsh { gateway, answer };
    }
    let step = match (greeting.is_empty(), shared.facts.get()) {
        (true, _) => Step::Banner,
        (false, None) => Step::KeyExchange,
        (false, Some(_)) => Step::Login,
    };
    OpenError::Timeout {
        gateway,
        step,
        after,
    }
}

/// Ends the transport unless the session has come to stand.
struct AbortOnDrop(Option<Arc<Meter>>);

impl AbortOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        if let Some(meter) = &self.0 {
            meter.abort("the session was given up before it stood");
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
/// its way to us (docs/ssh.md, D3), so a session is replaced long before ([`supervisor`](crate::supervisor)),
/// which is a new key exchange too, and one that the gateway starts is harmless. Half of what RFC 4344
/// §3.2 allows a 128-bit block cipher (2^32 blocks), and by packets of at least 16 bytes half of the
/// sequence numbers that are chacha20-poly1305's nonces.
const REKEY_BYTES: usize = 32 << 30;
const REKEY_AGE: Duration = Duration::from_secs(48 * 3600);
