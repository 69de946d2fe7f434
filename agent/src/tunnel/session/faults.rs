//! The exact fault within a step of opening a session, with one remedy each.

/// What answered instead of SSH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnexpectedPeer {
    /// A web server or an HTTP proxy.
    Http,
    /// A TLS server, or a device that intercepts TLS.
    Tls,
    /// SSH version 1 only.
    OldSsh,
    /// An SSH banner that is invalid by RFC 4253 §4.2.
    InvalidBanner,
    /// Any other answer that is not SSH.
    Other,
}

impl UnexpectedPeer {
    /// What an administrator does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Http => {
                "a web server or a proxy answers at that port: check host and port in tunnel.gateways with the vendor; if the company's proxy answers for every host, name it in tunnel.proxy"
            }
            Self::Tls => {
                "the port speaks TLS: write the gateway as tls://host:port in tunnel.gateways if the vendor offers SSH inside TLS, else ask the vendor for the port of SSH"
            }
            Self::OldSsh => {
                "the server has no SSH version 2 (RFC 4253): ask the vendor for the right host and port, or for a newer server"
            }
            Self::InvalidBanner => {
                "ask the vendor for a banner by RFC 4253 §4.2: SSH-2.0-…, at most 255 characters (on OpenSSH a shorter VersionAddendum)"
            }
            Self::Other => {
                "another service or a firewall answers at that port: check host and port in tunnel.gateways with the vendor"
            }
        }
    }
}

/// What broke a key exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyExchangeFault {
    /// No key exchange algorithm in common.
    Exchange,
    /// No type of host key in common.
    HostKeyType,
    /// No cipher in common.
    Cipher,
    /// No MAC in common.
    Mac,
    /// The gateway requires compression.
    Compression,
    /// An unsupported version in the banner, or a banner that is too long.
    Version,
    /// Text was received instead of packets.
    Text,
    /// Bytes were changed, lost or added between the gateway and this host.
    Damaged,
    /// Any other failure of the key exchange.
    Other,
}

impl KeyExchangeFault {
    /// What an administrator does about it.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Exchange => {
                "ask the vendor to add curve25519-sha256 to KexAlgorithms on the gateway (OpenSSH 7.4 or later has it by default)"
            }
            Self::HostKeyType => {
                "ask the vendor for an Ed25519, ECDSA or RSA host key with SHA-2 signatures: ssh-ed25519 or rsa-sha2-512 in HostKeyAlgorithms on the gateway; ssh-rsa alone signs with SHA-1, which is not safe"
            }
            Self::Cipher => {
                "ask the vendor to add aes128-gcm@openssh.com or aes256-ctr to Ciphers on the gateway"
            }
            Self::Mac => {
                "ask the vendor to add hmac-sha2-256-etm@openssh.com to MACs on the gateway, or an AES-GCM cipher, which needs none"
            }
            Self::Compression => "ask the vendor to allow sessions without compression",
            Self::Version => {
                "the gateway's banner has an unsupported version or more than 255 characters (RFC 4253 §4.2): ask the vendor for SSH version 2, and on OpenSSH for a shorter VersionAddendum"
            }
            Self::Text => {
                "something adds bytes to the connection, often the PROXY protocol, which sshd does not support: ask the vendor to remove send-proxy (HAProxy) or proxy_protocol (a cloud's load balancer) before the gateway"
            }
            Self::Damaged => {
                "bytes were changed in transit: ask the network team what inspects or rewrites SSH between this host and the gateway; a gateway inside TLS (tls://) often helps"
            }
            Self::Other => {
                "ask the vendor for the gateway's log at this time, which has the reason"
            }
        }
    }
}

/// Why a gateway refused the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFault {
    /// It does not accept this key for this user, and gives no reason.
    NotAccepted,
    /// It accepts no public keys from this user; the methods that it offers.
    NoPublicKeys(String),
    /// It accepted the key and requires another factor; which one.
    PartialSuccess(String),
    /// It closed the connection because too many keys were offered.
    TooManyFailures,
    /// It closed the connection once the key was offered.
    ClosedAfterKey,
    /// It accepts RSA signatures with SHA-1 only.
    Sha1Only,
    /// It refuses all logins for a while by its own text: it is starting, stopping or in maintenance.
    TemporarilyRefused,
    /// The user certificate has a visible problem; the remedy for it.
    Certificate(String),
}

impl LoginFault {
    /// Whether the fault is temporary.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::TemporarilyRefused)
    }

    /// What an administrator does about it.
    pub fn remedy(&self, user: &str) -> String {
        match self {
            Self::NotAccepted => format!(
                "ask the vendor to authorize this key for the user {user:?} (authorized_keys, or a certificate that \
                 names the user and has not expired); the gateway's log shows why it refused"
            ),
            Self::NoPublicKeys(offered) => format!(
                "the gateway accepts no public keys from the user {user:?} (it offers {offered}): ask the vendor for \
                 \"PubkeyAuthentication yes\" for this user, and whether the user exists"
            ),
            Self::PartialSuccess(more) => format!(
                "a service cannot give a second factor ({more}): ask the vendor for \"AuthenticationMethods publickey\" \
                 for the user {user:?}"
            ),
            Self::TooManyFailures => format!(
                "the key is not authorized for the user {user:?}, and the gateway allows few attempts in one connection \
                 (MaxAuthTries; a certificate and its key count as two): ask the vendor to authorize the key, and to \
                 raise MaxAuthTries to at least 3 if a certificate is used"
            ),
            Self::ClosedAfterKey => format!(
                "the gateway closes the connection without a reason, as PAM does (an account that has expired or is \
                 locked, a password that must be changed, pam_nologin, pam_access) or a broken home folder: ask \
                 the vendor for its log about the user {user:?} at this time"
            ),
            Self::Sha1Only => {
                "ask the vendor to authorize an Ed25519 key (ssh-keygen -t ed25519), or for OpenSSH 7.8 or later, which accepts RSA with SHA-2".to_owned()
            }
            Self::TemporarilyRefused => {
                "the gateway is starting, stopping or in maintenance; the agent retries".to_owned()
            }
            Self::Certificate(remedy) => remedy.clone(),
        }
    }
}

/// Whether a gateway's text means that it refuses all logins for a while: texts of systemd and shutdown, and common ones in
/// /etc/nologin.
pub(super) fn refuses_all_logins(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    TEMPORARY_TEXTS.iter().any(|known| text.contains(known))
}

const TEMPORARY_TEXTS: [&str; 6] = [
    "booting up",
    "going down",
    "shutting down",
    "being shut down",
    "pam_nologin",
    "maintenance",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_starts_is_told_from_an_account_that_has_ended() {
        assert!(refuses_all_logins(
            "System is booting up. Unprivileged users are not permitted to log in yet."
        ));
        assert!(refuses_all_logins("Maintenance until noon"));
        assert!(!refuses_all_logins(
            "Your account has expired; please contact your system administrator."
        ));
        assert!(!refuses_all_logins("Authorised use only."));
    }
}
