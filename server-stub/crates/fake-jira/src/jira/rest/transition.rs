//! The transitions of an issue: list and perform.

use axum::extract::Path;
use serde_json::{Map, Value, json};

use super::edit;
use super::extract::{JsonObject, QueryParameters};
use super::view::{RestContext, RestView};
use super::webhook_events::IssueEventType;
use crate::jira::model::JiraPermission;
use crate::jira::model::catalogue::{CatalogueItem, RESOLUTIONS, Resolution, WorkflowTransition};
use crate::jira::response::{RestError, RestResult, no_content, ok};

pub(super) async fn list(
    context: RestContext,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let view = context.view();
    let issue = view.issue(&name)?;
    let with_fields = parameters
        .list("expand")
        .iter()
        .any(|one| one == "transitions.fields");
    let allowed = view.may(issue.project, JiraPermission::TransitionIssues);
    let transitions: Vec<Value> = WorkflowTransition::leaving(issue.status)
        .filter(|_| allowed)
        .map(|one| {
            let mut bean = view.transition_bean(one);
            if with_fields {
                bean["fields"] = fields(&view, one);
            }
            bean
        })
        .collect();
    Ok(ok(
        &json!({ "expand": "transitions", "transitions": transitions }),
    ))
}

pub(super) async fn perform(
    context: RestContext,
    Path(name): Path<String>,
    JsonObject(mut body): JsonObject,
) -> RestResult {
    let mut view = context.view();
    let mut issue = view.issue(&name)?.clone();
    let wanted = match body
        .get("transition")
        .and_then(|transition| transition.get("id"))
    {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(RestError::bad("Missing 'transition' identifier")),
    };
    let allowed = view.may(issue.project, JiraPermission::TransitionIssues);
    let Some(transition) = WorkflowTransition::leaving(issue.status)
        .find(|one| one.id == wanted)
        .filter(|_| allowed)
    else {
        return Err(RestError::bad(format!(
            "It seems that you have tried to perform a workflow operation that is not valid for the \
             current state of this issue ({}). The likely cause is that somebody has changed the issue \
             recently, please look at the issue history for details. Transition id '{wanted}' is not \
             valid for this issue.",
            issue.key
        )));
    };
    let resolution = resolution(
        body.get_mut("fields").and_then(Value::as_object_mut),
        transition,
    )?;
    let comments = edit::apply(&view, &mut issue, &body, |field| {
        field.id == "assignee" && transition.target().category.key == DONE
    })
    .map_err(RestError::fields)?;
    issue.set_status(transition.target(), resolution);
    view.save_issue(issue, comments, IssueEventType::Generic)?;
    Ok(no_content())
}

/// Removes the resolution from the fields; "Done" if the screen has one and none was given.
fn resolution(
    fields: Option<&mut Map<String, Value>>,
    transition: &WorkflowTransition,
) -> Result<Option<&'static Resolution>, RestError> {
    if transition.target().category.key != DONE {
        return Ok(None);
    }
    let Some(given) = fields.and_then(|fields| fields.remove("resolution")) else {
        return Ok(RESOLUTIONS.first());
    };
    let text = |key: &str| given.get(key).and_then(Value::as_str);
    match (text("id"), text("name")) {
        (Some(id), _) => Resolution::by_id(id).map(Some).ok_or_else(|| {
            RestError::field("resolution", format!("Resolution id '{id}' is not valid"))
        }),
        (None, Some(name)) => Resolution::by_name(name).map(Some).ok_or_else(|| {
            RestError::field(
                "resolution",
                format!("Resolution name '{name}' is not valid"),
            )
        }),
        (None, None) => Err(RestError::field(
            "resolution",
            "Could not find valid 'id' or 'name' in resolution object.",
        )),
    }
}

/// The fields of the transition's screen.
fn fields(view: &RestView<'_>, transition: &WorkflowTransition) -> Value {
    if transition.target().category.key != DONE {
        return json!({});
    }
    let allowed: Value = RESOLUTIONS
        .iter()
        .map(|one| view.resolution_bean(one))
        .collect();
    json!({
        "resolution": {
            "required": true,
            "schema": { "type": "resolution", "system": "resolution" },
            "name": "Resolution",
            "fieldId": "resolution",
            "operations": ["set"],
            "allowedValues": allowed,
        },
    })
}

const DONE: &str = "done";
