//! One issue: read, change, assign, delete.

use axum::extract::Path;
use serde_json::Value;

use super::edit;
use super::extract::{JsonObject, QueryParameters};
use super::issue_bean::{ALL, FieldSelection};
use super::view::RestContext;
use super::webhook_events::IssueEventType;
use crate::jira::model::JiraPermission;
use crate::jira::response::{RestError, RestResult, no_content, ok};

pub(super) async fn get(
    context: RestContext,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let view = context.view();
    let issue = view.issue(&name)?;
    let fields = FieldSelection::new(&parameters.list("fields"), ALL);
    Ok(ok(&view.issue_bean(issue, &fields)))
}

pub(super) async fn put(
    context: RestContext,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut view = context.view();
    let mut issue = view.issue(&name)?.clone();
    view.require(
        issue.id,
        JiraPermission::EditIssues,
        "You do not have permission to edit issues in this project.",
    )?;
    let comments = edit::apply(&view, &mut issue, &body, |field| field.on_edit())
        .map_err(RestError::fields)?;
    view.save_issue(issue, comments, IssueEventType::Updated)?;
    Ok(no_content())
}

pub(super) async fn assign(
    context: RestContext,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut view = context.view();
    let id = view.find_issue(&name)?;
    view.require(
        id,
        JiraPermission::AssignIssues,
        "You do not have permission to assign issues.",
    )?;
    let assignee = edit::assignee(&view.model, view.project_of(id), &Value::Object(body))
        .map_err(|text| RestError::field("assignee", text))?;
    if let Some(mut issue) = view.model.issue(id).cloned() {
        issue.assignee = assignee;
        view.save_issue(issue, Vec::new(), IssueEventType::Assigned)?;
    }
    Ok(no_content())
}

pub(super) async fn delete(
    context: RestContext,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let files = {
        let mut view = context.view();
        let id = view.find_issue(&name)?;
        view.require(
            id,
            JiraPermission::DeleteIssues,
            "You do not have permission to delete issues in this project.",
        )?;
        let subtasks: Vec<u64> = view.model.subtasks_of(id).collect();
        if !subtasks.is_empty() && parameters.get("deleteSubtasks") != Some("true") {
            return Err(RestError::bad(format!(
                "The issue '{name}' has subtasks. You must specify the 'deleteSubtasks' parameter to \
                 delete this issue and all its subtasks."
            )));
        }
        for subtask in &subtasks {
            view.report_deleted(*subtask, true);
        }
        view.report_deleted(id, false);
        let mut files = view.model.remove_issue(id);
        for subtask in subtasks {
            files.extend(view.model.remove_issue(subtask));
        }
        files
    };
    for file in files {
        let _ = tokio::fs::remove_file(context.state.attachment_file(file)).await;
    }
    Ok(no_content())
}
