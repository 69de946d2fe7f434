//! What the gateway may do: present its host key, open channels of forwards that we requested, and disconnect. Everything
//! else is refused. Nothing here waits, because the session would wait too.

use super::{HostKeyRefusal, NegotiatedParameters, SessionEnd, SessionShared, error::printable};
use crate::tunnel::{HopEvent, InboundChannel, channel::ChannelStream};
use parking_lot::Mutex;
use russh::{
    Channel, ChannelId, ChannelOpenFailure, Names,
    client::{ChannelOpenHandle, DisconnectReason, Handler, Msg, Session as Russh},
    keys::PublicKeyOrCertificate,
};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::SystemTime,
};

/// The callbacks of one session. russh drops it when the session ends, for any reason.
pub(super) struct SessionHandler {
    shared: Arc<SessionShared>,
    host_key: Option<String>,
    ended: Mutex<Option<SessionEnd>>,
    unasked: AtomicBool,
}

/// Why a callback, or the session, failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandlerError {
    #[error(transparent)]
    Ssh(#[from] russh::Error),
    #[error(transparent)]
    HostKey(Box<HostKeyRefusal>),
}

impl SessionHandler {
    pub(super) fn new(shared: Arc<SessionShared>) -> Self {
        Self {
            shared,
            host_key: None,
            ended: Mutex::new(None),
            unasked: AtomicBool::new(false),
        }
    }

    /// Accepts a channel of one of our forwards, or rejects it.
    async fn open(
        &self,
        forward: Option<Arc<str>>,
        originator: String,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        let shared = &self.shared;
        let Some(forward) = forward else {
            self.note_unasked("forwarded");
            return reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
        };
        let Some(place) = shared.forwards.place(&forward) else {
            return reply
                .reject(ChannelOpenFailure::AdministrativelyProhibited)
                .await;
        };
        if shared.budget.open_channels() >= shared.settings.max_channels {
            if shared.refused_channels.fetch_add(1, Relaxed) == 0 {
                let _entered = shared.span.enter();
                tracing::warn!(
                    limit = shared.settings.max_channels,
                    remedy = "ask the vendor to reuse connections, or raise tunnel.max_channels",
                    "refusing channels: too many are open (tunnel.max_channels)"
                );
            }
            return reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        reply.accept().await;
        let span = tracing::error_span!(parent: &shared.span, "channel", %forward, channel = %channel.id());
        let _entered = span.enter();
        let stream = ChannelStream::new(Arc::clone(&shared.budget), channel);
        shared.accept.accept(InboundChannel {
            forward,
            connection: shared.connection,
            originator,
            replaced: shared.replaced.clone(),
            place,
            stream,
        });
    }

    /// Warns if another machine reaches a forward that was requested on the loopback address: GatewayPorts is "yes".
    fn note_originator(&self, forward: &Arc<str>, originator: &str) {
        let shared = &self.shared;
        let foreign = originator
            .parse::<IpAddr>()
            .is_ok_and(|address| !address.to_canonical().is_loopback());
        if foreign && shared.forwards.is_loopback(forward) && shared.note_exposed(forward) {
            let _entered = shared.span.enter();
            tracing::warn!(
                %forward,
                originator,
                remedy = "ask the vendor for \"GatewayPorts no\" or \"clientspecified\"",
                "another machine has connected to a forward that is bound to the gateway's loopback address: the gateway \
                 listens on more addresses than requested"
            );
        }
    }

    /// Warns once per session: a gateway must not be able to fill the log.
    fn note_unasked(&self, kind: &str) {
        if !self.unasked.swap(true, Relaxed) {
            let _entered = self.shared.span.enter();
            tracing::warn!(
                kind,
                "refused a channel of the gateway's that the agent did not request"
            );
        }
    }

    async fn refuse(&self, kind: &str, reply: ChannelOpenHandle) -> Result<(), HandlerError> {
        self.note_unasked(kind);
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        Ok(())
    }
}

impl Handler for SessionHandler {
    type Error = HandlerError;

