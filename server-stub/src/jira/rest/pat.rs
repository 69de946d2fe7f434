//! `/rest/pat/latest/tokens`: one's own personal access tokens.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use http::StatusCode;
use serde_json::{Value, json};
use time::Duration;

use super::App;
use super::extract::{JsonObject, LoggedIn};
use crate::jira::answer::{Answer, Failure, json, no_content, ok, timestamp};
use crate::jira::shared::Shared;
use crate::jira::world::Token;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/tokens", get(list).post(make))
        .route("/tokens/{id}", delete(revoke))
}

async fn list(State(shared): App, LoggedIn(me): LoggedIn) -> Response {
    let world = shared.world();
    ok(&world.people.tokens_of(&me).map(draw).collect())
}

async fn make(State(shared): App, LoggedIn(me): LoggedIn, JsonObject(body): JsonObject) -> Answer {
    let name = body.get("name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(Failure::bad("Token name can not be empty."));
    }
    let days = match body.get("expirationDuration") {
        None | Some(Value::Null) => None,
        Some(days) => match days.as_i64() {
            Some(days @ 1..=MAX_DAYS) => Some(Duration::days(days)),
            _ => {
                return Err(Failure::bad(
                    "Expiration duration must be a positive number of days.",
                ));
            }
        },
    };
    let mut world = shared.world();
    let Some((token, secret)) = world.people.make_token(&me, name, days) else {
        return Err(Failure::bad(
            "The maximum number of tokens has been reached.",
        ));
    };
    let mut bean = draw(token);
    bean["rawToken"] = secret.into();
    Ok(json(StatusCode::CREATED, &bean))
}

async fn revoke(State(shared): App, LoggedIn(me): LoggedIn, Path(id): Path<u64>) -> Response {
    if shared.world().people.revoke_token(&me, id) {
        no_content()
    } else {
        Failure::missing("Token does not exist.").into_response()
    }
}

fn draw(token: &Token) -> Value {
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

/// About a century.
const MAX_DAYS: i64 = 36_500;
