//! The connection to a gateway: direct, through the company's proxy, inside TLS, or both. Knows no SSH.
//!
//! Nothing that answers is trusted: every wait has a deadline, every answer a bound, and each error names the hop that
//! failed.
//!
//! | module | what it holds |
//! |---|---|
//! | `dial` | from a name to a TCP connection |
//! | `addresses` | which of a name's addresses failed, and which are in use |
//! | `proxy` | the proxy and the credential for it |
//! | `connect` | HTTP CONNECT (RFC 9110 §9.3.6) |
//! | `socks` | SOCKS5 (RFC 1928, RFC 1929) |
//! | `error` | which hop failed, and what to do |

mod addresses;
mod connect;
mod dial;
mod error;
mod proxy;
mod socks;
#[cfg(test)]
mod tests;

pub use addresses::{AddressLease, AddressMemory};
pub use error::{
    ConnectFailure, ConnectFailureKind, DialError, EgressError, GatewayTlsError, GatewayTlsFault,
    ProxyError, ProxyFault,
};
pub use proxy::{PasswordSource, ProxyCredential, ProxyScheme, ProxyServer, ProxyUrlError};

use super::{
    GatewayAddress, HopEvent, HopObserver,
    session::RetryPace,
    transport::{TcpPair, socket},
};
use crate::upstream::{self, TlsHandshakeInfo, TlsPeer};
use agent_ssh::address::at_address;
use bytes::Bytes;
use dial::DialedConnection;
pub(in crate::tunnel) use error::join;
use hyper_util::client::proxy::matcher::Matcher;
use parking_lot::Mutex;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{io::Cursor, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_rustls::TlsConnector;

/// How each gateway is reached. `Default` is direct, without TLS.
#[derive(Default)]
pub struct Egress {
    proxy: Option<ProxyServer>,
    no_proxy: Option<Matcher>,
    tls: Option<TlsConnector>,
    addresses: Mutex<AddressMemory>,
}

/// Which of a name's addresses to use.
#[derive(Clone, Copy, Debug, Default)]
pub struct AddressChoice {
    /// The number of the connection that will log in; `None` for a test of what answers.
    pub connection: Option<usize>,
    /// This address and no other, without resolving.
    pub only: Option<SocketAddr>,
}

/// A connection to a gateway, ready for SSH.
pub struct GatewayConnection {
    /// The half to read from the gateway.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// The half to write to the gateway.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The TCP connection below: to the gateway, or to the proxy.
    pub tcp: Option<TcpPair>,
    /// That connection, to reset it.
    pub resettable: Option<socket::ResettableSocket>,
    /// Round trip to the gateway: the TCP handshake, or behind a proxy its answer, for which it connects to the gateway.
    pub round_trip: Duration,
    /// The gateway's address; `None` behind a proxy, which resolves the name.
    pub peer: Option<SocketAddr>,
    /// Marks the address as in use until it is dropped.
    pub lease: Option<AddressLease>,
}

impl Egress {
    /// `no_proxy` lists what is reached without the proxy, as curl's variable of that name: hosts, domains with all their
    /// subdomains, addresses, networks, `*`. `tls` is for the gateways inside TLS.
    pub fn new(proxy: Option<ProxyServer>, no_proxy: &[String], tls: Option<ClientConfig>) -> Self {
        // The matcher needs a proxy for the hosts that are not excepted; any will do.
        let around = Matcher::builder().all("http://proxy.invalid:1");
        Self {
            proxy,
            no_proxy: (!no_proxy.is_empty()).then(|| around.no(no_proxy.join(",")).build()),
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
            addresses: Mutex::default(),
        }
    }

    /// What was learned about the addresses of gateways and proxies.
    pub fn addresses(&self) -> AddressMemory {
        self.addresses.lock().clone()
    }

    /// Takes over what the egress of the previous configuration has learned.
    pub fn adopt_addresses(&self, former: &Self) {
        let memory = former.addresses();
        *self.addresses.lock() = memory;
    }

    /// The proxy for this gateway, if it needs one.
    pub fn proxy(&self, gateway: &GatewayAddress) -> Option<&ProxyServer> {
        let excepted = |matcher: &Matcher| {
            let url = match gateway.host.contains(':') {
                true => format!("https://[{}]/", gateway.host),
                false => format!("https://{}/", gateway.host),
            };
            // A name that is no host of a URL cannot be excepted either.
            let url = url.parse();
            url.is_ok_and(|url| matcher.intercept(&url).is_none())
        };
        let around = self.no_proxy.as_ref().is_some_and(excepted);
        self.proxy.as_ref().filter(|_| !around)
    }

    /// Connects to a gateway. `limit` applies to name resolution, to each address, to the proxy's answer and to the TLS
    /// handshake, each. `observer` is called for each hop.
    ///
    /// # Errors
    /// The hop that failed, with cause and remedy.
    pub async fn open(
        &self,
        gateway: &GatewayAddress,
        limit: Duration,
        options: &socket::SocketOptions,
        observer: &HopObserver,
        choice: AddressChoice,
    ) -> Result<GatewayConnection, EgressError> {
        let memory = self.addresses();
        let (stream, early, peer, lease, round_trip, resettable) = match self.proxy(gateway) {
            None => {
                let (host, port) = (&gateway.host, gateway.port);
                let dialed = dial::dial(host, port, limit, observer, &memory, choice).await?;
                let resettable = set(&dialed, options)?;
                let DialedConnection {
                    stream,
                    peer,
                    round_trip,
                    lease,
                } = dialed;
                let early = Bytes::new();
                (stream, early, Some(peer), lease, round_trip, resettable)
            }
            Some(proxy) => {
                let (stream, early, lease, round_trip, resettable) =
                    through(proxy, gateway, limit, options, observer, &memory, choice).await?;
                observer(HopEvent::Proxy);
                (stream, early, None, lease, round_trip, resettable)
            }
        };
        let is_near = peer.is_some() && round_trip < socket::NEAR;
        socket::adapt_to_distance(&stream, options, is_near);
        let tcp = TcpPair::of(&stream);
        let (reader, writer) = stream.into_split();
        let reader = socket::PromptReader::new(reader);
        let way = GatewayConnection {
            tcp,
            resettable,
            reader: match early.is_empty() {
                true => Box::new(reader),
                false => Box::new(Cursor::new(early).chain(reader)),
            },
            writer: Box::new(writer),
            round_trip,
            peer,
            lease,
        };
        if !gateway.tls {
            return Ok(way);
        }
        let wrapped = self.wrap(way, gateway, limit, observer).await;
        if let (Err(error), Some(peer)) = (&wrapped, peer) {
            memory.failed(peer, error.retry() == RetryPace::Slow);
        }
        Ok(wrapped?)
    }

    /// Tests the first hop alone: a TCP connection to the proxy, or to the gateway without one. No credential is sent;
    /// `limit` and errors as for [`open`](Self::open).
    ///
    /// # Errors
    /// The hop that failed, with cause and remedy.
    pub async fn probe_first_hop(
        &self,
        gateway: &GatewayAddress,
        limit: Duration,
        observer: &HopObserver,
    ) -> Result<(), EgressError> {
        let (memory, choice) = (self.addresses(), AddressChoice::default());
        match self.proxy(gateway) {
            None => {
                let (host, port) = (&gateway.host, gateway.port);
                drop(dial::dial(host, port, limit, observer, &memory, choice).await?);
            }
            Some(proxy) => {
                drop(to_proxy(proxy, gateway, limit, observer, &memory, choice).await?);
            }
        }
        Ok(())
    }

    async fn wrap(
        &self,
        way: GatewayConnection,
        gateway: &GatewayAddress,
        limit: Duration,
        observer: &HopObserver,
    ) -> Result<GatewayConnection, GatewayTlsError> {
        let place = at_address(&gateway.address(), &gateway.host, way.peer);
        let error = |kind, problem| GatewayTlsError {
            gateway: place.clone(),
            kind,
            problem,
            chain: Vec::new(),
        };
        let Some(connector) = &self.tls else {
            let problem = "no trusted certificates were set up for it".to_owned();
            return Err(error(GatewayTlsFault::Other, problem));
        };
        let name = ServerName::try_from(gateway.host.clone()).map_err(|_| {
            let problem = "its name can stand in no certificate".to_owned();
            error(GatewayTlsFault::Other, problem)
        })?;
        let (tcp, resettable) = (way.tcp, way.resettable);
        let round_trip = way.round_trip;
        let (peer, lease) = (way.peer, way.lease);
        let below = tokio::io::join(way.reader, way.writer);
        match timeout(limit, connector.connect(name, below)).await {
            Ok(Ok(stream)) => {
                observer(HopEvent::Tls(TlsHandshakeInfo::of(stream.get_ref().1)));
                let (reader, writer) = tokio::io::split(stream);
                Ok(GatewayConnection {
                    reader: Box::new(reader),
                    writer: Box::new(writer),
                    tcp,
                    resettable,
                    round_trip,
                    peer,
                    lease,
                })
            }
            Ok(Err(problem)) => {
                let kind = match upstream::is_unknown_issuer(&problem) {
                    true => GatewayTlsFault::UnknownIssuer,
                    false => GatewayTlsFault::Other,
                };
                Err(GatewayTlsError {
                    chain: upstream::refused_chain(&problem).to_vec(),
                    ..error(kind, upstream::handshake(&problem, TlsPeer::Gateway))
                })
            }
            Err(_) => {
                let problem = format!(
                    "the handshake did not finish within {} s",
                    limit.as_secs_f32()
                );
                Err(error(GatewayTlsFault::Silent, problem))
            }
        }
    }
}

/// A TCP connection through a proxy, the bytes already received, how long the proxy took to answer, and the connection's
/// second descriptor.
type ProxiedConnection = (
    TcpStream,
    Bytes,
    Option<AddressLease>,
    Duration,
    Option<socket::ResettableSocket>,
);

/// A TCP connection to the gateway through the proxy. An SSH server sends first, and its banner may be in one packet with
/// the proxy's answer.
async fn through(
    proxy: &ProxyServer,
    gateway: &GatewayAddress,
    limit: Duration,
    options: &socket::SocketOptions,
    observer: &HopObserver,
    memory: &AddressMemory,
    choice: AddressChoice,
) -> Result<ProxiedConnection, EgressError> {
    let error = |kind, problem| ProxyError {
        proxy: proxy.to_string(),
        gateway: gateway.address(),
        kind,
        problem,
    };
    let dialed = to_proxy(proxy, gateway, limit, observer, memory, choice).await?;
    let resettable = set(&dialed, options)?;
    let DialedConnection {
        stream,
        peer,
        lease,
        ..
    } = dialed;
    let asked = async {
        let login = proxy.load_credential().await;
        let login = login.map_err(|problem| (ProxyFault::Password, problem))?;
        match proxy.scheme {
            ProxyScheme::Http => connect::connect(stream, &gateway.address(), login.as_ref()).await,
            ProxyScheme::Socks5 => {
                let stream =
                    socks::connect(stream, &gateway.host, gateway.port, login.as_ref()).await?;
                Ok((stream, Bytes::new()))
            }
        }
    };
    let begun = Instant::now();
    let answer = match timeout(limit, asked).await {
        Ok(answer) => answer.map_err(|(kind, problem)| error(kind, problem)),
        Err(_) => {
            let problem = format!("did not answer within {} s", limit.as_secs_f32());
            Err(error(ProxyFault::Silent, problem))
        }
    };
    match answer {
        Ok((stream, early)) => {
            memory.succeeded(peer);
            Ok((stream, early, lease, begun.elapsed(), resettable))
        }
        Err(error) => {
            // One of several machines behind the proxy's name may be faulty; their rules are the same.
            if error.retry() == RetryPace::Soon && error.kind != ProxyFault::Gateway {
                memory.failed(peer, false);
            }
            Err(error.into())
        }
    }
}

/// A TCP connection to the proxy, on which nothing was sent yet.
async fn to_proxy(
    proxy: &ProxyServer,
    gateway: &GatewayAddress,
    limit: Duration,
    observer: &HopObserver,
    memory: &AddressMemory,
    choice: AddressChoice,
) -> Result<DialedConnection, ProxyError> {
    let choice = AddressChoice {
        // The address is the gateway's, which is not dialed here.
        only: None,
        ..choice
    };
    let dialed = dial::dial(&proxy.host, proxy.port, limit, observer, memory, choice).await;
    dialed.map_err(|problem| {
        let (kind, problem) = match problem {
            DialError::Resolve(problem) => (ProxyFault::Resolve, problem),
            DialError::Connect(failures) => (ProxyFault::Connect, join(&failures)),
            DialError::Silent(_) => (ProxyFault::Resolve, problem.to_string()),
        };
        ProxyError {
            proxy: proxy.to_string(),
            gateway: gateway.address(),
            kind,
            problem,
        }
    })
}

/// Sets the options before the first byte. Without a second descriptor they could not be changed later.
fn set(
    dialed: &DialedConnection,
    options: &socket::SocketOptions,
) -> Result<Option<socket::ResettableSocket>, EgressError> {
    let configured = socket::configure(&dialed.stream, options);
    configured.map_err(|error| EgressError::Lost(error.to_string()))?;
    let mut resettable = socket::ResettableSocket::of(&dialed.stream);
    if let Some(socket) = &mut resettable {
        socket.watch_until_proven(options, dialed.round_trip);
    }
    Ok(resettable)
}
