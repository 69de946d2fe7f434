//! Extractors of the resources: the user, the parameters of the query, a JSON object.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use serde_json::{Map, Value};

use crate::jira::login::{AuthKind, Caller};
use crate::jira::response::{self, RestError};

/// The logged-in user; anonymous requests get the framework's 401.
pub(super) struct LoggedInUser(pub String);

/// Parameters of the query, in their order.
pub(super) struct QueryParameters(Vec<(String, String)>);

/// The JSON object in the request body.
pub(super) struct JsonObject(pub Map<String, Value>);

impl QueryParameters {
    /// The first parameter of this name.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// All parameters of this name.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The comma-separated elements of all parameters of this name.
    pub(super) fn list(&self, name: &str) -> Vec<String> {
        self.all(name)
            .flat_map(|value| value.split(','))
            .map(|element| element.trim().to_owned())
            .filter(|element| !element.is_empty())
            .collect()
    }

    /// A number; `default` if absent or invalid.
    pub(super) fn number(&self, name: &str, default: usize) -> usize {
        self.get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(default)
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or(Self {
            user: None,
            kind: AuthKind::Anonymous,
            reason: None,
        }))
    }
}

impl<S: Sync> FromRequestParts<S> for LoggedInUser {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        parts
            .extensions
            .get::<Caller>()
            .and_then(|caller| caller.user.clone())
            .map(Self)
            .ok_or_else(response::login_required)
    }
}

impl<S: Sync> FromRequestParts<S> for QueryParameters {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let Query(pairs) = Query::try_from_uri(&parts.uri).unwrap_or_default();
        Ok(Self(pairs))
    }
}

impl<S: Sync> FromRequest<S> for JsonObject {
    type Rejection = Response;

    async fn from_request(request: Request, _: &S) -> Result<Self, Response> {
        let json = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| {
                kind.as_bytes()
                    .to_ascii_lowercase()
                    .starts_with(b"application/json")
            });
        if !json {
            return Err(response::page(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Unsupported Media Type",
            ));
        }
        let bytes = axum::body::to_bytes(request.into_body(), MAX_JSON)
            .await
            .map_err(|_| {
                response::page(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large")
            })?;
        if bytes.is_empty() {
            return Err(
                RestError::bad("No content to map to Object due to end of input").into_response(),
            );
        }
        match serde_json::from_slice(&bytes) {
            Ok(Value::Object(object)) => Ok(Self(object)),
            Ok(_) => Err(
                RestError::bad("Can not deserialize instance of java.util.LinkedHashMap")
                    .into_response(),
            ),
            Err(error) => {
                Err(RestError::bad(format!("Unexpected character: {error}")).into_response())
            }
        }
    }
}

/// Size limit of a JSON body in bytes, larger than any issue.
const MAX_JSON: usize = 4 << 20;
