//! The gate for every version of russh: seven defects of 0.65.1, each with tests that fail without its workaround
//! (`docs/dev/ssh.md` says how to disable it, and which test belongs to it). Each test runs alone in its own process,
//! see `.config/nextest.toml`.
#![forbid(unsafe_code)]

mod common;
mod d1_stalled_channels;
mod d2_two_way_load;
mod d3_rekeys;
mod d4_closing;
mod d5_dead_peers;
mod d6_early_answers;
mod d7_empty_data;
mod plain;
