//! `agent enroll` on real parts: by the vendor's token to a ticket, and whatever is wrong with a token or comes between.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod again;
mod canary;
mod firewall;
mod killed;
mod openssh;
mod stub;
mod terminal;
mod tokens;
