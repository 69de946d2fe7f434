//! `search` by GET and POST, also for anonymous requests.

use http::StatusCode;
use serde_json::{Value, json};

use super::extract::{JsonObject, QueryParameters};
use super::issue_bean::{FieldSelection, NAVIGABLE};
use super::view::RestContext;
use crate::jira::jql;
use crate::jira::response::{self, RestError, RestResult, ok};

pub(super) async fn get(context: RestContext, parameters: QueryParameters) -> RestResult {
    require_data_center(&context)?;
    run(
        &context,
        &SearchQuery {
            jql: parameters.get("jql").unwrap_or_default().to_owned(),
            start_at: number(parameters.get("startAt"))?,
            max_results: number(parameters.get("maxResults"))?,
            fields: parameters.list("fields"),
        },
    )
}

pub(super) async fn post(context: RestContext, JsonObject(body): JsonObject) -> RestResult {
    require_data_center(&context)?;
    let strings = |key: &str| -> Vec<String> {
        match body.get(key) {
            Some(Value::Array(array)) => array
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            Some(Value::String(one)) => one.split(',').map(str::to_owned).collect(),
            _ => Vec::new(),
        }
    };
    let count = |key: &str| body.get(key).and_then(Value::as_i64);
    run(
        &context,
        &SearchQuery {
            jql: body
                .get("jql")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            start_at: count("startAt"),
            max_results: count("maxResults"),
            fields: strings("fields"),
        },
    )
}

/// Cloud removed `search` (CHANGE-2046).
fn require_data_center(context: &RestContext) -> Result<(), RestError> {
    match context.state.cloud {
        false => Ok(()),
        true => Err(RestError::message(StatusCode::GONE, REMOVED)),
    }
}

struct SearchQuery {
    jql: String,
    start_at: Option<i64>,
    max_results: Option<i64>,
    fields: Vec<String>,
}

fn run(context: &RestContext, query: &SearchQuery) -> RestResult {
    if query.start_at.is_some_and(|start| start < 0) {
        return Err(RestError::bad("The value of startAt must be zero or more."));
    }
    let start_at = usize::try_from(query.start_at.unwrap_or(0)).unwrap_or(0);
    // A negative value requests as many as allowed.
    let max_results = query
        .max_results
        .map_or(DEFAULT_PAGE, |max| usize::try_from(max).unwrap_or(MAX_PAGE))
        .min(MAX_PAGE);
    let view = context.view();
    let found = match jql::search(&view.model, view.viewer, &query.jql) {
        Ok(found) => found,
        Err(messages) => {
            return Ok(response::json(
                StatusCode::BAD_REQUEST,
                &json!({ "errorMessages": messages, "warningMessages": [] }),
            ));
        }
    };
    let wanted = FieldSelection::new(&query.fields, NAVIGABLE);
    let issues: Value = found
        .iter()
        .skip(start_at)
        .take(max_results)
        .filter_map(|&id| view.model.issue(id))
        .map(|issue| view.issue_bean(issue, &wanted))
        .collect();
    let bean = json!({
        "expand": "schema,names",
        "startAt": start_at,
        "maxResults": max_results,
        "total": found.len(),
        "issues": issues,
    });
    Ok(ok(&bean))
}

fn number(text: Option<&str>) -> Result<Option<i64>, RestError> {
    text.map(|text| {
        text.parse()
            .map_err(|_| RestError::missing(format!("For input string: \"{text}\"")))
    })
    .transpose()
}

/// Cloud's message, for version 2 as well.
const REMOVED: &str = "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API. A full migration guideline is available at https://developer.atlassian.com/changelog/#CHANGE-2046";
const DEFAULT_PAGE: usize = 50;
/// `jira.search.views.default.max`.
const MAX_PAGE: usize = 1000;
