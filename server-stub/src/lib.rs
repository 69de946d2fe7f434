//! The vendor's side for tests and demos, as a library. The binary `server-stub` is a thin shell.
//!
//! | module | what it holds |
//! |---|---|
//! | [`jira`], [`cloud`], [`certificate_authority`] | the imitations, from the crate `fake-jira` |
//! | [`gateway`] | an SSH server for many agents with one HTTP listener in front of them, the crate `stub-gateway` |
//! | [`demo`] | Jira and the gateway joined with the real agent |
//! | [`receiver`] | the vendor's receiver of events |
//! | [`cli`] | one file per subcommand |
#![forbid(unsafe_code)]

pub mod cli;
pub mod demo;
mod output;
pub mod receiver;

pub use fake_jira::{certificate_authority, cloud, jira};
pub use stub_gateway as gateway;
