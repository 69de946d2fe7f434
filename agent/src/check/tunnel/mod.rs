//! Tests the tunnel, gateway by gateway: every hop, the login, the forwards, and a request that takes the vendor's way.
//!
//! Hops are dialed by the code that dials for the agent ([`crate::tunnel`]), and have the same names. If the agent runs,
//! its own sessions show whatever needs a credential, and only the rest is tested separately (`running`). If it does not, a
//! session is opened, asked for the forwards, and closed (`standalone`). Before there is a configuration, the gateways of a
//! token are tested up to their host keys (`token_gateways`). A rejected key or proxy password is not tried at another gateway.

mod hop_recorder;
mod probe_server;
mod round_trip;
mod running;
mod standalone;
mod token_gateways;

pub(super) use running::check as check_running;
pub use running::{ForwardUnderTest, RunningAgent};
pub(super) use standalone::check as check_standalone;
pub use token_gateways::TokenGateways;
pub(super) use token_gateways::check as token_gateways;

use crate::tunnel::{BindAddress, session::is_loopback};

/// What a granted forward proves: the gateway listens. The protocol does not say on which address.
fn listens(bind: &BindAddress) -> String {
    match bind {
        BindAddress::Tcp { host, .. } if !is_loopback(host) => format!(
            "the gateway listens, asked for {bind}; depending on GatewayPorts, OpenSSH may listen on 127.0.0.1 only (check there: ss -ltn)"
        ),
        BindAddress::Tcp { .. } | BindAddress::Socket(_) => {
            format!("the gateway listens, asked for {bind}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// GatewayPorts decides, and the protocol does not report it (RFC 4254 §7.1).
    #[test]
    fn an_address_of_the_gateway_is_told_as_asked_for_and_not_as_a_fact() {
        let detail = |bind: &str| listens(&bind.parse().unwrap());
        for bind in ["0.0.0.0:8080", "*:8080", "192.0.2.1:8080"] {
            let text = detail(bind);
            assert!(text.contains(&format!("asked for {bind}; ")), "{text}");
            assert!(text.contains("GatewayPorts"), "{text}");
        }
        for bind in ["127.0.0.1:8080", "localhost:8080", "/run/jira.sock"] {
            assert_eq!(
                detail(bind),
                format!("the gateway listens, asked for {bind}")
            );
        }
    }
}
