//! Why a session could not be opened, or has ended: a cause and a remedy that an administrator can act on.

use super::{HostKeyRefusal, KeyExchangeFault, LoginFault, UnexpectedPeer};
use crate::{
    tunnel::{
        GatewayAddress, Hop,
        egress::{
            ConnectFailure, ConnectFailureKind, DialError, EgressError, GatewayTlsError,
            ProxyError, join,
        },
    },
    upstream::PresentedCertificate,
};
use std::{fmt, time::Duration};

/// How soon another attempt makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPace {
    /// It may work at any moment: back off from half a second.
    Soon,
    /// Somebody must change something first: once a minute.
    Slow,
}

/// A step of opening a session, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOpenStep {
    /// Name resolution, TCP, the proxy, TLS.
    Connect,
    /// TCP stands; waiting for the SSH banner.
    Banner,
    /// Key exchange and host key.
    KeyExchange,
    /// User authentication (RFC 4252).
    Login,
}

impl fmt::Display for SessionOpenStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::Banner => "waiting for the SSH banner",
            Self::KeyExchange => "the key exchange",
            Self::Login => "the login",
        })
    }
}

/// Why no session could be opened.
#[derive(Debug, thiserror::Error)]
pub enum SessionOpenError {
    /// The gateway's name gave no address.
    #[error("cannot resolve the gateway's name {host:?}: {problem}")]
    Resolve {
        /// The gateway's host name, as configured.
        host: String,
        /// The resolver's error.
        problem: String,
    },
    /// No address of the gateway took the connection.
    #[error("cannot connect to {gateway}: {}", join(failures))]
    Connect {
        /// The gateway as `host:port`.
        gateway: String,
        /// One per address tried.
        failures: Vec<ConnectFailure>,
    },
    /// The proxy is not there, does not let us in, or does not let us through.
    #[error(transparent)]
    Proxy(Box<ProxyError>),
    /// TLS with the gateway failed.
    #[error(transparent)]
    Tls(Box<GatewayTlsError>),
    /// Something else than an SSH server answered.
    #[error("{gateway} does not speak SSH: it answered {answer:?}")]
    NotSsh {
        /// The gateway as `host:port`.
        gateway: String,
        /// Its first bytes, printable, at most one line.
        answer: String,
        /// What it seems to be.
        peer: UnexpectedPeer,
    },
    /// The gateway talks to nobody at this host's address for a while.
    #[error("{gateway} bars the address of this host for a while: it answered {answer:?}")]
    AddressBarred {
        /// The gateway as `host:port`.
        gateway: String,
        /// The gateway's own words.
        answer: String,
    },
    /// The gateway has too many logins under way.
    #[error("{gateway} takes no more logins for now: it answered {answer:?}")]
    GatewayFull {
        /// The gateway as `host:port`.
        gateway: String,
        /// The gateway's own words.
        answer: String,
    },
    /// No common algorithm, or a broken exchange.
    #[error("the key exchange with {gateway} failed: {problem}")]
    KeyExchange {
        /// The gateway as `host:port`.
        gateway: String,
        /// What was offered on both sides, or what broke.
        problem: String,
        /// Which part of the key exchange failed.
        fault: KeyExchangeFault,
    },
    /// The host key is not trusted.
    #[error(transparent)]
    HostKey(Box<HostKeyRefusal>),
    /// The gateway does not let this user in with this key.
    #[error("{gateway} refused the login of user {user:?} with {credential}: {problem}")]
    LoginRefused {
        /// The gateway as `host:port`.
        gateway: String,
        /// SSH user name that was refused.
        user: String,
        /// Fingerprint of the key, and the certificate if one was used.
        credential: String,
        /// Which methods the gateway offers instead, or what else it wants; and its own words.
        problem: String,
        /// Why the gateway refused the login.
        fault: LoginFault,
    },
    /// A text of the gateway's for people is not UTF-8, and russh ends the connection for it (docs/dev/ssh.md, D8).
    #[error(
        "{gateway} sent a text that is not UTF-8 during {step}, and the SSH library ends the connection for that"
    )]
    TextNotUtf8 {
        /// The gateway as `host:port`.
        gateway: String,
        /// The step in which the text came.
        step: SessionOpenStep,
    },
    /// Its identification string (RFC 4253 §4.2) cannot be used.
    #[error("{gateway} speaks SSH, but its identification string {problem}")]
    Identification {
        /// The gateway as `host:port`.
        gateway: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The connection ended before the session stood.
    #[error("the connection to {gateway} was lost during {step}: {problem}")]
    Lost {
        /// The gateway as `host:port`.
        gateway: String,
        /// The step in which the connection ended.
        step: SessionOpenStep,
        /// The error of the socket, the library or the gateway.
        problem: String,
    },
    /// A step took too long.
    #[error("{gateway}: {step} took longer than {} s", after.as_secs())]
    Timeout {
        /// The gateway as `host:port`.
        gateway: String,
        /// The step that took too long.
        step: SessionOpenStep,
        /// The time limit that has passed.
        after: Duration,
    },
}

