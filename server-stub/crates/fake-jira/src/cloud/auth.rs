//! `https://auth.atlassian.com`: the consent page, and the token service. No PKCE; the secret is
//! mandatory.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Form, FromRequest, Query, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::{StatusCode, Uri, header};
use serde_json::{Value, json};
use url::Url;

use super::grants::{CloudConsent, CloudTokenError, CloudTokens, OFFLINE};
use super::state::CloudState;
use crate::consent::{self, ConsentForm};
use crate::jira::server::abort_response;

type AuthServiceState = State<Arc<CloudState>>;

pub(super) fn router(shared: Arc<CloudState>) -> Router {
    Router::new()
        .route("/authorize", get(show_consent).post(decide))
        .route("/oauth/token", post(token))
        .with_state(shared)
}

async fn show_consent(State(shared): AuthServiceState, uri: Uri) -> Response {
    match CloudAuthorizeRequest::read(&shared, &uri) {
        Ok(request) => consent::page(&request.app, &request.consent_text(), None),
        Err(refused) => *refused,
    }
}

async fn decide(
    State(shared): AuthServiceState,
    uri: Uri,
    Form(answer): Form<ConsentForm>,
) -> Response {
    let request = match CloudAuthorizeRequest::read(&shared, &uri) {
        Ok(request) => request,
        Err(refused) => return *refused,
    };
    let account = shared.settings.accounts.iter().find(|account| {
        account.email.eq_ignore_ascii_case(&answer.username) && account.password == answer.password
    });
    let Some(account) = account else {
        return consent::page_again(&request.app, &request.consent_text());
    };
    match answer.decision.as_str() {
        "allow" => {
            let consent = CloudConsent {
                app: request.app.clone(),
                account: account.id.clone(),
                scopes: request.scopes.clone(),
                sites: shared.sites.iter().map(|p| p.cloud_id.clone()).collect(),
            };
            let now = shared.now();
            let code = shared
                .grants
                .lock()
                .code(consent, request.redirect.as_str(), now);
            request.redirect_with(&[("code", &code)])
        }
        "deny" => request.redirect_with(&[
            ("error", "access_denied"),
            ("error_description", "User did not authorize the request"),
        ]),
        _ => consent::page(&request.app, &request.consent_text(), None),
    }
}

/// A valid authorization request.
struct CloudAuthorizeRequest {
    app: String,
    redirect: Url,
    state: Option<String>,
    scopes: Vec<String>,
}

impl CloudAuthorizeRequest {
    fn read(shared: &CloudState, uri: &Uri) -> Result<Self, Box<Response>> {
        let Query(pairs) = Query::<HashMap<String, String>>::try_from_uri(uri).unwrap_or_default();
        let parameter = |name: &str| pairs.get(name).map(String::as_str);
        let page = |text: &str| {
            let page = consent::message(StatusCode::BAD_REQUEST, "Something went wrong", text);
            Box::new(page)
        };
        let app = parameter("client_id").and_then(|id| shared.grants.lock().app(id).cloned());
        let app = app.ok_or_else(|| page("The client_id is not known."))?;
        if parameter("audience") != Some("api.atlassian.com") {
            return Err(page("The audience is not api.atlassian.com."));
        }
        let redirect = parameter("redirect_uri")
            .filter(|redirect| *redirect == app.redirect)
            .and_then(|redirect| Url::parse(redirect).ok())
            .ok_or_else(|| page("The redirect_uri is not the callback URL of the app."))?;
        let scopes: Vec<String> = parameter("scope")
            .unwrap_or_default()
            .split_ascii_whitespace()
            .map(str::to_owned)
            .collect();
        let request = Self {
            app: app.id,
            redirect,
            state: parameter("state").map(str::to_owned),
            scopes,
        };
        if parameter("response_type") != Some("code") || parameter("prompt") != Some("consent") {
            let what = "response_type must be code and prompt must be consent";
            let error = [("error", "invalid_request"), ("error_description", what)];
            return Err(Box::new(request.redirect_with(&error)));
        }
        let known = |scope: &String| scope == OFFLINE || app.scopes.contains(scope);
        if request.scopes.is_empty() || !request.scopes.iter().all(known) {
            let what = "The app has not all of the scopes";
            let error = [("error", "invalid_scope"), ("error_description", what)];
            return Err(Box::new(request.redirect_with(&error)));
        }
        Ok(request)
    }

    fn consent_text(&self) -> String {
        format!(
            "access to your Atlassian account: {}",
            self.scopes.join(" ")
        )
    }

    fn redirect_with(&self, pairs: &[(&str, &str)]) -> Response {
        let mut pairs = pairs.to_vec();
        pairs.extend(self.state.as_deref().map(|state| ("state", state)));
        consent::redirect(&consent::with_query(&self.redirect, &pairs))
    }
}

async fn token(State(shared): AuthServiceState, request: Request) -> Response {
    let fields = fields(request).await;
    let issued = issue(&shared, &fields);
    if shared.drops_response() {
        return abort_response();
    }
    match issued {
        Ok(tokens) => {
            let mut body = json!({
                "access_token": tokens.access,
                "expires_in": tokens.lifetime,
                "token_type": "Bearer",
                "scope": tokens.scopes.join(" "),
            });
            if let Some(refresh) = tokens.refresh {
                body["refresh_token"] = refresh.into();
            }
            ([(header::CACHE_CONTROL, "no-store")], axum::Json(body)).into_response()
        }
        Err(CloudTokenError(status, error, description)) => {
            shared.grants.lock().count_refused();
            let status = StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN);
            let body = json!({ "error": error, "error_description": description });
            (status, axum::Json(body)).into_response()
        }
    }
}

fn issue(
    shared: &CloudState,
    fields: &HashMap<String, String>,
) -> Result<CloudTokens, CloudTokenError> {
    let field = |name: &str| fields.get(name).map(String::as_str).unwrap_or_default();
    let now = shared.now();
    let mut grants = shared.grants.lock();
    let app = field("client_id");
    grants.authenticate(app, field("client_secret"))?;
    match field("grant_type") {
        "authorization_code" => grants.redeem(field("code"), app, field("redirect_uri"), now),
        "refresh_token" => grants.refresh(field("refresh_token"), app, now),
        _ => Err(CloudTokenError(
            403,
            "unauthorized_client",
            "Grant type is not allowed for the client.",
        )),
    }
}

/// The fields of a JSON object or a form.
async fn fields(request: Request) -> HashMap<String, String> {
    let json = request
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !json {
        let form = Form::from_request(request, &()).await;
        return form.map(|Form(fields)| fields).unwrap_or_default();
    }
    let body = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
    let object: HashMap<String, Value> = body
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    object
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
        .collect()
}

const MAX_BODY: usize = 64 << 10;
