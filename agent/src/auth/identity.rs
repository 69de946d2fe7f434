//! Which user Jira identified us as, by the head of its answer.
//!
//! Only answers of Jira itself count: see [`AnswerSource`]. A login page, single sign-on or a proxy's own login in place of
//! an answer fails that request, and proves nothing about the credential.
//! `X-AUSERNAME` names the user on every answer of Jira's own; `anonymous` there, under a success, is
//! how a bad token looks. Static resources and answers of a proxy before Jira may lack it, so its
//! absence proves nothing either way. A 401 is a refused login unless Jira names our user in it.
//! A 403 is the customer's permissions at work, except for a CAPTCHA, which has its own header,
//! and Basic switched off, which only the body names; where just the head is known, see [`BasicAuthDisabled`].

use crate::{
    printable::printable,
    status::StatusLayer,
    upstream::{AnswerSource, Intermediary, is_login_path},
};
use http::{HeaderMap, StatusCode, header, response};
use parking_lot::Mutex;
use std::borrow::Cow;

/// What one answer proves about the credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum IdentityFinding<'a> {
    /// Jira knows this user.
    KnownUser(&'a [u8]),
    /// No user is named, but a rejected credential would get another answer.
    Accepted,
    /// The response proves nothing about the credential.
    Inconclusive,
    /// A compressed error of a gateway: it may reject the credential, or only this request.
    Unreadable,
    /// Jira did not accept the credential.
    Rejected(RejectionReason),
}

/// How Jira rejected the credential.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RejectionReason {
    /// 401, or `X-Seraph-LoginReason: AUTHENTICATED_FAILED`.
    Refused,
    /// Too many failures: the right password is refused too.
    Captcha,
    /// Basic is switched off on this Jira.
    BasicAuthDisabled(BasicAuthDisabled),
    /// Jira treated the request as anonymous.
    Anonymous,
    /// Jira treated the request as this user, who is not the expected one.
    OtherUser(String),
    /// Something in front of Jira demands its own login, or answers in Jira's place.
    Intermediary(Intermediary),
    /// A redirect to Jira's login page.
    LoginPage,
}

/// How certain the reading is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BasicAuthDisabled {
    /// The body states it.
    Stated,
    /// Only the head is known: a 403 in JSON below `/rest/` without a user. A permission that is
    /// lacking looks otherwise, for there Jira names the user.
    Likely,
}

/// The user an answer names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ResponseUser<'a> {
    Named(&'a [u8]),
    Anonymous,
    Absent,
}

pub(super) fn user(headers: &HeaderMap) -> ResponseUser<'_> {
    match headers
        .get("x-ausername")
        .map(|v| v.as_bytes().trim_ascii())
    {
        None | Some(b"") => ResponseUser::Absent,
        Some(name) if is_anonymous(name) => ResponseUser::Anonymous,
        Some(name) => ResponseUser::Named(name),
    }
}

fn is_anonymous(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"anonymous")
}

/// The user that the agent's credential belongs to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ExpectedUser<'a> {
    /// The user name in the configuration.
    pub(super) configured: Option<&'a str>,
    /// As Jira named it to the agent's own probe.
    pub(super) proven: Option<&'a ProvenUser>,
}

/// The user that the login probe proved. What Jira did not name is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct ProvenUser {
    name: Vec<u8>,
    account_id: Vec<u8>,
}

impl ProvenUser {
    /// With the name that another tool than Jira gave.
    pub(super) fn named(name: &[u8]) -> Self {
        Self {
            name: name.to_vec(),
            account_id: Vec::new(),
        }
    }

    /// The name that the tool gave; empty for an account id alone.
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    /// From the answer to the probe; `None` if it names no user.
    pub(super) fn read(headers: &HeaderMap) -> Option<Self> {
        let name = match user(headers) {
            ResponseUser::Named(name) => name.to_vec(),
            ResponseUser::Anonymous | ResponseUser::Absent => Vec::new(),
        };
        let account_id = account_id(headers).unwrap_or_default().to_vec();
        let proven = Self { name, account_id };
        (proven != Self::default()).then_some(proven)
    }

    /// The name to show.
    pub(super) fn display_name(&self) -> String {
        match self.name.is_empty() {
            true => printable_name(&self.account_id),
            false => printable_name(&self.name),
        }
    }
}

