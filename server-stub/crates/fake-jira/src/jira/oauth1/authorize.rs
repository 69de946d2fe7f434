//! `…/authorize?oauth_token=`: the page on which the user allows or denies a request token.

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;
use url::Url;

use super::problem::OAuth1Problem;
use super::tokens::{OAuthCallback, RequestToken};
use crate::jira::consent::{self, ConsentDecision, ConsentForm};
use crate::jira::login::Caller;
use crate::jira::state::JiraState;

/// The query of the consent page.
#[derive(Deserialize)]
pub(super) struct AuthorizePageQuery {
    #[serde(default)]
    oauth_token: String,
    /// Callback of OAuth 1.0; a token of 1.0a has its own.
    #[serde(default)]
    oauth_callback: Option<String>,
}

pub(super) async fn show_consent(
    State(shared): State<Arc<JiraState>>,
    caller: Caller,
    Query(query): Query<AuthorizePageQuery>,
) -> Response {
    let found = shared
        .consumers
        .lock()
        .undecided(&query.oauth_token, shared.now());
    match found {
        Ok(token) => consent::page(&token.consumer, PURPOSE, caller.name()),
        Err(problem) => wrong(&problem),
    }
}

/// Handles the form of the page; its fields are in [`ConsentForm`].
pub(super) async fn decide(
    State(shared): State<Arc<JiraState>>,
    caller: Caller,
    Query(query): Query<AuthorizePageQuery>,
    Form(answer): Form<ConsentForm>,
) -> Response {
    let found = shared
        .consumers
        .lock()
        .undecided(&query.oauth_token, shared.now());
    let token = match found {
        Ok(token) => token,
        Err(problem) => return wrong(&problem),
    };
    match consent::read_decision(&shared, &caller, answer, &token.consumer, PURPOSE) {
        ConsentDecision::AskAgain(page) => *page,
        ConsentDecision::Denied => {
            shared.consumers.lock().deny(&token.token);
            after(&token, query.oauth_callback.as_deref(), "denied", || {
                consent::message(StatusCode::OK, "Access Denied", "You have denied access.")
            })
        }
        ConsentDecision::Allowed { user, cookie } => {
            let verifier = shared.consumers.lock().allow(&token.token, user);
            let response = after(&token, query.oauth_callback.as_deref(), &verifier, || {
                let mut text = format!("You have successfully authorized '{}'.", token.consumer);
                if token.callback.is_some() {
                    text.push_str(&format!(
                        " Your verification code is '{verifier}'. You will need to enter this exact \
                         text when prompted. You should write this value down before closing the \
                         browser window."
                    ));
                }
                consent::message(StatusCode::OK, "Access Approved", &text)
            });
            consent::with_cookie(response, cookie)
        }
    }
}

/// Redirects to the consumer, or shows a page if there is no callback.
fn after(
    token: &RequestToken,
    callback_of_1_0: Option<&str>,
    verifier: &str,
    page: impl FnOnce() -> Response,
) -> Response {
    let named = ("oauth_token", token.token.as_str());
    let callback_of_1_0 = callback_of_1_0.and_then(|text| Url::parse(text).ok());
    match (&token.callback, callback_of_1_0) {
        (Some(OAuthCallback::To(url)), _) => {
            let pairs = [named, ("oauth_verifier", verifier)];
            consent::redirect(&consent::with_query(url, &pairs))
        }
        (None, Some(url)) => consent::redirect(&consent::with_query(&url, &[named])),
        (Some(OAuthCallback::OutOfBand), _) | (None, None) => page(),
    }
}

fn wrong(problem: &OAuth1Problem) -> Response {
    consent::message(problem.status(), "Invalid token", problem.code)
}

const PURPOSE: &str = "read and write access to this Jira in your name";
