//! Which hop to a gateway failed, why, and what an administrator does about it.

use crate::{
    tunnel::{Hop, session::RetryPace},
    upstream::PresentedCertificate,
};
use std::{fmt, net::SocketAddr, time::Duration};

/// Why no connection to a gateway could be opened.
#[derive(Debug)]
pub enum EgressError {
    /// Without a proxy: the gateway itself.
    Dial(DialError),
    /// The proxy, or its answer.
    Proxy(Box<ProxyError>),
    /// TLS with the gateway.
    Tls(Box<GatewayTlsError>),
    /// The socket was closed at once.
    Lost(String),
}

impl From<DialError> for EgressError {
    fn from(error: DialError) -> Self {
        Self::Dial(error)
    }
}

impl From<ProxyError> for EgressError {
    fn from(error: ProxyError) -> Self {
        Self::Proxy(Box::new(error))
    }
}

impl From<GatewayTlsError> for EgressError {
    fn from(error: GatewayTlsError) -> Self {
        Self::Tls(Box::new(error))
    }
}

/// Why a host could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Its name does not resolve.
    #[error("{0}")]
    Resolve(String),
    /// None of its addresses accepted the connection.
    #[error("{}", join(.0))]
    Connect(Vec<ConnectFailure>),
    /// The resolver did not answer within this.
    #[error("the resolver did not answer within {} s", .0.as_secs_f32())]
    Silent(Duration),
}

/// One address that could not be connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectFailure {
    /// The address that was tried.
    pub address: SocketAddr,
    /// How the connection attempt failed.
    pub kind: ConnectFailureKind,
    /// The system's error, as text.
    pub problem: String,
}

/// In what way an address could not be connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailureKind {
    /// Nothing listens there, or a firewall rejects the connection.
    Refused,
    /// The address did not answer in time.
    Timeout,
    /// Not tried: a login or the host key was refused there a moment ago.
    Barred,
    /// No route, no permission, or another error.
    Other,
}

/// All failures in one line.
pub(in crate::tunnel) fn join(failures: &[ConnectFailure]) -> String {
    let each: Vec<String> = failures
        .iter()
        .map(|f| format!("{} {}", f.address, f.problem))
        .collect();
    each.join(", ")
}

/// The proxy cannot be reached, rejects the agent, or cannot reach the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyError {
    /// Its URL, without a credential.
    pub proxy: String,
    /// The gateway that the proxy was asked for, as `host:port`.
    pub gateway: String,
    /// What kind of failure.
    pub kind: ProxyFault,
    /// The error of the system or the proxy.
    pub problem: String,
}

/// In what way a proxy failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyFault {
    /// Its name does not resolve.
    Resolve,
    /// No TCP connection to it.
    Connect,
    /// The password's file cannot be read, or the password cannot be sent.
    Password,
    /// It requires a credential and none is configured (407).
    LoginMissing,
    /// It rejected the credential (407).
    LoginRefused,
    /// It requires an authentication scheme that the agent does not support (407).
    LoginScheme,
    /// Its rules forbid this target (403).
    Policy,
    /// It accepted the request, and could not reach the gateway (502, 503, 504).
    Gateway,
    /// It redirects to a web page (3xx).
    Redirect,
    /// It is overloaded, or this host connects too often (429).
    Busy,
    /// It failed itself (5xx).
    Failing,
    /// Another kind of server answered.
    NotAProxy,
    /// It closed the connection without an answer.
    Closed,
    /// It accepted the connection and did not answer.
    Silent,
    /// An invalid or unusable answer.
    Answer,
}

impl fmt::Display for ProxyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            proxy,
            gateway,
            problem,
            ..
        } = self;
        match self.kind {
            ProxyFault::Resolve => {
                write!(f, "cannot resolve the name of the proxy {proxy}: {problem}")
            }
            ProxyFault::Connect => write!(f, "cannot connect to the proxy {proxy}: {problem}"),
            ProxyFault::Password => {
                write!(
                    f,
                    "the password for the proxy {proxy} cannot be used: {problem}"
                )
            }
            ProxyFault::LoginMissing => write!(
                f,
                "the proxy {proxy} requires a credential, and none is configured: {problem}"
            ),
            ProxyFault::LoginRefused => {
                write!(f, "the proxy {proxy} rejected the credential: {problem}")
            }
            ProxyFault::LoginScheme => write!(
                f,
                "the proxy {proxy} requires an authentication scheme that the agent does not support: {problem}"
            ),
            ProxyFault::Policy => {
                write!(
                    f,
                    "the proxy {proxy} forbids connections to {gateway}: {problem}"
                )
            }
            ProxyFault::Gateway => {
                write!(
                    f,
                    "the proxy {proxy} cannot connect to {gateway}: {problem}"
                )
            }
            ProxyFault::Redirect => write!(
                f,
                "the proxy {proxy} redirects to a web page instead of connecting to {gateway}: {problem}"
            ),
            ProxyFault::Busy => {
                write!(
                    f,
                    "the proxy {proxy} accepts no more connections from this host: {problem}"
                )
            }
            ProxyFault::Failing => {
                write!(
                    f,
                    "the proxy {proxy} failed while connecting to {gateway}: {problem}"
                )
            }
            ProxyFault::NotAProxy
            | ProxyFault::Closed
            | ProxyFault::Silent
            | ProxyFault::Answer => write!(f, "the proxy {proxy} {problem}"),
        }
    }
}

impl std::error::Error for ProxyError {}

