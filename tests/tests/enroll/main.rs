//! `agent enroll` on real parts: from the vendor's token to a ticket, bad tokens, and interruptions.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod again;
mod canary;
mod firewall;
mod killed;
mod openssh;
mod stub;
mod terminal;
mod tokens;
