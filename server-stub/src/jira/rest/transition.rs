//! The workflow: where an issue can go from here, and going there.

use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::RestState;
use super::bean::BeanRenderer;
use super::create::new_comment;
use super::edit;
use super::extract::{JsonObject, QueryParameters};
use super::issue::find_issue;
use crate::jira::response::{RestError, RestResult, no_content, ok};
use crate::jira::login::Caller;
use crate::jira::model::JiraPermission;
use crate::jira::model::catalogue::{CatalogueItem, RESOLUTIONS, Resolution, WorkflowTransition};

pub(super) async fn list(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    let viewer = caller.name();
    let id = find_issue(&model, viewer, &name)?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer,
    };
    let with_fields = parameters
        .list("expand")
        .iter()
        .any(|one| one == "transitions.fields");
    let transitions: Vec<Value> = model
        .issue(id)
        .filter(|issue| model.may(viewer, issue.project, JiraPermission::TransitionIssues))
        .into_iter()
        .flat_map(|issue| WorkflowTransition::leaving(issue.status))
        .filter(|one| {
            parameters
                .get("transitionId")
                .is_none_or(|wanted| wanted == one.id)
        })
        .map(|one| {
            let mut bean = beans.transition(one);
            if with_fields {
                bean["fields"] = fields(&beans, one);
            }
            bean
        })
        .collect();
    Ok(ok(
        &json!({ "expand": "transitions", "transitions": transitions }),
    ))
}

pub(super) async fn perform(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(mut body): JsonObject,
) -> RestResult {
    let mut model = shared.model();
    let viewer = caller.name();
    let id = find_issue(&model, viewer, &name)?;
    let Some(mut issue) = model.issue(id).cloned() else {
        return Err(RestError::missing("Issue Does Not Exist"));
    };
    let wanted = match body
        .get("transition")
        .and_then(|transition| transition.get("id"))
    {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(RestError::bad("Missing 'transition' identifier")),
    };
    let allowed = model.may(viewer, issue.project, JiraPermission::TransitionIssues);
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
    let comments = edit::apply(&model, viewer, &mut issue, &body, |field| {
        field.id == "assignee" && transition.target().category.key == DONE
    })
    .map_err(RestError::fields)?;
    issue.set_status(transition.target(), resolution);
    issue.updated = OffsetDateTime::now_utc();
    if let Some(stored) = model.issue_mut(id) {
        *stored = issue;
    }
    for body in comments {
        model.add_comment(id, new_comment(viewer, body))?;
    }
    Ok(no_content())
}

/// Takes the resolution out of the fields; "Done" when the screen has one and none was given.
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

/// The fields of a transition's screen.
fn fields(beans: &BeanRenderer<'_>, transition: &WorkflowTransition) -> Value {
    if transition.target().category.key != DONE {
        return json!({});
    }
    let allowed: Value = RESOLUTIONS
        .iter()
        .map(|one| beans.resolution(one))
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
