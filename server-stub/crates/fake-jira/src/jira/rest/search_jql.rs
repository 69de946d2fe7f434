//! `search/jql`: Cloud's search since CHANGE-2046, by GET and POST. Pages are linked by tokens, there is no total, and
//! without `fields` the issues have only ids. Data Center has no such resource.

use axum::extract::{FromRequest, Request, State};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde_json::{Value, json};

use super::extract::{JsonObject, QueryParameters};
use super::issue_bean::FieldSelection;
use super::view::RestContext;
use crate::jira::jql;
use crate::jira::response::{self, RestError, RestResult, ok};

pub(super) async fn get(
    context: RestContext,
    parameters: QueryParameters,
    request: Request,
) -> RestResult {
    if !context.state.cloud {
        return Ok(super::missing(State(context.state), request).await);
    }
    let max_results = parameters.get("maxResults").map(str::parse).transpose();
    run(
        &context,
        &SearchJqlQuery {
            jql: parameters.get("jql").unwrap_or_default().to_owned(),
            token: parameters.get("nextPageToken").map(str::to_owned),
            max_results: max_results.map_err(|_| RestError::bad("maxResults is no number"))?,
            fields: parameters.list("fields"),
        },
    )
}

pub(super) async fn post(context: RestContext, request: Request) -> RestResult {
    if !context.state.cloud {
        return Ok(super::missing(State(context.state), request).await);
    }
    let JsonObject(body) = match JsonObject::from_request(request, &()).await {
        Ok(body) => body,
        Err(refused) => return Ok(refused),
    };
    let text = |key: &str| body.get(key).and_then(Value::as_str).map(str::to_owned);
    let fields = body.get("fields").and_then(Value::as_array);
    let fields = fields.map(|fields| fields.iter().filter_map(Value::as_str).map(str::to_owned));
    run(
        &context,
        &SearchJqlQuery {
            jql: text("jql").unwrap_or_default(),
            token: text("nextPageToken"),
            max_results: body.get("maxResults").and_then(Value::as_u64),
            fields: fields.map(Iterator::collect).unwrap_or_default(),
        },
    )
}

struct SearchJqlQuery {
    jql: String,
    token: Option<String>,
    max_results: Option<u64>,
    fields: Vec<String>,
}

fn run(context: &RestContext, query: &SearchJqlQuery) -> RestResult {
    if jql::is_unbounded(&query.jql) {
        return Err(RestError::bad(UNBOUNDED));
    }
    let start = match &query.token {
        None => 0,
        Some(token) => {
            read_token(token, &query.jql).ok_or_else(|| RestError::bad("Invalid nextPageToken."))?
        }
    };
    let most = query.max_results.map_or(DEFAULT_PAGE, |most| {
        usize::try_from(most).unwrap_or(MAX_PAGE)
    });
    let most = most.clamp(1, MAX_PAGE);
    let view = context.view();
    let found = match jql::search(&view.model, view.viewer, &query.jql) {
        Ok(found) => found,
        Err(messages) => {
            let body = json!({ "errorMessages": messages, "errors": {} });
            return Ok(response::json(StatusCode::BAD_REQUEST, &body));
        }
    };
    let wanted = FieldSelection::new(&query.fields, "id");
    let page = found.iter().skip(start).take(most);
    let issues: Value = page
        .filter_map(|&id| view.model.issue(id))
        .map(|issue| match query.fields.is_empty() {
            true => json!({ "id": issue.id.to_string() }),
            false => view.issue_bean(issue, &wanted),
        })
        .collect();
    let end = start.saturating_add(most);
    let is_last = end >= found.len();
    let mut bean = json!({ "issues": issues, "isLast": is_last });
    if !is_last {
        bean["nextPageToken"] = write_token(end, &query.jql).into();
    }
    Ok(ok(&bean))
}

/// A page token, valid only for this query.
fn write_token(start: usize, jql: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{start}:{jql}"))
}

fn read_token(token: &str, jql: &str) -> Option<usize> {
    let decoded = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
    let (start, of) = decoded.split_once(':')?;
    (of == jql).then(|| start.parse().ok())?
}

const UNBOUNDED: &str =
    "Unbounded JQL queries are not allowed here. Please add a search restriction to your query.";
const DEFAULT_PAGE: usize = 50;
const MAX_PAGE: usize = 5000;
