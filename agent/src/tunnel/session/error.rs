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

/// How soon another attempt is useful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryPace {
    /// It may succeed at any moment: back off by at most a few seconds.
    Soon,
    /// It was refused without a word, or the gateway went down at that moment: soon once, and then once a minute.
    Unclear,
    /// The gateway has asked for this wait.
    After(Duration),
    /// Someone must change something first: once a minute.
    Slow,
}

/// A step of opening a session, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOpenStep {
    /// Name resolution, TCP, the proxy, TLS.
    Connect,
    /// Waiting for the SSH banner.
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
    /// The gateway's name does not resolve.
    #[error("cannot resolve the gateway's name {host:?}: {problem}")]
    Resolve {
        /// The gateway's host name, as configured.
        host: String,
        /// The resolver's error.
        problem: String,
    },
    /// No address of the gateway accepted the connection.
    #[error("cannot connect to {gateway}: {}", join(failures))]
    Connect {
        /// The gateway as `host:port`.
        gateway: String,
        /// One per address tried.
        failures: Vec<ConnectFailure>,
    },
    /// The proxy cannot be reached, rejects the agent, or cannot reach the gateway.
    #[error(transparent)]
    Proxy(Box<ProxyError>),
    /// TLS with the gateway failed.
    #[error(transparent)]
    Tls(Box<GatewayTlsError>),
    /// The answer was not SSH.
    #[error("{gateway} does not speak SSH: it answered {answer:?}")]
    NotSsh {
        /// The gateway as `host:port`.
        gateway: String,
        /// Its first bytes, printable, at most one line.
        answer: String,
        /// What it seems to be.
        peer: UnexpectedPeer,
    },
    /// The gateway accepts no connection from this host's address for a while.
    #[error("{gateway} blocks the address of this host for a while: it answered {answer:?}")]
    AddressBarred {
        /// The gateway as `host:port`.
        gateway: String,
        /// The gateway's own words.
        answer: String,
    },
    /// The gateway has too many concurrent logins.
    #[error("{gateway} accepts no more logins for now: it answered {answer:?}")]
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
    /// The gateway rejected this key for this user.
    #[error("{gateway} refused the login of user {user:?} with {credential}: {problem}")]
    LoginRefused {
        /// The gateway as `host:port`.
        gateway: String,
        /// SSH user name that was refused.
        user: String,
        /// Fingerprint of the key, and the certificate if one was used.
        credential: String,
        /// The methods that the gateway offers or requires instead, and its own text.
        problem: String,
        /// Why the gateway refused the login.
        fault: LoginFault,
    },
    /// A text of the gateway's is not UTF-8, and russh ends the connection for that (docs/dev/ssh.md, D8).
    #[error(
        "{gateway} sent a text that is not UTF-8 during {step}, and the SSH library ends the connection for that"
    )]
    TextNotUtf8 {
        /// The gateway as `host:port`.
        gateway: String,
        /// The step in which the text was received.
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
    /// The connection ended before the session was open.
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
    /// The error of a connection to the gateway.
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

    /// How soon another attempt is useful.
    pub fn retry(&self) -> RetryPace {
        if let Some(hint) = self.retry_hint() {
            return RetryPace::After(hint);
        }
        match self {
            Self::LoginRefused { fault, .. } if fault.is_temporary() => RetryPace::Soon,
            Self::LoginRefused {
                fault: LoginFault::ClosedAfterKey,
                ..
            } => RetryPace::Unclear,
            Self::HostKey(_)
            | Self::LoginRefused { .. }
            | Self::KeyExchange { .. }
            | Self::TextNotUtf8 { .. }
            | Self::Identification { .. }
            | Self::AddressBarred { .. } => RetryPace::Slow,
            Self::Connect { .. } if self.is_not_tried() => RetryPace::Slow,
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

    /// The wait that the gateway's own words ask for.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "only these errors have words of the gateway"
    )]
    fn retry_hint(&self) -> Option<Duration> {
        match self {
            Self::GatewayFull { answer, .. } => retry_hint(answer),
            Self::LoginRefused { problem, .. } => retry_hint(problem),
            _ => None,
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

    /// The certificates that the gateway presented, if they are why TLS failed.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the others are treated alike"
    )]
    pub fn chain(&self) -> &[PresentedCertificate] {
        match self {
            Self::Tls(error) => &error.chain,
            _ => &[],
        }
    }

    /// Whether nothing was tried, because each remaining address has refused the agent a moment ago. What it refused is in an
    /// earlier error.
    pub fn is_not_tried(&self) -> bool {
        let Self::Connect { failures, .. } = self else {
            return false;
        };
        let mut kinds = failures.iter().map(|failure| failure.kind);
        kinds.all(|kind| kind == ConnectFailureKind::Barred)
    }

    /// Whether the gateway answered with an SSH banner.
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
                    "see what the gateway refused; the agent retries after a minute".to_owned()
                } else if only(&[ConnectFailureKind::Refused, ConnectFailureKind::Barred]) {
                    format!("nothing listens there: ask the vendor whether the gateway is up, and check its port; {test}")
                } else {
                    format!("ask the network team whether the firewall lets this host connect to {gateway}; {test}")
                }
            }
            Self::Proxy(error) => error.remedy(),
            Self::Tls(error) => error.remedy(),
            Self::NotSsh { peer: stranger, .. } => stranger.remedy().to_owned(),
            Self::AddressBarred { .. } => {
                "logins of this agent, or of another behind the same address, have failed (PerSourcePenalties, OpenSSH 9.8 or later). The block ends within minutes, and the agent retries once a minute. Ask the vendor which logins failed (sshd's log), and to add this address to PerSourcePenaltyExemptList".to_owned()
            }
            Self::GatewayFull { answer, .. } if retry_hint(answer).is_some() => {
                "none here: the agent connects again after the time that the gateway asked for".to_owned()
            }
            Self::GatewayFull { .. } => {
                "the agent retries; if it persists, ask the vendor to raise MaxStartups on the gateway, and PerSourceMaxStartups if many agents share one address".to_owned()
            }
            Self::KeyExchange { fault, .. } => fault.remedy().to_owned(),
            Self::HostKey(refused) => refused.remedy(),
            Self::TextNotUtf8 { .. } => TEXT_NOT_UTF8.to_owned(),
            Self::Identification { .. } => {
                "ask the vendor for a shorter one in ASCII (OpenSSH: VersionAddendum in sshd_config)".to_owned()
            }
            Self::LoginRefused { user, fault, .. } => fault.remedy(user),
            Self::Lost { step: SessionOpenStep::Banner, .. } => {
                "something accepts the connection and closes it: a firewall, a load balancer without a gateway, a full gateway (MaxStartups), or one that is starting or needs TLS (tls://); if it persists, ask the vendor".to_owned()
            }
            Self::Lost { step: SessionOpenStep::Connect, .. } => {
                "the connection was closed at once: ask the network team what closes it between this host and the gateway".to_owned()
            }
            Self::Lost { step: SessionOpenStep::KeyExchange, .. } => {
                "the connection ended between the banner and the login: ask the vendor for the gateway's log at this time; if that has nothing, ask the network team about firewalls that inspect SSH".to_owned()
            }
            Self::Lost { step: SessionOpenStep::Login, .. } => "if it persists, ask the vendor for the gateway's log at this time".to_owned(),
            Self::Timeout { step: SessionOpenStep::Connect | SessionOpenStep::Banner, .. } => {
                "ask the network team whether a firewall drops or inspects SSH; a gateway on port 443 or inside TLS (tls://) often helps".to_owned()
            }
            Self::Timeout { step: SessionOpenStep::KeyExchange, gateway, .. } => format!(
                "small packets pass and larger ones may not: ask the network team about the path MTU (VPN, PPPoE, blocked ICMP) and test with: {}; otherwise the gateway is slow: raise tunnel.login_timeout",
                mtu_test(gateway)
            ),
            Self::Timeout { step: SessionOpenStep::Login, .. } => {
                "the gateway is slow to decide (PAM, LDAP, DNS of this host's address with UseDNS): ask the vendor for its log, or raise tunnel.login_timeout".to_owned()
            }
        }
    }
}

