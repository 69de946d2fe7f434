//! Projects, and their components, versions and statuses. Projects that the viewer may not browse are 404.

use axum::extract::Path;
use axum::response::Response;
use serde_json::{Value, json};

use super::view::{RestContext, RestView};
use crate::jira::model::Project;
use crate::jira::model::catalogue::{ISSUE_TYPES, STATUSES};
use crate::jira::response::{RestError, RestResult, ok};

pub(super) async fn all(context: RestContext) -> Response {
    let view = context.view();
    let projects = view
        .model
        .visible_projects(view.viewer)
        .into_iter()
        .map(|index| {
            let mut bean = view.project_bean(&view.model.projects[index]);
            bean["expand"] = "description,lead,url,projectKeys".into();
            bean
        });
    ok(&projects.collect())
}

pub(super) async fn one(context: RestContext, Path(name): Path<String>) -> RestResult {
    one_bean(&context, &name, |view, project| {
        view.whole_project_bean(project)
    })
}

pub(super) async fn components(context: RestContext, Path(name): Path<String>) -> RestResult {
    one_bean(&context, &name, |view, project| {
        project
            .components
            .iter()
            .map(|part| view.component_bean(project, part))
            .collect()
    })
}

pub(super) async fn versions(context: RestContext, Path(name): Path<String>) -> RestResult {
    one_bean(&context, &name, |view, project| {
        project
            .versions
            .iter()
            .map(|part| view.version_bean(project, part))
            .collect()
    })
}

pub(super) async fn statuses(context: RestContext, Path(name): Path<String>) -> RestResult {
    one_bean(&context, &name, |view, _| {
        let statuses: Value = STATUSES
            .iter()
            .map(|status| view.status_bean(status))
            .collect();
        let types = ISSUE_TYPES.iter().map(|kind| {
            json!({
                "self": view.url(&format!("issuetype/{}", kind.id)),
                "id": kind.id,
                "name": kind.name,
                "subtask": kind.subtask,
                "statuses": statuses,
            })
        });
        types.collect()
    })
}

fn one_bean(
    context: &RestContext,
    name: &str,
    draw: impl Fn(&RestView<'_>, &Project) -> Value,
) -> RestResult {
    let view = context.view();
    let index = view.find_project(name)?;
    Ok(ok(&draw(&view, &view.model.projects[index])))
}

/// 404 for a project that does not exist or that the viewer may not see.
pub(super) fn no_project(name: &str) -> RestError {
    RestError::missing(format!("No project could be found with key '{name}'."))
}
