//! From a name to a connected stream: resolve, TCP, TLS, under one deadline.

use super::{
    Delivery, FailedStep, PresentedCertificate, SendError, Settings, TlsPeer, UpstreamTarget,
    channel_dial::{ByteStream, ChannelDialer, DialRoute, DialedStream},
    explain, refused_chain,
    stream::EarlyAnswerStream,
    tls,
    tls::TlsConfigError,
};
use crate::descriptors::{self, DescriptorBudget, DescriptorPermit, DescriptorUse};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout_at},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// Connects to one upstream.
pub(super) struct UpstreamDialer {
    host: String,
    port: u16,
    address: Option<SocketAddr>,
    timeout: Duration,
    tls: Option<DialerTls>,
    route: DialRoute,
}

/// Why the TLS handshake with Jira failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandshakeFailure {
    /// What failed, in one sentence.
    pub detail: String,
    /// The chain that Jira presented, if that was refused; its own certificate first.
    pub chain: Vec<PresentedCertificate>,
}

struct DialerTls {
    connector: TlsConnector,
    name: ServerName<'static>,
    /// Whose errors they are.
    peer: TlsPeer,
}

impl UpstreamDialer {
    /// Reads the system's roots where the target wants TLS; call it where blocking is allowed.
    pub(super) fn new(settings: &Settings) -> Result<Self, TlsConfigError> {
        let (host, port, tls) = match &settings.target {
            UpstreamTarget::Http(target) => (&target.host, target.port, target.tls),
            UpstreamTarget::Tcp { host, port } => (host, *port, false),
        };
        let peer = TlsPeer::of(settings);
        let tls = match tls {
            true => Some(DialerTls {
                connector: TlsConnector::from(Arc::new(tls::client_config_for(
                    &settings.tls,
                    peer,
                )?)),
                name: tls::server_name(settings)?,
                peer,
            }),
            false => None,
        };
        Ok(Self {
            host: host.clone(),
            port,
            address: settings.address,
            timeout: settings.connect_timeout,
            tls,
            route: DialRoute::Tcp,
        })
    }

    /// The same upstream, through channels. The gateway resolves its name.
    pub(super) fn through(self, dialer: Arc<dyn ChannelDialer>) -> Self {
        Self {
            route: DialRoute::Channel(dialer),
            ..self
        }
    }

    /// A connection ready for HTTP.
    pub(super) async fn dial(&self) -> Result<EarlyAnswerStream, SendError> {
        let deadline = Instant::now() + self.timeout;
        // Before the name is resolved, which opens files too.
        let permit = promised(DESCRIPTORS)?;
        let (stream, address, is_quiet) = match &self.route {
            DialRoute::Tcp => {
                let tcp = self.tcp(deadline).await?;
                let address = tcp.peer_addr().ok();
                (DialedStream::Tcp(tcp), address, None)
            }
            DialRoute::Channel(dialer) => {
                let dialed = dialer.dial(self.timeout).await?;
                let stream = DialedStream::Channel(dialed.stream);
                (stream, None, Some(dialed.is_quiet))
            }
        };
        let stream = match &self.tls {
            Some(tls) => match self.tls_handshake(tls, stream, address, deadline).await {
                Ok(stream) => EarlyAnswerStream::tls(stream, permit),
                Err(failure) => return Err(not_sent(FailedStep::Tls, failure.detail)),
            },
            None => EarlyAnswerStream::plain(stream, permit),
        };
        Ok(stream.checked_by(is_quiet))
    }

    /// Only the TLS handshake; `None` for a target without TLS.
    pub(super) async fn handshake(
        &self,
        tcp: TcpStream,
        deadline: Instant,
    ) -> Option<Result<TlsStream<TcpStream>, HandshakeFailure>> {
        let tls = self.tls.as_ref()?;
        let address = tcp.peer_addr().ok();
        Some(self.tls_handshake(tls, tcp, address, deadline).await)
    }

