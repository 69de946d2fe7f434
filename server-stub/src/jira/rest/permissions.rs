//! `mypermissions`: open to everyone; anonymous users have few.

use axum::extract::State;
use serde_json::{Map, Value, json};

use super::RestState;
use super::extract::QueryParameters;
use super::project::no_project;
use crate::jira::response::{RestError, RestResult, ok};
use crate::jira::login::Caller;
use crate::jira::model::JiraPermission;

pub(super) async fn mine(
    State(shared): RestState,
    caller: Caller,
    parameters: QueryParameters,
) -> RestResult {
    let viewer = caller.name();
    let model = shared.model();
    let issue = parameters
        .get("issueKey")
        .or_else(|| parameters.get("issueId"));
    let project = parameters
        .get("projectKey")
        .or_else(|| parameters.get("projectId"));
    let project = match (issue, project) {
        (Some(issue), _) => {
            let id = model
                .visible_issue(viewer, issue)
                .map_err(|why| RestError::issue(why, viewer))?;
            model.issue(id).map(|issue| issue.project)
        }
        (None, Some(name)) => Some(
            model
                .project(viewer, name)
                .ok_or_else(|| no_project(name))?,
        ),
        (None, None) => None,
    };
    let permissions: Map<String, Value> = JiraPermission::ALL
        .iter()
        .map(|&permission| {
            let have = match project {
                Some(project) => model.may(viewer, project, permission),
                None => model.may_anywhere(viewer, permission),
            };
            let kind = if permission.is_global() {
                "GLOBAL"
            } else {
                "PROJECT"
            };
            let bean = json!({
                "id": permission.id().to_string(),
                "key": permission.key(),
                "name": permission.label(),
                "type": kind,
                "description": "",
                "havePermission": have,
            });
            (permission.key().to_owned(), bean)
        })
        .collect();
    Ok(ok(&json!({ "permissions": permissions })))
}
