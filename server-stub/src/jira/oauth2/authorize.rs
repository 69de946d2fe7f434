//! `…/authorize`: a page that logs the user in if need be and asks for consent, then the redirect
//! back to the client with a code (RFC 6749 §4.1).

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Response};
use http::Uri;
use url::Url;

use super::grants::{Challenge, Consent};
use super::refusal::Refusal;
use super::scope::Scope;
use crate::jira::consent::{self, Answer, Decided};
use crate::jira::login::Caller;
use crate::jira::shared::Shared;

/// The page.
pub(super) async fn ask(State(shared): State<Arc<Shared>>, caller: Caller, uri: Uri) -> Response {
    match Asked::read(&shared, &uri) {
        Ok(asked) => consent::page(&asked.client, &asked.purpose(), caller.name()),
        Err(Wrong::Page(refusal)) => refusal.into_response(),
        Err(Wrong::Redirect(url)) => consent::redirect(&url),
    }
}

/// What the user said on it: fields `decision` (`allow`, `deny`) and, when not logged in, `username`
/// and `password`.
pub(super) async fn decide(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    uri: Uri,
    Form(answer): Form<Answer>,
) -> Response {
    let asked = match Asked::read(&shared, &uri) {
        Ok(asked) => asked,
        Err(Wrong::Page(refusal)) => return refusal.into_response(),
        Err(Wrong::Redirect(url)) => return consent::redirect(&url),
    };
    let purpose = asked.purpose();
    match consent::decided(&shared, &caller, answer, &asked.client, &purpose) {
        Decided::Again(page) => *page,
        Decided::Denied => consent::redirect(&asked.back(&[
            ("error", "access_denied"),
            ("error_description", "The user denied the request"),
        ])),
        Decided::Allowed { user, cookie } => {
            let back = asked.redirect_with_code(&shared, user);
            consent::with_cookie(consent::redirect(&back), cookie)
        }
    }
}

/// An authorization request that is in order.
struct Asked {
    client: String,
    redirect: Url,
    /// As it came, to be compared when the code is redeemed.
    redirect_text: String,
    state: Option<String>,
    scope: Scope,
    challenge: Option<Challenge>,
}

enum Wrong {
    /// The client or its redirect is not known: nobody to redirect to.
    Page(Refusal),
    /// Told to the client (RFC 6749 §4.1.2.1).
    Redirect(Url),
}

impl Asked {
    fn read(shared: &Shared, uri: &Uri) -> Result<Self, Wrong> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri).unwrap_or_default();
        let parameter = |name: &str| {
            pairs
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str())
                .filter(|value| !value.is_empty())
        };
        let page = |error, description| Wrong::Page(Refusal::bad(error, description));
        let https = shared.settings.oauth2.https;

        let client = parameter("client_id")
            .and_then(|id| shared.grants().client(id).cloned())
            .ok_or_else(|| page("invalid_client", "Invalid client id"))?;
        let redirect_text = parameter("redirect_uri")
            .ok_or_else(|| page("invalid_request", "Missing redirect_uri"))?;
        if !https.allows(&shared.base_url) || !https.allows(redirect_text) {
            return Err(Wrong::Page(Refusal::insecure()));
        }
        if !client.redirects.iter().any(|known| known == redirect_text) {
            return Err(page("invalid_request", "Invalid redirect_uri"));
        }
        let redirect = Url::parse(redirect_text)
            .map_err(|_| page("invalid_request", "Invalid redirect_uri"))?;

        let state = parameter("state").map(str::to_owned);
        let told = |refusal: Refusal| {
            let mut pairs = vec![
                ("error", refusal.error),
                ("error_description", refusal.description),
            ];
            pairs.extend(state.as_deref().map(|state| ("state", state)));
            Wrong::Redirect(consent::with_query(&redirect, &pairs))
        };
        if parameter("response_type") != Some("code") {
            return Err(told(Refusal::bad(
                "unsupported_response_type",
                "Only code is supported",
            )));
        }
        let scope = Scope::asked(parameter("scope"), client.scope).map_err(told)?;
        let challenge = match (
            parameter("code_challenge").map(str::to_owned),
            parameter("code_challenge_method"),
        ) {
            (None, _) => None,
            (Some(challenge), Some("S256")) => Some(Challenge::S256(challenge)),
            (Some(challenge), None | Some("plain")) => Some(Challenge::Plain(challenge)),
            (Some(_), Some(_)) => {
                return Err(told(Refusal::bad(
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

    fn purpose(&self) -> String {
        format!("access to this Jira with the scope {}", self.scope.name())
    }

    fn redirect_with_code(&self, shared: &Shared, user: String) -> Url {
        let code = shared.grants().code(
            Consent {
                client: self.client.clone(),
                redirect: self.redirect_text.clone(),
                user,
                scope: self.scope,
                challenge: self.challenge.clone(),
            },
            shared.now(),
        );
        self.back(&[("code", &code)])
    }

    /// The client's redirect URI with these parameters and the state.
    fn back(&self, pairs: &[(&str, &str)]) -> Url {
        let mut pairs = pairs.to_vec();
        pairs.extend(self.state.as_deref().map(|state| ("state", state)));
        consent::with_query(&self.redirect, &pairs)
    }
}
