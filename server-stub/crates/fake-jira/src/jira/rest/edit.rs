//! Applies `fields` and `update` of a request to an issue, with Jira's message for each invalid field.

use serde_json::{Map, Value};
use time::Date;
use time::macros::format_description;

use super::view::RestView;
use crate::jira::model::catalogue::{CatalogueItem, IssueType, Priority};
use crate::jira::model::fields::{FieldDefinition, FieldKind};
use crate::jira::model::{Issue, JiraModel, JiraPermission, ProjectPart};

/// Error messages by field.
pub(super) type FieldErrors = Vec<(String, String)>;

/// Sets the fields in `fields`, then applies `update`. Returns the comments in `update`.
pub(super) fn apply(
    view: &RestView<'_>,
    issue: &mut Issue,
    body: &Map<String, Value>,
    on_screen: impl Fn(&FieldDefinition) -> bool,
) -> Result<Vec<String>, FieldErrors> {
    let mut errors = FieldErrors::new();
    let mut comments = Vec::new();
    let assigns = view.may(issue.project, JiraPermission::AssignIssues);
    let allowed = |id: &str| {
        FieldDefinition::by_id(id)
            .filter(|field| on_screen(field))
            .filter(|field| field.id != "assignee" || assigns)
    };
    let off_screen = |id: &str| {
        format!("Field '{id}' cannot be set. It is not on the appropriate screen, or unknown.")
    };
    for (id, value) in object(body.get("fields")) {
        let outcome = match allowed(id) {
            Some(field) => set(&view.model, issue, field, value),
            None => Err(off_screen(id)),
        };
        if let Err(text) = outcome {
            errors.push((id.clone(), text));
        }
    }
    for (id, operations) in object(body.get("update")) {
        for operation in operations.as_array().into_iter().flatten() {
            let outcome = match (id.as_str(), allowed(id)) {
                ("comment", _) => operation
                    .get("add")
                    .and_then(|add| add.get("body"))
                    .and_then(Value::as_str)
                    .map(|body| comments.push(body.to_owned()))
                    .ok_or_else(|| "Comment body can not be empty!".to_owned()),
                (_, Some(field)) => update(&view.model, issue, field, operation),
                (_, None) => Err(off_screen(id)),
            };
            if let Err(text) = outcome {
                errors.push((id.clone(), text));
            }
        }
    }
    if errors.is_empty() {
        Ok(comments)
    } else {
        Err(errors)
    }
}

/// The project in `fields`, if the viewer may see it.
pub(super) fn project(view: &RestView<'_>, fields: &Value) -> Result<usize, String> {
    let Some(named) = fields.get("project").filter(|value| !value.is_null()) else {
        return Err("project is required".into());
    };
    let Some(name) = by_keys(named, &["key", "id"]) else {
        return Err("data was not an object".into());
    };
    view.model
        .project(view.viewer, &name)
        .ok_or_else(|| "valid project is required".into())
}

/// The issue type in `fields`.
pub(super) fn issue_type(fields: &Value) -> Result<&'static IssueType, String> {
    let Some(named) = fields.get("issuetype").filter(|value| !value.is_null()) else {
        return Err("issue type is required".into());
    };
    let id = by_keys(named, &["id"]).and_then(|id| IssueType::by_id(&id));
    id.or_else(|| by_keys(named, &["name"]).and_then(|name| IssueType::by_name(&name)))
        .ok_or_else(|| "valid issue type is required".into())
}

/// The user in `{"name":…}`; `None` means unassigned.
pub(super) fn assignee(
    model: &JiraModel,
    project: usize,
    value: &Value,
) -> Result<Option<String>, String> {
    let name = match value {
        Value::Null => return Ok(None),
        Value::Object(object) => match object.get("name").or_else(|| object.get("key")) {
            None | Some(Value::Null) => return Ok(None),
            Some(name) => name.as_str().unwrap_or_default(),
        },
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err("data was not an object".into());
        }
    };
    match name {
        "" => Ok(None),
        AUTOMATIC => Ok(model
            .projects
            .get(project)
            .map(|project| project.lead.clone())),
        name => {
            let Some(user) = model.users.find(name) else {
                return Err(format!("User '{name}' does not exist."));
            };
            if model.may(Some(&user.name), project, JiraPermission::AssignableUser) {
                Ok(Some(user.name.clone()))
            } else {
                Err(format!("User '{name}' cannot be assigned issues."))
            }
        }
    }
}

