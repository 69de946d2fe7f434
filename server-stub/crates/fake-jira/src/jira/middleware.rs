//! What happens to a request before and after its resource, in the order of Jira's filters: record,
//! fault, context path, state, login, rate limit, XSRF; then Jira's headers on the response.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{FromRequest, Query, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use serde_json::json;
use time::OffsetDateTime;

use super::fault::{self, FaultKind};
use super::login::{self, AuthKind, Caller, LoginRequest};
use super::oauth2::OAuth2Scope;
use super::request_log::{self, RequestLogSlot};
use super::state::{JiraState, ServerState};
use super::{aborted_response, control, oauth1, path, response, xsrf};

/// What an OAuth 1.0a signature covers, for resources that verify one themselves.
#[derive(Clone)]
pub(super) struct ReceivedTarget {
    /// The URI with its context path.
    pub uri: Uri,
    /// Parameters of query and form.
    pub parameters: Vec<(String, String)>,
}

/// Handles a request from the connection to the resource and back.
pub(super) async fn handle(
    State(shared): State<Arc<JiraState>>,
    request: Request,
    next: Next,
) -> Response {
    let target = request.uri().to_string();
    let fault = shared
        .controls
        .lock()
        .faults
        .iter()
        .find(|fault| fault.applies(request.method(), &target))
        .map(|fault| fault.kind.clone());
    let (request, slot) = shared.request_log.record(request);
    let mut response = match &fault {
        Some(FaultKind::Stall) => {
            tokio::time::sleep(STALL_LIMIT).await;
            response::page(StatusCode::SERVICE_UNAVAILABLE, "stalled")
        }
        Some(FaultKind::HangUp) => {
            request_log::drain(request.into_body()).await;
            return aborted_response::abort_response();
        }
        Some(FaultKind::Intermediary(canned)) => {
            request_log::drain(request.into_body()).await;
            slot.set_status(canned.status);
            return canned_response(canned);
        }
        Some(FaultKind::Answer(canned)) => {
            request_log::drain(request.into_body()).await;
            canned_response(canned)
        }
        Some(kind) => {
            if let Some(delay) = kind.delay() {
                tokio::time::sleep(delay).await;
            }
            match kind.early_status() {
                Some(status) => response::page(status, "answered before the request was read"),
                None => serve(&shared, request, next, &slot).await,
            }
        }
        None => serve(&shared, request, next, &slot).await,
    };
    if let Some(FaultKind::CutAfter(bytes)) = fault {
        response = aborted_response::truncated(response, bytes);
    }
    slot.set_status(response.status().as_u16());
    match fault {
        Some(FaultKind::SlowAnswer(milliseconds)) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        }
        Some(FaultKind::HangUpAfter) => return aborted_response::abort_response(),
        _ => {}
    }
    let number = shared.requests.fetch_add(1, Ordering::Relaxed);
    add_fixed_headers(response.headers_mut(), number, shared.now());
    response
}

