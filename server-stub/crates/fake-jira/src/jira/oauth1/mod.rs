//! The OAuth 1.0a provider of application links (RFC 5849, RSA-SHA1 only).
//!
//! | module | what it holds |
//! |---|---|
//! | `settings` | the consumers |
//! | `message` | what was signed, and over which URL |
//! | `verify` | whether a signed request is valid |
//! | `tokens` | the tokens that were issued |
//! | `servlet`, `authorize` | the endpoints |
//! | `problem` | the errors |
//!
//! `login/oauth1.rs` authenticates requests by these signatures.

mod authorize;
mod message;
mod problem;
mod servlet;
mod settings;
mod tokens;
mod verify;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};

pub(super) use message::{OAuth1Message, escape};
pub(super) use problem::OAuth1Problem;
pub use settings::{OAuth1Consumer, OAuth1Settings, PublicKeyError};
pub(super) use tokens::OAuth1Store;
pub(super) use verify::verify_access;

use super::state::JiraState;

/// The endpoints, relative to [`PREFIX`].
pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new()
        .route("/request-token", post(servlet::request_token))
        .route("/access-token", post(servlet::access_token))
        .route(
            "/authorize",
            get(authorize::show_consent).post(authorize::decide),
        )
}

/// Path prefix of the OAuth 1.0a endpoints.
pub(super) const PREFIX: &str = "/plugins/servlet/oauth";
