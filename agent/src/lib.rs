//! The on-prem side of the tunnel, as a library. The binary `agent` is a thin shell around it.
//!
//! A request meets these rooms in this order. `http/exchange/` is the hub: it asks policy, auth and upstream in turn and
//! keeps the audit record open until the last byte (docs/dev/architecture.md, "One request"):
//!
//! | room | what it knows |
//! |---|---|
//! | [`tunnel`] | SSH: transport, session, channels, remote forwards. Knows no HTTP. |
//! | [`http`] | one HTTP server per channel and the path of one request. Calls no Jira itself. |
//! | [`policy`] | raw request target → one normal form or a refusal → first matching rule |
//! | [`auth`] | the vendor's credential passed through, or stripped and ours put in |
//! | [`upstream`] | pooled connections to Jira, streaming both ways |
//! | [`audit`] | one record per request, allowed or refused |
//!
//! Beside the path: [`support_bundle`], [`config`], [`supervisor`], [`status`], [`health`], [`control`], [`check`],
//! [`enroll`], [`expiry`], [`metrics`], [`outlet`], [`pause`], [`profile`], [`telemetry`], [`tokens`], [`verify`], [`cli`].
//! [`service`] joins the rooms into the running agent.
//!
//! Crates of their own (`agent/crates/`): [`policy`]; `agent-ssh` (transport and channel of [`tunnel`], host keys,
//! addresses); `agent-enrollment` (the token of [`enroll`]); and `agent-base`, which all use: [`accounts`], [`backoff`],
//! [`disk`], [`printable`], [`secret`], [`vendor_text`], `plain_file`, `spelling`. A room imports rooms of lower layers only
//! (`tools/check-rooms`).
#![forbid(unsafe_code)]

pub mod audit;
pub mod auth;
pub mod check;
pub mod cli;
pub mod config;
pub mod control;
pub mod enroll;
pub mod expiry;
#[cfg(fuzzing)]
pub mod fuzz_properties;
pub mod health;
pub mod http;
pub mod metrics;
pub mod outlet;
pub mod pause;
pub mod profile;
pub mod service;
pub mod status;
pub mod supervisor;
pub mod support_bundle;
pub mod telemetry;
pub mod tokens;
pub mod tunnel;
pub mod upstream;
pub mod verify;

pub use agent_base::{accounts, backoff, disk, printable, secret, vendor_text};
use agent_base::{descriptors, plain_file, spelling};
pub use agent_policy as policy;
