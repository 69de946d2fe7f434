//! Comments of an issue.

use axum::extract::{Path, State};
use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::RestState;
use super::bean::BeanRenderer;
use super::create::new_comment;
use super::extract::{JsonObject, QueryParameters};
use super::issue::find_issue;
use crate::jira::response::{self, RestError, RestResult, no_content, ok};
use crate::jira::login::Caller;
use crate::jira::model::{Comment, Issue, JiraModel, JiraPermission};
use crate::jira::state::JiraState;

pub(super) async fn list(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    let issue = issue(&model, caller.name(), &name)?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    let start_at = parameters.number("startAt", 0);
    let max_results = parameters.number("maxResults", MAX_PAGE).min(MAX_PAGE);
    let mut comments: Vec<&Comment> = issue.comments.iter().collect();
    if parameters.get("orderBy") == Some("-created") {
        comments.reverse();
    }
    let page: Value = comments
        .into_iter()
        .skip(start_at)
        .take(max_results)
        .map(|comment| beans.comment(issue, comment))
        .collect();
    Ok(ok(&json!({
        "startAt": start_at,
        "maxResults": max_results,
        "total": issue.comments.len(),
        "comments": page,
    })))
}

pub(super) async fn get(
    State(shared): RestState,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> RestResult {
    let model = shared.model();
    let issue = issue(&model, caller.name(), &name)?;
    let comment = comment(issue, &id)?;
    Ok(ok(&comment_bean(
        &shared,
        &model,
        caller.name(),
        issue,
        comment,
    )))
}

pub(super) async fn add(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut model = shared.model();
    let viewer = caller.name();
    let id = find_issue(&model, viewer, &name)?;
    let project = model.issue(id).map_or(usize::MAX, |issue| issue.project);
    if !model.may(viewer, project, JiraPermission::AddComments) {
        return Err(RestError::forbidden(
            "You do not have the permission to comment on this issue.",
        ));
    }
    let mut new = new_comment(viewer, text(&body)?);
    new.visibility = body
        .get("visibility")
        .filter(|value| value.is_object())
        .cloned();
    let comment_id = model.add_comment(id, new)?;
    let issue = issue(&model, viewer, &name)?;
    let comment = comment(issue, &comment_id.to_string())?;
    Ok(response::json(
        StatusCode::CREATED,
        &comment_bean(&shared, &model, viewer, issue, comment),
    ))
}

pub(super) async fn put(
    State(shared): RestState,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut model = shared.model();
    let viewer = caller.name();
    let (issue_id, comment_id) = editable(
        &model,
        viewer,
        (&name, &id),
        (
            JiraPermission::EditAllComments,
            Some(JiraPermission::EditOwnComments),
        ),
        "You do not have permission to edit this comment.",
    )?;
    let new = text(&body)?;
    if let Some(issue) = model.issue_mut(issue_id) {
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
            if let Some(visibility) = body.get("visibility") {
                comment.visibility = Some(visibility.clone()).filter(Value::is_object);
            }
        }
    }
    let issue = issue(&model, viewer, &name)?;
    let comment = comment(issue, &id)?;
    Ok(ok(&comment_bean(&shared, &model, viewer, issue, comment)))
}

pub(super) async fn delete(
    State(shared): RestState,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
) -> RestResult {
    let mut model = shared.model();
    let (issue_id, comment_id) = editable(
        &model,
        caller.name(),
        (&name, &id),
        (JiraPermission::DeleteAllComments, None),
        "You do not have permission to delete comment with id: this comment.",
    )?;
    if let Some(issue) = model.issue_mut(issue_id) {
        issue.comments.retain(|comment| comment.id != comment_id);
        issue.updated = OffsetDateTime::now_utc();
    }
    Ok(no_content())
}

/// The ids of a comment that the viewer may change: by the permission for all, or as its author by
/// the permission for one's own.
fn editable(
    model: &JiraModel,
    viewer: Option<&str>,
    (name, id): (&str, &str),
    (all, own): (JiraPermission, Option<JiraPermission>),
    refusal: &str,
) -> Result<(u64, u64), RestError> {
    let issue = issue(model, viewer, name)?;
    let comment = comment(issue, id)?;
    let own = own.is_some_and(|own| {
        viewer.is_some()
            && comment.author.as_deref() == viewer
            && model.may(viewer, issue.project, own)
    });
    if own || model.may(viewer, issue.project, all) {
        Ok((issue.id, comment.id))
    } else {
        Err(RestError::forbidden(refusal))
    }
}

fn issue<'a>(
    model: &'a JiraModel,
    viewer: Option<&str>,
    name: &str,
) -> Result<&'a Issue, RestError> {
    let id = find_issue(model, viewer, name)?;
    model
        .issue(id)
        .ok_or_else(|| RestError::missing("Issue Does Not Exist"))
}

fn comment<'a>(issue: &'a Issue, id: &str) -> Result<&'a Comment, RestError> {
    issue
        .comments
        .iter()
        .find(|comment| comment.id.to_string() == id)
        .ok_or_else(|| RestError::missing(format!("Can not find a comment for the id: {id}.")))
}

fn comment_bean(
    shared: &JiraState,
    model: &JiraModel,
    viewer: Option<&str>,
    issue: &Issue,
    comment: &Comment,
) -> Value {
    BeanRenderer {
        base: &shared.base_url,
        model,
        viewer,
    }
    .comment(issue, comment)
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