impl SessionOpenError {
    /// No way to this gateway could be opened.
    pub(super) fn from_egress(gateway: &GatewayAddress, error: EgressError) -> Self {
        match error {
            EgressError::Dial(DialError::Resolve(problem)) => Self::Resolve {
                host: gateway.host.clone(),
                problem,
            },
            EgressError::Dial(DialError::Connect(failures)) => Self::Connect {
                gateway: gateway.address(),
                failures,
            },
            EgressError::Dial(error @ DialError::Silent(_)) => Self::Resolve {
                host: gateway.host.clone(),
                problem: error.to_string(),
            },
            EgressError::Proxy(error) => Self::Proxy(error),
            EgressError::Tls(error) => Self::Tls(error),
            EgressError::Lost(problem) => Self::Lost {
                gateway: gateway.address(),
                step: SessionOpenStep::Connect,
                problem,
            },
        }
    }

    /// How soon another attempt makes sense.
    pub fn retry(&self) -> RetryPace {
        match self {
            Self::LoginRefused { fault, .. } if fault.is_temporary() => RetryPace::Soon,
            Self::HostKey(_)
            | Self::LoginRefused { .. }
            | Self::KeyExchange { .. }
            | Self::TextNotUtf8 { .. }
            | Self::Identification { .. }
            | Self::AddressBarred { .. } => RetryPace::Slow,
            // Each address that is left was refused a moment ago.
            Self::Connect { failures, .. }
                if failures
                    .iter()
                    .all(|f| f.kind == ConnectFailureKind::Barred) =>
            {
                RetryPace::Slow
            }
            Self::Proxy(error) => error.retry(),
            Self::Tls(error) => error.retry(),
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::NotSsh { .. }
            | Self::GatewayFull { .. }
            | Self::Lost { .. }
            | Self::Timeout { .. } => RetryPace::Soon,
        }
    }

    /// The hop that failed.
    pub fn hop(&self) -> Hop {
        match self {
            Self::Resolve { .. } => Hop::Dns,
            Self::Connect { .. } => Hop::Tcp,
            Self::Proxy(error) => error.hop(),
            Self::Tls(_) => Hop::Tls,
            Self::NotSsh { .. }
            | Self::Identification { .. }
            | Self::AddressBarred { .. }
            | Self::GatewayFull { .. } => Hop::Banner,
            Self::KeyExchange { .. } => Hop::KeyExchange,
            Self::HostKey(_) => Hop::HostKey,
            Self::LoginRefused { .. } => Hop::Login,
            Self::Lost { step, .. }
            | Self::Timeout { step, .. }
            | Self::TextNotUtf8 { step, .. } => match step {
                SessionOpenStep::Connect => Hop::Tcp,
                SessionOpenStep::Banner => Hop::Banner,
                SessionOpenStep::KeyExchange => Hop::KeyExchange,
                SessionOpenStep::Login => Hop::Login,
            },
        }
    }

    /// What was presented where TLS with the gateway was refused for it.
    pub fn chain(&self) -> &[PresentedCertificate] {
        match self {
            Self::Tls(error) => &error.chain,
            _ => &[],
        }
    }

