//! The gateway against OpenSSH's own client.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod http;
mod reconnect;
mod ssh;
mod support;
mod twins;
