//! `webhook` in Cloud's REST API: the webhooks that an OAuth 2.0 (3LO) app registers, which expire.

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRequestParts;
use axum::response::IntoResponse;
use axum::routing::{get, put};
use http::StatusCode;
use http::request::Parts;
use serde_json::{Map, Value, json};

use super::extract::{JsonObject, LoggedInUser, QueryParameters};
use super::view::RestContext;
use super::webhook_bean::{check_url, empty_draft, register, strings, text};
use crate::jira::jql;
use crate::jira::response::{RestError, RestResult, ok, timestamp};
use crate::jira::state::JiraState;
use crate::jira::webhooks::{
    ConnectedApp, RegisteredWebhook, SharedWebhook, WebhookDraft, WebhookOwner, is_known_to_apps,
};

pub(super) fn routes() -> Router<Arc<JiraState>> {
    Router::new()
        .route("/webhook", get(list).post(create).delete(delete))
        .route("/webhook/refresh", put(refresh))
        .route("/webhook/failed", get(failed))
}

/// The app that sent the request; 403 if the credential is not an app's.
struct CallingApp(ConnectedApp);

impl<S: Sync> FromRequestParts<S> for CallingApp {
    type Rejection = RestError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, RestError> {
        let app = parts.extensions.get::<ConnectedApp>().cloned();
        app.map(Self).ok_or_else(|| {
            RestError::forbidden("Only Connect and OAuth 2.0 apps can use this operation")
        })
    }
}

async fn list(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    CallingApp(app): CallingApp,
    parameters: QueryParameters,
) -> RestResult {
    let own = own(&context, &app, &me);
    let start_at = parameters.number("startAt", 0);
    let max_results = parameters.number("maxResults", MAX_PAGE).min(MAX_PAGE);
    let page: Vec<Value> = own
        .iter()
        .skip(start_at)
        .take(max_results)
        .map(|webhook| bean(webhook))
        .collect();
    Ok(ok(&json!({
        "startAt": start_at,
        "maxResults": max_results,
        "total": own.len(),
        "isLast": start_at.saturating_add(page.len()) >= own.len(),
        "values": page,
    })))
}

async fn create(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    CallingApp(app): CallingApp,
    JsonObject(body): JsonObject,
) -> RestResult {
    let url = text(&body, "url").unwrap_or_default();
    check_url(&context, &url)?;
    let wanted = body.get("webhooks").and_then(Value::as_array);
    let wanted = wanted
        .filter(|wanted| !wanted.is_empty())
        .ok_or_else(|| RestError::field("webhooks", "There is no webhook to register."))?;
    let other = |webhook: &SharedWebhook| webhook.draft.url != url;
    if own(&context, &app, &me).iter().any(other) {
        return Err(RestError::field(
            "url",
            "Only a single URL per app is allowed to be registered.",
        ));
    }
    let results: Vec<Value> = wanted
        .iter()
        .map(
            |wanted| match register_one(&context, &app, &me, &url, wanted) {
                Ok(webhook) => json!({ "createdWebhookId": webhook.id }),
                Err(errors) => json!({ "errors": errors }),
            },
        )
        .collect();
    Ok(ok(&json!({ "webhookRegistrationResult": results })))
}

async fn delete(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    CallingApp(app): CallingApp,
    JsonObject(body): JsonObject,
) -> RestResult {
    let webhooks = &context.state.webhooks;
    webhooks.remove_of_app(&ids(&body)?, &app, &me);
    Ok(StatusCode::ACCEPTED.into_response())
}

async fn refresh(
    context: RestContext,
    LoggedInUser(me): LoggedInUser,
    CallingApp(app): CallingApp,
    JsonObject(body): JsonObject,
) -> RestResult {
    let now = context.state.now();
    let expires = context.state.webhooks.refresh(&ids(&body)?, &app, &me, now);
    Ok(ok(&json!({ "expirationDate": timestamp(expires) })))
}

/// For Connect apps only, which this imitation does not have.
async fn failed(LoggedInUser(_): LoggedInUser, CallingApp(_): CallingApp) -> RestResult {
    Err(RestError::forbidden(
        "Only Connect apps can use this operation",
    ))
}

fn register_one(
    context: &RestContext,
    app: &ConnectedApp,
    account: &str,
    url: &str,
    wanted: &Value,
) -> Result<SharedWebhook, Vec<String>> {
    let none = Map::new();
    let wanted = wanted.as_object().unwrap_or(&none);
    let draft = WebhookDraft {
        url: url.to_owned(),
        events: strings(wanted, "events").unwrap_or_default(),
        jql: text(wanted, "jqlFilter").unwrap_or_default(),
        field_ids: strings(wanted, "fieldIdsFilter").unwrap_or_default(),
        ..empty_draft()
    };
    let mut errors = Vec::new();
    if draft.events.is_empty() {
        errors.push("There is no event to register for".to_owned());
    }
    let unknown = draft.events.iter().filter(|name| !is_known_to_apps(name));
    errors.extend(unknown.map(|name| format!("The event {name} is unsupported")));
    match jql::filter::unsupported_for_apps(&draft.jql) {
        Ok(unsupported) if unsupported.is_empty() => {
            let model = context.state.model.lock();
            let checked = jql::filter::check(&model, Some(account), &draft.jql);
            errors.extend(checked.err().unwrap_or_default());
        }
        Ok(unsupported) => errors.extend(unsupported),
        Err(error) => errors.push(error),
    }
    if own(context, app, account).len() >= MAX_PER_APP {
        errors.push(format!(
            "The app has the maximum number of webhooks ({MAX_PER_APP})"
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let owner = WebhookOwner::App {
        app: app.clone(),
        account: account.to_owned(),
    };
    register(context, draft, owner).map_err(|error| vec![error.body().to_string()])
}

/// The webhooks of this app and account.
fn own(context: &RestContext, app: &ConnectedApp, account: &str) -> Vec<SharedWebhook> {
    let all = context.state.webhooks.all(context.state.now());
    all.into_iter()
        .filter(|webhook| webhook.is_of(app, account))
        .collect()
}

fn ids(body: &Map<String, Value>) -> Result<Vec<u64>, RestError> {
    let ids = body.get("webhookIds").and_then(Value::as_array);
    let ids: Option<Vec<u64>> = ids.and_then(|ids| ids.iter().map(Value::as_u64).collect());
    ids.filter(|ids| !ids.is_empty())
        .ok_or_else(|| RestError::field("webhookIds", "List the ids of webhooks."))
}

fn bean(webhook: &RegisteredWebhook) -> Value {
    let draft = &webhook.draft;
    let mut bean = json!({
        "id": webhook.id,
        "jqlFilter": draft.jql,
        "events": draft.events,
        "url": draft.url,
    });
    if !draft.field_ids.is_empty() {
        bean["fieldIdsFilter"] = draft.field_ids.clone().into();
    }
    if let Some(expires) = webhook.expires {
        bean["expirationDate"] = timestamp(expires).into();
    }
    bean
}

/// Of one app and account on one site.
const MAX_PER_APP: usize = 5;
const MAX_PAGE: usize = 100;
