//! `/rest/pat/latest/tokens`: the personal access tokens of the user.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use http::StatusCode;
use serde_json::{Value, json};
use time::Duration;

use super::RestState;
use super::extract::{JsonObject, LoggedInUser};
use crate::jira::model::PersonalAccessToken;
use crate::jira::response::{RestError, RestResult, json, no_content, ok, timestamp};
use crate::jira::state::JiraState;

pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new()
        .route("/tokens", get(list).post(create))
        .route("/tokens/{id}", delete(revoke))
}

async fn list(State(shared): RestState, LoggedInUser(me): LoggedInUser) -> Response {
    let model = shared.model.lock();
    ok(&model.users.tokens_of(&me).map(token_bean).collect())
}

async fn create(
    State(shared): RestState,
    LoggedInUser(me): LoggedInUser,
    JsonObject(body): JsonObject,
) -> RestResult {
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(RestError::bad("Token name can not be empty."));
    }
    let days = match body.get("expirationDuration") {
        None | Some(Value::Null) => None,
        Some(days) => match days.as_i64() {
            Some(days @ 1..=MAX_DAYS) => Some(Duration::days(days)),
            _ => {
                return Err(RestError::bad(
                    "Expiration duration must be a positive number of days.",
                ));
            }
        },
    };
    let mut model = shared.model.lock();
    let Some((token, secret)) = model.users.create_token(&me, name, days) else {
        return Err(RestError::bad(
            "The maximum number of tokens has been reached.",
        ));
    };
    let mut bean = token_bean(token);
    bean["rawToken"] = secret.into();
    Ok(json(StatusCode::CREATED, &bean))
}

async fn revoke(
    State(shared): RestState,
    LoggedInUser(me): LoggedInUser,
    Path(id): Path<u64>,
) -> Response {
    if shared.model.lock().users.revoke_token(&me, id) {
        no_content()
    } else {
        RestError::missing("Token does not exist.").into_response()
    }
}

fn token_bean(token: &PersonalAccessToken) -> Value {
    let mut bean = json!({
        "id": token.id,
        "name": token.name,
        "createdAt": timestamp(token.created),
    });
    if let Some(expires) = token.expires {
        bean["expiringAt"] = timestamp(expires).into();
    }
    bean
}

/// About 100 years.
const MAX_DAYS: i64 = 36_500;
