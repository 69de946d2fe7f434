//! A reload applies a changed configuration while the vendor's requests continue.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod forwards;
mod refused;
mod secrets;
mod sessions;