impl ProxyError {
    /// The hop that failed: before the proxy, or the proxy itself.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are treated alike"
    )]
    pub fn hop(&self) -> Hop {
        match self.kind {
            ProxyFault::Resolve => Hop::Dns,
            ProxyFault::Connect => Hop::Tcp,
            _ => Hop::Proxy,
        }
    }

    /// Whether the credential was rejected, so that it must not be tried again at once.
    pub fn refused_login(&self) -> bool {
        self.kind == ProxyFault::LoginRefused
    }

    /// How soon another attempt is useful.
    pub fn retry(&self) -> RetryPace {
        match self.kind {
            // Repeated attempts with a wrong password lock an account.
            ProxyFault::Password
            | ProxyFault::LoginMissing
            | ProxyFault::LoginRefused
            | ProxyFault::LoginScheme
            | ProxyFault::Policy
            | ProxyFault::Redirect
            | ProxyFault::Busy => RetryPace::Slow,
            ProxyFault::Resolve
            | ProxyFault::Connect
            | ProxyFault::Gateway
            | ProxyFault::Failing
            | ProxyFault::NotAProxy
            | ProxyFault::Closed
            | ProxyFault::Silent
            | ProxyFault::Answer => RetryPace::Soon,
        }
    }

    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        let Self { proxy, gateway, .. } = self;
        match self.kind {
            ProxyFault::Resolve => {
                "check the name in tunnel.proxy and this host's DNS with getent hosts".to_owned()
            }
            ProxyFault::Connect => format!(
                "check host and port in tunnel.proxy, and ask the network team whether this host may connect to {proxy}"
            ),
            ProxyFault::Password => {
                "put the password into the file that tunnel.proxy_password_file names".to_owned()
            }
            ProxyFault::LoginMissing => format!(
                "set tunnel.proxy_username and tunnel.proxy_password_file, or ask the network team to let this host connect to {gateway} without one"
            ),
            ProxyFault::LoginRefused => {
                "check tunnel.proxy_username and the password in tunnel.proxy_password_file, which is read at each attempt; the account may be locked or expired".to_owned()
            }
            ProxyFault::LoginScheme => format!(
                "ask the network team for a Basic account on the proxy (SOCKS5: user name and password), or to let this host connect to {gateway} without one"
            ),
            ProxyFault::Policy => format!(
                "ask the network team to allow CONNECT from this host to {gateway} on the proxy; many proxies allow port 443 only"
            ),
            ProxyFault::Gateway => format!(
                "check name and port in tunnel.gateways with the vendor, and ask the network team whether the firewall lets the proxy connect to {gateway}"
            ),
            ProxyFault::Redirect => format!(
                "the proxy requires a person to log in or consent on a web page, which a service cannot do: ask the network team to let this host connect to {gateway} without that page"
            ),
            ProxyFault::Busy => format!(
                "the agent retries once a minute; ask the network team for a higher limit for this host, which keeps few connections to {gateway}, each for days"
            ),
            ProxyFault::Failing => format!(
                "the fault is in the proxy or behind it: ask the network team for its log at this time, and whether it can reach {gateway}"
            ),
            ProxyFault::NotAProxy => {
                "another server answers at that address: check host and port in tunnel.proxy with the network team, and whether the proxy is an http:// or a socks5:// one".to_owned()
            }
            ProxyFault::Closed => {
                "it may not serve this host, or expect another protocol: ask the network team whether this host may use it, and whether tunnel.proxy begins with http:// or socks5://".to_owned()
            }
            ProxyFault::Silent => {
                "it may be overloaded, wait for the gateway, or expect another protocol: ask the network team, and whether tunnel.proxy begins with http:// or socks5://".to_owned()
            }
            ProxyFault::Answer => {
                "check with the network team that tunnel.proxy names a proxy of this kind (http:// or socks5://) and its right port".to_owned()
            }
        }
    }
}

/// TLS with a gateway failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("TLS with {gateway} failed: {problem}")]
pub struct GatewayTlsError {
    /// The gateway as `host:port`.
    pub gateway: String,
    /// What kind of failure.
    pub kind: GatewayTlsFault,
    /// The problem; it names the issuer if that is not trusted.
    pub problem: String,
    /// The presented certificates if they were refused, the gateway's own first.
    pub chain: Vec<PresentedCertificate>,
}

/// In what way TLS failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayTlsFault {
    /// The certificate comes from an issuer that is not trusted: TLS is intercepted, or the vendor has
    /// a CA of its own.
    UnknownIssuer,
    /// The handshake did not finish in time.
    Silent,
    /// Any other TLS failure.
    Other,
}

impl GatewayTlsError {
    /// How soon another attempt is useful.
    pub fn retry(&self) -> RetryPace {
        match self.kind {
            GatewayTlsFault::UnknownIssuer => RetryPace::Slow,
            GatewayTlsFault::Silent | GatewayTlsFault::Other => RetryPace::Soon,
        }
    }

    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        let gateway = &self.gateway;
        match self.kind {
            GatewayTlsFault::UnknownIssuer => format!(
                "if that issuer is your company's, TLS is inspected: ask the network team to exempt {gateway}; if it is the vendor's CA, name its certificate in tunnel.gateway_ca_file"
            ),
            GatewayTlsFault::Silent => format!(
                "ask the vendor whether {gateway} speaks TLS, and the network team whether a firewall delays it; write a gateway that speaks plain SSH without tls://"
            ),
            GatewayTlsFault::Other => format!(
                "ask the vendor whether {gateway} speaks TLS and which certificate it presents; write a gateway that speaks plain SSH without tls://"
            ),
        }
    }
}
