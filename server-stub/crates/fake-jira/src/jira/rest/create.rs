//! Creates one issue or several.

use std::collections::BTreeMap;

use axum::response::IntoResponse;
use http::StatusCode;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::edit::{self, FieldErrors};
use super::extract::JsonObject;
use super::view::RestContext;
use crate::jira::model::catalogue::{CatalogueItem, IssueType, PRIORITIES, Priority, STATUSES};
use crate::jira::model::{Comment, Issue, JiraPermission};
use crate::jira::response::{RestError, RestResult, json};

pub(super) async fn one(context: RestContext, JsonObject(body): JsonObject) -> RestResult {
    let bean = create(&context, &body)?;
    Ok(json(StatusCode::CREATED, &bean))
}

pub(super) async fn many(context: RestContext, JsonObject(body): JsonObject) -> RestResult {
    let (mut issues, mut errors) = (Vec::new(), Vec::new());
    let updates = body.get("issueUpdates").and_then(Value::as_array);
    for (number, update) in updates.into_iter().flatten().enumerate() {
        let empty = Map::new();
        match create(&context, update.as_object().unwrap_or(&empty)) {
            Ok(bean) => issues.push(bean),
            Err(failure) => errors.push(json!({
                "status": failure.status().as_u16(),
                "elementErrors": failure.body(),
                "failedElementNumber": number,
            })),
        }
    }
    let status = if issues.is_empty() {
        StatusCode::BAD_REQUEST
    } else {
        StatusCode::CREATED
    };
    Ok(json(status, &json!({ "issues": issues, "errors": errors })).into_response())
}

fn create(context: &RestContext, body: &Map<String, Value>) -> Result<Value, RestError> {
    let mut view = context.view();
    let fields = body.get("fields").cloned().unwrap_or_else(|| json!({}));
    let project = edit::project(&view, &fields);
    let kind = edit::issue_type(&fields);
    let mut errors = FieldErrors::new();
    let (project, kind) = match (project, kind) {
        (Ok(project), Ok(kind)) => (project, kind),
        (project, kind) => {
            errors.extend(project.err().map(|text| ("project".to_owned(), text)));
            errors.extend(kind.err().map(|text| ("issuetype".to_owned(), text)));
            if no_summary(&fields) {
                errors.push(("summary".into(), edit::NO_SUMMARY.into()));
            }
            return Err(RestError::fields(errors));
        }
    };
    if !view.may(project, JiraPermission::CreateIssues) {
        return Err(RestError::forbidden(
            "You do not have permission to create issues in this project.",
        ));
    }
    let mut issue = blank(view.viewer, project, kind);
    let comments = match edit::apply(&view, &mut issue, body, |field| field.on_create) {
        Ok(comments) => comments,
        Err(wrong) => {
            errors.extend(wrong);
            Vec::new()
        }
    };
    if issue.summary.is_empty() && !errors.iter().any(|(field, _)| field == "summary") {
        errors.push(("summary".into(), edit::NO_SUMMARY.into()));
    }
    if kind.subtask && issue.parent.is_none() && !errors.iter().any(|(field, _)| field == "parent")
    {
        errors.push((
            "issuetype".into(),
            "Issue type is a sub-task but parent issue key or id not specified.".into(),
        ));
    }
    if !errors.is_empty() {
        return Err(RestError::fields(errors));
    }
    let id = view.model.add_issue(issue)?;
    view.report_created(id);
    for body in comments {
        let comment = new_comment(view.viewer, body);
        let comment = view.model.add_comment(id, comment)?;
        view.report_comment_added(id, comment);
    }
    let key = view.model.issue(id).map(|issue| issue.key.as_str());
    Ok(json!({ "id": id.to_string(), "key": key, "self": view.url(&format!("issue/{id}")) }))
}

fn no_summary(fields: &Value) -> bool {
    fields.get("summary").is_none_or(Value::is_null)
}

fn blank(viewer: Option<&str>, project: usize, kind: &'static IssueType) -> Issue {
    let now = OffsetDateTime::now_utc();
    Issue {
        id: 0,
        key: String::new(),
        project,
        kind,
        summary: String::new(),
        status: &STATUSES[0],
        priority: Priority::by_name("Medium").unwrap_or(&PRIORITIES[0]),
        resolution: None,
        assignee: None,
        reporter: viewer.map(str::to_owned),
        creator: viewer.map(str::to_owned),
        parent: None,
        labels: Vec::new(),
        components: Vec::new(),
        versions: Vec::new(),
        fix_versions: Vec::new(),
        plain: BTreeMap::new(),
        created: now,
        updated: now,
        resolved: None,
        comments: Vec::new(),
        remote_links: Vec::new(),
        attachments: Vec::new(),
    }
}

/// A new comment with the current time.
pub(super) fn new_comment(author: Option<&str>, body: String) -> Comment {
    let now = OffsetDateTime::now_utc();
    Comment {
        id: 0,
        author: author.map(str::to_owned),
        update_author: author.map(str::to_owned),
        body,
        created: now,
        updated: now,
    }
}
