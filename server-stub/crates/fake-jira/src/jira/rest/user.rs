//! Users: the caller, one by name, search by prefix, assignable users.

use axum::response::Response;
use serde_json::{Value, json};

use super::extract::{LoggedInUser, QueryParameters};
use super::view::{RestContext, RestView};
use crate::jira::model::{DirectoryUser, JiraPermission};
use crate::jira::response::{RestError, RestResult, ok};

pub(super) async fn myself(context: RestContext, LoggedInUser(me): LoggedInUser) -> Response {
    let view = context.view();
    ok(&full_bean(&view, &me))
}

pub(super) async fn user(
    context: RestContext,
    LoggedInUser(_): LoggedInUser,
    parameters: QueryParameters,
) -> RestResult {
    let view = context.view();
    let found =
        match (parameters.get("username"), parameters.get("key")) {
            (Some(name), _) => view.model.users.find(name).ok_or_else(|| {
                RestError::missing(format!("The user named '{name}' does not exist"))
            }),
            (None, Some(key)) => view
                .model
                .users
                .all()
                .find(|user| view.user_key(&user.name) == key)
                .ok_or_else(|| {
                    RestError::missing(format!("The user with the key '{key}' does not exist"))
                }),
            (None, None) => Err(RestError::missing(
                "Either the 'username' or the 'key' query parameters need to be provided",
            )),
        }?;
    Ok(ok(&full_bean(&view, &found.name)))
}

pub(super) async fn assignable(
    context: RestContext,
    LoggedInUser(_): LoggedInUser,
    parameters: QueryParameters,
) -> RestResult {
    let view = context.view();
    let project = match (parameters.get("issueKey"), parameters.get("project")) {
        (Some(key), _) => view.issue(key)?.project,
        (None, Some(name)) => view.find_project(name)?,
        (None, None) => {
            return Err(RestError::bad(
                "Either the 'project' or the 'issueKey' query parameters need to be provided",
            ));
        }
    };
    Ok(ok(&matching(&view, &parameters, |user| {
        view.model
            .may(Some(&user.name), project, JiraPermission::AssignableUser)
    })))
}

/// The users whose login or display name starts with the parameter `username`.
fn matching(
    view: &RestView<'_>,
    parameters: &QueryParameters,
    allowed: impl Fn(&DirectoryUser) -> bool,
) -> Value {
    let wanted = parameters
        .get("username")
        .unwrap_or_default()
        .to_lowercase();
    view.model
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
        .map(|user| view.user_bean(Some(&user.name)))
        .collect()
}

fn full_bean(view: &RestView<'_>, name: &str) -> Value {
    let mut bean = view.user_bean(Some(name));
    let groups: Vec<Value> = view
        .model
        .users
        .find(name)
        .into_iter()
        .flat_map(|user| &user.groups)
        .map(
            |group| json!({ "name": group, "self": view.url(&format!("group?groupname={group}")) }),
        )
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
