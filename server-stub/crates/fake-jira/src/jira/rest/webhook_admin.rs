//! `/rest/webhooks/1.0/webhook`: an administrator's webhooks, up to Jira 9.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::routing::get;
use http::StatusCode;
use serde_json::{Map, Value, json};

use super::extract::{JsonObject, LoggedInUser};
use super::view::RestContext;
use super::webhook_bean::{
    ISSUE_SECTION, boolean, check_draft, empty_draft, issue_filter, register,
    require_administrator, strings, text,
};
use crate::jira::response::{RestError, RestResult, json, no_content, ok};
use crate::jira::state::JiraState;
use crate::jira::webhooks::{RegisteredWebhook, WebhookDraft, WebhookOwner};

pub(super) const PREFIX: &str = "/rest/webhooks/1.0";

pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new()
        .route("/webhook", get(list).post(create))
        .route("/webhook/{id}", get(one).put(change).delete(delete))
}

async fn list(context: RestContext, LoggedInUser(me): LoggedInUser) -> RestResult {
    require_administrator(&context, &me)?;
    let webhooks = context.state.webhooks.all(context.state.now());
    Ok(ok(&webhooks
        .iter()
        .filter(|webhook| webhook.is_administrators())
        .map(|webhook| bean(&context, webhook))
        .collect()))
}

async fn create(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    JsonObject(body): JsonObject,
) -> RestResult {
    require_administrator(&context, &me)?;
    let draft = draft(&body, empty_draft());
    check_draft(&context, &draft)?;
    let webhook = register(&context, draft, WebhookOwner::Administrator)?;
    Ok(json(StatusCode::CREATED, &bean(&context, &webhook)))
}

async fn one(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    Path(id): Path<u64>,
) -> RestResult {
    require_administrator(&context, &me)?;
    let webhook = context
        .state
        .webhooks
        .administrators(id, context.state.now())
        .ok_or_else(missing)?;
    Ok(ok(&bean(&context, &webhook)))
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
    check_draft(&context, &draft)?;
    let changed = webhooks
        .change(id, draft, Some(&me), now)
        .ok_or_else(missing)?;
    Ok(ok(&bean(&context, &changed)))
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

/// What the body asks for; members that are absent keep their value.
fn draft(body: &Map<String, Value>, before: WebhookDraft) -> WebhookDraft {
    WebhookDraft {
        name: text(body, "name").unwrap_or(before.name),
        description: text(body, "description").unwrap_or(before.description),
        url: text(body, "url").unwrap_or(before.url),
        events: strings(body, "events").unwrap_or(before.events),
        // The second name is that of Jira 5 and 6.
        jql: issue_filter(body, "filters")
            .or_else(|| text(body, "jqlFilter"))
            .unwrap_or(before.jql),
        exclude_body: boolean(body, "excludeBody")
            .or_else(|| boolean(body, "excludeIssueDetails"))
            .unwrap_or(before.exclude_body),
        enabled: boolean(body, "enabled").unwrap_or(before.enabled),
        field_ids: Vec::new(),
        secret: None,
        ssl_verification: true,
    }
}

fn bean(context: &RestContext, webhook: &RegisteredWebhook) -> Value {
    let draft = &webhook.draft;
    let by = webhook.updated_by.as_deref().unwrap_or_default();
    let name = {
        let model = context.state.model.lock();
        let user = model.users.find(by);
        user.map_or_else(|| by.to_owned(), |user| user.display_name.clone())
    };
    json!({
        "self": format!("{}{PREFIX}/webhook/{}", context.state.base_url, webhook.id),
        "name": draft.name,
        "description": draft.description,
        "url": draft.url,
        "excludeBody": draft.exclude_body,
        "filters": { ISSUE_SECTION: draft.jql },
        "events": draft.events,
        "enabled": draft.enabled,
        "lastUpdatedUser": by,
        "lastUpdatedDisplayName": name,
        "lastUpdated": webhook.updated.unix_timestamp() * 1000,
    })
}

fn missing() -> RestError {
    RestError::missing("Webhook does not exist.")
}