    async fn check_server_key(
        &mut self,
        presented: &PublicKeyOrCertificate,
    ) -> Result<bool, HandlerError> {
        let shared = &self.shared;
        let first = shared.negotiated.get().is_none();
        if first {
            (shared.observer)(HopEvent::KeyExchange);
        }
        let (host, port) = (shared.gateway.host.as_str(), shared.gateway.port);
        shared
            .settings
            .host_keys
            .verify(host, port, presented, SystemTime::now())
            .map_err(|refused| HandlerError::HostKey(Box::new((*refused).at(shared.peer))))?;
        shared.settings.host_keys.trusted(host, port, presented);
        let print = presented.public_key().fingerprint(Default::default());
        if first {
            (shared.observer)(HopEvent::HostKey(print.to_string()));
        }
        self.host_key = Some(print.to_string());
        Ok(true)
    }

    async fn kex_done(
        &mut self,
        _secret: Option<&[u8]>,
        names: &Names,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        // Set once: a rekey cannot change the host.
        let _ = self.shared.negotiated.set(NegotiatedParameters {
            host_key: self.host_key.clone().unwrap_or_default(),
            key_exchange: names.kex.as_ref().to_owned(),
            cipher: names.cipher.as_ref().to_owned(),
            strict: names.strict_kex(),
        });
        Ok(())
    }

    async fn auth_banner(
        &mut self,
        banner: &str,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        let banner = printable(banner);
        self.shared
            .span
            .in_scope(|| tracing::debug!(banner, "the gateway sent a text for people"));
        self.shared.set_banner_text(banner);
        Ok(())
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        connected_address: &str,
        connected_port: u32,
        originator_address: &str,
        originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        let forward = self
            .shared
            .forwards
            .by_address(connected_address, connected_port);
        if let Some(forward) = &forward {
            self.note_originator(forward, originator_address);
        }
        let originator = format!("{}:{originator_port}", printable(originator_address));
        self.open(forward, originator, channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        let forward = self.shared.forwards.by_socket(socket_path);
        self.open(forward, "unix".to_owned(), channel, reply).await;
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        self.refuse("agent", reply).await
    }

    async fn should_accept_unknown_server_channel(
        &mut self,
        _id: ChannelId,
        _channel_type: &str,
    ) -> bool {
        false
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        // A gateway that cannot send keep-alives probes us so, as we do (`probe.rs`); nothing to warn of.
        reply
            .reject(ChannelOpenFailure::AdministrativelyProhibited)
            .await;
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        self.refuse("direct-tcpip", reply).await
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        self.refuse("direct-streamlocal", reply).await
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut Russh,
    ) -> Result<(), HandlerError> {
        self.refuse("x11", reply).await
    }

    async fn disconnected(
        &mut self,
        reason: DisconnectReason<HandlerError>,
    ) -> Result<(), HandlerError> {
        let ended = match reason {
            DisconnectReason::ReceivedDisconnect(info) => SessionEnd::ByGateway(printable(
                &format!("{:?}: {}", info.reason_code, info.message),
            )),
            DisconnectReason::Error(HandlerError::HostKey(refused)) => {
                SessionEnd::Protocol(refused.to_string())
            }
            DisconnectReason::Error(HandlerError::Ssh(error)) => of_error(error),
        };
        *self.ended.lock() = Some(ended);
        Ok(())
    }
}

impl Drop for SessionHandler {
    fn drop(&mut self) {
        let reported = self.ended.lock().take();
        self.shared.end(reported, std::thread::panicking());
    }
}

/// russh requires UTF-8 in texts for people too (docs/dev/ssh.md, D8).
pub(super) fn is_text_not_utf8(error: &russh::Error) -> bool {
    use russh::keys::ssh_encoding::Error::CharacterEncoding;
    matches!(error, russh::Error::SshEncoding(CharacterEncoding))
}

/// russh reports `Disconnect` both for our own disconnect and for a closed connection; [`SessionShared::end`] distinguishes
/// them.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these errors of russh have a text of their own"
)]
fn of_error(error: russh::Error) -> SessionEnd {
    match error {
        russh::Error::KeepaliveTimeout | russh::Error::InactivityTimeout => SessionEnd::KeepAlive,
        russh::Error::Disconnect | russh::Error::HUP => SessionEnd::Closed,
        russh::Error::IO(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            SessionEnd::Closed
        }
        russh::Error::IO(error) => SessionEnd::Broken(error.to_string()),
        error if is_text_not_utf8(&error) => SessionEnd::TextNotUtf8,
        other => SessionEnd::Protocol(other.to_string()),
    }
}
