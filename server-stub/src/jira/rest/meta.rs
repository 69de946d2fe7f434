//! What can be set on an issue: createmeta of both eras, editmeta. The one resource of the first era
//! went with 9.0; the paged ones came with 8.4.

use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::RestState;
use super::bean::BeanRenderer;
use super::extract::QueryParameters;
use super::issue::find_issue;
use super::project::no_project;
use crate::jira::response::{RestError, RestResult, ok};
use crate::jira::login::Caller;
use crate::jira::model::catalogue::{CatalogueItem, ISSUE_TYPES, IssueType};
use crate::jira::model::fields::{FIELDS, FieldDefinition};
use crate::jira::model::{JiraModel, JiraPermission};

/// `createmeta?projectKeys=…&expand=projects.issuetypes.fields`, up to 8.
pub(super) async fn create_old(
    State(shared): RestState,
    caller: Caller,
    parameters: QueryParameters,
) -> RestResult {
    let viewer = caller.name();
    let model = shared.model();
    if shared.settings.major() >= PAGED_ONLY_SINCE {
        // From 9.0 the path names an issue, and there is none of this key.
        find_issue(&model, viewer, "createmeta")?;
    }
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer,
    };
    let (keys, ids) = (
        parameters.list("projectKeys"),
        parameters.list("projectIds"),
    );
    let type_ids = parameters.list("issuetypeIds");
    let type_names: Vec<&str> = parameters.all("issuetypeNames").collect();
    let with_fields = parameters
        .list("expand")
        .iter()
        .any(|one| one == "projects.issuetypes.fields");
    let projects: Value = (0..model.projects.len())
        .filter(|&index| model.may(viewer, index, JiraPermission::CreateIssues))
        .filter(|&index| {
            let project = &model.projects[index];
            (keys.is_empty() && ids.is_empty())
                || keys.contains(&project.key)
                || ids.contains(&project.id.to_string())
        })
        .map(|index| {
            let types: Value = ISSUE_TYPES
                .iter()
                .filter(|kind| {
                    (type_ids.is_empty() && type_names.is_empty())
                        || type_ids.iter().any(|id| id == kind.id)
                        || type_names.contains(&kind.name)
                })
                .map(|kind| {
                    let mut bean = beans.issue_type(kind);
                    if with_fields {
                        bean["expand"] = "fields".into();
                        bean["fields"] = create_screen(kind)
                            .map(|field| (field.id.to_owned(), meta(&beans, index, field, kind)))
                            .collect();
                    }
                    bean
                })
                .collect();
            let mut bean = beans.project(&model.projects[index]);
            bean["expand"] = "issuetypes".into();
            bean["issuetypes"] = types;
            bean
        })
        .collect();
    Ok(ok(&json!({ "expand": "projects", "projects": projects })))
}

pub(super) async fn create_types(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    creatable(&model, caller.name(), &name)?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    let types = ISSUE_TYPES
        .iter()
        .map(|kind| beans.issue_type(kind))
        .collect();
    Ok(ok(&page(&parameters, types)))
}

pub(super) async fn create_fields(
    State(shared): RestState,
    caller: Caller,
    Path((name, id)): Path<(String, String)>,
    parameters: QueryParameters,
) -> RestResult {
    let model = shared.model();
    let project = creatable(&model, caller.name(), &name)?;
    let kind = IssueType::by_id(&id).ok_or_else(|| {
        RestError::missing(format!("Issue type with id '{id}' could not be found."))
    })?;
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    let fields = create_screen(kind)
        .map(|field| meta(&beans, project, field, kind))
        .collect();
    Ok(ok(&page(&parameters, fields)))
}

pub(super) async fn edit(
    State(shared): RestState,
    caller: Caller,
    Path(name): Path<String>,
) -> RestResult {
    let model = shared.model();
    let id = find_issue(&model, caller.name(), &name)?;
    let project = model.issue(id).map_or(usize::MAX, |issue| issue.project);
    let beans = BeanRenderer {
        base: &shared.base_url,
        model: &model,
        viewer: caller.name(),
    };
    let fields = if model.may(caller.name(), project, JiraPermission::EditIssues) {
        edit_fields(&beans, project)
    } else {
        Map::new()
    };
    Ok(ok(&json!({ "fields": fields })))
}

/// The fields of the edit screen by id.
pub(super) fn edit_fields(beans: &BeanRenderer<'_>, project: usize) -> Map<String, Value> {
    let Some(project) = beans.model.projects.get(project) else {
        return Map::new();
    };
    FIELDS
        .iter()
        .filter(|field| field.on_edit())
        .map(|field| {
            let mut meta = beans.field_meta(project, field);
            meta.remove("hasDefaultValue");
            (field.id.to_owned(), Value::Object(meta))
        })
        .collect()
}

fn create_screen(kind: &IssueType) -> impl Iterator<Item = &'static FieldDefinition> {
    FIELDS
        .iter()
        .filter(|field| field.on_create && (field.id != "parent" || kind.subtask))
}

fn meta(
    beans: &BeanRenderer<'_>,
    project: usize,
    field: &FieldDefinition,
    kind: &IssueType,
) -> Value {
    let mut meta = beans.field_meta(&beans.model.projects[project], field);
    match field.id {
        "issuetype" => {
            meta.insert("allowedValues".into(), vec![beans.issue_type(kind)].into());
        }
        "parent" => {
            meta.insert("required".into(), true.into());
        }
        _ => {}
    }
    meta.into()
}

/// The index of a project in which the viewer may create issues.
fn creatable(model: &JiraModel, viewer: Option<&str>, name: &str) -> Result<usize, RestError> {
    model
        .project(viewer, name)
        .filter(|&project| model.may(viewer, project, JiraPermission::CreateIssues))
        .ok_or_else(|| no_project(name))
}

fn page(parameters: &QueryParameters, all: Vec<Value>) -> Value {
    let start_at = parameters.number("startAt", 0);
    let max_results = parameters.number("maxResults", DEFAULT_PAGE).min(MAX_PAGE);
    let total = all.len();
    let values: Vec<Value> = all.into_iter().skip(start_at).take(max_results).collect();
    json!({
        "maxResults": max_results,
        "startAt": start_at,
        "total": total,
        "isLast": start_at + values.len() >= total,
        "values": values,
    })
}

const PAGED_ONLY_SINCE: u32 = 9;
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 200;
