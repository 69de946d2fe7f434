//! A changed configuration is taken over while the vendor's requests go on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod forwards;
mod refused;
mod secrets;
mod sessions;
