//! `oauth2`: Jira's own provider (Data Center 8.22 and later) and Atlassian's Cloud (3LO).
//!
//! `settings` says who issues the tokens, `authorize` makes the address that a person opens, `endpoint`
//! speaks with the token endpoint, `refresh` exchanges stored tokens for the next ones. `scheme` gives each
//! request its header: what it holds is a `state`, which `token_files` compares with the files and `refresh_task` renews
//! ahead of its end.

mod accessible_resources;
mod authorize;
mod endpoint;
mod refresh;
mod refresh_task;
mod scheme;
mod settings;
mod state;
mod token_files;

pub use accessible_resources::{SiteAccessError, check_site_access};
pub use authorize::AuthorizationRequest;
pub use endpoint::{OAuth2Endpoints, OAuth2Error};
pub use refresh::{logged_in, other_owner, refresh};
pub use scheme::OAuth2Scheme;
pub use settings::{GrantType, Settings, TokenIssuer};

#[cfg(test)]
mod tests;
