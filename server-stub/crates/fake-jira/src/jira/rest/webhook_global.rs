//! `/rest/jira-webhook/1.0/webhooks`: an administrator's webhooks since Jira 10.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::extract::{JsonObject, LoggedInUser, QueryParameters};
use super::view::RestContext;
use super::webhook_bean::{
    ISSUE_SECTION, boolean, check_draft, empty_draft, issue_filter, register,
    require_administrator, strings, text,
};
use crate::jira::response::{RestError, RestResult, json, no_content, ok};
use crate::jira::state::JiraState;
use crate::jira::webhooks::{RegisteredWebhook, WebhookDraft, WebhookOwner};

pub(super) const PREFIX: &str = "/rest/jira-webhook/1.0";

pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new()
        .route("/webhooks", get(list).post(create))
        .route("/webhooks/{id}", get(one).put(change).delete(delete))
        .route("/webhooks/{id}/statistics", get(statistics))
}

async fn list(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    parameters: QueryParameters,
) -> RestResult {
    require_administrator(&context, &me)?;
    let event = parameters.get("event");
    let webhooks = context.state.webhooks.all(context.state.now());
    Ok(ok(&webhooks
        .iter()
        .filter(|webhook| webhook.is_administrators())
        .filter(|webhook| {
            event.is_none_or(|event| webhook.draft.events.iter().any(|name| name == event))
        })
        .skip(parameters.number("start", 0))
        .take(parameters.number("limit", MAX_PAGE))
        .map(|webhook| bean(webhook))
        .collect()))
}

async fn create(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    JsonObject(body): JsonObject,
) -> RestResult {
    require_administrator(&context, &me)?;
    let draft = draft(&body, empty_draft());
    check(&context, &draft)?;
    let webhook = register(&context, draft, WebhookOwner::Administrator)?;
    Ok(json(StatusCode::CREATED, &bean(&webhook)))
}

async fn one(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    Path(id): Path<u64>,
) -> RestResult {
    require_administrator(&context, &me)?;
    let known = context
        .state
        .webhooks
        .administrators(id, context.state.now());
    let webhook = known.ok_or_else(missing)?;
    Ok(ok(&bean(&webhook)))
}

async fn change(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    Path(id): Path<u64>,
    JsonObject(body): JsonObject,
) -> RestResult {
    require_administrator(&context, &me)?;
    let now = context.state.now();
    let webhooks = &context.state.webhooks;
    let known = webhooks.administrators(id, now).ok_or_else(missing)?;
    let draft = draft(&body, known.draft.clone());
    check(&context, &draft)?;
    let changed = webhooks
        .change(id, draft, Some(&me), now)
        .ok_or_else(missing)?;
    Ok(ok(&bean(&changed)))
}

async fn delete(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    Path(id): Path<u64>,
) -> RestResult {
    require_administrator(&context, &me)?;
    match context.state.webhooks.remove(id) {
        true => Ok(no_content()),
        false => Err(missing()),
    }
}

async fn statistics(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    Path(id): Path<u64>,
) -> RestResult {
    require_administrator(&context, &me)?;
    let now = context.state.now();
    let known = context.state.webhooks.administrators(id, now);
    let webhook = known.ok_or_else(missing)?;
    let counts = &webhook.counts;
    let duration = now - webhook.created;
    Ok(ok(&json!({
        "counts": {
            "successes": counts.successes.load(Ordering::Relaxed),
            "failures": counts.failures.load(Ordering::Relaxed),
            // What was not sent counts as an error too.
            "errors": counts.errors.load(Ordering::Relaxed) + counts.dropped.load(Ordering::Relaxed),
            "window": {
                "start": webhook.created.unix_timestamp() * 1000,
                "duration": duration.whole_seconds() * 1000,
            },
        },
    })))
}

fn check(context: &RestContext, draft: &WebhookDraft) -> Result<(), RestError> {
    check_draft(context, draft)?;
    match draft.events.is_empty() {
        false => Ok(()),
        true => Err(RestError::field("events", "Choose at least one event.")),
    }
}

/// What the body asks for; members that are absent keep their value. A secret outside `configuration` is ignored, as in
/// Jira.
fn draft(body: &Map<String, Value>, before: WebhookDraft) -> WebhookDraft {
    let none = Map::new();
    let configuration = body
        .get("configuration")
        .and_then(Value::as_object)
        .unwrap_or(&none);
    WebhookDraft {
        name: text(body, "name").unwrap_or(before.name),
        description: before.description,
        url: text(body, "url").unwrap_or(before.url),
        events: strings(body, "events").unwrap_or(before.events),
        jql: issue_filter(configuration, "FILTERS")
            .or_else(|| issue_filter(body, "filters"))
            .unwrap_or(before.jql),
        exclude_body: boolean(configuration, "EXCLUDE_BODY")
            .or_else(|| boolean(body, "excludeBody"))
            .unwrap_or(before.exclude_body),
        enabled: boolean(body, "active").unwrap_or(before.enabled),
        field_ids: Vec::new(),
        secret: text(configuration, "SECRET")
            .filter(|secret| !secret.is_empty())
            .or(before.secret),
        ssl_verification: boolean(body, "sslVerificationRequired")
            .unwrap_or(before.ssl_verification),
    }
}

fn bean(webhook: &RegisteredWebhook) -> Value {
    let draft = &webhook.draft;
    // The secret is not shown again.
    let filters = json!({ ISSUE_SECTION: draft.jql }).to_string();
    json!({
        "id": webhook.id,
        "name": draft.name,
        "url": draft.url,
        "events": draft.events,
        "configuration": {
            "EXCLUDE_BODY": draft.exclude_body.to_string(),
            "FILTERS": filters,
        },
        "active": draft.enabled,
        "scopeType": "global",
        "sslVerificationRequired": draft.ssl_verification,
        "createdDate": webhook.created.unix_timestamp() * 1000,
        "updatedDate": webhook.updated.unix_timestamp() * 1000,
    })
}

fn missing() -> RestError {
    RestError::missing("Webhook does not exist.")
}

const MAX_PAGE: usize = 100;
