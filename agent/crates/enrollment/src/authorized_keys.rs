//! The line with which an OpenSSH server accepts the agent's key, and restricts it.

use agent_ssh::{
    address::BindAddress,
    bind_template::{BindTemplate, SlotRange},
};

/// The line for this public key in the vendor's authorized_keys file.
pub fn authorized_line(bind: &BindTemplate, slots: SlotRange, public: &str) -> String {
    format!("{} {public}", registered_options(bind, slots))
}

/// Options of this line, which permit only this forward. `restrict` does not forbid commands, so they are replaced by
/// one that does nothing (sshd(8)). A socket path is not restricted: permitlisten covers TCP only.
pub fn registered_options(bind: &BindTemplate, slots: SlotRange) -> String {
    let mut options = RESTRICTIONS.to_owned();
    for bind in bind.addresses(slots) {
        let BindAddress::Tcp { host, port } = bind else {
            continue;
        };
        let port = match port {
            0 => "*".to_owned(),
            port => port.to_string(),
        };
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host,
        };
        options += &format!(",permitlisten=\"{host}:{port}\"");
    }
    options
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
                "localhost:{8080+slot}",
                "restrict,port-forwarding,command=\"/bin/false\",permitlisten=\"localhost:8084\",permitlisten=\"localhost:8085\"",
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
            let slots = "4-5".parse().unwrap();
            assert_eq!(registered_options(&bind.parse().unwrap(), slots), options);
        }
    }
}
