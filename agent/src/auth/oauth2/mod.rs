//! `oauth2`: Jira's own provider (Data Center 8.22 and later) and Atlassian's Cloud (3LO).
//!
//! `settings` says who issues the tokens, `authorize` makes the address that a person opens, `endpoint`
//! speaks with the token endpoint, `renewal` exchanges stored tokens for the next ones. `scheme` gives each
//! request its header: what it holds is a `state`, which `look` compares with the files and `renewing` renews
//! ahead of its end.

mod authorize;
mod endpoint;
mod look;
mod reach;
mod renewal;
mod renewing;
mod scheme;
mod settings;
mod state;

pub use authorize::Request;
pub use endpoint::{Endpoint, TokenError};
pub use reach::{Unreached, reaches};
pub use renewal::{foreign, logged_in, renew};
pub use scheme::OAuth2;
pub use settings::{Grant, Provider, Settings};

#[cfg(test)]
mod tests;
