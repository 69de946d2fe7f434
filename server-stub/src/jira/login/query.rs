//! `os_username` and `os_password` in the query or in a form: a login that old Jiras honour on every
//! URL, and before any other. A wrong one leaves the request anonymous.

use super::{Attempt, AuthKind, Head, with_password};
use crate::jira::shared::Shared;

pub(super) fn attempt(shared: &Shared, head: &Head<'_>) -> Attempt {
    if !shared.settings.query_login {
        return Attempt::NotMine;
    }
    let parameter = |name: &str| {
        head.parameters
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    };
    let (Some(name), Some(password)) = (parameter("os_username"), parameter("os_password")) else {
        return Attempt::NotMine;
    };
    match with_password(shared, name, password) {
        Ok(user) => Attempt::In {
            user,
            kind: AuthKind::Query,
        },
        Err(_) => Attempt::Ignored {
            reason: Some("AUTHENTICATED_FAILED"),
        },
    }
}
