//! Remote links, and links between issues.

use axum::extract::Path;
use axum::response::IntoResponse;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::create::new_comment;
use super::extract::JsonObject;
use super::view::{RestContext, RestView};
use crate::jira::model::catalogue::{CatalogueItem, IssueLinkType};
use crate::jira::model::{IssueLink, JiraPermission, RemoteLink};
use crate::jira::response::{self, RestError, RestResult, ok};

pub(super) async fn remote_list(context: RestContext, Path(name): Path<String>) -> RestResult {
    let view = context.view();
    let issue = view.issue(&name)?;
    Ok(ok(&issue
        .remote_links
        .iter()
        .map(|link| view.remote_link_bean(issue, link))
        .collect()))
}

pub(super) async fn remote_add(
    context: RestContext,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut view = context.view();
    let issue = view.find_issue(&name)?;
    require_link(&view, issue)?;
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
    let (id, new) = view.model.put_remote_link(
        issue,
        RemoteLink {
            id: 0,
            global_id,
            content,
        },
    )?;
    let key = view.model.issue(issue).map_or("", |issue| &issue.key);
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(response::json(
        status,
        &json!({ "id": id, "self": view.url(&format!("issue/{key}/remotelink/{id}")) }),
    ))
}

pub(super) async fn add(context: RestContext, JsonObject(body): JsonObject) -> RestResult {
    let mut view = context.view();
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
        view.find_issue(&name)
    };
    // Each name is from the other issue's view: "inwardIssue" is the source of the outward words.
    let (from, to) = (side("inwardIssue")?, side("outwardIssue")?);
    require_link(&view, from)?;
    let link = IssueLink {
        id: 0,
        kind,
        from,
        to,
    };
    let id = view.model.add_link(link.clone())?;
    view.report_link(id, &link);
    if let Some(comment) = text("comment", "body") {
        let comment = new_comment(view.viewer, comment);
        let comment = view.model.add_comment(from, comment)?;
        view.report_comment_added(from, comment);
    }
    let mut response = StatusCode::CREATED.into_response();
    if let Ok(location) = HeaderValue::try_from(view.url(&format!("issueLink/{id}"))) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

fn require_link(view: &RestView<'_>, issue: u64) -> Result<(), RestError> {
    view.require(
        issue,
        JiraPermission::LinkIssues,
        "No Link Issue Permission for issue.",
    )
}
