//! Projects and what belongs to one. A project that the viewer may not browse is not there.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::App;
use super::bean::Beans;
use crate::jira::answer::{Answer, Failure, ok};
use crate::jira::login::Caller;
use crate::jira::shared::Shared;
use crate::jira::world::Project;
use crate::jira::world::catalogue::{ISSUE_TYPES, STATUSES};

pub(super) async fn all(State(shared): App, caller: Caller) -> Response {
    let world = shared.world();
    let beans = Beans {
        base: &shared.base_url,
        world: &world,
        viewer: caller.name(),
    };
    let projects = world
        .visible_projects(caller.name())
        .into_iter()
        .map(|index| {
            let mut bean = beans.project(&world.projects[index]);
            bean["expand"] = "description,lead,url,projectKeys".into();
            bean
        });
    ok(&projects.collect())
}

pub(super) async fn one(State(shared): App, caller: Caller, Path(name): Path<String>) -> Answer {
    draw(&shared, &caller, &name, |beans, project| {
        beans.whole_project(project)
    })
}

pub(super) async fn components(
    State(shared): App,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    draw(&shared, &caller, &name, |beans, project| {
        project
            .components
            .iter()
            .map(|part| beans.component(project, part))
            .collect()
    })
}

pub(super) async fn versions(
    State(shared): App,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    draw(&shared, &caller, &name, |beans, project| {
        project
            .versions
            .iter()
            .map(|part| beans.version(project, part))
            .collect()
    })
}

pub(super) async fn statuses(
    State(shared): App,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    draw(&shared, &caller, &name, |beans, _| {
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

fn draw(
    shared: &Shared,
    caller: &Caller,
    name: &str,
    draw: impl Fn(&Beans<'_>, &Project) -> Value,
) -> Answer {
    let world = shared.world();
    let index = world
        .project(caller.name(), name)
        .ok_or_else(|| no_project(name))?;
    let beans = Beans {
        base: &shared.base_url,
        world: &world,
        viewer: caller.name(),
    };
    Ok(ok(&draw(&beans, &world.projects[index])))
}

/// No such project, or not for this viewer.
pub(super) fn no_project(name: &str) -> Failure {
    Failure::missing(format!("No project could be found with key '{name}'."))
}
