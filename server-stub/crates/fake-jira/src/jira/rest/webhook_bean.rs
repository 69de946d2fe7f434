//! What the resources for webhooks share: who may register, and what a registration may contain.

use http::StatusCode;
use serde_json::{Map, Value};

use super::server_info::build_number;
use super::view::RestContext;
use crate::jira::jql;
use crate::jira::model::DirectoryUser;
use crate::jira::response::RestError;
use crate::jira::webhooks::{
    RegistrationError, SharedWebhook, WebhookDraft, WebhookOrigin, WebhookOwner, WebhookVariables,
    is_known_event,
};

/// 403 unless the user is an administrator.
pub(super) fn require_administrator(context: &RestContext, user: &str) -> Result<(), RestError> {
    let model = context.state.model.lock();
    let found = model.users.find(user);
    match found.is_some_and(DirectoryUser::is_administrator) {
        true => Ok(()),
        false => Err(RestError::forbidden(
            "You do not have permission to manage webhooks.",
        )),
    }
}

/// 400 unless an administrator may register this.
pub(super) fn check_draft(context: &RestContext, draft: &WebhookDraft) -> Result<(), RestError> {
    if draft.name.trim().is_empty() {
        return Err(RestError::field("name", "Webhook name can not be empty."));
    }
    check_url(context, &draft.url)?;
    let unknown = draft.events.iter().find(|name| !is_known_event(name));
    if let Some(unknown) = unknown {
        return Err(RestError::field(
            "events",
            format!("Event '{unknown}' does not exist."),
        ));
    }
    let model = context.state.model.lock();
    jql::filter::check(&model, context.caller.name(), &draft.jql)
        .map_err(|messages| RestError::field("filters", messages.join(" ")))
}

/// 400 unless it is an absolute URL that this Jira calls; variables are allowed.
pub(super) fn check_url(context: &RestContext, url: &str) -> Result<(), RestError> {
    let state = &context.state;
    let plain = WebhookVariables::placeholder(url, state.variable_style());
    let parsed = url::Url::parse(&plain).ok();
    let is_http =
        parsed.is_some_and(|url| ["http", "https"].contains(&url.scheme()) && url.host().is_some());
    if !is_http || url.len() > MAX_URL {
        return Err(RestError::field("url", format!("Invalid URL: {url}")));
    }
    match state.webhooks.https(state.cloud).allows(&plain) {
        true => Ok(()),
        false => Err(RestError::field("url", "The URL must use https.")),
    }
}

/// Registers it and starts its task.
pub(super) fn register(
    context: &RestContext,
    draft: WebhookDraft,
    owner: WebhookOwner,
) -> Result<SharedWebhook, RestError> {
    let state = &context.state;
    let agent = match state.cloud {
        true => "Atlassian Webhook HTTP Client".to_owned(),
        false => format!(
            "Atlassian HttpClient 4.2.0 / JIRA-{} ({}) / Default",
            state.settings.version,
            build_number(&state.settings.version_numbers())
        ),
    };
    let origin = WebhookOrigin {
        cloud: state.cloud,
        user_agent: &agent,
    };
    let registered =
        state
            .webhooks
            .register(draft, owner, origin, context.caller.name(), state.now());
    registered.map_err(|error| match error {
        RegistrationError::Full(full) => RestError::bad(full.to_string()),
        RegistrationError::Client(error) => {
            RestError::message(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
        }
    })
}

/// A member that is a string.
pub(super) fn text(body: &Map<String, Value>, member: &str) -> Option<String> {
    body.get(member).and_then(Value::as_str).map(str::to_owned)
}

/// A member that is `true` or `false`, also as a string.
pub(super) fn boolean(body: &Map<String, Value>, member: &str) -> Option<bool> {
    match body.get(member)? {
        Value::Bool(value) => Some(*value),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Number(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A member that is an array of strings.
pub(super) fn strings(body: &Map<String, Value>, member: &str) -> Option<Vec<String>> {
    let array = body.get(member)?.as_array()?;
    let strings = array.iter().filter_map(Value::as_str);
    Some(strings.map(str::to_owned).collect())
}

/// The query for events about issues in a member such as `filters`: an object, or its text.
pub(super) fn issue_filter(body: &Map<String, Value>, member: &str) -> Option<String> {
    let filters = body.get(member)?;
    let parsed: Option<Value> = filters
        .as_str()
        .and_then(|text| serde_json::from_str(text).ok());
    let section = parsed.as_ref().unwrap_or(filters).get(ISSUE_SECTION)?;
    section.as_str().map(str::to_owned)
}

/// An empty registration, to be filled.
pub(super) fn empty_draft() -> WebhookDraft {
    WebhookDraft {
        name: String::new(),
        description: String::new(),
        url: String::new(),
        events: Vec::new(),
        jql: String::new(),
        field_ids: Vec::new(),
        exclude_body: false,
        enabled: true,
        secret: None,
        ssl_verification: true,
    }
}

/// The member of `filters` with the query for events about issues.
pub(super) const ISSUE_SECTION: &str = "issue-related-events-section";
const MAX_URL: usize = 2048;
