//! Projects and what belongs to one. A project that the viewer may not browse is not there.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::RestState;
use super::bean::BeanRenderer;
use crate::jira::response::{RestError, RestResult, ok};
use crate::jira::login::Caller;
use crate::jira::model::Project;
use crate::jira::model::catalogue::{ISSUE_TYPES, STATUSES};
use crate::jira::state::JiraState;

pub(super) async fn all(State(shared): RestState, caller: Caller) -> Response {
    let model = shared.model();
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    let projects = model
        .visible_projects(caller.name())
        .into_iter()
        .map(|index| {
            let mut bean = beans.project(&model.projects[index]);
            bean["expand"] = "description,lead,url,projectKeys".into();
            bean
        });
    ok(&projects.collect())
}

pub(super) async fn one(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
) -> RestResult {
    project_bean(&shared, &caller, &name, |beans, project| {
        beans.whole_project(project)
    })
}

pub(super) async fn components(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
) -> RestResult {
    project_bean(&shared, &caller, &name, |beans, project| {
        project
            .components
            .iter()
            .map(|part| beans.component(project, part))
            .collect()
    })
}

pub(super) async fn versions(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
) -> RestResult {
    project_bean(&shared, &caller, &name, |beans, project| {
        project
            .versions
            .iter()
            .map(|part| beans.version(project, part))
            .collect()
    })
}

pub(super) async fn statuses(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
) -> RestResult {
    project_bean(&shared, &caller, &name, |beans, _| {
        let statuses: Value = STATUSES.iter().map(|status| beans.status(status)).collect();
        let types = ISSUE_TYPES.iter().map(|kind| {
            json!({
                "self": beans.url(&format!("issuetype/{}", kind.id)),
                "id": kind.id,
                "name": kind.name,
                "subtask": kind.subtask,
                "statuses": statuses,
            })
        });
        types.collect()
    })
}

fn project_bean(
    shared: &JiraState,
    caller: &Caller,
    name: &str,
    draw: impl Fn(&BeanRenderer<'_>, &Project) -> Value,
) -> RestResult {
    let model = shared.model();
    let index = model
        .project(caller.name(), name)
        .ok_or_else(|| no_project(name))?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    Ok(ok(&draw(&beans, &model.projects[index])))
}

/// No such project, or not for this viewer.
pub(super) fn no_project(name: &str) -> RestError {
    RestError::missing(format!("No project could be found with key '{name}'."))
}
