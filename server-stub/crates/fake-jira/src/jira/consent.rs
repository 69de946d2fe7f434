//! The user's decision on the consent page, for OAuth 2.0 and OAuth 1.0a.

use axum::response::Response;
use http::{HeaderValue, header};

use super::login::{Caller, with_password};
use super::state::JiraState;
use crate::consent;
pub(super) use crate::consent::{ConsentForm, message, page, redirect, with_query};

/// The user's decision on the consent page.
pub(super) enum ConsentDecision {
    /// Not logged in, or not decided: shows the page again.
    AskAgain(Box<Response>),
    Denied,
    Allowed {
        user: String,
        /// Session cookie, if the page logged the user in.
        cookie: Option<String>,
    },
}

/// Logs the user in if necessary, and reads the decision.
pub(super) fn read_decision(
    shared: &JiraState,
    caller: &Caller,
    answer: ConsentForm,
    application: &str,
    purpose: &str,
) -> ConsentDecision {
    let (user, cookie) = match caller.name() {
        Some(user) => (user.to_owned(), None),
        None => match with_password(shared, &answer.username, &answer.password) {
            Ok(user) => {
                let session = shared.sessions.lock().open(&user);
                let path = shared.cookie_path();
                let cookie = format!("JSESSIONID={session}; Path={path}; HttpOnly");
                (user, Some(cookie))
            }
            Err(_) => {
                return ConsentDecision::AskAgain(Box::new(consent::page_again(
                    application,
                    purpose,
                )));
            }
        },
    };
    match answer.decision.as_str() {
        "allow" => ConsentDecision::Allowed { user, cookie },
        "deny" => ConsentDecision::Denied,
        _ => {
            let page = page(application, purpose, Some(&user));
            ConsentDecision::AskAgain(Box::new(with_cookie(page, cookie)))
        }
    }
}

pub(super) fn with_cookie(mut response: Response, cookie: Option<String>) -> Response {
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
