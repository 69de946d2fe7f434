//! `https://api.atlassian.com`: which sites a token reaches, and those sites' Jira below
//! `/ex/jira/{cloudid}`, by access token or by scoped API token.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderMap, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::scope::RequiredScopes;
use super::site::basic;
use super::state::CloudState;
use crate::jira::AuthKind;
use crate::jira::webhooks::ConnectedApp;

type ApiState = State<Arc<CloudState>>;

pub(super) fn router(shared: Arc<CloudState>) -> Router {
    Router::new()
        .route("/oauth/token/accessible-resources", get(resources))
        .fallback(jira)
        .with_state(shared)
}

async fn resources(State(shared): ApiState, headers: HeaderMap, uri: Uri) -> Response {
    shared.record_target(uri.to_string());
    let Some(consent) = bearer(&headers).and_then(|t| shared.grants.lock().access(t, shared.now()))
    else {
        return unauthorized("Unauthorized");
    };
    let scopes: Vec<&String> = consent.scopes.iter().filter(|s| s.contains(':')).collect();
    let sites: Vec<Value> = shared
        .sites
        .iter()
        .filter(|site| consent.sites.contains(&site.cloud_id))
        .map(|site| {
            json!({
                "id": site.cloud_id,
                "url": site.url,
                "name": site.name,
                "scopes": scopes,
                "avatarUrl": "https://site-admin-avatar-cdn.prod.public.atl-paas.net/avatars/240/flag.png",
            })
        })
        .collect();
    axum::Json(sites).into_response()
}

async fn jira(State(shared): ApiState, mut request: Request) -> Response {
    shared.record_target(request.uri().to_string());
    let target = request.uri().to_string();
    let below = target.strip_prefix("/ex/jira/").unwrap_or_default();
    let (cloud_id, rest) = match below.find('/') {
        Some(slash) => below.split_at(slash),
        None => (below, ""),
    };
    let site = shared.sites.iter().find(|site| site.cloud_id == cloud_id);
    let (Some(site), Ok(uri)) = (site, rest.parse::<Uri>()) else {
        let body = json!({
            "timestamp": shared.now().unix_timestamp(),
            "status": 404,
            "error": "Not Found",
            "message": "No message available",
            "path": target.split('?').next(),
        });
        return (StatusCode::NOT_FOUND, axum::Json(body)).into_response();
    };
    let mut app = None;
    let who = match (bearer(request.headers()), basic(request.headers())) {
        (Some(token), _) => shared
            .grants
            .lock()
            .access(token, shared.now())
            .filter(|consent| consent.sites.iter().any(|site| site == cloud_id))
            .map(|consent| {
                app = Some(consent.app);
                (consent.account, consent.scopes, AuthKind::CloudToken)
            }),
        (None, Some((email, token))) => shared
            .grants
            .lock()
            .api_token(&email, &token)
            .and_then(|(account, scopes)| Some((account, scopes?, AuthKind::ApiToken))),
        (None, None) => None,
    };
    let Some((account, scopes, kind)) = who else {
        return unauthorized("Unauthorized");
    };
    let required = RequiredScopes::of(request.method(), uri.path());
    if !required.are_met_by(&scopes) {
        return unauthorized("Unauthorized; scope does not match");
    }
    // Only apps may register webhooks, and their secret signs what is delivered to them.
    let app = app.and_then(|id| shared.grants.lock().app(&id).cloned());
    if let Some(app) = app {
        request.extensions_mut().insert(ConnectedApp {
            id: app.id,
            secret: app.secret,
        });
    }
    *request.uri_mut() = uri;
    site.jira.serve(request, Some(account), kind, None).await
}

fn unauthorized(message: &str) -> Response {
    let body = json!({ "code": 401, "message": message });
    (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}