impl ExpectedUser<'_> {
    /// The name in this answer, where it is another user's.
    fn contradiction(&self, headers: &HeaderMap) -> Option<String> {
        // Every value: which of two counts is unknown.
        let values = headers.get_all("x-ausername").iter();
        let named = values.map(|value| value.as_bytes().trim_ascii());
        let is_other = |name: &&[u8]| match (self.configured, self.proven) {
            (Some(configured), _) => !is_same(name, configured),
            (None, Some(proven)) if !proven.name.is_empty() => !is_same_user(name, &proven.name),
            _ => false,
        };
        let several = headers.get_all("x-ausername").iter().nth(1).is_some();
        let mut named = named.filter(|name| !name.is_empty() && (several || !is_anonymous(name)));
        if let Some(name) = named.find(is_other) {
            return Some(printable_name(name));
        }
        if self.configured.is_some() && matches!(user(headers), ResponseUser::Named(_)) {
            return None;
        }
        let proven = self.proven?;
        let account = account_id(headers)?;
        (!proven.account_id.is_empty() && account != proven.account_id)
            .then(|| printable_name(account))
    }
}

/// Cloud's name for the user of an answer.
fn account_id(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get("x-aaccountid")?.as_bytes().trim_ascii();
    (!value.is_empty()).then_some(value)
}

/// Whether Cloud's API gateway knows the credential, but its scopes do not cover the request.
pub(crate) fn lacks_scope(status: StatusCode, body: &[u8]) -> bool {
    status == StatusCode::UNAUTHORIZED && contains(body, SCOPE_LACKS)
}

/// Reads one answer. `below_rest` is whether the request went to Jira's REST API; `body` may be empty.
pub(super) fn read<'a>(
    head: &'a response::Parts,
    body: &[u8],
    below_rest: bool,
    expected: ExpectedUser<'_>,
) -> IdentityFinding<'a> {
    let reason = head.headers.get("x-seraph-loginreason");
    let reason = reason.map_or(&b""[..], |v| v.as_bytes());
    if head.headers.contains_key("x-authentication-denied-reason")
        || contains(reason, b"AUTHENTICATION_DENIED")
    {
        return IdentityFinding::Rejected(RejectionReason::Captcha);
    }
    if contains(reason, b"AUTHENTICATED_FAILED") {
        return IdentityFinding::Rejected(RejectionReason::Refused);
    }
    // Before the user: some versions name `anonymous` in this answer.
    if head.status == StatusCode::FORBIDDEN && contains(body, BASIC_OFF) {
        return IdentityFinding::Rejected(RejectionReason::BasicAuthDisabled(
            BasicAuthDisabled::Stated,
        ));
    }
    if let Some(other) = expected.contradiction(&head.headers) {
        return IdentityFinding::Rejected(RejectionReason::OtherUser(other));
    }
    let source = AnswerSource::noted(head);
    match user(&head.headers) {
        // From a cache: it was so once.
        ResponseUser::Named(_) if AnswerSource::is_from_a_cache(&head.headers) => {
            return IdentityFinding::Inconclusive;
        }
        ResponseUser::Named(name) => return IdentityFinding::KnownUser(name),
        // Cloud's API gateway knows the credential, but not for this.
        _ if lacks_scope(head.status, body) => {
            return IdentityFinding::Accepted;
        }
        _ if head.status == StatusCode::UNAUTHORIZED && is_unreadable(head) => {
            return IdentityFinding::Unreadable;
        }
        _ if head.status == StatusCode::UNAUTHORIZED => {
            return IdentityFinding::Rejected(match source.intermediary() {
                Some(intermediary) => RejectionReason::Intermediary(intermediary.clone()),
                None => RejectionReason::Refused,
            });
        }
        ResponseUser::Anonymous => return IdentityFinding::Rejected(RejectionReason::Anonymous),
        ResponseUser::Absent => {}
    }
    if let Some(intermediary) = source.intermediary().filter(|i| i.wants_login()) {
        return IdentityFinding::Rejected(RejectionReason::Intermediary(intermediary.clone()));
    }
    if head.status.is_redirection() && leads_to_login(&head.headers, below_rest) {
        return IdentityFinding::Rejected(RejectionReason::LoginPage);
    }
    match head.status {
        StatusCode::FORBIDDEN if below_rest && body.is_empty() && is_json(head) => {
            IdentityFinding::Rejected(RejectionReason::BasicAuthDisabled(
                BasicAuthDisabled::Likely,
            ))
        }
        StatusCode::FORBIDDEN => IdentityFinding::Inconclusive,
        _ if contains(reason, b"OK") => IdentityFinding::Accepted,
        // A 4xx may come from before the login: a container or proxy that dislikes the request itself.
        status if below_rest && status.is_success() && may_be_json(head) => {
            IdentityFinding::Accepted
        }
        _ => IdentityFinding::Inconclusive,
    }
}

