//! A customer's own URL, such as `https://acme.atlassian.net`: Basic with email address and an API
//! token without scopes, or a request signed for an application link. A wrong credential is 401, but
//! counts as anonymous, with a reason in the headers, on resources that are open to everyone.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;

use super::state::CloudState;
use crate::jira::AuthKind;

/// The site that a listener serves.
#[derive(Clone)]
struct ListenerSite {
    shared: Arc<CloudState>,
    site_index: usize,
}

pub(super) fn router(shared: Arc<CloudState>, index: usize) -> Router {
    Router::new()
        .route("/_edge/tenant_info", get(tenant_info))
        .fallback(jira)
        .with_state(ListenerSite {
            shared,
            site_index: index,
        })
}

async fn tenant_info(State(listener): State<ListenerSite>) -> Response {
    let site = &listener.shared.sites[listener.site_index];
    axum::Json(json!({ "cloudId": site.cloud_id })).into_response()
}

async fn jira(State(listener): State<ListenerSite>, request: Request) -> Response {
    let site = &listener.shared.sites[listener.site_index];
    let Some((email, token)) = basic(request.headers()) else {
        return site.jira.serve_signed(request).await;
    };
    let account = match listener.shared.grants.lock().api_token(&email, &token) {
        Some((account, None)) => Some(account),
        _ => None,
    };
    if account.is_none() && !anonymous_may_ask(request.uri().path()) {
        let body = "Client must be authenticated to access this resource.";
        let mut response = (StatusCode::UNAUTHORIZED, body).into_response();
        let headers = response.headers_mut();
        headers.insert("x-seraph-loginreason", FAILED);
        headers.insert(
            header::WWW_AUTHENTICATE,
            HeaderValue::from_static("OAuth realm=\"https%3A%2F%2Fsite.atlassian.net\""),
        );
        return response;
    }
    let (kind, reason) = match account {
        Some(_) => (AuthKind::ApiToken, None),
        None => (AuthKind::Anonymous, Some("AUTHENTICATED_FAILED")),
    };
    site.jira.serve(request, account, kind, reason).await
}

/// Email address and token of `Authorization: Basic`.
pub(super) fn basic(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = String::from_utf8(STANDARD.decode(credential.trim()).ok()?).ok()?;
    let (email, token) = decoded.split_once(':')?;
    Some((email.to_owned(), token.to_owned()))
}

fn anonymous_may_ask(path: &str) -> bool {
    ["/serverInfo", "/search", "/search/jql"]
        .iter()
        .any(|open| path.ends_with(open))
}

const FAILED: HeaderValue = HeaderValue::from_static("AUTHENTICATED_FAILED");
