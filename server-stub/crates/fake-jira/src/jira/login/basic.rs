//! `Authorization: Basic`.

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use super::{AuthKind, LoginRequest, LoginResult, PasswordError, with_password};
use crate::jira::oauth1::escape;
use crate::jira::response;
use crate::jira::state::JiraState;

pub(super) fn attempt(shared: &JiraState, request: &LoginRequest<'_>) -> LoginResult {
    let Some(value) = request.parts.headers.get(header::AUTHORIZATION) else {
        return LoginResult::NotPresent;
    };
    let value = String::from_utf8_lossy(value.as_bytes());
    let Some((scheme, credential)) = value.split_once(' ') else {
        return LoginResult::NotPresent;
    };
    if !scheme.eq_ignore_ascii_case("basic") {
        return LoginResult::NotPresent;
    }
    if !shared.controls.lock().basic {
        return LoginResult::Refused(Box::new(switched_off()));
    }
    let decoded = STANDARD.decode(credential.trim()).unwrap_or_default();
    let decoded = String::from_utf8_lossy(&decoded).into_owned();
    let (name, password) = decoded.split_once(':').unwrap_or((&decoded, ""));
    match with_password(shared, name, password) {
        Ok(user) => LoginResult::LoggedIn {
            user,
            kind: AuthKind::Basic,
        },
        Err(PasswordError::CaptchaRequired) => {
            LoginResult::Refused(Box::new(challenge(&shared.base_url)))
        }
        Err(PasswordError::Unknown | PasswordError::Wrong) => {
            LoginResult::Refused(Box::new(wrong(&shared.base_url)))
        }
    }
}

fn switched_off() -> Response {
    response::json(
        StatusCode::FORBIDDEN,
        &json!({ "message": "Basic Authentication has been disabled on this instance." }),
    )
}

fn wrong(base_url: &str) -> Response {
    let mut response = response::page(
        StatusCode::UNAUTHORIZED,
        "Basic Authentication Failure - Reason : AUTHENTICATED_FAILED",
    );
    let headers = response.headers_mut();
    headers.insert(
        "x-seraph-loginreason",
        HeaderValue::from_static("AUTHENTICATED_FAILED"),
    );
    headers.insert(header::WWW_AUTHENTICATE, realm(base_url));
    response
}

fn challenge(base_url: &str) -> Response {
    let mut response = response::page(
        StatusCode::FORBIDDEN,
        "Basic Authentication Failure - Reason : AUTHENTICATION_DENIED",
    );
    let reason = format!("CAPTCHA_CHALLENGE; login-url={base_url}/login.jsp");
    let headers = response.headers_mut();
    headers.insert(
        "x-seraph-loginreason",
        HeaderValue::from_static("AUTHENTICATION_DENIED"),
    );
    if let Ok(reason) = HeaderValue::try_from(reason) {
        headers.insert("x-authentication-denied-reason", reason);
    }
    response
}

/// The challenge of every 401: Jira's base URL, escaped, as OAuth realm.
pub(in crate::jira) fn realm(base_url: &str) -> HeaderValue {
    HeaderValue::try_from(format!("OAuth realm=\"{}\"", escape(base_url)))
        .unwrap_or(HeaderValue::from_static("OAuth"))
}
