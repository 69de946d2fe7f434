//! The fields that can be set on an issue: editmeta, and createmeta in both forms. The single resource
//! was removed in 9.0; the paged resources came in 8.4.

use axum::extract::Path;
use serde_json::{Map, Value, json};

use super::extract::QueryParameters;
use super::project::no_project;
use super::view::{RestContext, RestView};
use crate::jira::model::JiraPermission;
use crate::jira::model::catalogue::{CatalogueItem, ISSUE_TYPES, IssueType};
use crate::jira::model::fields::{FIELDS, FieldDefinition};
use crate::jira::response::{RestError, RestResult, ok};

/// `createmeta?projectKeys=…&expand=projects.issuetypes.fields`, up to version 8.
pub(super) async fn create_old(context: RestContext, parameters: QueryParameters) -> RestResult {
    let view = context.view();
    if context.state.settings.major() >= PAGED_ONLY_SINCE {
        // Since 9.0 the path names an issue, and none has this key.
        view.find_issue("createmeta")?;
    }
    let (keys, ids) = (
        parameters.list("projectKeys"),
        parameters.list("projectIds"),
    );
    let with_fields = parameters
        .list("expand")
        .iter()
        .any(|one| one == "projects.issuetypes.fields");
    let projects: Value = (0..view.model.projects.len())
        .filter(|&index| view.may(index, JiraPermission::CreateIssues))
        .filter(|&index| {
            let project = &view.model.projects[index];
            (keys.is_empty() && ids.is_empty())
                || keys.contains(&project.key)
                || ids.contains(&project.id.to_string())
        })
        .map(|index| {
            let types: Value = ISSUE_TYPES
                .iter()
                .map(|kind| {
                    let mut bean = view.issue_type_bean(kind);
                    if with_fields {
                        bean["expand"] = "fields".into();
                        bean["fields"] = create_screen(kind)
                            .map(|field| (field.id.to_owned(), meta(&view, index, field, kind)))
                            .collect();
                    }
                    bean
                })
                .collect();
            let mut bean = view.project_bean(&view.model.projects[index]);
            bean["expand"] = "issuetypes".into();
            bean["issuetypes"] = types;
            bean
        })
        .collect();
    Ok(ok(&json!({ "expand": "projects", "projects": projects })))
}

pub(super) async fn create_types(
    context: RestContext,
    Path(name): Path<String>,
    parameters: QueryParameters,
) -> RestResult {
    let view = context.view();
    creatable(&view, &name)?;
    let types = ISSUE_TYPES
        .iter()
        .map(|kind| view.issue_type_bean(kind))
        .collect();
    Ok(ok(&page(&parameters, types)))
}

pub(super) async fn create_fields(
    context: RestContext,
    Path((name, id)): Path<(String, String)>,
    parameters: QueryParameters,
) -> RestResult {
    let view = context.view();
    let project = creatable(&view, &name)?;
    let kind = IssueType::by_id(&id).ok_or_else(|| {
        RestError::missing(format!("Issue type with id '{id}' could not be found."))
    })?;
    let fields = create_screen(kind)
        .map(|field| meta(&view, project, field, kind))
        .collect();
    Ok(ok(&page(&parameters, fields)))
}

pub(super) async fn edit(context: RestContext, Path(name): Path<String>) -> RestResult {
    let view = context.view();
    let project = view.issue(&name)?.project;
    let fields = if view.may(project, JiraPermission::EditIssues) {
        edit_fields(&view, project)
    } else {
        Map::new()
    };
    Ok(ok(&json!({ "fields": fields })))
}

/// The fields of the edit screen, by id.
fn edit_fields(view: &RestView<'_>, project: usize) -> Map<String, Value> {
    let Some(project) = view.model.projects.get(project) else {
        return Map::new();
    };
    FIELDS
        .iter()
        .filter(|field| field.on_edit())
        .map(|field| {
            let mut meta = view.field_meta(project, field);
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

fn meta(view: &RestView<'_>, project: usize, field: &FieldDefinition, kind: &IssueType) -> Value {
    let mut meta = view.field_meta(&view.model.projects[project], field);
    match field.id {
        "issuetype" => {
            meta.insert(
                "allowedValues".into(),
                vec![view.issue_type_bean(kind)].into(),
            );
        }
        "parent" => {
            meta.insert("required".into(), true.into());
        }
        _ => {}
    }
    meta.into()
}

/// The index of a project in which the viewer may create issues.
fn creatable(view: &RestView<'_>, name: &str) -> Result<usize, RestError> {
    view.model
        .project(view.viewer, name)
        .filter(|&project| view.may(project, JiraPermission::CreateIssues))
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