    /// Whether the gateway answered at all with an SSH banner.
    pub fn reached_ssh(&self) -> bool {
        match self {
            Self::HostKey(_)
            | Self::LoginRefused { .. }
            | Self::KeyExchange { .. }
            | Self::TextNotUtf8 { .. }
            | Self::Identification { .. }
            | Self::AddressBarred { .. }
            | Self::GatewayFull { .. } => true,
            Self::Lost { step, .. } | Self::Timeout { step, .. } => {
                matches!(step, SessionOpenStep::KeyExchange | SessionOpenStep::Login)
            }
            Self::Resolve { .. }
            | Self::Connect { .. }
            | Self::Proxy(_)
            | Self::Tls(_)
            | Self::NotSsh { .. } => false,
        }
    }

    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Resolve { host, .. } => format!(
                "check the name in tunnel.gateways and this host's DNS: getent hosts {host}"
            ),
            Self::Connect { gateway, failures } => {
                let only = |kind: &[ConnectFailureKind]| failures.iter().all(|f| kind.contains(&f.kind));
                let test = format!("test with: nc -vz {}", gateway.replacen(':', " ", 1));
                if only(&[ConnectFailureKind::Barred]) {
                    "see what the gateway refused there; it is tried again after a minute".to_owned()
                } else if only(&[ConnectFailureKind::Refused, ConnectFailureKind::Barred]) {
                    format!("nothing listens there: ask the vendor whether the gateway is up, and check its port; {test}")
                } else {
                    format!("ask the network team whether the firewall lets this host out to {gateway}; {test}")
                }
            }
            Self::Proxy(error) => error.remedy(),
            Self::Tls(error) => error.remedy(),
            Self::NotSsh { peer: stranger, .. } => stranger.remedy().to_owned(),
            Self::AddressBarred { .. } => {
                "logins from this address have failed, of this agent or of another behind the same address (PerSourcePenalties, OpenSSH 9.8 or later); it passes within minutes, and the agent tries once a minute. Ask the vendor which logins failed by the sshd log, and for this address in PerSourcePenaltyExemptList".to_owned()
            }
            Self::GatewayFull { .. } => {
                "the agent tries again; if it stays, ask the vendor to raise MaxStartups on the gateway, and PerSourceMaxStartups where many agents come from one address".to_owned()
            }
            Self::KeyExchange { fault, .. } => fault.remedy().to_owned(),
            Self::HostKey(refused) => refused.remedy(),
            Self::TextNotUtf8 { .. } => TEXT_NOT_UTF8.to_owned(),
            Self::Identification { .. } => {
                "ask the vendor to shorten it and to keep it to ASCII (OpenSSH: VersionAddendum in sshd_config)".to_owned()
            }
            Self::LoginRefused { user, fault, .. } => fault.remedy(user),
            Self::Lost { step: SessionOpenStep::Banner, .. } => {
                "something takes the connection and ends it: a firewall, a balancer without a gateway behind it, a full gateway (MaxStartups), or one that starts or needs TLS (tls://); ask the vendor if it stays".to_owned()
            }
            Self::Lost { step: SessionOpenStep::Connect, .. } => {
                "the connection ended at once: ask the network team what between this host and the gateway ends it".to_owned()
            }
            Self::Lost { step: SessionOpenStep::KeyExchange, .. } => {
                "the connection ended between the banner and the login: ask the vendor for the gateway's log at this time; if it has nothing, the network team about firewalls that inspect SSH".to_owned()
            }
            Self::Lost { step: SessionOpenStep::Login, .. } => "if it stays, ask the vendor for the gateway's log at this time".to_owned(),
            Self::Timeout { step: SessionOpenStep::Connect | SessionOpenStep::Banner, .. } => {
                "ask the network team whether something between drops or inspects SSH; a gateway on port 443 often helps, or one inside TLS (tls://)".to_owned()
            }
            Self::Timeout { step: SessionOpenStep::KeyExchange, gateway, .. } => format!(
                "small packets pass and larger ones may not: ask the network team about the path MTU (VPN, PPPoE, blocked ICMP) and test with: {}; else the gateway is slow, and tunnel.login_timeout may be raised",
                mtu_test(gateway)
            ),
            Self::Timeout { step: SessionOpenStep::Login, .. } => {
                "the gateway is slow to decide (PAM, LDAP, DNS of this host's address with UseDNS): ask the vendor for its log, or raise tunnel.login_timeout".to_owned()
            }
        }
    }
}

