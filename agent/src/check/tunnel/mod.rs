//! The tunnel, gateway by gateway: every hop to it, the login, the forwards, and a request that goes the vendor's way
//! and comes back.
//!
//! Hops are dialled by the code that dials for the agent ([`crate::tunnel`]), and named by the same words. Where the
//! agent runs, its own sessions are the truth about everything that takes a credential, and only what takes none is
//! tried anew (`live`); where it does not run, a session is opened, asked for the forwards, and given back (`alone`);
//! before there is a configuration, the gateways of a token are reached as far as their host keys (`invited`).
//! A key or a proxy's password that was refused is not tried again, at no other gateway either.

mod alone;
mod invited;
mod live;
mod round_trip;
mod stand_in;
mod trace;

pub(super) use alone::check as alone;
pub use invited::Invited;
pub(super) use invited::check as invited;
pub(super) use live::check as live;
pub use live::{Lane, Live};

use crate::tunnel::{Bind, session::is_loopback};

/// What a granted forward shows: the gateway listens. Where, the protocol does not tell.
fn listens(bind: &Bind) -> String {
    match bind {
        Bind::Tcp { host, .. } if !is_loopback(host) => format!(
            "the gateway listens, asked for {bind}; OpenSSH goes by its GatewayPorts and may listen on 127.0.0.1 alone (ss -ltn there shows it)"
        ),
        _ => format!("the gateway listens, asked for {bind}"),
    }
}
