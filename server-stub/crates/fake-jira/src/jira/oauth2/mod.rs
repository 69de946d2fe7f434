//! The OAuth 2.0 provider of Jira Data Center 8.22 and later (RFC 6749, RFC 7636, RFC 7009).
//!
//! | module | what it holds |
//! |---|---|
//! | `settings` | clients and lifetimes |
//! | `scope` | what a token may do |
//! | `grants` | the codes and tokens that were issued, without HTTP |
//! | `authorize`, `token` | the endpoints |
//! | `refusal` | the errors |
//!
//! `login/oauth2.rs` authenticates requests by these tokens.

mod authorize;
mod grants;
mod refusal;
mod scope;
mod settings;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::{get, post};
use serde_json::json;

pub use grants::OAuth2Counts;
pub(in crate::jira) use grants::OAuth2Grants;
pub use scope::OAuth2Scope;
pub use settings::{HttpsRule, OAuth2Client, OAuth2Settings};

use super::response;
use super::state::JiraState;

/// The endpoints, relative to `/rest/oauth2/latest` and `/rest/oauth2/1.0`.
pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new()
        .route(
            "/authorize",
            get(authorize::show_consent).post(authorize::decide),
        )
        .route("/token", post(token::token))
        .route("/revoke", post(token::revoke))
        .route("/.well-known/oauth-authorization-server", get(metadata))
}

/// The server metadata of RFC 8414.
async fn metadata(State(shared): State<Arc<JiraState>>) -> Response {
    let at = |name: &str| format!("{}/rest/oauth2/latest/{name}", shared.base_url);
    response::ok(&json!({
        "issuer": shared.base_url,
        "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"),
        "revocation_endpoint": at("revoke"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token", "client_credentials"],
        "token_endpoint_auth_methods_supported": ["client_secret_post"],
        "code_challenge_methods_supported": ["S256", "plain"],
        "scopes_supported": OAuth2Scope::ALL.map(OAuth2Scope::name),
    }))
}
