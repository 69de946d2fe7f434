//! The page on which a user logs in and allows or denies an application's access, and the redirect
//! back to the application. All providers use it; each checks the password itself.

use axum::response::{Html, IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use maud::{DOCTYPE, html};
use serde::Deserialize;
use url::Url;

/// The fields of the page's form.
#[derive(Deserialize)]
pub(crate) struct ConsentForm {
    #[serde(default)]
    pub username: String,
    #[serde(default)]
    pub password: String,
    /// `allow` or `deny`; anything else shows the page again.
    #[serde(default)]
    pub decision: String,
}

/// The page, 200; `user` is the one who is logged in.
pub(crate) fn page(application: &str, purpose: &str, user: Option<&str>) -> Response {
    render(StatusCode::OK, application, purpose, user, false)
}

/// The page after a wrong password, 401.
pub(crate) fn page_again(application: &str, purpose: &str) -> Response {
    render(StatusCode::UNAUTHORIZED, application, purpose, None, true)
}

/// A redirect to this URL, 302.
pub(crate) fn redirect(to: &Url) -> Response {
    let mut response = StatusCode::FOUND.into_response();
    if let Ok(value) = HeaderValue::try_from(to.as_str()) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// `url` with parameters added to its query.
pub(crate) fn with_query(url: &Url, pairs: &[(&str, &str)]) -> Url {
    let mut url = url.clone();
    url.query_pairs_mut().extend_pairs(pairs);
    url
}

/// A page with a title and one paragraph.
pub(crate) fn message(status: StatusCode, title: &str, text: &str) -> Response {
    let page = html! {
        (DOCTYPE)
        title { (title) }
        h1 { (title) }
        p { (text) }
    };
    (status, Html(page.into_string())).into_response()
}

/// A form without `action` posts to the page's own URL with its query.
fn render(
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
