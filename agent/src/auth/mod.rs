//! How requests are authenticated to Jira: the vendor's own credential untouched, or ours in its place.
//!
//! One file per mode. The injecting modes share the rest: `strip` removes the vendor's identity, `circuit` stops a rejected
//! credential from being tried again, `identity` reads from Jira's answer which user it identified, `cached_file` and
//! `token_cache` hold secrets and tokens, `rotation` exchanges stored tokens so that no crash loses them unnoticed,
//! `inject` joins them around an [`AuthScheme`]. A new injecting mode is one new file with a scheme, its [`Settings`], and
//! a line in [`UpstreamAuth::new`]. Sends nothing of the vendor's itself, and knows no policy.

mod api_token;
mod basic;
mod cached_file;
mod circuit;
mod credential;
mod form;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_properties;
mod header_fields;
mod identity;
mod inject;
mod lockout_guard;
mod login;
pub mod oauth1;
pub mod oauth2;
mod pass_through;
mod pat;
mod refusal;
mod rotation;
#[cfg(test)]
mod rotation_model;
mod scheme;
mod service_identity;
mod settings;
mod shared_read;
mod strip;
mod token_cache;
mod upstream_cookies;
mod vendor_headers;

pub(crate) use credential::bearer;
pub use form::{FormBody, MAX_FORM};
pub use header_fields::may_carry_credential;
pub(crate) use identity::lacks_scope;
pub(crate) use inject::UserDisplayName;
pub use login::{AuthAttempt, AuthVerdict, ProbeNeed, UpstreamAuth};
pub use refusal::AuthRefusal;
pub use rotation::{OldToken, RefreshOutcome};
pub use scheme::{
    AuthRejection, AuthScheme, Concern, CredentialUnavailable, RejectedPart, RequestCredential,
};
pub use settings::{HeaderField, Settings};
pub use vendor_headers::{HeaderClass, RemovedHeaders, VendorHeaders};

use crate::profile::ServiceProfile;
use http::request;

/// Whether these settings refuse the query. The running path checks the same, and the form as well.
pub fn check_query(
    settings: &Settings,
    profile: &ServiceProfile,
    head: &request::Parts,
) -> Result<(), AuthRefusal> {
    match settings {
        Settings::PassThrough => Ok(()),
        Settings::OAuth1(_) => {
            strip::check_query(head, profile)?;
            oauth1::check_query(head)
        }
        Settings::Basic { .. }
        | Settings::ApiToken { .. }
        | Settings::Pat { .. }
        | Settings::Header { .. }
        | Settings::OAuth2(_) => strip::check_query(head, profile),
    }
}

#[cfg(test)]
mod tests;
