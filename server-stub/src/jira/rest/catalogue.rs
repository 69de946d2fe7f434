//! The lists that come with Jira: fields, priorities, statuses, resolutions, issue types, link types.

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use super::App;
use super::bean::Beans;
use super::issue_bean::schema;
use crate::jira::answer::{Answer, Failure, login_required, ok};
use crate::jira::login::Caller;
use crate::jira::world::catalogue::{IssueType, LinkType, Named, Priority, Resolution, Status};
use crate::jira::world::fields::FIELDS;

pub(super) async fn fields() -> Response {
    let fields = FIELDS.iter().map(|field| {
        json!({
            "id": field.id,
            "name": field.name,
            "custom": field.is_custom(),
            "orderable": field.on_create,
            "navigable": true,
            "searchable": !field.jql.is_empty(),
            "clauseNames": field.jql,
            "schema": schema(field),
        })
    });
    ok(&fields.collect())
}

pub(super) async fn priorities(State(shared): App, caller: Caller) -> Response {
    list::<Priority>(&shared, &caller, |beans, one| beans.priority(one))
}

pub(super) async fn priority(State(shared): App, caller: Caller, Path(id): Path<String>) -> Answer {
    one::<Priority>(&shared, &caller, &id, "priority", |beans, one| {
        beans.priority(one)
    })
}

pub(super) async fn statuses(State(shared): App, caller: Caller) -> Response {
    list::<Status>(&shared, &caller, |beans, one| beans.status(one))
}

pub(super) async fn status(State(shared): App, caller: Caller, Path(id): Path<String>) -> Answer {
    one::<Status>(&shared, &caller, &id, "status", |beans, one| {
        beans.status(one)
    })
}

pub(super) async fn resolutions(State(shared): App, caller: Caller) -> Response {
    list::<Resolution>(&shared, &caller, |beans, one| beans.resolution(one))
}

pub(super) async fn resolution(
    State(shared): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    one::<Resolution>(&shared, &caller, &id, "resolution", |beans, one| {
        beans.resolution(one)
    })
}

pub(super) async fn issue_types(State(shared): App, caller: Caller) -> Response {
    list::<IssueType>(&shared, &caller, |beans, one| beans.issue_type(one))
}

pub(super) async fn issue_type(
    State(shared): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    one::<IssueType>(&shared, &caller, &id, "issue type", |beans, one| {
        beans.issue_type(one)
    })
}

pub(super) async fn link_types(State(shared): App, caller: Caller) -> Response {
    let world = shared.world();
    let beans = Beans {
        base: &shared.base_url,
        world: &world,
        viewer: caller.name(),
    };
    let types: Value = LinkType::ALL
        .iter()
        .map(|kind| beans.link_type(kind))
        .collect();
    ok(&json!({ "issueLinkTypes": types }))
}

pub(super) async fn link_type(
    State(shared): App,
    caller: Caller,
    Path(id): Path<String>,
) -> Answer {
    one::<LinkType>(&shared, &caller, &id, "issue link type", |beans, one| {
        beans.link_type(one)
    })
}

/// All of a kind. A Jira where anonymous people see no project tells them none of these.
fn list<T: Named>(
    shared: &crate::jira::shared::Shared,
    caller: &Caller,
    draw: fn(&Beans<'_>, &T) -> Value,
) -> Response {
    let world = shared.world();
    if caller.user.is_none() && world.visible_projects(None).is_empty() {
        return login_required();
    }
    let beans = Beans {
        base: &shared.base_url,
        world: &world,
        viewer: caller.name(),
    };
    ok(&T::ALL.iter().map(|one| draw(&beans, one)).collect())
}

fn one<T: Named>(
    shared: &crate::jira::shared::Shared,
    caller: &Caller,
    id: &str,
    what: &str,
    draw: fn(&Beans<'_>, &T) -> Value,
) -> Answer {
    let world = shared.world();
    let beans = Beans {
        base: &shared.base_url,
        world: &world,
        viewer: caller.name(),
    };
    match T::by_either(id) {
        Some(one) => Ok(ok(&draw(&beans, one))),
        None => Err(Failure::missing(format!(
            "The {what} with id '{id}' does not exist"
        ))),
    }
}
