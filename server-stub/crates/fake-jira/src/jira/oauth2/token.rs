//! `POST …/token` and `POST …/revoke`: form bodies only, with the client's secret in them.

use std::sync::Arc;

use axum::extract::{FromRequest, Request, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::json;

use super::refusal::OAuth2Error;
use super::settings::OAuth2Client;
use crate::jira::response;
use crate::jira::state::JiraState;
use crate::token_store::secrets_match;

pub(super) async fn token(State(shared): State<Arc<JiraState>>, request: Request) -> Response {
    let form = match FormFields::read(request).await {
        Ok(form) => form,
        Err(response) => return response,
    };
    match issue(&shared, &form) {
        Ok(response) => response,
        Err(refusal) => {
            shared.grants.lock().count_refused();
            refusal.into_response()
        }
    }
}

pub(super) async fn revoke(State(shared): State<Arc<JiraState>>, request: Request) -> Response {
    let form = match FormFields::read(request).await {
        Ok(form) => form,
        Err(response) => return response,
    };
    let revoked = || {
        let client = client(&shared, &form)?;
        let token = form.required("token")?;
        shared.grants.lock().revoke(token, &client.id, shared.now());
        Ok::<_, OAuth2Error>(StatusCode::OK.into_response())
    };
    revoked().unwrap_or_else(IntoResponse::into_response)
}

fn issue(shared: &JiraState, form: &FormFields) -> Result<Response, OAuth2Error> {
    if !shared.settings.oauth2.https.allows(&shared.base_url) {
        return Err(OAuth2Error::insecure());
    }
    let grant_type = form.required("grant_type")?;
    let client = client(shared, form)?;
    let now = shared.now();
    let mut grants = shared.grants.lock();
    let tokens = match grant_type {
        "authorization_code" => grants.redeem(
            form.required("code")?,
            &client.id,
            form.one("redirect_uri")?,
            form.one("code_verifier")?,
            now,
        )?,
        "refresh_token" => grants.refresh(
            form.required("refresh_token")?,
            &client.id,
            form.one("scope")?,
            now,
        )?,
        "client_credentials" => grants.client_credentials(&client, form.one("scope")?, now)?,
        _ => {
            return Err(OAuth2Error::bad(
                "unsupported_grant_type",
                "Unsupported grant type",
            ));
        }
    };
    let mut body = json!({
        "access_token": tokens.access,
        "token_type": "bearer",
        "expires_in": tokens.lifetime,
        "created_at": tokens.created.unix_timestamp(),
    });
    if let Some(refresh) = tokens.refresh {
        body["refresh_token"] = refresh.into();
    }
    Ok(response::ok(&body))
}

/// The client that the form names, with its secret.
fn client(shared: &JiraState, form: &FormFields) -> Result<OAuth2Client, OAuth2Error> {
    let (id, secret) = (
        form.required("client_id")?,
        form.one("client_secret")?.unwrap_or_default(),
    );
    let client = shared.grants.lock().client(id).cloned();
    let good = |client: &OAuth2Client| secrets_match(&client.secret, secret);
    client.filter(good).ok_or_else(OAuth2Error::client)
}

/// The fields of a form body.
pub(super) struct FormFields(Vec<(String, String)>);

impl FormFields {
    /// Reads a form; any other body is 500, as in Jira's JAX-RS.
    pub(super) async fn read(request: Request) -> Result<Self, Response> {
        let form = request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| {
                kind.as_bytes()
                    .starts_with(b"application/x-www-form-urlencoded")
            });
        let fields = if form {
            axum::Form::from_request(request, &()).await.ok()
        } else {
            None
        };
        match fields {
            Some(axum::Form(fields)) => Ok(Self(fields)),
            None => Err(response::framework(
                StatusCode::INTERNAL_SERVER_ERROR,
                "Failed to obtain parameters from the request",
            )),
        }
    }

    /// RFC 6749 §3.2: a parameter may occur once; an empty one counts as absent.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, OAuth2Error> {
        let mut all = self.0.iter().filter(|(known, _)| known == name);
        match (all.next(), all.next()) {
            (_, Some(_)) => Err(OAuth2Error::bad("invalid_request", "Repeated parameter")),
            (found, None) => Ok(found
                .map(|(_, value)| value.as_str())
                .filter(|value| !value.is_empty())),
        }
    }

    pub(super) fn required(&self, name: &str) -> Result<&str, OAuth2Error> {
        self.one(name)?
            .ok_or_else(|| OAuth2Error::bad("invalid_request", "Missing required parameter"))
    }
}
