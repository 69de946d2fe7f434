//! What the agent and a gateway need around russh: the byte stream below a session, its channels above, algorithms, host
//! keys and addresses. It knows neither HTTP nor Jira, and opens no connection.
//!
//! | module | what it holds |
//! |---|---|
//! | [`transport`] | below russh: writes never wait, a stalled link is noticed |
//! | [`channel`] | above russh: a slow reader never blocks its session |
//! | [`liveness`] | whether a session is alive |
//! | [`algorithms`] | which algorithms are offered |
//! | [`address`], [`bind_template`] | addresses of gateways, and of what they listen on |
//! | [`host_key`], `known_hosts` | which gateways are trusted |
//! | [`certificate_time`] | times in OpenSSH certificates |
#![forbid(unsafe_code)]

pub mod address;
pub mod algorithms;
pub mod bind_template;
pub mod certificate_time;
pub mod channel;
#[cfg(any(test, fuzzing))]
pub mod fuzz_properties;
pub mod host_key;
mod known_hosts;
pub mod liveness;
pub mod transport;

pub use known_hosts::SkippedLine;
