//! `oauth2`: Jira's own provider (Data Center 8.22 and later) and Atlassian's Cloud (3LO).
//!
//! `settings` says who issues the tokens, `authorize` makes the address that a person opens, `endpoint`
//! speaks with the token endpoint, `renewal` is the one order of steps by which tokens are renewed so
//! that no crash loses them unseen, `scheme` gives each request its header and has the tokens renewed
//! ahead of their end.

mod authorize;
mod endpoint;
mod reach;
mod renewal;
mod scheme;
mod settings;

pub use authorize::Request;
pub use endpoint::{Endpoint, Spent, TokenError};
pub use reach::{Unreached, reaches};
pub use renewal::{Renewal, foreign, logged_in, renew};
pub use scheme::OAuth2;
pub use settings::{Grant, Provider, Settings};

#[cfg(test)]
mod tests;
