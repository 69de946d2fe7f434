//! Comments of an issue: list, read, add, change, delete.

use axum::extract::Path;
use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::create::new_comment;
use super::extract::{JsonObject, QueryParameters};
use super::view::{RestContext, RestView};
use crate::jira::model::{Comment, Issue, JiraPermission};
use crate::jira::response::{self, RestError, RestResult, no_content, ok};
use crate::jira::webhooks::WebhookEvent;

pub(super) async fn list(
    context: RestContext,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let view = context.view();
    let issue = view.issue(&name)?;
    let start_at = parameters.number("startAt", 0);
    let max_results = parameters.number("maxResults", MAX_PAGE).min(MAX_PAGE);
    let page: Value = issue
        .comments
        .iter()
        .skip(start_at)
        .take(max_results)
        .map(|comment| view.comment_bean(issue, comment))
        .collect();
    Ok(ok(&json!({
        "startAt": start_at,
        "maxResults": max_results,
        "total": issue.comments.len(),
        "comments": page,
    })))
}

pub(super) async fn get(
    context: RestContext,
    Path((name, id)): Path<(String, String)>,
) -> RestResult {
    Ok(ok(&bean(&context.view(), &name, &id)?))
}

pub(super) async fn add(
    context: RestContext,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut view = context.view();
    let issue = view.find_issue(&name)?;
    view.require(
        issue,
        JiraPermission::AddComments,
        "You do not have the permission to comment on this issue.",
    )?;
    let comment = new_comment(view.viewer, text(&body)?);
    let id = view.model.add_comment(issue, comment)?;
    view.report_comment_added(issue, id);
    let bean = bean(&view, &name, &id.to_string())?;
    Ok(response::json(StatusCode::CREATED, &bean))
}

pub(super) async fn put(
    context: RestContext,
    Path((name, id)): Path<(String, String)>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut view = context.view();
    let viewer = view.viewer;
    let (issue_id, comment_id) = editable(&view, &name, &id)?;
    let new = text(&body)?;
    if let Some(issue) = view.model.issue_mut(issue_id) {
        let now = OffsetDateTime::now_utc();
        issue.updated = now;
        for comment in issue
            .comments
            .iter_mut()
            .filter(|comment| comment.id == comment_id)
        {
            comment.body.clone_from(&new);
            comment.update_author = viewer.map(str::to_owned);
            comment.updated = now;
        }
    }
    view.report_comment(WebhookEvent::CommentUpdated, issue_id, comment_id);
    Ok(ok(&bean(&view, &name, &id)?))
}

pub(super) async fn delete(
    context: RestContext,
    Path((name, id)): Path<(String, String)>,
) -> RestResult {
    let mut view = context.view();
    let issue = view.issue(&name)?;
    let (issue_id, comment_id) = (issue.id, comment(issue, &id)?.id);
    view.require(
        issue_id,
        JiraPermission::DeleteAllComments,
        "You do not have permission to delete this comment.",
    )?;
    view.report_comment(WebhookEvent::CommentDeleted, issue_id, comment_id);
    if let Some(issue) = view.model.issue_mut(issue_id) {
        issue.comments.retain(|comment| comment.id != comment_id);
        issue.updated = OffsetDateTime::now_utc();
    }
    Ok(no_content())
}

/// The ids of issue and comment if the viewer may edit the comment: any comment, or as its author.
fn editable(view: &RestView<'_>, name: &str, id: &str) -> Result<(u64, u64), RestError> {
    let issue = view.issue(name)?;
    let comment = comment(issue, id)?;
    let own = view.viewer.is_some() && comment.author.as_deref() == view.viewer;
    if own && view.may(issue.project, JiraPermission::EditOwnComments)
        || view.may(issue.project, JiraPermission::EditAllComments)
    {
        Ok((issue.id, comment.id))
    } else {
        Err(RestError::forbidden(
            "You do not have permission to edit this comment.",
        ))
    }
}

fn comment<'a>(issue: &'a Issue, id: &str) -> Result<&'a Comment, RestError> {
    issue
        .comments
        .iter()
        .find(|comment| comment.id.to_string() == id)
        .ok_or_else(|| RestError::missing(format!("Can not find a comment for the id: {id}.")))
}

fn bean(view: &RestView<'_>, issue: &str, id: &str) -> Result<Value, RestError> {
    let issue = view.issue(issue)?;
    Ok(view.comment_bean(issue, comment(issue, id)?))
}

fn text(body: &Map<String, Value>) -> Result<String, RestError> {
    match body.get("body").and_then(Value::as_str) {
        Some(text) if !text.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(RestError::field(
            "comment",
            "Comment body can not be empty!",
        )),
    }
}

const MAX_PAGE: usize = 1_048_576;
