//! `oauth2`: Jira's own provider (Data Center 8.22 and later) and Atlassian's Cloud (3LO).
//!
//! `settings` names the issuer of the tokens, `authorize` makes the address that a person opens, `endpoint` speaks
//! to the token endpoint, `granted_scopes` reads what a token may do, `refresh` exchanges stored tokens for the next
//! ones, `token_provider` does so for the token cache, `scheme` gives each request its header.

mod accessible_resources;
mod authorize;
mod endpoint;
mod granted_scopes;
mod refresh;
mod scheme;
mod settings;
mod token_provider;

pub use accessible_resources::{SiteAccessError, check_site_access};
pub use authorize::AuthorizationRequest;
#[cfg(any(test, fuzzing))]
pub(super) use endpoint::fuzz_properties as endpoint_fuzz_properties;
pub use endpoint::{OAuth2Endpoints, OAuth2Error};
pub use refresh::{logged_in, other_owner, refresh};
pub use scheme::OAuth2Scheme;
pub use settings::{GrantType, Settings, TokenIssuer};

#[cfg(test)]
mod tests;
