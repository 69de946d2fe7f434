//! Which user another tool than Jira identified us as, by its profile. Jira's own reading is [`identity`](super::identity).
//!
//! Only the login probe asks a path that needs a login, so only its answer decides by status and body. Other answers
//! show a refused credential by 401, and the user where the tool names it in a header.

use super::{
    CredentialUnavailable, UserDisplayName,
    identity::{
        ExpectedUser, IdentityFinding, ProvenUser, RejectionReason, is_same, is_same_user,
        printable_name,
    },
};
use crate::{
    printable::printable,
    profile::{LoginProof, ServiceProfile},
    upstream::AnswerSource,
};
use http::{StatusCode, response};
use serde_json::Value;

/// Reads one answer. `is_probe` is whether it is that of the login probe, `is_api` whether the tool answers in JSON there.
pub(super) fn read<'a>(
    profile: &ServiceProfile,
    head: &'a response::Parts,
    is_probe: bool,
    is_api: bool,
    expected: ExpectedUser<'_>,
) -> IdentityFinding<'a> {
    let source = AnswerSource::noted(head);
    if AnswerSource::is_from_a_cache(&head.headers) {
        return IdentityFinding::Inconclusive;
    }
    if let Some(intermediary) = source.intermediary().filter(|by| by.wants_login()) {
        return IdentityFinding::Rejected(RejectionReason::Intermediary(intermediary.clone()));
    }
    let Some(login) = &profile.login else {
        return IdentityFinding::Inconclusive;
    };
    let refuses = head.status == StatusCode::UNAUTHORIZED
        || (is_probe && login.refused.contains(&head.status.as_u16()));
    if refuses {
        return IdentityFinding::Rejected(RejectionReason::Refused);
    }
    if let Some(name) = user(login, head, is_probe) {
        return judge(login, head, name, is_probe, expected);
    }
    let is_own = source == AnswerSource::Jira;
    match head.status.is_success() {
        // Without a name it counts only where the profile promises none, or the tool marked the answer as its own.
        true if is_probe && is_own => IdentityFinding::Accepted,
        true if is_probe && login.user.is_none() && source == AnswerSource::LikeJira => {
            IdentityFinding::Accepted
        }
        true if !is_probe && is_api && (is_own || source == AnswerSource::LikeJira) => {
            IdentityFinding::Accepted
        }
        _ => IdentityFinding::Inconclusive,
    }
}

/// The user that the probe's answer names.
pub(super) fn proven_user(profile: &ServiceProfile, head: &response::Parts) -> Option<ProvenUser> {
    let name = user(profile.login.as_ref()?, head, true)?;
    Some(ProvenUser::named(name))
}

/// Appends the tool's own words to a rejection.
pub(super) fn quote_message(
    profile: &ServiceProfile,
    body: &[u8],
    why: &mut CredentialUnavailable,
) {
    if profile.is_jira() {
        return;
    }
    let Ok(body) = serde_json::from_slice::<Value>(body) else {
        return;
    };
    if let Some(message) = profile.message(&body) {
        let message = printable(message, MAX_MESSAGE);
        why.cause = format!("{}: {message}", why.cause);
    }
}

fn user<'a>(login: &LoginProof, head: &'a response::Parts, is_probe: bool) -> Option<&'a [u8]> {
    let header = login.user_header.as_ref();
    let named = header.and_then(|name| head.headers.get(name));
    let named = named.map(|value| value.as_bytes().trim_ascii());
    let shown = head.extensions.get::<UserDisplayName>();
    let shown = shown.filter(|_| is_probe).map(|shown| shown.0.as_bytes());
    shown.or(named).filter(|name| !name.is_empty())
}

fn judge<'a>(
    login: &LoginProof,
    head: &response::Parts,
    name: &'a [u8],
    is_probe: bool,
    expected: ExpectedUser<'_>,
) -> IdentityFinding<'a> {
    let anonymous = login.anonymous.as_deref();
    if anonymous.is_some_and(|anonymous| name.eq_ignore_ascii_case(anonymous.as_bytes())) {
        return match is_probe || head.status.is_success() {
            true => IdentityFinding::Rejected(RejectionReason::Anonymous),
            false => IdentityFinding::Inconclusive,
        };
    }
    let is_other = match (expected.configured, expected.proven) {
        (Some(configured), _) => !is_same(name, configured),
        (None, Some(proven)) => !is_same_user(name, proven.name()),
        (None, None) => false,
    };
    match is_other {
        true => IdentityFinding::Rejected(RejectionReason::OtherUser(printable_name(name))),
        false => IdentityFinding::KnownUser(name),
    }
}

/// Characters of a tool's own message.
const MAX_MESSAGE: usize = 200;
