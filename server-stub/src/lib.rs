//! The vendor's side for tests and demos, as a library. The binary `server-stub` is a thin shell.
//!
//! | room | what lives there |
//! |---|---|
//! | [`jira`] | an imitation Jira Server / Data Center that really verifies every login |
//! | [`cloud`] | an imitation Jira Cloud: token service, API gateway, sites |
//! | [`gateway`] | an SSH server for many agents, and one HTTP listener in front of them |
//! | [`demo`] | the two of them joined with the real agent |
//! | [`certificate_authority`] | the certificate authority that the rooms above take their certificates from |
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
