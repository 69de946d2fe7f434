//! The way out to a gateway: straight, through the company's proxy, inside TLS, or both. Knows no SSH.
//!
//! What answers on this way is not trusted: every wait has a deadline, every answer a bound, and each
//! error names the hop that failed.
//!
//! | file | what |
//! |---|---|
//! | `dial` | from a name to a TCP connection |
//! | `proxy` | which proxy, and the login there |
//! | `connect` | HTTP CONNECT (RFC 9110 §9.3.6) |
//! | `socks` | SOCKS5 (RFC 1928, RFC 1929) |
//! | `error` | which hop failed, and what to do |

mod connect;
mod dial;
mod error;
mod proxy;
mod socks;
#[cfg(test)]
mod tests;

pub use error::{
    ConnectFailure, ConnectKind, DialError, EgressError, ProxyError, ProxyFault, TlsError, TlsFault,
};
pub use proxy::{Login, Password, Proxy, ProxyUrlError, Scheme};

use super::{
    Gateway, Passed, Tell,
    transport::{TcpPair, socket},
};
use crate::upstream::{self, Handshake, Party};
use bytes::Bytes;
pub(in crate::tunnel) use error::join;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::{ClientConfig, pki_types::ServerName};
use std::{io::Cursor, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Which way leads to which gateway. `Default` is straight to all of them, none inside TLS.
#[derive(Default)]
pub struct Egress {
    proxy: Option<Proxy>,
    around: Option<Matcher>,
    tls: Option<TlsConnector>,
}

/// A connection to a gateway, ready for SSH.
pub struct Way {
    /// What the gateway sends.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it gets.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// The TCP connection below: to the gateway, or to the proxy.
    pub tcp: Option<TcpPair>,
}

impl Egress {
    /// `no_proxy` names what is reached without the proxy, as curl's variable of that name does: hosts,
    /// domains with all below them, addresses, networks, `*`. `tls` is for the gateways inside TLS.
    pub fn new(proxy: Option<Proxy>, no_proxy: &[String], tls: Option<ClientConfig>) -> Self {
        // The matcher wants a proxy for what is not excepted; which one is not its affair here.
        let around = Matcher::builder().all("http://proxy.invalid:1");
        Self {
            proxy,
            around: (!no_proxy.is_empty()).then(|| around.no(no_proxy.join(",")).build()),
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
        }
    }

    /// The proxy that leads to this gateway.
    pub fn proxy(&self, gateway: &Gateway) -> Option<&Proxy> {
        let excepted = |matcher: &Matcher| {
            let url = match gateway.host.contains(':') {
                true => format!("https://[{}]/", gateway.host),
                false => format!("https://{}/", gateway.host),
            };
            // What is no URL's host cannot be excepted either.
            let url = url.parse();
            url.is_ok_and(|url| matcher.intercept(&url).is_none())
        };
        let around = self.around.as_ref().is_some_and(excepted);
        self.proxy.as_ref().filter(|_| !around)
    }

    /// Opens the way. `limit` holds for resolving, for each address tried, for the proxy's answer and
    /// for the TLS handshake, each. `tell` hears of each hop as it is passed.
    ///
    /// # Errors
    /// The hop that failed, with cause and remedy.
    pub async fn open(
        &self,
        gateway: &Gateway,
        limit: Duration,
        options: &socket::Options,
        tell: &Tell,
    ) -> Result<Way, EgressError> {
        let (stream, early) = match self.proxy(gateway) {
            None => {
                let stream = dial::dial(&gateway.host, gateway.port, limit, tell).await?;
                set(&stream, options)?;
                (stream, Bytes::new())
            }
            Some(proxy) => {
                let through = through(proxy, gateway, limit, options, tell).await?;
                tell(Passed::Proxy);
                through
            }
        };
        let tcp = TcpPair::of(&stream);
        let (reader, writer) = stream.into_split();
        let way = Way {
            tcp,
            reader: match early.is_empty() {
                true => Box::new(reader),
                false => Box::new(Cursor::new(early).chain(reader)),
            },
            writer: Box::new(writer),
        };
        match gateway.tls {
            false => Ok(way),
            true => Ok(self.wrap(way, gateway, limit, tell).await?),
        }
    }

    /// The first hop alone: a TCP connection to the proxy, where one leads there, else to the gateway. No login
    /// is sent; `limit` and errors as for [`open`](Self::open).
    ///
    /// # Errors
    /// The hop that failed, with cause and remedy.
    pub async fn reach(
        &self,
        gateway: &Gateway,
        limit: Duration,
        tell: &Tell,
    ) -> Result<(), EgressError> {
        match self.proxy(gateway) {
            None => dial::dial(&gateway.host, gateway.port, limit, tell)
                .await
                .map(drop)?,
            Some(proxy) => to_proxy(proxy, gateway, limit, tell).await.map(drop)?,
        }
        Ok(())
    }

    async fn wrap(
        &self,
        way: Way,
        gateway: &Gateway,
        limit: Duration,
        tell: &Tell,
    ) -> Result<Way, TlsError> {
        let error = |kind, problem| TlsError {
            gateway: gateway.address(),
            kind,
            problem,
            chain: Vec::new(),
        };
        let Some(connector) = &self.tls else {
            let problem = "no trusted certificates were set up for it".to_owned();
            return Err(error(TlsFault::Other, problem));
        };
        let name = ServerName::try_from(gateway.host.clone()).map_err(|_| {
            let problem = "its name can stand in no certificate".to_owned();
            error(TlsFault::Other, problem)
        })?;
        let tcp = way.tcp;
        let below = tokio::io::join(way.reader, way.writer);
        match timeout(limit, connector.connect(name, below)).await {
            Ok(Ok(stream)) => {
                tell(Passed::Tls(Handshake::of(stream.get_ref().1)));
                let (reader, writer) = tokio::io::split(stream);
                Ok(Way {
                    reader: Box::new(reader),
                    writer: Box::new(writer),
                    tcp,
                })
            }
            Ok(Err(problem)) => {
                let kind = match upstream::is_unknown_issuer(&problem) {
                    true => TlsFault::UnknownIssuer,
                    false => TlsFault::Other,
                };
                Err(TlsError {
                    chain: upstream::refused_chain(&problem).to_vec(),
                    ..error(kind, upstream::handshake(&problem, Party::Gateway))
                })
            }
            Err(_) => {
                let problem = format!(
                    "the handshake did not finish within {} s",
                    limit.as_secs_f32()
                );
                Err(error(TlsFault::Silent, problem))
            }
        }
    }
}

/// A TCP connection to the gateway by way of the proxy, and what has come on it already: an SSH server
/// speaks first, and its banner may come in one packet with the proxy's answer.
async fn through(
    proxy: &Proxy,
    gateway: &Gateway,
    limit: Duration,
    options: &socket::Options,
    tell: &Tell,
) -> Result<(TcpStream, Bytes), EgressError> {
    let error = |kind, problem| ProxyError {
        proxy: proxy.to_string(),
        gateway: gateway.address(),
        kind,
        problem,
    };
    let stream = to_proxy(proxy, gateway, limit, tell).await?;
    set(&stream, options)?;
    let asked = async {
        let login = proxy.login().await;
        let login = login.map_err(|problem| (ProxyFault::Password, problem))?;
        match proxy.scheme {
            Scheme::Http => connect::connect(stream, &gateway.address(), login.as_ref()).await,
            Scheme::Socks5 => {
                let stream =
                    socks::connect(stream, &gateway.host, gateway.port, login.as_ref()).await?;
                Ok((stream, Bytes::new()))
            }
        }
    };
    match timeout(limit, asked).await {
        Ok(answer) => Ok(answer.map_err(|(kind, problem)| error(kind, problem))?),
        Err(_) => {
            let problem = format!("did not answer within {} s", limit.as_secs_f32());
            Err(error(ProxyFault::Answer, problem).into())
        }
    }
}

/// A TCP connection to the proxy, which is told nothing yet.
async fn to_proxy(
    proxy: &Proxy,
    gateway: &Gateway,
    limit: Duration,
    tell: &Tell,
) -> Result<TcpStream, ProxyError> {
    let stream = dial::dial(&proxy.host, proxy.port, limit, tell).await;
    stream.map_err(|problem| {
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

fn set(stream: &TcpStream, options: &socket::Options) -> Result<(), EgressError> {
    socket::configure(stream, options).map_err(|error| EgressError::Lost(error.to_string()))
}
