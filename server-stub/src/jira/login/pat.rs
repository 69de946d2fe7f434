//! `Authorization: Bearer` with a personal access token: exactly that case, exactly one space.

use http::header;

use super::basic::realm;
use super::{Attempt, AuthKind, Head};
use crate::jira::answer;
use crate::jira::shared::Shared;

pub(super) fn attempt(shared: &Shared, head: &Head<'_>) -> Attempt {
    let Some(token) = head
        .parts
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
    else {
        return Attempt::NotMine;
    };
    let owner = shared
        .world()
        .people
        .owner_of(token, shared.now())
        .map(|person| person.name.clone());
    match owner {
        // Passed over without a word, as a bad one is.
        Some(_) if !head.path.starts_with("/rest/") && rest_alone(shared) => {
            Attempt::Ignored { reason: None }
        }
        Some(user) => Attempt::In {
            user,
            kind: AuthKind::Pat,
        },
        None if silent(head.path) => Attempt::Ignored { reason: None },
        None => {
            let mut response = answer::login_required();
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, realm(&shared.base_url));
            Attempt::Refused(Box::new(response))
        }
    }
}

/// Where a bad token is passed over without a word, and its bearer is anonymous.
fn silent(path: &str) -> bool {
    path == "/rest/api/2/search" || !path.starts_with("/rest/")
}

/// Versions in which a token counts below `/rest` alone, and `/secure/attachment/…` redirects its bearer to the login
/// page: 8.14.1 is reported (sooperset/mcp-atlassian#1634).
fn rest_alone(shared: &Shared) -> bool {
    shared.settings.version_numbers() < vec![8, 15]
}