/// Jira's own login page, or that of single sign-on inside Jira: below `/rest` nothing else leads there.
fn leads_to_login(headers: &HeaderMap, below_rest: bool) -> bool {
    let location = headers.get(header::LOCATION);
    let Some(location) = location.and_then(|value| value.to_str().ok()) else {
        return false;
    };
    let path = location.split(['?', '#', ';']).next().unwrap_or_default();
    path.ends_with("/login.jsp") || (below_rest && is_login_path(path) && !path.contains("/rest/"))
}

/// The name last seen, so that a busy forward formats it once.
pub(super) struct LastSeenUser {
    suffix: &'static str,
    last: Mutex<(Vec<u8>, String)>,
}

impl LastSeenUser {
    pub(super) fn new(suffix: &'static str) -> Self {
        Self {
            suffix,
            last: Mutex::default(),
        }
    }

    /// Proves the layer by this user.
    pub(super) fn prove(&self, layer: &StatusLayer, name: &[u8]) {
        let mut last = self.last.lock();
        if last.0 != name {
            *last = (
                name.to_vec(),
                format!("user {}{}", printable_name(name), self.suffix),
            );
        }
        if layer.proven(Some(&last.1)) {
            tracing::info!(
                forward = layer.forward(),
                "{}{}",
                layer.reword("Jira accepts the credential: "),
                last.1
            );
        }
    }
}

/// Jira compares user names without case, and some versions percent-encode them in the header.
pub(super) fn is_same(seen: &[u8], expected: &str) -> bool {
    let expected = expected.to_lowercase();
    spellings(seen).iter().any(|s| s.to_lowercase() == expected)
}

/// Compares two names as headers carry them.
pub(super) fn is_same_user(seen: &[u8], proven: &[u8]) -> bool {
    seen == proven || spellings(proven).iter().any(|proven| is_same(seen, proven))
}

/// What a name in a header may mean.
fn spellings(seen: &[u8]) -> [Cow<'_, str>; 4] {
    // As Java's URLEncoder writes a space.
    let spaced: Vec<u8> = seen
        .iter()
        .map(|b| if *b == b'+' { b' ' } else { *b })
        .collect();
    [
        Cow::Owned(percent_decoded(&spaced)),
        String::from_utf8_lossy(seen),
        Cow::Owned(percent_decoded(seen)),
        // Latin-1, as header values were once meant.
        Cow::Owned(seen.iter().map(|b| char::from(*b)).collect()),
    ]
}

/// For messages and status: decoded, without control characters, not too long.
pub(super) fn printable_name(name: &[u8]) -> String {
    printable(&percent_decoded(name), MAX_NAME)
}

fn percent_decoded(name: &[u8]) -> String {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        if let (b'%', [high, low, after @ ..]) = (byte, tail)
            && let (Some(high), Some(low)) = (hex(*high), hex(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

/// Whether the reason is only in a compressed body. Jira's own answers have an `X-AREQUESTID` and give the reason in the head.
fn is_unreadable(head: &response::Parts) -> bool {
    head.headers.contains_key(header::CONTENT_ENCODING)
        && is_json(head)
        && !head.headers.contains_key("x-arequestid")
}

fn is_json(head: &response::Parts) -> bool {
    head.headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|t| t.as_bytes().starts_with(b"application/json"))
}

/// An answer without a body has no type.
fn may_be_json(head: &response::Parts) -> bool {
    is_json(head) || !head.headers.contains_key(header::CONTENT_TYPE)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

const SCOPE_LACKS: &[u8] = b"scope does not match";
const BASIC_OFF: &[u8] = b"Basic Authentication has been disabled";
/// Characters of a user name shown; Jira allows 255.
const MAX_NAME: usize = 255;
