//! `Authorization: Bearer` with an access token of the OAuth 2.0 provider: exactly that case, exactly
//! one space. A bad one is nobody's, and so is treated as a bad personal access token.

use http::header;

use super::{Attempt, AuthKind, Head};
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
    match shared.grants().owner(token, shared.now()) {
        Some((user, scope)) => Attempt::In {
            user: user.to_owned(),
            kind: AuthKind::OAuth2(scope),
        },
        None => Attempt::NotMine,
    }
}
