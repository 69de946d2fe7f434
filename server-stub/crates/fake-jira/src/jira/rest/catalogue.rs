//! The fixed lists: fields, priorities, statuses, resolutions, issue types, link types.

use axum::extract::Path;
use axum::response::Response;
use serde_json::{Value, json};

use super::issue_bean::schema;
use super::view::{RestContext, RestView};
use crate::jira::model::catalogue::{
    CatalogueItem, IssueLinkType, IssueStatus, IssueType, Priority, Resolution,
};
use crate::jira::model::fields::FIELDS;
use crate::jira::response::{RestError, RestResult, login_required, ok};

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

pub(super) async fn link_types(context: RestContext) -> Response {
    let view = context.view();
    let types: Value = IssueLinkType::ALL
        .iter()
        .map(|kind| view.link_type_bean(kind))
        .collect();
    ok(&json!({ "issueLinkTypes": types }))
}

/// All items of a kind. Anonymous requests that see no project get 401.
pub(super) async fn list<T: CatalogueBean>(context: RestContext) -> Response {
    let view = context.view();
    if view.viewer.is_none() && view.model.visible_projects(None).is_empty() {
        return login_required();
    }
    ok(&T::ALL.iter().map(|item| item.bean(&view)).collect())
}

/// One item by name or id.
pub(super) async fn one<T: CatalogueBean>(
    context: RestContext,
    Path(id): Path<String>,
) -> RestResult {
    let item = T::by_either(&id).ok_or_else(|| {
        RestError::missing(format!("The {} with id '{id}' does not exist", T::KIND))
    })?;
    Ok(ok(&item.bean(&context.view())))
}

/// An item of the catalogue that has a resource.
pub(super) trait CatalogueBean: CatalogueItem {
    /// What an error calls it.
    const KIND: &'static str;

    fn bean(&self, view: &RestView<'_>) -> Value;
}

macro_rules! beans {
    ($($kind:ty, $name:literal => $bean:ident),*) => {$(
        impl CatalogueBean for $kind {
            const KIND: &'static str = $name;

            fn bean(&self, view: &RestView<'_>) -> Value {
                view.$bean(self)
            }
        }
    )*};
}
beans!(
    Priority, "priority" => priority_bean,
    IssueStatus, "status" => status_bean,
    Resolution, "resolution" => resolution_bean,
    IssueType, "issue type" => issue_type_bean,
    IssueLinkType, "issue link type" => link_type_bean
);
