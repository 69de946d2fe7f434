//! Links: to things outside (remote links), and between issues.

use axum::extract::{Path, State};
use axum::response::IntoResponse;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::RestState;
use super::bean::BeanRenderer;
use super::create::new_comment;
use super::extract::{JsonObject, QueryParameters};
use super::issue::find_issue;
use crate::jira::response::{self, RestError, RestResult, ok};
use crate::jira::login::Caller;
use crate::jira::model::catalogue::{CatalogueItem, IssueLinkType};
use crate::jira::model::{IssueLink, JiraModel, JiraPermission, RemoteLink};

pub(super) async fn remote_list(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    let id = find_issue(&model, caller.name(), &name)?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    let Some(issue) = model.issue(id) else {
        return Err(RestError::missing("Issue Does Not Exist"));
    };
    if let Some(global_id) = parameters.get("globalId") {
        return issue
            .remote_links
            .iter()
            .find(|link| link.global_id.as_deref() == Some(global_id))
            .map(|link| ok(&beans.remote_link(issue, link)))
            .ok_or_else(|| {
                RestError::missing(format!(
                    "The remote link with global id '{global_id}' does not exist."
                ))
            });
    }
    Ok(ok(&issue
        .remote_links
        .iter()
        .map(|link| beans.remote_link(issue, link))
        .collect()))
}

pub(super) async fn remote_get(
    State(shared): RestState,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> RestResult {
    let model = shared.model();
    let issue = find_issue(&model, caller.name(), &name)?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    model
        .issue(issue)
        .and_then(|issue| {
            let link = issue
                .remote_links
                .iter()
                .find(|link| link.id.to_string() == id)?;
            Some(ok(&beans.remote_link(issue, link)))
        })
        .ok_or_else(|| {
            RestError::missing(format!("The remote link with id '{id}' does not exist."))
        })
}

pub(super) async fn remote_add(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut model = shared.model();
    let viewer = caller.name();
    let issue = find_issue(&model, viewer, &name)?;
    may_link(&model, viewer, issue)?;
    let object = body.get("object").and_then(Value::as_object);
    let missing = ["title", "url"]
        .into_iter()
        .filter(|key| {
            object
                .and_then(|object| object.get(*key))
                .and_then(Value::as_str)
                .is_none_or(str::is_empty)
        })
        .map(|key| (key.to_owned(), format!("'{key}' is required.")));
    let missing: Vec<_> = missing.collect();
    if !missing.is_empty() {
        return Err(RestError::fields(missing));
    }
    let global_id = body
        .get("globalId")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let content: Map<String, Value> = ["application", "relationship", "object"]
        .into_iter()
        .filter_map(|key| Some((key.to_owned(), body.get(key)?.clone())))
        .collect();
    let (id, new) = model.put_remote_link(
        issue,
        RemoteLink {
            id: 0,
            global_id,
            content,
        },
    )?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer,
    };
    let key = model.issue(issue).map_or("", |issue| &issue.key);
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(response::json(
        status,
        &json!({ "id": id, "self": beans.url(&format!("issue/{key}/remotelink/{id}")) }),
    ))
}

pub(super) async fn add(
    State(shared): RestState,
    caller: Caller,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut model = shared.model();
    let viewer = caller.name();
    let text = |outer: &str, inner: &str| {
        body.get(outer)
            .and_then(|object| object.get(inner))
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    let kind = match (text("type", "name"), text("type", "id")) {
        (Some(name), _) => IssueLinkType::by_name(&name).ok_or_else(|| {
            RestError::missing(format!("No issue link type with name '{name}' found."))
        })?,
        (None, Some(id)) => IssueLinkType::by_id(&id).ok_or_else(|| {
            RestError::missing(format!("No issue link type with id '{id}' found."))
        })?,
        (None, None) => return Err(RestError::bad("Issue link type must be specified.")),
    };
    let side = |outer: &str| -> Result<u64, RestError> {
        let name = text(outer, "key")
            .or_else(|| text(outer, "id"))
            .unwrap_or_default();
        find_issue(&model, viewer, &name)
    };
    // Jira's names are those of the page of the other: "inwardIssue" is where the outward words start.
    let (from, to) = (side("inwardIssue")?, side("outwardIssue")?);
    may_link(&model, viewer, from)?;
    let id = model.add_link(IssueLink {
        id: 0,
        kind,
        from,
        to,
    })?;
    if let Some(comment) = text("comment", "body") {
        model.add_comment(from, new_comment(viewer, comment))?;
    }
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(location) =
        HeaderValue::try_from(format!("{}/rest/api/2/issueLink/{id}", shared.base_url))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn may_link(model: &JiraModel, viewer: Option<&str>, issue: u64) -> Result<(), RestError> {
    let project = model.issue(issue).map_or(usize::MAX, |issue| issue.project);
    if model.may(viewer, project, JiraPermission::LinkIssues) {
        Ok(())
    } else {
        Err(RestError::forbidden("No Link Issue Permission for issue."))
    }
}