    async fn tls_handshake<S: ByteStream>(
        &self,
        tls: &DialerTls,
        stream: S,
        address: Option<SocketAddr>,
        deadline: Instant,
    ) -> Result<TlsStream<S>, HandshakeFailure> {
        let peer = self.describe_address(address);
        let connecting = tls.connector.connect(tls.name.clone(), stream);
        match timeout_at(deadline, connecting).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(HandshakeFailure {
                detail: format!("{peer}: {}", explain::handshake(&error, tls.peer)),
                chain: refused_chain(&error).to_vec(),
            }),
            Err(_) => Err(HandshakeFailure {
                detail: format!(
                    "{peer}: the handshake did not finish within {:?}; is this a TLS port?",
                    self.timeout
                ),
                chain: Vec::new(),
            }),
        }
    }

    /// A plain TCP connection, also where the target wants TLS.
    pub(super) async fn tcp(&self, deadline: Instant) -> Result<TcpStream, SendError> {
        let addresses = self.resolve(deadline).await?;
        self.connect(addresses, deadline).await
    }

    /// Tries one address after the other.
    pub(super) async fn connect(
        &self,
        addresses: Vec<SocketAddr>,
        deadline: Instant,
    ) -> Result<TcpStream, SendError> {
        let mut failures = Vec::new();
        let count = addresses.len();
        for (index, address) in addresses.into_iter().enumerate() {
            // A silent address may use up only its share, so that the next one is tried too.
            let now = Instant::now();
            let share = deadline.saturating_duration_since(now) / (count - index) as u32;
            match timeout_at(now + share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Fails only on a dead socket, which the first write will notice.
                    let _ = stream.set_nodelay(true);
                    let _ = SockRef::from(&stream).set_tcp_notsent_lowat(UNSENT);
                    return Ok(stream);
                }
                Ok(Err(error)) if descriptors::is_shortage(&error) => {
                    DescriptorBudget::of_process().note_shortage(&error);
                    return Err(not_sent(FailedStep::Descriptors, error.to_string()));
                }
                Ok(Err(error)) => failures.push(format!("{address} {}", explain::connect(&error))),
                Err(_) => failures.push(format!("{address} did not answer")),
            }
        }
        failures.truncate(MAX_LISTED_FAILURES);
        Err(not_sent(
            FailedStep::Connect,
            format!("{}: {}", self.describe_address(None), failures.join(", ")),
        ))
    }

    pub(super) async fn resolve(&self, deadline: Instant) -> Result<Vec<SocketAddr>, SendError> {
        if let Some(address) = self.address {
            return Ok(vec![address]);
        }
        let found = match timeout_at(deadline, lookup_host((self.host.as_str(), self.port))).await {
            Ok(found) => found.map(|addresses| addresses.take(MAX_ADDRESSES).collect::<Vec<_>>()),
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {:?}", self.timeout),
            )),
        };
        let why = match found {
            Ok(addresses) if !addresses.is_empty() => return Ok(addresses),
            Ok(_) => "the name has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        Err(not_sent(
            FailedStep::Resolve,
            format!(
                "{:?} does not resolve: {why}; check the upstream's host name and this host's DNS",
                self.host
            ),
        ))
    }

    fn describe_address(&self, address: Option<SocketAddr>) -> String {
        match address {
            Some(address) if address.ip().to_string() != self.host => {
                format!("{} ({address})", self.host)
            }
            _ if self.host.contains(':') => format!("[{}]:{}", self.host, self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }
}

/// Promises descriptors to a request that is to be sent.
pub(super) fn promised(count: u64) -> Result<DescriptorPermit, SendError> {
    let taken = DescriptorBudget::of_process().take(DescriptorUse::Connection, count);
    taken.map_err(|shortage| not_sent(FailedStep::Descriptors, shortage.to_string()))
}

fn not_sent(kind: FailedStep, detail: String) -> SendError {
    SendError {
        kind,
        detail,
        delivery: Delivery::NotSent,
        retry_after: None,
    }
}

/// The socket of a connection, and the copy that checks it while it is kept.
const DESCRIPTORS: u64 = 2;
/// Bytes that the kernel keeps of a request before Jira's side takes them. It would grow to 4 MiB for each upload that Jira
/// does not read.
const UNSENT: u32 = 256 << 10;
/// Addresses tried of one name; more would leave each too little time.
const MAX_ADDRESSES: usize = 8;
/// Failed addresses named in one message.
const MAX_LISTED_FAILURES: usize = 3;
