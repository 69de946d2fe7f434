//! The members of Jira's bodies that are read
//! (<https://developer.atlassian.com/server/jira/platform/webhooks/>, the examples of each event).

use super::JiraEvent;
use serde::Deserialize;

/// `None`: it is no JSON object, a member has another type, or a member occurs twice (serde refuses that).
pub(super) fn read(body: &[u8]) -> Option<JiraEvent> {
    let payload: EventPayload = serde_json::from_slice(body).ok()?;
    Some(JiraEvent {
        issue_id: payload.issue_id(),
        project_key: payload.project_key(),
        issue_key: payload.issue.and_then(|issue| issue.key).and_then(key),
        event_type: payload.event_type.filter(|text| is_plain(text, MAX_TYPE)),
    })
}

#[derive(Deserialize)]
struct EventPayload {
    #[serde(rename = "webhookEvent")]
    event_type: Option<String>,
    issue: Option<PayloadIssue>,
    project: Option<PayloadProject>,
    worklog: Option<OfIssue>,
    comment: Option<OfIssue>,
    #[serde(rename = "issueLink")]
    issue_link: Option<IssueLink>,
}

#[derive(Deserialize)]
struct PayloadIssue {
    id: Option<IssueNumber>,
    key: Option<String>,
    fields: Option<IssueFields>,
}

#[derive(Deserialize)]
struct IssueFields {
    project: Option<PayloadProject>,
}

#[derive(Deserialize)]
struct PayloadProject {
    key: Option<String>,
}

/// A worklog names its issue. A comment does not, where the event has no issue of its own: only its address does.
#[derive(Deserialize)]
struct OfIssue {
    #[serde(rename = "issueId")]
    issue_id: Option<IssueNumber>,
    #[serde(rename = "self")]
    address: Option<String>,
}

#[derive(Deserialize)]
struct IssueLink {
    #[serde(rename = "sourceIssueId")]
    source_issue_id: Option<IssueNumber>,
}

/// Jira writes numbers of issues as text in some events and as numbers in others.
#[derive(Deserialize)]
#[serde(untagged)]
enum IssueNumber {
    Text(String),
    Digits(u64),
}

impl IssueNumber {
    fn digits(&self) -> Option<String> {
        match self {
            Self::Text(text) => digits(text),
            Self::Digits(number) => Some(number.to_string()),
        }
    }
}

impl EventPayload {
    fn issue_id(&self) -> Option<String> {
        let issue = self.issue.as_ref().and_then(|issue| issue.id.as_ref());
        let link = self.issue_link.as_ref();
        let link = link.and_then(|link| link.source_issue_id.as_ref());
        let of_issue = [&self.worklog, &self.comment];
        let mut of_issue = of_issue.into_iter().flatten().filter_map(OfIssue::issue);
        let own = issue.and_then(IssueNumber::digits);
        own.or_else(|| of_issue.next())
            .or_else(|| link.and_then(IssueNumber::digits))
    }

    /// All that the body says of a project must be the same: a receiver could read any of it.
    fn project_key(&self) -> Option<String> {
        let issue = self.issue.as_ref();
        let of_issue =
            issue.and_then(|issue| issue.fields.as_ref()?.project.as_ref()?.key.as_deref());
        let own = self
            .project
            .as_ref()
            .and_then(|project| project.key.as_deref());
        // The key of an issue is that of its project and a number. Alone it is not taken: an issue that has moved can be
        // called by its old key.
        let issue_key = issue.and_then(|issue| issue.key.as_deref());
        let by_key = issue_key.map(|key| key.rsplit_once('-').map_or("", |(project, _)| project));
        let found = of_issue.or(own)?;
        let same = |other: Option<&str>| other.is_none_or(|other| other == found);
        match same(of_issue) && same(own) && same(by_key) {
            true => key(found.to_owned()),
            false => None,
        }
    }
}

impl OfIssue {
    fn issue(&self) -> Option<String> {
        let named = self.issue_id.as_ref().and_then(IssueNumber::digits);
        named.or_else(|| {
            let (_, rest) = self.address.as_deref()?.split_once("/issue/")?;
            digits(rest.split('/').next()?)
        })
    }
}

/// The number of an issue: it becomes part of the name of a lane.
fn digits(text: &str) -> Option<String> {
    let number = !text.is_empty() && text.len() <= MAX_DIGITS;
    (number && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.to_owned())
}

/// A key of an issue or a project.
fn key(text: String) -> Option<String> {
    is_plain(&text, MAX_KEY).then_some(text)
}

/// Printable ASCII without a space: it is kept in memory and shown to people, so that its length has a bound.
fn is_plain(text: &str, most: usize) -> bool {
    let length = (1..=most).contains(&text.len());
    length && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Digits of the largest 64-bit number.
const MAX_DIGITS: usize = 20;
/// Jira's keys of projects have at most 255 characters by setting, and 10 by default.
const MAX_KEY: usize = 128;
/// The longest known type has 40.
const MAX_TYPE: usize = 128;
