//! What exactly went wrong within a step of opening a session, and what an administrator does about exactly that.

/// What answered where SSH was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnexpectedPeer {
    /// A web server or an HTTP proxy.
    Http,
    /// A TLS server, or something that opens TLS.
    Tls,
    /// SSH version 1 only.
    OldSsh,
    /// An SSH banner that RFC 4253 §4.2 does not have.
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
                "the server has no SSH version 2 (RFC 4253): ask the vendor for the right host and port, or for a server of this century"
            }
            Self::InvalidBanner => {
                "ask the vendor for a banner as RFC 4253 §4.2 has it: SSH-2.0-…, at most 255 characters (on OpenSSH a shorter VersionAddendum)"
            }
            Self::Other => {
                "another service answers at that port, or a firewall in between: check host and port in tunnel.gateways with the vendor"
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
    /// Compression is asked for.
    Compression,
    /// A banner of another version, or one that is too long.
    Version,
    /// Text came where packets were expected.
    Text,
    /// Bytes were changed, lost or added on the way.
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
                "the gateway's banner is of no version that the agent has, or longer than 255 characters (RFC 4253 §4.2): ask the vendor for SSH version 2, and on OpenSSH for a shorter VersionAddendum"
            }
            Self::Text => {
                "something between adds bytes of its own to the connection, often the PROXY protocol, which sshd does not know: ask the vendor to remove send-proxy (HAProxy) or proxy_protocol (a cloud's balancer) before the gateway"
            }
            Self::Damaged => {
                "bytes were changed on the way: ask the network team what between this host and the gateway inspects or rewrites SSH; a gateway inside TLS (tls://) often helps"
            }
            Self::Other => {
                "ask the vendor for the gateway's log at this time; it names what it did not like"
            }
        }
    }
}

/// Why a gateway did not let us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFault {
    /// It does not take this key for this user, and says no more.
    NotAccepted,
    /// It takes no public keys from this user; what it offers.
    NoPublicKeys(String),
    /// It took the key and wants another factor as well; which.
    PartialSuccess(String),
    /// It ended the connection for the number of keys that were offered.
    TooManyFailures,
    /// It ended the connection once the key was offered.
    ClosedAfterKey,
    /// It takes RSA signatures with SHA-1 only.
    Sha1Only,
    /// It refuses all logins for a while, by its own words: it starts, stops or is being maintained.
    TemporarilyRefused,
    /// What is visibly wrong with the certificate that we hold, and what to do about it.
    Certificate(String),
}

impl LoginFault {
    /// Whether it passes by itself.
    pub(super) fn is_temporary(&self) -> bool {
        matches!(self, Self::TemporarilyRefused)
    }

    /// What an administrator does about it.
    pub fn remedy(&self, user: &str) -> String {
        match self {
            Self::NotAccepted => format!(
                "ask the vendor to authorise this key for the user {user:?} (authorized_keys, or a certificate that \
                 names the user and has not expired); the gateway's log says why it refused"
            ),
            Self::NoPublicKeys(offered) => format!(
                "the gateway takes no public keys from the user {user:?} (it offers {offered}): ask the vendor for \
                 \"PubkeyAuthentication yes\" for this user, and whether the user exists"
            ),
            Self::PartialSuccess(more) => format!(
                "a service cannot give a second factor ({more}): ask the vendor for \"AuthenticationMethods publickey\" \
                 for the user {user:?}"
            ),
            Self::TooManyFailures => format!(
                "the key is not authorised for the user {user:?}, and the gateway allows few tries in one connection \
                 (MaxAuthTries; a certificate and its key count as two): ask the vendor to authorise the key, and to \
                 raise MaxAuthTries to 3 at least where a certificate is used"
            ),
            Self::ClosedAfterKey => format!(
                "the gateway ends the login without a word, which is what PAM (an account that has expired or is \
                 locked, a password that must be changed, pam_nologin, pam_access) and a broken home folder do: ask \
                 the vendor for its log about the user {user:?} at this time"
            ),
            Self::Sha1Only => {
                "ask the vendor to authorise an Ed25519 key (ssh-keygen -t ed25519), or for OpenSSH 7.8 or later, which takes RSA with SHA-2".to_owned()
            }
            Self::TemporarilyRefused => {
                "it passes by itself once the gateway has started, or its maintenance is over; the agent tries again".to_owned()
            }
            Self::Certificate(remedy) => remedy.clone(),
        }
    }
}

/// Whether the words of a gateway say that it refuses everybody for a while: systemd's and shutdown's own, and what people
/// write into /etc/nologin.
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
