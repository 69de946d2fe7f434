//! An OAuth 1.0a signature on a request for a resource: three-legged, or two-legged with an empty
//! `oauth_token`. An invalid signature is rejected with its problem. A request without one of the
//! parameters has no credential of this kind.

use super::{AuthKind, LoginRequest, LoginResult};
use crate::jira::oauth1::{self, OAuth1Message, OAuth1Problem};
use crate::jira::state::JiraState;

pub(super) fn attempt(shared: &JiraState, request: &LoginRequest<'_>) -> LoginResult {
    if request.path.starts_with(oauth1::PREFIX) {
        return LoginResult::NotPresent;
    }
    let message = OAuth1Message::new(
        &request.parts.method,
        &request.parts.uri,
        &request.parts.headers,
        request.parameters,
        &shared.settings.connector,
        shared.scheme(),
    );
    if !PRESENT.iter().all(|name| message.get(name).is_some()) {
        return LoginResult::NotPresent;
    }
    let user = oauth1::verify_access(&mut shared.consumers.lock(), &message, shared.now())
        .and_then(|name| {
            let model = shared.model.lock();
            let user = model.users.find(&name);
            user.map(|user| user.name.clone())
                .ok_or_else(|| OAuth1Problem::new("permission_denied"))
        });
    match user {
        Ok(user) => LoginResult::LoggedIn {
            user,
            kind: AuthKind::OAuth1,
        },
        Err(problem) => LoginResult::Refused(Box::new(problem.response(&shared.base_url))),
    }
}

const PRESENT: &[&str] = &[
    "oauth_consumer_key",
    "oauth_token",
    "oauth_signature_method",
    "oauth_signature",
    "oauth_timestamp",
    "oauth_nonce",
];
