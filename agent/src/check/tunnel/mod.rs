//! The tunnel, gateway by gateway: every hop to it, the login, the forwards, and a request that goes the vendor's way
//! and comes back.
//!
//! Hops are dialled by the code that dials for the agent ([`crate::tunnel`]), and named by the same words. Where the
//! agent runs, its own sessions are the truth about everything that takes a credential, and only what takes none is
//! tried anew (`running`); where it does not run, a session is opened, asked for the forwards, and given back (`standalone`);
//! before there is a configuration, the gateways of a token are reached as far as their host keys (`invited`).
//! A key or a proxy's password that was refused is not tried again, at no other gateway either.

mod hop_recorder;
mod invited;
mod probe_server;
mod round_trip;
mod running;
mod standalone;

pub use invited::Invited;
pub(super) use invited::check as invited;
pub(super) use running::check as live;
pub use running::{ForwardUnderTest, RunningAgent};
pub(super) use standalone::check as alone;

use crate::tunnel::{BindAddress, session::is_loopback};

/// What a granted forward shows: the gateway listens. Where, the protocol does not tell.
fn listens(bind: &BindAddress) -> String {
    match bind {
        BindAddress::Tcp { host, .. } if !is_loopback(host) => format!(
            "the gateway listens, asked for {bind}; OpenSSH goes by its GatewayPorts and may listen on 127.0.0.1 alone (ss -ltn there shows it)"
        ),
        _ => format!("the gateway listens, asked for {bind}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// GatewayPorts decides, and nobody is told of it (RFC 4254 §7.1).
    #[test]
    fn an_address_of_the_gateway_is_told_as_asked_for_and_not_as_a_fact() {
        let told = |bind: &str| listens(&bind.parse().unwrap());
        for bind in ["0.0.0.0:8080", "*:8080", "192.0.2.1:8080"] {
            let text = told(bind);
            assert!(text.contains(&format!("asked for {bind}; ")), "{text}");
            assert!(text.contains("GatewayPorts"), "{text}");
        }
        for bind in ["127.0.0.1:8080", "localhost:8080", "/run/jira.sock"] {
            assert_eq!(told(bind), format!("the gateway listens, asked for {bind}"));
        }
    }
}