/// Shows whether packets of the usual size come through to a place, `host:port` and what may follow it.
pub(super) fn mtu_test(place: &str) -> String {
    let place = place.strip_prefix("tls://").unwrap_or(place);
    let place = place.split(' ').next().unwrap_or_default();
    let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    format!("ping -M do -s 1400 {host}")
}

/// Why a session has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionEnd {
    /// The agent itself disconnected.
    #[error("closed by this agent")]
    ByUs,
    /// The gateway sent SSH_MSG_DISCONNECT with this text (RFC 4253 §11.1).
    #[error("the gateway closed the session: {0}")]
    ByGateway(String),
    /// The connection was closed without a goodbye.
    #[error("the gateway closed the connection")]
    Closed,
    /// Keep-alives were not answered.
    #[error("the gateway has not answered keep-alives")]
    KeepAlive,
    /// The socket failed, or the stall timer ended it.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The far side broke the protocol, or the library met a case it does not know.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// A goodbye, a refusal or a banner that is not UTF-8: russh ends the session for it (docs/dev/ssh.md, D8).
    #[error(
        "the gateway sent a text that is not UTF-8, and the SSH library ends the session for that"
    )]
    TextNotUtf8,
    /// A fault of the program; the process goes on.
    #[error("the session task panicked; please report this with the log")]
    Panicked,
}

impl SessionEnd {
    /// Whether the far side, or something before it, has ended the session.
    pub fn is_cut(&self) -> bool {
        match self {
            // What breaks the protocol is no rule about how long a session may last.
            Self::ByGateway(text) => !text.starts_with(PROTOCOL_ERROR),
            Self::Closed => true,
            Self::Broken(how) => how.contains("reset by peer"),
            Self::ByUs
            | Self::KeepAlive
            | Self::Protocol(_)
            | Self::TextNotUtf8
            | Self::Panicked => false,
        }
    }

    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::ByUs => "nothing".to_owned(),
            Self::TextNotUtf8 => TEXT_NOT_UTF8.to_owned(),
            Self::ByGateway(text) if text.starts_with(PROTOCOL_ERROR) => {
                "the agent reconnects by itself; if it recurs, the gateway's SSH server may object to how the SSH library \
                 answers requests that want no reply: ask the vendor to switch its global requests off"
                    .to_owned()
            }
            Self::ByGateway(_) | Self::Closed => {
                "the agent reconnects by itself; if it recurs, ask the vendor for the gateway's log at this time".to_owned()
            }
            Self::Broken(how) if how.contains("stalled") || how.contains("has not answered") => {
                "the agent reconnects by itself; if it recurs with larger answers or uploads while small requests pass, packets of full size are lost on the way: ask the network team about the path MTU (VPN, PPPoE, blocked ICMP), and test with: ping -M do -s 1400 GATEWAY".to_owned()
            }
            Self::KeepAlive | Self::Broken(_) => {
                "the agent reconnects by itself; if it recurs, ask the network team about idle or broken connections".to_owned()
            }
            Self::Protocol(_) | Self::Panicked => {
                "the agent reconnects by itself; if it recurs, send the log to the vendor".to_owned()
            }
        }
    }
}

/// A peer's text for a log line: printable, one line, at most [`MAX_PEER_TEXT`] characters.
pub(in crate::tunnel) fn printable(text: &str) -> String {
    crate::printable::printable(text, MAX_PEER_TEXT)
}

/// How russh names reason 2 of RFC 4253 §11.1.
const PROTOCOL_ERROR: &str = "ProtocolError";
const TEXT_NOT_UTF8: &str = "ask the vendor to write its texts for people in ASCII or UTF-8: OpenSSH's Banner file, the \
     messages of PAM (pam_nologin, pam_motd), and what it says when it closes or refuses";
/// Characters of a peer's text that are kept.
const MAX_PEER_TEXT: usize = 200;
