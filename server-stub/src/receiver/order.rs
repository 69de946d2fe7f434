//! Where an event belongs: its issue, and its place among the events of that issue.

use serde_json::Value;

/// An issue, and a number that grows from one event of it to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EventOrder {
    /// The number of the issue.
    pub issue: String,
    /// `sequence` of a test's own payload, or Jira's `timestamp` in milliseconds.
    pub sequence: u64,
}

impl EventOrder {
    /// `None` for a body that names no issue or has no number: such events have no order.
    pub(super) fn of(body: &[u8]) -> Option<Self> {
        let body: Value = serde_json::from_slice(body).ok()?;
        let sequence = ["sequence", "timestamp"]
            .iter()
            .find_map(|member| body.get(member)?.as_u64())?;
        let issue = ["/issue/id", "/worklog/issueId", "/issueLink/sourceIssueId"]
            .iter()
            .find_map(|pointer| number(body.pointer(pointer)?))
            .or_else(|| issue_of_comment(&body))?;
        Some(Self { issue, sequence })
    }
}

fn number(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Data Center's events about comments have no issue, but a link such as `…/issue/10001/comment/10100`.
fn issue_of_comment(body: &Value) -> Option<String> {
    let link = body.pointer("/comment/self")?.as_str()?;
    let (_, after) = link.rsplit_once("/issue/")?;
    let (issue, _) = after.split_once("/comment/")?;
    Some(issue.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_issue_is_found_wherever_jira_names_it() {
        for (body, found) in [
            (
                r#"{"timestamp":7,"issue":{"id":"10001"}}"#,
                Some(("10001", 7)),
            ),
            (
                r#"{"timestamp":7,"sequence":3,"issue":{"id":10001}}"#,
                Some(("10001", 3)),
            ),
            (
                r#"{"timestamp":7,"comment":{"self":"http://j/issue/1/rest/api/2/issue/10002/comment/5"}}"#,
                Some(("10002", 7)),
            ),
            (
                r#"{"timestamp":7,"worklog":{"issueId":"4"}}"#,
                Some(("4", 7)),
            ),
            (r#"{"timestamp":7,"user":{"id":"4"}}"#, None),
            (r#"{"issue":{"id":"10001"}}"#, None),
            ("no JSON", None),
        ] {
            let wanted = found.map(|(issue, sequence)| EventOrder {
                issue: issue.to_owned(),
                sequence,
            });
            assert_eq!(EventOrder::of(body.as_bytes()), wanted, "{body}");
        }
    }
}
