//! Why a gateway does not listen for us. It never reports the reason; our bind address, user and certificate rule out most of
//! them.

use super::SessionEnd;
use crate::tunnel::BindAddress;
use russh::keys::Certificate;

/// A remote forward was not bound or not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// The gateway refused; the session is not affected.
    #[error("the gateway refuses to listen on {}{}", .0.bind, .0.known_cause())]
    Refused(Box<ForwardRefusal>),
    /// The session has ended, or was ended because it did not answer.
    #[error("{0}")]
    Lost(SessionEnd),
}

/// What we know of a refused forward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardRefusal {
    /// The requested bind address.
    pub bind: BindAddress,
    /// SSH user name of the session.
    pub user: String,
    /// The certificate that logged in does not permit forwards.
    pub certificate_forbids: bool,
}

impl ForwardRefusal {
    pub(super) fn new(bind: BindAddress, user: &str, certificate: Option<&Certificate>) -> Self {
        let permits = |certificate: &Certificate| {
            let mut extensions = certificate.extensions().iter();
            extensions.any(|(name, _)| name == PERMIT)
        };
        Self {
            bind,
            user: user.to_owned(),
            certificate_forbids: certificate.is_some_and(|certificate| !permits(certificate)),
        }
    }

    fn known_cause(&self) -> &'static str {
        match self.certificate_forbids {
            true => ": the user certificate that logs in does not permit port forwarding",
            false => "",
        }
    }

    fn remedy(&self) -> String {
        let Self { bind, user, .. } = self;
        if self.certificate_forbids {
            return "ask the vendor for a certificate with permit-port-forwarding (ssh-keygen -s CA -O clear omits it; add -O permit-port-forwarding), and replace the old one; the next connection uses it".to_owned();
        }
        let (host, port) = match bind {
            BindAddress::Socket(path) => {
                return format!(
                    "the gateway gives no reason. One of: a previous session has left the socket behind, where it stays unless the gateway has \
                     \"StreamLocalBindUnlink yes\"; sshd_config forbids it (AllowStreamLocalForwarding, DisableForwarding); authorized_keys has \
                     \"restrict\" without \"port-forwarding\"; or the user {user:?} may not write to the folder of {path}. \
                     The agent retries every few seconds"
                );
            }
            BindAddress::Tcp { host, port } => (host, *port),
        };
        let other = match host.as_str() {
            "localhost" => " (compared as text: 127.0.0.1 is not localhost)",
            "127.0.0.1" | "::1" => " (compared as text: localhost is not 127.0.0.1)",
            _ => "",
        };
        let privileged = match (port, user.as_str()) {
            (1..1024, name) if name != "root" => format!(
                "a port below 1024 needs root on the gateway, and the user is {user:?}: ask the vendor for a higher one; or "
            ),
            _ => String::new(),
        };
        format!(
            "the gateway gives no reason. One of: {privileged}the port is in use: by a session that was cut off, for half a minute, or under traffic for up to 16 minutes unless the gateway sets \
             net.ipv4.tcp_retries2 (a bind with {{slot}} does not wait for it), or by another program (on the gateway: ss -ltnp); sshd_config forbids it (it needs \"AllowTcpForwarding remote\", no \"DisableForwarding \
             yes\"); authorized_keys has \"restrict\" or \"no-port-forwarding\" without \"port-forwarding\"; or no PermitListen or permitlisten names \
             exactly {bind}{other}. The agent retries every few seconds; sshd's log has \"Server has disabled port forwarding\" or \"administratively \
             prohibited\" if it is not permitted"
        )
    }
}

impl ForwardError {
    /// What an administrator does about it.
    pub fn remedy(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.remedy(),
            Self::Lost(ended) => ended.remedy(),
        }
    }
}

/// PROTOCOL.certkeys, "Extensions".
const PERMIT: &str = "permit-port-forwarding";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn remedy(bind: &str, user: &str) -> String {
        ForwardRefusal::new(bind.parse().unwrap(), user, None).remedy()
    }

    #[test]
    fn what_we_know_ourselves_comes_first() {
        assert!(remedy("127.0.0.1:81", "acme").contains("below 1024"));
        assert!(!remedy("127.0.0.1:81", "root").contains("below 1024"));
        assert!(!remedy("127.0.0.1:8080", "acme").contains("below 1024"));
        assert!(!remedy("127.0.0.1:0", "acme").contains("below 1024"));
        assert!(remedy("127.0.0.1:8080", "acme").contains("localhost is not 127.0.0.1"));
        assert!(remedy("localhost:8080", "acme").contains("127.0.0.1 is not localhost"));
        assert!(remedy("/run/x.sock", "acme").contains("StreamLocalBindUnlink"));
        for bind in ["127.0.0.1:8080", "/run/x.sock"] {
            assert!(remedy(bind, "acme").contains("\"restrict\""), "{bind}");
            assert!(remedy(bind, "acme").contains("DisableForwarding"), "{bind}");
        }
    }
}
