//! Who the request is toward Jira: the vendor's own credential untouched, or ours put in its place.
//!
//! One file per mode. What is common to the injecting modes is written once: `strip` takes the
//! vendor's identity away, `circuit` stops a refused login from being tried again, `identity`
//! reads from Jira's answer whom it took us for, `rotation` exchanges stored tokens so that no crash
//! loses them unseen, `inject` joins them around a [`AuthScheme`]. A new injecting mode is one new file with
//! a `Scheme`, its [`Settings`], and a line in [`UpstreamAuth::new`].

mod api_token;
mod basic;
mod cached_file;
mod circuit;
mod credential;
mod form;
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
mod scheme;
mod settings;
mod shared_read;
mod strip;
mod token_cache;
mod upstream_cookies;
mod vendor_headers;

pub(crate) use credential::bearer;
pub use form::{FormBody, MAX_FORM};
pub(crate) use inject::UserDisplayName;
pub use login::{AuthAttempt, AuthVerdict, ProbeNeed, UpstreamAuth};
pub use refusal::AuthRefusal;
pub use rotation::{OldToken, RefreshOutcome};
pub use scheme::{
    AuthRejection, AuthScheme, Concern, CredentialUnavailable, RejectedPart, RequestCredential,
};
pub use settings::Settings;
pub use vendor_headers::{HeaderClass, RemovedHeaders, VendorHeaders};

use http::request;

/// What a login by these settings makes of the query alone; the running path asks the same, and looks at the form too.
pub fn check_query(settings: &Settings, head: &request::Parts) -> Result<(), AuthRefusal> {
    match settings {
        Settings::PassThrough => Ok(()),
        Settings::OAuth1(_) => {
            strip::check_query(head)?;
            oauth1::check_query(head)
        }
        _ => strip::check_query(head),
    }
}

#[cfg(test)]
mod tests;
