//! The page on which a user logs in and allows or denies an application's access, and the way back
//! to that application. OAuth 2.0 and OAuth 1.0a have it in common.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, html};
use serde::Deserialize;
use url::Url;

use super::login::{Caller, with_password};
use super::shared::Shared;

/// The fields of the page's form.
#[derive(Deserialize)]
pub(super) struct Answer {
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
    #[serde(default)]
    decision: String,
}

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

/// The page itself.
pub(super) fn page(application: &str, purpose: &str, user: Option<&str>) -> Response {
    draw(StatusCode::OK, application, purpose, user, false)
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
            Err(_) => {
                let page = draw(StatusCode::UNAUTHORIZED, application, purpose, None, true);
                return Decided::Again(Box::new(page));
            }
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

/// 302.
pub(super) fn redirect(to: &Url) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    if let Ok(value) = HeaderValue::try_from(to.as_str()) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// `url` with parameters added to its query.
pub(super) fn with_query(url: &Url, pairs: &[(&str, &str)]) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

pub(super) fn with_cookie(mut response: Response, cookie: Option<String>) -> Response {
    if let Some(value) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        response.headers_mut().append(header::SET_COOKIE, value);
    }
    response
}

/// A page with a title and one paragraph.
pub(super) fn message(status: StatusCode, title: &str, text: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        title { (title) }
        h1 { (title) }
        p { (text) }
    };
    (status, Html(page.into_string())).into_response()
}

/// Without an `action` the form goes to the page's own URL, parameters and all.
fn draw(
    status: StatusCode,
    application: &str,
    purpose: &str,
    user: Option<&str>,
    refused: bool,
) -> Response {
    let page = html! {
        (DOCTYPE)
        title { "Authorize " (application) }
        h1 { "Authorize " (application) "?" }
        p { "The application " strong { (application) } " asks for " (purpose) "." }
        form method="post" {
            @if let Some(user) = user {
                p { "You are logged in as " strong { (user) } "." }
            } @else {
                @if refused { p { "Sorry, your username or password is incorrect." } }
                p { label { "Username " input name="username" autofocus; } }
                p { label { "Password " input name="password" type="password"; } }
            }
            button name="decision" value="allow" { "Allow" }
            " "
            button name="decision" value="deny" { "Deny" }
        }
    };
    (status, Html(page.into_string())).into_response()
}