fn set(
    model: &JiraModel,
    issue: &mut Issue,
    field: &'static FieldDefinition,
    value: &Value,
) -> Result<(), String> {
    let project = &model.projects[issue.project];
    match field.kind {
        FieldKind::Project | FieldKind::Stored { .. } | FieldKind::Resolution => {}
        FieldKind::IssueType => {
            issue.kind = issue_type(&serde_json::json!({ "issuetype": value }))?;
        }
        FieldKind::Summary => issue.summary = summary(value)?,
        FieldKind::Text | FieldKind::Line => {
            let text = match value {
                Value::Null => None,
                Value::String(text) if text.chars().count() > MAX_TEXT => {
                    return Err(
                        "The entered text is too long. It exceeds the allowed limit of 32,767 \
                                characters."
                            .into(),
                    );
                }
                Value::String(text) => Some(text.clone()),
                Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                    return Err("Operation value must be a string".into());
                }
            };
            set_plain(issue, field, text.map(Value::String));
        }
        FieldKind::Number => match value {
            Value::Null => set_plain(issue, field, None),
            Value::Number(number) => set_plain(issue, field, number.as_f64().map(Value::from)),
            Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => {
                return Err("Operation value must be a number".into());
            }
        },
        FieldKind::Date => match value {
            Value::Null => set_plain(issue, field, None),
            Value::String(text) if Date::parse(text, DATE).is_ok() => {
                set_plain(issue, field, Some(value.clone()));
            }
            Value::String(text) => return Err(format!("Error parsing date string: {text}")),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err("Operation value must be a string".into());
            }
        },
        FieldKind::Priority => issue.priority = priority(value)?,
        FieldKind::User => {
            let user = if field.id == "assignee" {
                assignee(model, issue.project, value)?
            } else {
                reporter(model, value)?
            };
            if field.id == "assignee" {
                issue.assignee = user;
            } else {
                issue.reporter = user;
            }
        }
        FieldKind::Labels => issue.labels = labels(value)?,
        FieldKind::Components => issue.components = parts(&project.components, value, "Component")?,
        FieldKind::Versions => {
            let versions = parts(&project.versions, value, "Version")?;
            if field.id == "versions" {
                issue.versions = versions;
            } else {
                issue.fix_versions = versions;
            }
        }
        FieldKind::Parent => {
            let name = by_keys(value, &["key", "id"]).unwrap_or_default();
            let parent = model.issues().find(|other| {
                other.project == issue.project
                    && (other.key == name || other.id.to_string() == name)
            });
            issue.parent = match parent {
                Some(parent) => Some(parent.id),
                None => return Err("Could not find issue by id or key.".into()),
            };
        }
    }
    Ok(())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others are treated alike"
)]
fn update(
    model: &JiraModel,
    issue: &mut Issue,
    field: &'static FieldDefinition,
    operation: &Value,
) -> Result<(), String> {
    let Some((verb, value)) = operation.as_object().and_then(|one| one.iter().next()) else {
        return Err("data was not an object".into());
    };
    if verb == "set" {
        return set(model, issue, field, value);
    }
    let adds = verb == "add";
    if !field.operations().contains(&verb.as_str()) {
        return Err(format!(
            "operation '{verb}' is not supported for field '{}'",
            field.id
        ));
    }
    let one = Value::Array(vec![value.clone()]);
    let project = &model.projects[issue.project];
    match field.kind {
        FieldKind::Labels => change(&mut issue.labels, labels(&one)?, adds),
        FieldKind::Components => {
            change(
                &mut issue.components,
                parts(&project.components, &one, "Component")?,
                adds,
            );
        }
        FieldKind::Versions => {
            let versions = parts(&project.versions, &one, "Version")?;
            let values = if field.id == "versions" {
                &mut issue.versions
            } else {
                &mut issue.fix_versions
            };
            change(values, versions, adds);
        }
        _ => {}
    }
    Ok(())
}