async fn serve(
    shared: &Arc<JiraState>,
    request: Request,
    next: Next,
    slot: &RequestLogSlot,
) -> Response {
    let (mut parts, body) = request.into_parts();
    let raw = parts.uri.path();
    if shared.settings.control && raw.starts_with(control::PREFIX) {
        return control::serve(shared, &parts, body).await;
    }
    let Some(path) = path::normalize(raw) else {
        return response::page(StatusCode::BAD_REQUEST, "Invalid URI");
    };
    let Some(path) = strip_context_path(&shared.settings.context_path, &path) else {
        return response::page(
            StatusCode::NOT_FOUND,
            "The requested resource is not available",
        );
    };
    if path.is_empty() {
        return Redirect::to(&format!("{}/", shared.settings.context_path)).into_response();
    }
    let path = canonical_path(path, shared.cloud);
    let state = shared.controls.lock().state;
    // Cloud is not known to have this page
    if path == "/status" && !shared.cloud {
        return response::json(state.status(), &json!({ "state": state.name() }));
    }
    if state != ServerState::Running {
        return response::page(StatusCode::SERVICE_UNAVAILABLE, "Jira is not available yet");
    }

    let (parameters, body) = match parameters(&parts, body).await {
        Ok(both) => both,
        Err(refused) => return refused,
    };
    let login_request = LoginRequest {
        parts: &parts,
        path: &path,
        parameters: &parameters,
    };
    let caller = match login::authenticate(shared, &login_request) {
        Ok(caller) => caller,
        Err(mut refused) => {
            slot.set_user(None, AuthKind::Anonymous);
            let anonymous = Caller {
                user: None,
                kind: AuthKind::Anonymous,
                reason: None,
            };
            add_identity_headers(&anonymous, shared.cloud, refused.headers_mut());
            return *refused;
        }
    };
    slot.set_user(caller.name(), caller.kind);
    let request_headers = parts.headers.clone();

    let limit = shared.controls.lock().rate_limit.clone();
    let rate = caller
        .name()
        .map(|user| shared.buckets.lock().take(user, &limit, Instant::now()));
    let mut response = if rate.as_ref().is_some_and(|rate| rate.refused) {
        response::page(StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded.")
    } else if !is_oauth_page(&path)
        && xsrf::refuses(&parts.method, &parts.headers, &shared.base_url)
    {
        response::text(StatusCode::FORBIDDEN, "XSRF check failed")
    } else if exceeds_scope(&caller, &parts.method, &path) {
        response::framework(
            StatusCode::FORBIDDEN,
            "The scope of the access token does not allow this request",
        )
    } else {
        match with_path(&path, &parts.uri) {
            Some(uri) => {
                let received = std::mem::replace(&mut parts.uri, uri);
                parts.extensions.insert(ReceivedTarget {
                    uri: received,
                    parameters,
                });
                parts.extensions.insert(caller.clone());
                next.run(Request::from_parts(parts, body)).await
            }
            None => response::page(StatusCode::BAD_REQUEST, "Invalid URI"),
        }
    };
    if let Some(rate) = rate {
        rate.add_headers(&limit, response.headers_mut());
    }
    add_identity_headers(&caller, shared.cloud, response.headers_mut());
    if !shared.cloud {
        login::cookies(shared, &caller, &request_headers, response.headers_mut());
    }
    response
}

/// The canned response; invalid header fields are left out.
fn canned_response(canned: &fault::CannedResponse) -> Response {
    let mut response = Response::new(Body::from(canned.body.clone()));
    *response.status_mut() =
        StatusCode::from_u16(canned.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &canned.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// The rest of a path below the context path.
fn strip_context_path<'a>(context_path: &str, path: &'a str) -> Option<&'a str> {
    let rest = path.strip_prefix(context_path)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// One spelling per resource: `latest`, or `3` in Cloud, becomes `2`, and REST paths lose a trailing slash.
fn canonical_path(path: &str, cloud: bool) -> String {
    let other = if cloud {
        "/rest/api/3"
    } else {
        "/rest/api/latest"
    };
    let path = match path.strip_prefix(other) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/rest/api/2{rest}"),
        _ => path.to_owned(),
    };
    match path.strip_suffix('/') {
        Some(shorter) if shorter.starts_with("/rest/") => shorter.to_owned(),
        _ => path,
    }
}

fn with_path(path: &str, uri: &Uri) -> Option<Uri> {
    match uri.query() {
        Some(query) => format!("{path}?{query}").parse().ok(),
        None => path.parse().ok(),
    }
}

/// Parameters of the query and of a form body, as a servlet sees them. Returns the body unread.
async fn parameters(parts: &Parts, body: Body) -> Result<(Vec<(String, String)>, Body), Response> {
    let Query(mut parameters) =
        Query::<Vec<(String, String)>>::try_from_uri(&parts.uri).unwrap_or_default();
    let form = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        kind.as_bytes()
            .starts_with(b"application/x-www-form-urlencoded")
    });
    if !form {
        return Ok((parameters, body));
    }
    let Ok(bytes) = axum::body::to_bytes(body, MAX_FORM).await else {
        return Err(response::page(
            StatusCode::PAYLOAD_TOO_LARGE,
            "The form is too large",
        ));
    };
    let mut copy = Request::new(Body::from(bytes.clone()));
    copy.headers_mut().clone_from(&parts.headers);
    *copy.method_mut() = http::Method::POST;
    if let Ok(axum::Form(fields)) =
        axum::Form::<Vec<(String, String)>>::from_request(copy, &()).await
    {
        parameters.extend(fields);
    }
    Ok((parameters, Body::from(bytes)))
}

