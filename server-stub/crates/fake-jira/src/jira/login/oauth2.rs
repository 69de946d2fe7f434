//! `Authorization: Bearer` with an access token of the OAuth 2.0 provider. An unknown token is left to
//! `pat`, which rejects it.

use super::{AuthKind, LoginRequest, LoginResult};
use crate::jira::state::JiraState;

pub(super) fn attempt(shared: &JiraState, request: &LoginRequest<'_>) -> LoginResult {
    let Some(token) = request.bearer_token() else {
        return LoginResult::NotPresent;
    };
    match shared.grants.lock().owner(token, shared.now()) {
        Some((user, scope)) => LoginResult::LoggedIn {
            user: user.to_owned(),
            kind: AuthKind::OAuth2(scope),
        },
        None => LoginResult::NotPresent,
    }
}
