//! `Authorization: Bearer` with a personal access token.

use http::header;

use super::basic::realm;
use super::{AuthKind, LoginRequest, LoginResult};
use crate::jira::response;
use crate::jira::state::JiraState;

pub(super) fn attempt(shared: &JiraState, request: &LoginRequest<'_>) -> LoginResult {
    let Some(token) = request.bearer_token() else {
        return LoginResult::NotPresent;
    };
    let owner = shared
        .model
        .lock()
        .users
        .owner_of(token, shared.now())
        .map(|user| user.name.clone());
    match owner {
        // Silently ignored, as an invalid token is.
        Some(_) if !request.path.starts_with("/rest/") && only_below_rest(shared) => {
            LoginResult::Ignored { reason: None }
        }
        Some(user) => LoginResult::LoggedIn {
            user,
            kind: AuthKind::Pat,
        },
        None if ignores_bad_token(request.path) => LoginResult::Ignored { reason: None },
        None => {
            let mut response = response::login_required();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, realm(&shared.base_url));
            LoginResult::Refused(Box::new(response))
        }
    }
}

/// Whether an invalid token on this path is silently ignored, so that the request is anonymous.
fn ignores_bad_token(path: &str) -> bool {
    path == "/rest/api/2/search" || !path.starts_with("/rest/")
}

/// Whether this version accepts tokens only below `/rest` and redirects `/secure/attachment/…` to the login page, as
/// reported of 8.14.1 (sooperset/mcp-atlassian#1634).
fn only_below_rest(shared: &JiraState) -> bool {
    shared.settings.version_numbers() < vec![8, 15]
}
