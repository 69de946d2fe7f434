//! `…/authorize`: a page that logs the user in if necessary and asks for consent, then a redirect to
//! the client with a code (RFC 6749 §4.1).

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Response};
use http::Uri;
use url::Url;

use super::grants::{CodeChallenge, OAuth2Consent};
use super::refusal::OAuth2Error;
use super::scope::OAuth2Scope;
use crate::jira::consent::{self, ConsentDecision, ConsentForm};
use crate::jira::login::Caller;
use crate::jira::state::JiraState;

/// Shows the consent page, or the error of the request.
pub(super) async fn show_consent(
    State(shared): State<Arc<JiraState>>,
    caller: Caller,
    uri: Uri,
) -> Response {
    match AuthorizeRequest::read(&shared, &uri) {
        Ok(request) => consent::page(&request.client, &request.consent_text(), caller.name()),
        Err(AuthorizeError::ShowPage(refusal)) => refusal.into_response(),
        Err(AuthorizeError::Redirect(url)) => consent::redirect(&url),
    }
}

/// Handles the form of the page; its fields are in [`ConsentForm`].
pub(super) async fn decide(
    State(shared): State<Arc<JiraState>>,
    caller: Caller,
    uri: Uri,
    Form(answer): Form<ConsentForm>,
) -> Response {
    let request = match AuthorizeRequest::read(&shared, &uri) {
        Ok(request) => request,
        Err(AuthorizeError::ShowPage(refusal)) => return refusal.into_response(),
        Err(AuthorizeError::Redirect(url)) => return consent::redirect(&url),
    };
    let purpose = request.consent_text();
    match consent::read_decision(&shared, &caller, answer, &request.client, &purpose) {
        ConsentDecision::AskAgain(page) => *page,
        ConsentDecision::Denied => consent::redirect(&request.redirect_with(&[
            ("error", "access_denied"),
            ("error_description", "The user denied the request"),
        ])),
        ConsentDecision::Allowed { user, cookie } => {
            let back = request.redirect_with_code(&shared, user);
            consent::with_cookie(consent::redirect(&back), cookie)
        }
    }
}

/// A valid authorization request.
struct AuthorizeRequest {
    client: String,
    redirect: Url,
    /// The redirect URI as received, compared when the code is redeemed.
    redirect_text: String,
    state: Option<String>,
    scope: OAuth2Scope,
    challenge: Option<CodeChallenge>,
}

enum AuthorizeError {
    /// The client or its redirect URI is unknown, so that there is no redirect.
    ShowPage(OAuth2Error),
    /// Sent to the client by redirect (RFC 6749 §4.1.2.1).
    Redirect(Url),
}

impl AuthorizeRequest {
    fn read(shared: &JiraState, uri: &Uri) -> Result<Self, AuthorizeError> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        let parameter = |name: &str| {
            pairs
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
                .filter(|value| !value.is_empty())
        };
        let page =
            |error, description| AuthorizeError::ShowPage(OAuth2Error::bad(error, description));
        let https = shared.settings.oauth2.https;

        let client = parameter("client_id")
            .and_then(|id| shared.grants.lock().client(id).cloned())
            .ok_or_else(|| page("invalid_client", "Invalid client id"))?;
        let redirect_text = parameter("redirect_uri")
            .ok_or_else(|| page("invalid_request", "Missing redirect_uri"))?;
        if !https.allows(&shared.base_url) || !https.allows(redirect_text) {
            return Err(AuthorizeError::ShowPage(OAuth2Error::insecure()));
        }
        if !client.redirects.iter().any(|known| known == redirect_text) {
            return Err(page("invalid_request", "Invalid redirect_uri"));
        }
        let redirect = Url::parse(redirect_text)
            .map_err(|_| page("invalid_request", "Invalid redirect_uri"))?;

        let state = parameter("state").map(str::to_owned);
        let redirect_error = |refusal: OAuth2Error| {
            let mut pairs = vec![
                ("error", refusal.error),
                ("error_description", refusal.description),
            ];
            pairs.extend(state.as_deref().map(|state| ("state", state)));
            AuthorizeError::Redirect(consent::with_query(&redirect, &pairs))
        };
        if parameter("response_type") != Some("code") {
            return Err(redirect_error(OAuth2Error::bad(
                "unsupported_response_type",
                "Only code is supported",
            )));
        }
        let scope =
            OAuth2Scope::requested(parameter("scope"), client.scope).map_err(redirect_error)?;
        let challenge = match (
            parameter("code_challenge").map(str::to_owned),
            parameter("code_challenge_method"),
        ) {
            (None, _) => None,
            (Some(challenge), Some("S256")) => Some(CodeChallenge::S256(challenge)),
            (Some(challenge), None | Some("plain")) => Some(CodeChallenge::Plain(challenge)),
            (Some(_), Some(_)) => {
                return Err(redirect_error(OAuth2Error::bad(
                    "invalid_request",
                    "Invalid code_challenge_method",
                )));
            }
        };
        Ok(Self {
            client: client.id,
            redirect_text: redirect_text.to_owned(),
            redirect,
            state,
            scope,
            challenge,
        })
    }

    fn consent_text(&self) -> String {
        format!("access to this Jira with the scope {}", self.scope.name())
    }

    fn redirect_with_code(&self, shared: &JiraState, user: String) -> Url {
        let code = shared.grants.lock().code(
            OAuth2Consent {
                client: self.client.clone(),
                redirect: self.redirect_text.clone(),
                user,
                scope: self.scope,
                challenge: self.challenge.clone(),
            },
            shared.now(),
        );
        self.redirect_with(&[("code", &code)])
    }

    /// The client's redirect URI with these parameters and the state.
    fn redirect_with(&self, pairs: &[(&str, &str)]) -> Url {
        let mut pairs = pairs.to_vec();
        pairs.extend(self.state.as_deref().map(|state| ("state", state)));
        consent::with_query(&self.redirect, &pairs)
    }
}