/// Whether applications and browsers post forms of an OAuth flow here, without Jira's XSRF token.
fn is_oauth_page(path: &str) -> bool {
    path.starts_with("/rest/oauth2/") || path.starts_with(oauth1::PREFIX)
}

/// Whether a token with the scope `READ` would change something; a search does not, whatever its method.
fn exceeds_scope(caller: &Caller, method: &Method, path: &str) -> bool {
    caller.kind == AuthKind::OAuth2(OAuth2Scope::Read)
        && !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
        && path != "/rest/api/2/search"
}

/// Names the user in a header; Cloud names the account, and no header for anonymous requests.
fn add_identity_headers(caller: &Caller, cloud: bool, headers: &mut HeaderMap) {
    let (header, name) = match (cloud, caller.name()) {
        (false, name) => ("x-ausername", name.unwrap_or("anonymous")),
        (true, Some(account)) => ("x-aaccountid", account),
        (true, None) => ("x-aaccountid", ""),
    };
    match HeaderValue::try_from(name) {
        Ok(name) if !name.is_empty() => {
            headers.insert(header, name);
        }
        _ => {}
    }
    if let Some(reason) = caller.reason {
        headers.insert("x-seraph-loginreason", HeaderValue::from_static(reason));
    }
}

fn add_fixed_headers(headers: &mut HeaderMap, number: u64, now: OffsetDateTime) {
    let minute = u64::from(now.hour()) * 60 + u64::from(now.minute());
    if let Ok(id) = HeaderValue::try_from(format!("{minute}x{number}x1")) {
        headers.insert("x-arequestid", id);
    }
    if let Ok(date) = HeaderValue::try_from(response::http_date(now)) {
        headers.insert(header::DATE, date);
    }
    for (name, value) in FIXED_HEADERS {
        headers
            .entry(*name)
            .or_insert(HeaderValue::from_static(value));
    }
}

const FIXED_HEADERS: &[(&str, &str)] = &[
    ("x-anodeid", "node1"),
    ("x-xss-protection", "1; mode=block"),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "SAMEORIGIN"),
    ("content-security-policy", "frame-ancestors 'self'"),
    ("cache-control", "no-cache, no-store, no-transform"),
    ("vary", "User-Agent"),
];
/// Size limit of a form in bytes; logins and OAuth token requests are far smaller.
const MAX_FORM: usize = 64 << 10;
/// A stalled request ends after this long, so that none stays forever.
const STALL_LIMIT: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_path_ends_at_a_segment() {
        assert_eq!(strip_context_path("/jira", "/jira/rest"), Some("/rest"));
        assert_eq!(strip_context_path("/jira", "/jira"), Some(""));
        assert_eq!(strip_context_path("/jira", "/jirax/rest"), None);
        assert_eq!(strip_context_path("", "/rest"), Some("/rest"));
    }

    #[test]
    fn latest_is_2_and_a_trailing_slash_is_none() {
        assert_eq!(
            canonical_path("/rest/api/3/myself", true),
            "/rest/api/2/myself"
        );
        let canonical = |path| canonical_path(path, false);
        assert_eq!(canonical("/rest/api/latest/myself/"), "/rest/api/2/myself");
        assert_eq!(canonical("/rest/api/latestx"), "/rest/api/latestx");
        assert_eq!(canonical("/secure/"), "/secure/");
    }
}
