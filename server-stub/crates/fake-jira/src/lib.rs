//! Imitations of Jira Server / Data Center and of Jira Cloud. They know HTTP and Jira, and neither SSH nor the agent.
//!
//! | module | what it holds |
//! |---|---|
//! | [`jira`] | an imitation Jira Server / Data Center that verifies every credential |
//! | [`cloud`] | an imitation Jira Cloud: token service, API gateway, sites |
//! | [`certificate_authority`] | the CA that signs the certificates of both |
#![forbid(unsafe_code)]

pub mod certificate_authority;
pub mod cloud;
mod consent;
pub mod jira;
mod token_store;
