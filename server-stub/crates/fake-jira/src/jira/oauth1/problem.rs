//! The error of a signed request (OAuth Problem Reporting) and its response: a `WWW-Authenticate`
//! header, and the same parameters form-encoded as the body.

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};

use super::message::escape;

/// An OAuth problem and its details.
#[derive(Debug)]
pub(in crate::jira) struct OAuth1Problem {
    pub code: &'static str,
    details: Vec<(&'static str, String)>,
}

impl OAuth1Problem {
    pub(crate) fn new(code: &'static str) -> Self {
        Self {
            code,
            details: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.details.push((name, value.into()));
        self
    }

    /// 400 for a malformed request, 503 for a user who refused, else 401.
    pub(crate) fn status(&self) -> StatusCode {
        match self.code {
            "version_rejected"
            | "parameter_absent"
            | "parameter_rejected"
            | "timestamp_refused"
            | "signature_method_rejected" => StatusCode::BAD_REQUEST,
            "user_refused" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::UNAUTHORIZED,
        }
    }

    pub(crate) fn response(&self, base_url: &str) -> Response {
        let mut details = vec![("oauth_problem", self.code.to_owned())];
        details.extend(self.details.iter().cloned());
        let body: Vec<String> = details
            .iter()
            .map(|(name, value)| format!("{name}={}", escape(value)))
            .collect();
        let named: Vec<String> = details
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        let challenge = format!("OAuth realm=\"{}\", {}", escape(base_url), named.join(", "));
        let mut response = Response::new(Body::from(body.join("&")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        if let Ok(value) = HeaderValue::try_from(challenge) {
            headers.insert(header::WWW_AUTHENTICATE, value);
        }
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8"),
        );
        response
    }
}
