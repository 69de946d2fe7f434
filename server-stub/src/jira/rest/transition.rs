//! The workflow: where an issue can go from here, and going there.

use axum::extract::{Path, State};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::App;
use super::bean::Beans;
use super::create::new_comment;
use super::edit;
use super::extract::{JsonObject, Parameters};
use super::issue::find;
use crate::jira::answer::{Answer, Failure, no_content, ok};
use crate::jira::login::Caller;
use crate::jira::world::Permission;
use crate::jira::world::catalogue::{Named, RESOLUTIONS, Resolution, Transition};

pub(super) async fn list(
    State(shared): App,
    caller: Caller,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Answer {
    let world = shared.world();
    let viewer = caller.name();
    let id = find(&world, viewer, &name)?;
    let beans = Beans {
        base: &shared.base_url,
        world: &world,
        viewer,
    };
    let with_fields = parameters
        .list("expand")
        .iter()
        .any(|one| one == "transitions.fields");
    let transitions: Vec<Value> = world
        .issue(id)
        .filter(|issue| world.may(viewer, issue.project, Permission::TransitionIssues))
        .into_iter()
        .flat_map(|issue| Transition::leaving(issue.status))
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

pub(super) async fn act(
    State(shared): App,
    caller: Caller,
    Path(name): Path<String>,
    JsonObject(mut body): JsonObject,
) -> Answer {
    let mut world = shared.world();
    let viewer = caller.name();
    let id = find(&world, viewer, &name)?;
    let Some(mut issue) = world.issue(id).cloned() else {
        return Err(Failure::missing("Issue Does Not Exist"));
    };
    let wanted = match body
        .get("transition")
        .and_then(|transition| transition.get("id"))
    {
        Some(Value::String(id)) => id.clone(),
        Some(Value::Number(id)) => id.to_string(),
        _ => return Err(Failure::bad("Missing 'transition' identifier")),
    };
    let allowed = world.may(viewer, issue.project, Permission::TransitionIssues);
    let Some(transition) = Transition::leaving(issue.status)
        .find(|one| one.id == wanted)
        .filter(|_| allowed)
    else {
        return Err(Failure::bad(format!(
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
    let comments = edit::apply(&world, viewer, &mut issue, &body, |field| {
        field.id == "assignee" && transition.target().category.key == DONE
    })
    .map_err(Failure::fields)?;
    issue.enter(transition.target(), resolution);
    issue.updated = OffsetDateTime::now_utc();
    if let Some(kept) = world.issue_mut(id) {
        *kept = issue;
    }
    for body in comments {
        world.add_comment(id, new_comment(viewer, body))?;
    }
    Ok(no_content())
}

/// Takes the resolution out of the fields; "Done" when the screen has one and none was given.
fn resolution(
    fields: Option<&mut Map<String, Value>>,
    transition: &Transition,
) -> Result<Option<&'static Resolution>, Failure> {
    if transition.target().category.key != DONE {
        return Ok(None);
    }
    let Some(given) = fields.and_then(|fields| fields.remove("resolution")) else {
        return Ok(RESOLUTIONS.first());
    };
    let text = |key: &str| given.get(key).and_then(Value::as_str);
    match (text("id"), text("name")) {
        (Some(id), _) => Resolution::by_id(id).map(Some).ok_or_else(|| {
            Failure::field("resolution", format!("Resolution id '{id}' is not valid"))
        }),
        (None, Some(name)) => Resolution::by_name(name).map(Some).ok_or_else(|| {
            Failure::field(
                "resolution",
                format!("Resolution name '{name}' is not valid"),
            )
        }),
        (None, None) => Err(Failure::field(
            "resolution",
            "Could not find valid 'id' or 'name' in resolution object.",
        )),
    }
}

/// The fields of a transition's screen.
fn fields(beans: &Beans<'_>, transition: &Transition) -> Value {
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
