//! Users: oneself, one by name, those whose name begins so, those who can be assigned.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use super::RestState;
use super::bean::BeanRenderer;
use super::extract::{LoggedInUser, QueryParameters};
use super::project::no_project;
use crate::jira::response::{RestError, RestResult, ok};
use crate::jira::model::{DirectoryUser, JiraModel, JiraPermission};

pub(super) async fn myself(State(shared): RestState, LoggedInUser(me): LoggedInUser) -> Response {
    let model = shared.model();
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: Some(&me),
    };
    ok(&full_bean(&beans, &me))
}

pub(super) async fn user(
    State(shared): RestState,
    LoggedInUser(me): LoggedInUser,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: Some(&me),
    };
    let found = match (parameters.get("username"), parameters.get("key")) {
        (Some(name), _) => model
            .users
            .find(name)
            .ok_or_else(|| RestError::missing(format!("The user named '{name}' does not exist"))),
        (None, Some(key)) => model
            .users
            .all()
            .find(|user| beans.user_key(&user.name) == key)
            .ok_or_else(|| {
                RestError::missing(format!("The user with the key '{key}' does not exist"))
            }),
        (None, None) => Err(RestError::missing(
            "Either the 'username' or the 'key' query parameters need to be provided",
        )),
    }?;
    Ok(ok(&full_bean(&beans, &found.name)))
}

pub(super) async fn search(
    State(shared): RestState,
    LoggedInUser(me): LoggedInUser,
    parameters: QueryParameters,
) -> RestResult {
    if parameters.get("username").is_none() {
        return Err(RestError::bad(
            "The username query parameter was not provided",
        ));
    }
    let model = shared.model();
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: Some(&me),
    };
    Ok(ok(&matching(&beans, &model, &parameters, |_| true)))
}

pub(super) async fn assignable(
    State(shared): RestState,
    LoggedInUser(me): LoggedInUser,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    let project = match (parameters.get("issueKey"), parameters.get("project")) {
        (Some(key), _) => {
            let id = model
                .visible_issue(Some(&me), key)
                .map_err(|why| RestError::issue(why, Some(&me)))?;
            model.issue(id).map(|issue| issue.project)
        }
        (None, Some(name)) => Some(
            model
                .project(Some(&me), name)
                .ok_or_else(|| no_project(name))?,
        ),
        (None, None) => {
            return Err(RestError::bad(
                "Either the 'project' or the 'issueKey' query parameters need to be provided",
            ));
        }
    };
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: Some(&me),
    };
    Ok(ok(&matching(&beans, &model, &parameters, |user| {
        project.is_some_and(|project| {
            model.may(Some(&user.name), project, JiraPermission::AssignableUser)
        })
    })))
}

/// The users whose login or display name begins with what is asked for.
fn matching(
    beans: &BeanRenderer<'_>,
    model: &JiraModel,
    parameters: &QueryParameters,
    allowed: impl Fn(&DirectoryUser) -> bool,
) -> Value {
    let wanted = parameters
        .get("username")
        .unwrap_or_default()
        .to_lowercase();
    model
        .users
        .all()
        .filter(|user| {
            wanted == "."
                || user.name.to_lowercase().starts_with(&wanted)
                || user
                    .display_name
                    .to_lowercase()
                    .split_whitespace()
                    .any(|word| word.starts_with(&wanted))
        })
        .filter(|user| allowed(user))
        .skip(parameters.number("startAt", 0))
        .take(parameters.number("maxResults", DEFAULT_PAGE).min(MAX_PAGE))
        .map(|user| beans.user(Some(&user.name)))
        .collect()
}

fn full_bean(beans: &BeanRenderer<'_>, name: &str) -> Value {
    let mut bean = beans.user(Some(name));
    let groups: Vec<Value> = beans
        .model
        .users
        .find(name)
        .into_iter()
        .flat_map(|user| &user.groups)
        .map(|group| json!({ "name": group, "self": beans.url(&format!("group?groupname={group}")) }))
        .collect();
    bean["locale"] = "en_US".into();
    bean["deleted"] = false.into();
    bean["groups"] = json!({ "size": groups.len(), "items": groups });
    bean["applicationRoles"] = json!({ "size": 1, "items": [] });
    bean["expand"] = "groups,applicationRoles".into();
    bean
}

const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 1000;
