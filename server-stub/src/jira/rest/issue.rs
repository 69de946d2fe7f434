//! One issue: reading, changing, assigning, deleting.

use axum::extract::{Path, State};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::RestState;
use super::bean::BeanRenderer;
use super::create::new_comment;
use super::edit;
use super::extract::{JsonObject, QueryParameters};
use super::issue_bean::{ALL, FieldSelection};
use super::meta::edit_fields;
use crate::jira::response::{RestError, RestResult, no_content, ok};
use crate::jira::login::Caller;
use crate::jira::model::catalogue::WorkflowTransition;
use crate::jira::model::fields::FIELDS;
use crate::jira::model::{JiraModel, JiraPermission};

pub(super) async fn get(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    let viewer = caller.name();
    let id = find_issue(&model, viewer, &name)?;
    let Some(issue) = model.issue(id) else {
        return Err(RestError::missing("Issue Does Not Exist"));
    };
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer,
    };
    let mut bean = beans.issue(issue, &FieldSelection::new(&parameters.list("fields"), ALL));
    for expand in parameters.list("expand") {
        match expand.as_str() {
            "names" => {
                bean["names"] = FIELDS
                    .iter()
                    .map(|field| (field.id.to_owned(), Value::from(field.name)))
                    .collect();
            }
            "transitions" => {
                bean["transitions"] = WorkflowTransition::leaving(issue.status)
                    .map(|one| beans.transition(one))
                    .collect();
            }
            "editmeta" => {
                bean["editmeta"] = json!({ "fields": edit_fields(&beans, issue.project) })
            }
            "changelog" => {
                bean["changelog"] =
                    json!({ "startAt": 0, "maxResults": 0, "total": 0, "histories": [] });
            }
            "renderedFields" => bean["renderedFields"] = bean["fields"].clone(),
            _ => {}
        }
    }
    Ok(ok(&bean))
}

pub(super) async fn put(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut model = shared.model();
    let viewer = caller.name();
    let id = find_issue(&model, viewer, &name)?;
    let Some(mut issue) = model.issue(id).cloned() else {
        return Err(RestError::missing("Issue Does Not Exist"));
    };
    if !model.may(viewer, issue.project, JiraPermission::EditIssues) {
        return Err(RestError::forbidden(
            "You do not have permission to edit issues in this project.",
        ));
    }
    let comments = edit::apply(&model, viewer, &mut issue, &body, |field| field.on_edit())
        .map_err(RestError::fields)?;
    issue.updated = OffsetDateTime::now_utc();
    if let Some(stored) = model.issue_mut(id) {
        *stored = issue;
    }
    for body in comments {
        model.add_comment(id, new_comment(viewer, body))?;
    }
    Ok(no_content())
}

pub(super) async fn assign(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(body): JsonObject,
) -> RestResult {
    let mut model = shared.model();
    let viewer = caller.name();
    let id = find_issue(&model, viewer, &name)?;
    let project = model.issue(id).map_or(usize::MAX, |issue| issue.project);
    if !model.may(viewer, project, JiraPermission::AssignIssues) {
        return Err(RestError::forbidden(
            "You do not have permission to assign issues.",
        ));
    }
    let assignee = edit::assignee(&model, project, &Value::Object(body))
        .map_err(|text| RestError::field("assignee", text))?;
    if let Some(issue) = model.issue_mut(id) {
        issue.assignee = assignee;
        issue.updated = OffsetDateTime::now_utc();
    }
    Ok(no_content())
}

pub(super) async fn delete(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let files = {
        let mut model = shared.model();
        let viewer = caller.name();
        let id = find_issue(&model, viewer, &name)?;
        let project = model.issue(id).map_or(usize::MAX, |issue| issue.project);
        if !model.may(viewer, project, JiraPermission::DeleteIssues) {
            return Err(RestError::forbidden(
                "You do not have permission to delete issues in this project.",
            ));
        }
        let subtasks: Vec<u64> = model.subtasks_of(id).collect();
        if !subtasks.is_empty() && parameters.get("deleteSubtasks") != Some("true") {
            return Err(RestError::bad(format!(
                "The issue '{name}' has subtasks. You must specify the 'deleteSubtasks' parameter to \
                 delete this issue and all its subtasks."
            )));
        }
        let mut files = model.remove_issue(id);
        for subtask in subtasks {
            files.extend(model.remove_issue(subtask));
        }
        files
    };
    for file in files {
        let _ = tokio::fs::remove_file(shared.attachment_file(file)).await;
    }
    Ok(no_content())
}

/// The issue of this key or id, or why it cannot be had.
pub(super) fn find_issue(model: &JiraModel, viewer: Option<&str>, name: &str) -> Result<u64, RestError> {
    model
        .visible_issue(viewer, name)
        .map_err(|why| RestError::issue(why, viewer))
}
