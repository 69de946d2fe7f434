//! The agent's key, and the line with which an OpenSSH server accepts and restricts it.

use crate::tunnel::BindAddress;
use russh::keys::{
    PrivateKey,
    ssh_key::{self, LineEnding, private::Ed25519Keypair},
};
use zeroize::Zeroizing;

/// A new Ed25519 key in OpenSSH format: the private and the public key.
pub(super) fn generate(comment: &str) -> Result<(Zeroizing<String>, String), ssh_key::Error> {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(comment);
    let private = key.to_openssh(LineEnding::LF)?;
    Ok((private, key.public_key().to_openssh()?))
}

/// The line for this public key in the vendor's authorized_keys file.
pub fn authorized_line(bind: &BindAddress, public: &str) -> String {
    format!("{} {public}", registered_options(bind))
}

/// Options of this line, which permit only this forward. `restrict` does not forbid commands, so they are replaced by
/// one that does nothing (sshd(8)). A socket path is not restricted: permitlisten covers TCP only.
pub fn registered_options(bind: &BindAddress) -> String {
    match bind {
        BindAddress::Socket(_) => RESTRICTIONS.to_owned(),
        BindAddress::Tcp { host, port } => {
            let port = match port {
                0 => "*".to_owned(),
                port => port.to_string(),
            };
            let host = match host.contains(':') {
                true => format!("[{host}]"),
                false => host.clone(),
            };
            format!("{RESTRICTIONS},permitlisten=\"{host}:{port}\"")
        }
    }
}

const RESTRICTIONS: &str = "restrict,port-forwarding,command=\"/bin/false\"";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_line_permits_this_forward_and_nothing_else() {
        for (bind, options) in [
            (
                "127.0.0.1:8080",
                "restrict,port-forwarding,command=\"/bin/false\",permitlisten=\"127.0.0.1:8080\"",
            ),
            (
                "127.0.0.1:0",
                "restrict,port-forwarding,command=\"/bin/false\",permitlisten=\"127.0.0.1:*\"",
            ),
            (
                "[::1]:80",
                "restrict,port-forwarding,command=\"/bin/false\",permitlisten=\"[::1]:80\"",
            ),
            (
                "/run/acme/jira.sock",
                "restrict,port-forwarding,command=\"/bin/false\"",
            ),
        ] {
            assert_eq!(registered_options(&bind.parse().unwrap()), options);
        }
    }

    #[test]
    fn a_key_is_read_back_with_its_comment_and_no_two_are_alike() {
        let (private, public) = generate("jira-tunnel-agent acme").unwrap();
        let read = PrivateKey::from_openssh(&*private).unwrap();
        assert_eq!(read.public_key().to_openssh().unwrap(), public);
        assert!(public.ends_with(" jira-tunnel-agent acme"), "{public}");
        assert_ne!(generate("").unwrap().1, generate("").unwrap().1);
    }
}
