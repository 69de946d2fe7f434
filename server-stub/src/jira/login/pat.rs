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
