//! The lists that come with Jira: fields, priorities, statuses, resolutions, issue types, link types.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::RestState;
use super::bean::BeanRenderer;
use super::issue_bean::schema;
use crate::jira::response::{RestError, RestResult, login_required, ok};
use crate::jira::login::Caller;
use crate::jira::model::catalogue::{
    CatalogueItem, IssueLinkType, IssueStatus, IssueType, Priority, Resolution,
};
use crate::jira::model::fields::FIELDS;

pub(super) async fn fields() -> Response {
    let fields = FIELDS.iter().map(|field| {
        json!({
            "id": field.id,
            "name": field.name,
            "custom": field.is_custom(),
            "orderable": field.on_create,
            "navigable": true,
            "searchable": !field.jql.is_empty(),
            "clauseNames": field.jql,
            "schema": schema(field),
        })
    });
    ok(&fields.collect())
}

pub(super) async fn priorities(State(shared): RestState, caller: Caller) -> Response {
    list::<Priority>(&shared, &caller, |beans, one| beans.priority(one))
}

pub(super) async fn priority(
    State(shared): RestState,
    caller: Caller,
    Path(id): Path<String>,
) -> RestResult {
    one::<Priority>(&shared, &caller, &id, "priority", |beans, one| {
        beans.priority(one)
    })
}

pub(super) async fn statuses(State(shared): RestState, caller: Caller) -> Response {
    list::<IssueStatus>(&shared, &caller, |beans, one| beans.status(one))
}

pub(super) async fn status(
    State(shared): RestState,
    caller: Caller,
    Path(id): Path<String>,
) -> RestResult {
    one::<IssueStatus>(&shared, &caller, &id, "status", |beans, one| {
        beans.status(one)
    })
}

pub(super) async fn resolutions(State(shared): RestState, caller: Caller) -> Response {
    list::<Resolution>(&shared, &caller, |beans, one| beans.resolution(one))
}

pub(super) async fn resolution(
    State(shared): RestState,
    caller: Caller,
    Path(id): Path<String>,
) -> RestResult {
    one::<Resolution>(&shared, &caller, &id, "resolution", |beans, one| {
        beans.resolution(one)
    })
}

pub(super) async fn issue_types(State(shared): RestState, caller: Caller) -> Response {
    list::<IssueType>(&shared, &caller, |beans, one| beans.issue_type(one))
}

pub(super) async fn issue_type(
    State(shared): RestState,
    caller: Caller,
    Path(id): Path<String>,
) -> RestResult {
    one::<IssueType>(&shared, &caller, &id, "issue type", |beans, one| {
        beans.issue_type(one)
    })
}

pub(super) async fn link_types(State(shared): RestState, caller: Caller) -> Response {
    let model = shared.model();
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    let types: Value = IssueLinkType::ALL
        .iter()
        .map(|kind| beans.link_type(kind))
        .collect();
    ok(&json!({ "issueLinkTypes": types }))
}

pub(super) async fn link_type(
    State(shared): RestState,
    caller: Caller,
    Path(id): Path<String>,
) -> RestResult {
    one::<IssueLinkType>(&shared, &caller, &id, "issue link type", |beans, one| {
        beans.link_type(one)
    })
}

/// All of a kind. A Jira where anonymous users see no project tells them none of these.
fn list<T: CatalogueItem>(
    shared: &crate::jira::state::JiraState,
    caller: &Caller,
    draw: fn(&BeanRenderer<'_>, &T) -> Value,
) -> Response {
    let model = shared.model();
    if caller.user.is_none() && model.visible_projects(None).is_empty() {
        return login_required();
    }
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    ok(&T::ALL.iter().map(|one| draw(&beans, one)).collect())
}

fn one<T: CatalogueItem>(
    shared: &crate::jira::state::JiraState,
    caller: &Caller,
    id: &str,
    what: &str,
    draw: fn(&BeanRenderer<'_>, &T) -> Value,
) -> RestResult {
    let model = shared.model();
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    match T::by_either(id) {
        Some(one) => Ok(ok(&draw(&beans, one))),
        None => Err(RestError::missing(format!(
            "The {what} with id '{id}' does not exist"
        ))),
    }
}
