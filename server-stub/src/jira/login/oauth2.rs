//! `Authorization: Bearer` with an access token of the OAuth 2.0 provider: exactly that case, exactly
//! one space. A bad one is nobody's, and so is treated as a bad personal access token.

use http::header;

use super::{AuthKind, LoginRequest, LoginResult};
use crate::jira::state::JiraState;

pub(super) fn attempt(shared: &JiraState, request: &LoginRequest<'_>) -> LoginResult {
    let Some(token) = head
        .parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
    else {
        return LoginResult::NotPresent;
    };
    match shared.grants().owner(token, shared.now()) {
        Some((user, scope)) => LoginResult::LoggedIn {
            user: user.to_owned(),
            kind: AuthKind::OAuth2(scope),
        },
        None => LoginResult::NotPresent,
    }
}
