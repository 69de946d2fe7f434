//! `/__stub/…`, beside the context path and only if enabled: control by tests and demos in other processes.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Query;
use axum::response::Response;
use http::request::Parts;
use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::fault::InjectedFault;
use super::request_log::ReceivedRequest;
use super::response;
use super::state::{JiraState, ServerState};

/// Prefix of all control paths.
pub(super) const PREFIX: &str = "/__stub/";

/// `clear-captcha?user=`, `state?value=`, `basic?enabled=`, `requests` (GET, DELETE), `faults` (PUT),
/// `webhooks` (attempts to deliver), `oauth2` (counts), `oauth2/expire?refresh=`, `oauth1/expire?session=`, `clock?offset=`
/// (seconds).
pub(super) async fn serve(shared: &Arc<JiraState>, parts: &Parts, body: Body) -> Response {
    let Query(parameters) =
        Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).unwrap_or_default();
    let parameter = |name: &str| {
        parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.clone())
            .unwrap_or_default()
    };
    let command = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    match command {
        "clear-captcha" => {
            shared.lockouts.lock().clear(&parameter("user"));
            no_content()
        }
        "state" => match ServerState::parse(&parameter("value")) {
            Some(state) => {
                shared.controls.lock().state = state;
                no_content()
            }
            None => bad_request("value: RUNNING, STARTING, MAINTENANCE or ERROR"),
        },
        "basic" => match parameter("enabled").parse() {
            Ok(enabled) => {
                shared.controls.lock().basic = enabled;
                no_content()
            }
            Err(_) => bad_request("enabled: true or false"),
        },
        "oauth2" => response::ok(&json!(shared.grants.lock().counts())),
        "oauth2/expire" => {
            let now = shared.now();
            shared
                .grants
                .lock()
                .expire(parameter("refresh") == "true", now);
            no_content()
        }
        "oauth1/expire" => {
            let now = shared.now();
            shared
                .consumers
                .lock()
                .expire(parameter("session") == "true", now);
            no_content()
        }
        "clock" => match parameter("offset").parse() {
            Ok(seconds) => {
                shared.controls.lock().clock_offset = seconds;
                no_content()
            }
            Err(_) => bad_request("offset: seconds"),
        },
        "webhooks" => response::ok(&json!(shared.webhooks.attempts())),
        "requests" if parts.method == Method::DELETE => {
            shared.request_log.clear();
            no_content()
        }
        "requests" => {
            let requests: Vec<Value> = shared
                .request_log
                .snapshot()
                .iter()
                .map(without_credentials)
                .collect();
            response::ok(&Value::from(requests))
        }
        "faults" => {
            let bytes = axum::body::to_bytes(body, MAX_COMMAND)
                .await
                .unwrap_or_default();
            match serde_json::from_slice::<Vec<InjectedFault>>(&bytes) {
                Ok(faults) => {
                    shared.controls.lock().faults = faults;
                    no_content()
                }
                Err(error) => response::json(
                    StatusCode::BAD_REQUEST,
                    &json!({ "error": error.to_string() }),
                ),
            }
        }
        _ => bad_request("no such control"),
    }
}

/// A request without its credentials.
fn without_credentials(received: &ReceivedRequest) -> Value {
    let headers: Vec<Value> = received
        .headers
        .iter()
        .map(|(name, value)| {
            let secret = ["authorization", "cookie"].contains(&name.as_str());
            let value = if secret {
                "[present]".into()
            } else {
                String::from_utf8_lossy(value)
            };
            json!([name, value])
        })
        .collect();
    json!({
        "method": received.method,
        "target": received.target_text(),
        "headers": headers,
        "user": received.user,
        "auth": received.auth.map(|kind| format!("{kind:?}")),
        "bodyLength": received.body_length,
        "bodyComplete": received.body_complete,
        "status": received.status,
    })
}

fn no_content() -> Response {
    response::ok(&json!({}))
}

fn bad_request(what: &str) -> Response {
    response::json(StatusCode::BAD_REQUEST, &json!({ "error": what }))
}

const MAX_COMMAND: usize = 64 << 10;
