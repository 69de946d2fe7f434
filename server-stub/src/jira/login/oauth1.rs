//! A signature of OAuth 1.0a on a request for a resource, three-legged or, with an empty
//! `oauth_token`, two-legged. A bad one is answered with its problem. A request that lacks one of the
//! parameters is no attempt at all.

use super::{Attempt, AuthKind, Head};
use crate::jira::oauth1::{self, Message, Problem};
use crate::jira::shared::Shared;

pub(super) fn attempt(shared: &Shared, head: &Head<'_>) -> Attempt {
    if head.path.starts_with(oauth1::PREFIX) {
        return Attempt::NotMine;
    }
    let message = Message::new(
        &head.parts.method,
        &head.parts.uri,
        &head.parts.headers,
        head.parameters,
        &shared.settings.connector,
        shared.scheme(),
    );
    if !PRESENT.iter().all(|name| message.get(name).is_some()) {
        return Attempt::NotMine;
    }
    let user = oauth1::access(&mut shared.consumers(), &message, shared.now()).and_then(|name| {
        let world = shared.world();
        let person = world.people.find(&name);
        person
            .map(|person| person.name.clone())
            .ok_or_else(|| Problem::new("permission_denied"))
    });
    match user {
        Ok(user) => Attempt::In {
            user,
            kind: AuthKind::OAuth1,
        },
        Err(problem) => Attempt::Refused(Box::new(problem.response(&shared.base_url))),
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
