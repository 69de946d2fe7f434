//! The line with which an OpenSSH server accepts the agent's key, and restricts it.

use agent_ssh::address::BindAddress;

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
}
