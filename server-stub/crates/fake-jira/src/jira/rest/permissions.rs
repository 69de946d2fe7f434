//! `mypermissions`, also for anonymous requests.

use serde_json::{Map, Value, json};

use super::extract::QueryParameters;
use super::view::RestContext;
use crate::jira::model::JiraPermission;
use crate::jira::response::{RestResult, ok};

pub(super) async fn mine(context: RestContext, parameters: QueryParameters) -> RestResult {
    let view = context.view();
    let issue = parameters
        .get("issueKey")
        .or_else(|| parameters.get("issueId"));
    let project = parameters
        .get("projectKey")
        .or_else(|| parameters.get("projectId"));
    let project = match (issue, project) {
        (Some(issue), _) => Some(view.issue(issue)?.project),
        (None, Some(name)) => Some(view.find_project(name)?),
        (None, None) => None,
    };
    let permissions: Map<String, Value> = JiraPermission::ALL
        .iter()
        .map(|&permission| {
            let have = match project {
                Some(project) => view.may(project, permission),
                None => view.model.may_anywhere(view.viewer, permission),
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
