//! `os_username` and `os_password` in the query or in a form, which old Jiras accept on every URL
//! before any other credential. With a wrong password the request is anonymous.

use super::{AuthKind, LoginRequest, LoginResult, with_password};
use crate::jira::state::JiraState;

pub(super) fn attempt(shared: &JiraState, request: &LoginRequest<'_>) -> LoginResult {
    if !shared.settings.query_login {
        return LoginResult::NotPresent;
    }
    let parameter = |name: &str| {
        request
            .parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let (Some(name), Some(password)) = (parameter("os_username"), parameter("os_password")) else {
        return LoginResult::NotPresent;
    };
    match with_password(shared, name, password) {
        Ok(user) => LoginResult::LoggedIn {
            user,
            kind: AuthKind::Query,
        },
        Err(_) => LoginResult::Ignored {
            reason: Some("AUTHENTICATED_FAILED"),
        },
    }
}