/// A command that tests whether packets of the usual size reach `place`, a `host:port` and what may follow it.
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
    /// The connection was closed without SSH_MSG_DISCONNECT.
    #[error("the gateway closed the connection")]
    Closed,
    /// Keep-alives were not answered.
    #[error("the gateway has not answered keep-alives")]
    KeepAlive,
    /// The socket failed, or the stall timer ended it.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The gateway violated the protocol, or the library does not support what it sent.
    #[error("protocol error: {0}")]
    Protocol(String),
    /// A disconnect, a refusal or a banner was not UTF-8: russh ends the session for that (docs/dev/ssh.md, D8).
    #[error(
        "the gateway sent a text that is not UTF-8, and the SSH library ends the session for that"
    )]
    TextNotUtf8,
    /// A bug in the agent; the process continues.
    #[error("the session task panicked; please report this with the log")]
    Panicked,
}

impl SessionEnd {
    /// Whether the gateway, or a device before it, has ended the session.
    pub fn is_cut(&self) -> bool {
        match self {
            // A protocol error is no limit of a session's lifetime.
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

    /// The wait that the gateway asked for when it disconnected.
    pub fn retry_hint(&self) -> Option<Duration> {
        match self {
            Self::ByGateway(text) => retry_hint(text),
            Self::ByUs
            | Self::Closed
            | Self::KeepAlive
            | Self::Broken(_)
            | Self::Protocol(_)
            | Self::TextNotUtf8
            | Self::Panicked => None,
        }
    }

    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::ByUs => "nothing".to_owned(),
            Self::TextNotUtf8 => TEXT_NOT_UTF8.to_owned(),
            Self::ByGateway(text) if text.starts_with(PROTOCOL_ERROR) => {
                "the agent reconnects; if it recurs, the gateway's SSH server may object to how the SSH library answers requests \
                 that need no reply: ask the vendor to disable its global requests"
                    .to_owned()
            }
            Self::ByGateway(_) | Self::Closed => {
                "the agent reconnects; if it recurs, ask the vendor for the gateway's log at this time".to_owned()
            }
            Self::Broken(how) if how.contains("stalled") || how.contains("has not answered") => {
                "the agent reconnects; if it recurs with larger answers or uploads while small requests pass, packets of full size are lost: ask the network team about the path MTU (VPN, PPPoE, blocked ICMP), and test with: ping -M do -s 1400 GATEWAY".to_owned()
            }
            Self::KeepAlive | Self::Broken(_) => {
                "the agent reconnects; if it recurs, ask the network team about idle or broken connections".to_owned()
            }
            Self::Protocol(_) | Self::Panicked => {
                "the agent reconnects; if it recurs, send the log to the vendor".to_owned()
            }
        }
    }
}

/// The seconds of `retry-after: N` in a gateway's text, as in HTTP's header of that name (docs/vendor-guide.md).
pub(super) fn retry_hint(text: &str) -> Option<Duration> {
    let lower = text.to_ascii_lowercase();
    let (_, after) = lower.split_once(RETRY_AFTER)?;
    let digits = after.trim_start();
    let end = digits.find(|c: char| !c.is_ascii_digit());
    let seconds = digits.get(..end.unwrap_or(digits.len()))?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// A peer's text for a log line: printable, one line, at most [`MAX_PEER_TEXT`] characters.
pub(in crate::tunnel) fn printable(text: &str) -> String {
    crate::printable::printable(text, MAX_PEER_TEXT)
}

const RETRY_AFTER: &str = "retry-after:";
/// russh's name for reason 2 of RFC 4253 §11.1.
const PROTOCOL_ERROR: &str = "ProtocolError";
const TEXT_NOT_UTF8: &str = "ask the vendor to write its texts for people in ASCII or UTF-8: OpenSSH's Banner file, the \
     messages of PAM (pam_nologin, pam_motd), and its texts for refusals and disconnects";
/// Characters of a peer's text that are kept.
const MAX_PEER_TEXT: usize = 200;
