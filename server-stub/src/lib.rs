//! The vendor's side for tests and demos, as a library. The binary `server-stub` is a thin shell.
//!
//! | module | what it holds |
//! |---|---|
//! | [`jira`] | an imitation Jira Server / Data Center that verifies every credential |
//! | [`cloud`] | an imitation Jira Cloud: token service, API gateway, sites |
//! | [`gateway`] | an SSH server for many agents, and one HTTP listener in front of them |
//! | [`demo`] | Jira and the gateway joined with the real agent |
//! | [`certificate_authority`] | the CA that signs the certificates of the imitations |
//! | [`cli`] | one file per subcommand |
#![forbid(unsafe_code)]

pub mod certificate_authority;
pub mod cli;
pub mod cloud;
mod consent;
pub mod demo;
pub mod gateway;
pub mod jira;
mod output;
mod token_store;
