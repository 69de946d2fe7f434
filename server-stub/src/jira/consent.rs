//! What a user of this Jira says on the page that asks for consent; OAuth 2.0 and OAuth 1.0a have it
//! in common.

use axum::response::Response;
use http::{HeaderValue, header};

use super::login::{Caller, with_password};
use super::shared::Shared;
use crate::consent;
pub(super) use crate::consent::{Answer, message, page, redirect, with_query};

/// What became of it.
pub(super) enum Decided {
    /// Not logged in, or nothing decided: the page once more.
    Again(Box<Response>),
    Denied,
    Allowed {
        user: String,
        /// Of the session, when the page logged the user in.
        cookie: Option<String>,
    },
}

/// Logs the user in if need be, and reads the decision.
pub(super) fn decided(
    shared: &Shared,
    caller: &Caller,
    answer: Answer,
    application: &str,
    purpose: &str,
) -> Decided {
    let (user, cookie) = match caller.name() {
        Some(user) => (user.to_owned(), None),
        None => match with_password(shared, &answer.username, &answer.password) {
            Ok(user) => {
                let session = shared.sessions().open(&user);
                let path = match shared.settings.context_path.as_str() {
                    "" => "/",
                    path => path,
                };
                let cookie = format!("JSESSIONID={session}; Path={path}; HttpOnly");
                (user, Some(cookie))
            }
            Err(_) => return Decided::Again(Box::new(consent::page_again(application, purpose))),
        },
    };
    match answer.decision.as_str() {
        "allow" => Decided::Allowed { user, cookie },
        "deny" => Decided::Denied,
        _ => {
            let page = page(application, purpose, Some(&user));
            Decided::Again(Box::new(with_cookie(page, cookie)))
        }
    }
}

pub(super) fn with_cookie(mut response: Response, cookie: Option<String>) -> Response {
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}
