//! The OAuth 1.0a provider of application links (RFC 5849; RSA-SHA1 alone): `settings` names the
//! consumers, `message` reads what was signed and over which URL, `verify` judges it, `tokens` holds
//! what was issued, `servlet` and `authorize` are the endpoints, `problem` how they refuse. Which
//! request is logged in by such a signature is decided by `login/oauth1.rs`.

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

pub(super) use message::OAuth1Message;
pub(super) use problem::OAuth1Problem;
pub use settings::{OAuth1Consumer, OAuth1Settings, PublicKeyError};
pub(super) use tokens::OAuth1Store;
pub(super) use verify::verify_access;

use super::state::JiraState;

/// Below [`PREFIX`].
pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new()
        .route("/request-token", post(servlet::request_token))
        .route("/access-token", post(servlet::access_token))
        .route("/authorize", get(authorize::show_consent).post(authorize::decide))
}

/// Where the dance takes place; everything else is a resource.
pub(super) const PREFIX: &str = "/plugins/servlet/oauth";
