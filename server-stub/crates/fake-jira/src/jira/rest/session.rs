//! `/rest/auth/1/session`: login and logout by cookie.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::RestState;
use super::extract::{JsonObject, LoggedInUser};
use crate::jira::login::session::cookie;
use crate::jira::login::{PasswordError, with_password};
use crate::jira::response::{RestError, RestResult, no_content, ok};
use crate::jira::state::JiraState;

pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new().route("/session", post(log_in).delete(log_out))
}

async fn log_in(State(shared): RestState, JsonObject(body): JsonObject) -> RestResult {
    let text = |key: &str| body.get(key).and_then(Value::as_str).unwrap_or_default();
    match with_password(&shared, text("username"), text("password")) {
        Ok(user) => {
            let id = shared.sessions.lock().open(&user);
            let path = shared.cookie_path();
            let mut response = ok(&json!({
                "session": { "name": "JSESSIONID", "value": id },
                "loginInfo": { "loginCount": 1 },
            }));
            if let Ok(value) =
                HeaderValue::try_from(format!("JSESSIONID={id}; Path={path}; HttpOnly"))
            {
                response.headers_mut().append(header::SET_COOKIE, value);
            }
            Ok(response)
        }
        Err(PasswordError::CaptchaRequired) => Err(RestError::forbidden("Login denied")),
        Err(_) => Err(RestError::message(StatusCode::UNAUTHORIZED, "Login failed")),
    }
}

async fn log_out(
    State(shared): RestState,
    LoggedInUser(_): LoggedInUser,
    headers: HeaderMap,
) -> Response {
    if let Some(id) = cookie(&headers) {
        shared.sessions.lock().close(&id);
    }
    no_content()
}
