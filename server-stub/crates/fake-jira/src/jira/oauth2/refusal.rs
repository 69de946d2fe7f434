//! Errors in the shape of RFC 6749 §5.2.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::json;

use crate::jira::response;

/// An error, sent to the client as JSON or, once its redirect URI is verified, by redirect.
#[derive(Debug)]
pub(super) struct OAuth2Error {
    pub status: StatusCode,
    pub error: &'static str,
    pub description: &'static str,
}

impl OAuth2Error {
    pub(super) fn bad(error: &'static str, description: &'static str) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            error,
            description,
        }
    }

    /// The request is not from a registered client.
    pub(super) fn client() -> Self {
        Self {
            status: StatusCode::UNAUTHORIZED,
            error: "invalid_client",
            description: "Invalid client credentials",
        }
    }

    /// Plain http where Jira requires https.
    pub(super) fn insecure() -> Self {
        Self::bad(
            "invalid_request",
            "Please ensure that your server is using HTTPS. OAuth 2.0 requires HTTPS for the base \
             URL and the redirect URI.",
        )
    }
}

impl IntoResponse for OAuth2Error {
    fn into_response(self) -> Response {
        response::json(
            self.status,
            &json!({ "error": self.error, "error_description": self.description }),
        )
    }
}
