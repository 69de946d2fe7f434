//! `Authorization: Bearer` with a personal access token: exactly that case, exactly one space.

use http::header;

use super::basic::realm;
use super::{AuthKind, LoginRequest, LoginResult};
use crate::jira::response;
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
    let owner = shared
        .model()
        .users
        .owner_of(token, shared.now())
        .map(|user| user.name.clone());
    match owner {
        // Passed over without a word, as a bad one is.
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

/// Where a bad token is passed over without a word, and its bearer is anonymous.
fn ignores_bad_token(path: &str) -> bool {
    path == "/rest/api/2/search" || !path.starts_with("/rest/")
}

/// Versions in which a token counts below `/rest` alone, and `/secure/attachment/…` redirects its bearer to the login
/// page: 8.14.1 is reported (sooperset/mcp-atlassian#1634).
fn only_below_rest(shared: &JiraState) -> bool {
    shared.settings.version_numbers() < vec![8, 15]
}
