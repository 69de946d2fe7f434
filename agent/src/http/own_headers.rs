//! Headers of an answer that only the agent may set, so that the vendor can trust them.

use super::request_id::{X_JIRA_REQUEST_ID, X_REQUEST_ID};
use http::{HeaderMap, HeaderName, HeaderValue};

/// Who made an answer: [`BY_AGENT`] or [`BY_JIRA`]. On every answer; a header of Jira's by this name is dropped.
pub(crate) const X_TUNNEL_ANSWERED_BY: HeaderName = HeaderName::from_static("x-tunnel-answered-by");
/// Marks the agent's own answer.
pub(super) const BY_AGENT: HeaderValue = HeaderValue::from_static("agent");
/// Marks Jira's answer, or that of a proxy before it.
pub(super) const BY_JIRA: HeaderValue = HeaderValue::from_static("jira");
/// `Proxy-Status` (RFC 9209): why the agent itself answered.
pub(super) const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");
/// Carries the `Proxy-Status` of a proxy before Jira.
const X_JIRA_PROXY_STATUS: HeaderName = HeaderName::from_static("x-jira-proxy-status");

/// Whether only the agent may set this header, by its name in lower case. CGI, WSGI and the like read `_` as `-`.
pub(super) fn is_own(name: &str) -> bool {
    [X_TUNNEL_ANSWERED_BY, PROXY_STATUS, X_REQUEST_ID]
        .iter()
        .any(|own| {
            let own = own.as_str().bytes();
            own.eq(name
                .bytes()
                .map(|byte| if byte == b'_' { b'-' } else { byte }))
        })
}

/// Removes headers that some servers take for the agent's own, since their names differ in `_` alone.
fn remove_twins(headers: &mut HeaderMap) {
    let twins = headers.keys().filter(|name| {
        let name = name.as_str();
        name.contains('_') && is_own(name)
    });
    let twins: Vec<_> = twins.cloned().collect();
    for twin in twins {
        headers.remove(twin);
    }
}

/// Marks an answer that the agent has made.
pub(super) fn mark_as_own(headers: &mut HeaderMap, id: &HeaderValue) {
    headers.insert(X_REQUEST_ID, id.clone());
    headers.insert(X_TUNNEL_ANSWERED_BY, BY_AGENT);
}

/// Marks an answer as Jira's. Headers of Jira, or of a proxy before it, with a name of the agent's get another name.
pub(super) fn mark_as_from_jira(headers: &mut HeaderMap, id: &HeaderValue) {
    remove_twins(headers);
    if let Some(jiras) = headers.insert(X_REQUEST_ID, id.clone())
        && jiras != id
    {
        headers.insert(X_JIRA_REQUEST_ID, jiras);
    }
    if let http::header::Entry::Occupied(status) = headers.entry(PROXY_STATUS) {
        let (_, values) = status.remove_entry_mult();
        let values: Vec<_> = values.collect();
        headers.remove(X_JIRA_PROXY_STATUS);
        for value in values {
            headers.append(X_JIRA_PROXY_STATUS, value);
        }
    }
    headers.insert(X_TUNNEL_ANSWERED_BY, BY_JIRA);
}