fn change<T: PartialEq>(values: &mut Vec<T>, changed: Vec<T>, adds: bool) {
    for one in changed {
        values.retain(|other| *other != one);
        if adds {
            values.push(one);
        }
    }
}

fn set_plain(issue: &mut Issue, field: &'static FieldDefinition, value: Option<Value>) {
    match value {
        Some(value) => issue.plain.insert(field.id, value),
        None => issue.plain.remove(field.id),
    };
}

fn summary(value: &Value) -> Result<String, String> {
    match value {
        Value::String(text) if text.trim().is_empty() => Err(NO_SUMMARY.into()),
        Value::Null => Err(NO_SUMMARY.into()),
        Value::String(text) if text.contains(['\n', '\r']) => {
            Err("The summary is invalid because it contains newline characters.".into())
        }
        Value::String(text) if text.chars().count() > MAX_SUMMARY => {
            Err("Summary must be less than 255 characters.".into())
        }
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err("Operation value must be a string".into())
        }
    }
}

fn priority(value: &Value) -> Result<&'static Priority, String> {
    if let Some(id) = by_keys(value, &["id"]) {
        return Priority::by_id(&id).ok_or_else(|| format!("Priority id '{id}' is not valid"));
    }
    if let Some(name) = by_keys(value, &["name"]) {
        return Priority::by_name(&name)
            .ok_or_else(|| format!("Priority name '{name}' is not valid"));
    }
    Err("Could not find valid 'id' or 'name' in priority object.".into())
}

fn reporter(model: &JiraModel, value: &Value) -> Result<Option<String>, String> {
    let Some(name) = by_keys(value, &["name", "key"]) else {
        return Err("Reporter is required.".into());
    };
    match model.users.find(&name) {
        Some(user) => Ok(Some(user.name.clone())),
        None => Err("The reporter specified is not a user.".into()),
    }
}

fn labels(value: &Value) -> Result<Vec<String>, String> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let Some(array) = value.as_array() else {
        return Err("data was not an array".into());
    };
    let mut labels = Vec::new();
    for (index, label) in array.iter().enumerate() {
        match label.as_str() {
            None => return Err(format!("string expected at index {index}")),
            Some(label) if label.contains(char::is_whitespace) => {
                return Err(format!(
                    "The label '{label}' contains spaces which is invalid."
                ));
            }
            Some(label) => labels.push(label.to_owned()),
        }
    }
    Ok(labels)
}

fn parts(known: &[ProjectPart], value: &Value, what: &str) -> Result<Vec<u64>, String> {
    if value.is_null() {
        return Ok(Vec::new());
    }
    let Some(array) = value.as_array() else {
        return Err("data was not an array".into());
    };
    array
        .iter()
        .map(|named| {
            let find = |key: &str, same: &dyn Fn(&ProjectPart, &str) -> bool| {
                by_keys(named, &[key]).map(|wanted| {
                    known
                        .iter()
                        .find(|part| same(part, &wanted))
                        .map(|part| part.id)
                        .ok_or_else(|| format!("{what} {key} '{wanted}' is not valid"))
                })
            };
            find("id", &|part, id| part.id.to_string() == id)
                .or_else(|| find("name", &|part, name| part.name == name))
                .unwrap_or_else(|| Err("expected 'id' or 'name' property".into()))
        })
        .collect()
}

/// The first of these members that is a string or a number.
fn by_keys(value: &Value, keys: &[&str]) -> Option<String> {
    keys.iter().find_map(|key| match value.get(key)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    })
}

fn object(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flatten()
}

/// Message for a missing summary.
pub(super) const NO_SUMMARY: &str = "You must specify a summary of the issue.";
const AUTOMATIC: &str = "-1";
const MAX_SUMMARY: usize = 254;
const MAX_TEXT: usize = 32_767;
const DATE: &[time::format_description::BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]");
