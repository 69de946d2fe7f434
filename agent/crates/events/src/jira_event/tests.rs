#![allow(clippy::unwrap_used)]
use super::*;

fn parse(body: &str) -> (String, Option<String>, Option<String>, Option<String>) {
    let event = JiraEvent::parse(body.as_bytes());
    let lane = event.lane();
    (lane, event.event_type, event.issue_key, event.project_key)
}

fn some(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn an_issue_event_names_its_issue_and_project() {
    let body = r#"{"timestamp":1,"webhookEvent":"jira:issue_updated","user":{"name":"fred"},
        "issue":{"id":"10001","self":"https://jira/rest/api/2/issue/10001","key":"SEC-7",
                 "fields":{"summary":"x","project":{"id":"10000","key":"SEC"}}}}"#;
    let expected = (
        "issue:10001".to_owned(),
        some("jira:issue_updated"),
        some("SEC-7"),
        some("SEC"),
    );
    assert_eq!(parse(body), expected);
}

#[test]
fn each_kind_of_event_goes_into_the_lane_of_its_issue_or_project() {
    for (body, lane) in [
        (r#"{"issue":{"id":10001}}"#, "issue:10001"),
        (
            r#"{"worklog":{"self":"https://jira/rest/api/2/issue/7/worklog/1","issueId":"10001"}}"#,
            "issue:10001",
        ),
        (
            r#"{"comment":{"self":"https://jira/rest/api/2/issue/10001/comment/5"}}"#,
            "issue:10001",
        ),
        (
            r#"{"comment":{"self":"https://jira/rest/api/2/comment/5"}}"#,
            "",
        ),
        (
            r#"{"comment":{"id":"1"},"issue":{"id":"10001"}}"#,
            "issue:10001",
        ),
        (
            r#"{"issueLink":{"id":1,"sourceIssueId":10001,"destinationIssueId":10002}}"#,
            "issue:10001",
        ),
        (
            r#"{"webhookEvent":"project_created","project":{"id":10000,"key":"SEC"}}"#,
            "project:SEC",
        ),
        (r#"{"webhookEvent":"option_voting_changed"}"#, ""),
    ] {
        assert_eq!(parse(body).0, lane, "{body}");
    }
}

#[test]
fn a_body_with_two_readings_says_nothing_of_what_is_in_doubt() {
    for body in [
        r#"{"issue":{"id":"1","key":"SEC-7","fields":{"project":{"key":"SEC"}}},"project":{"key":"PUB"}}"#,
        r#"{"issue":{"id":"1","key":"PUB-7","fields":{"project":{"key":"SEC"}}}}"#,
        r#"{"issue":{"id":"1","key":"SEC-7"},"project":{"key":"PUB"}}"#,
        r#"{"issue":{"id":"1","key":"SEC-7"}}"#,
        r#"{"issue":{"fields":{"project":{"key":"SEC","key":"SEC"}}}}"#,
        r#"{"project":{"key":"SEC"},"project":{"key":"SEC"}}"#,
        r#"{"project":{"key":"SEC"}} {}"#,
        r#"{"project":{"key":"SEC"}"#,
        r#"{"project":{"key":7}}"#,
        r#"[{"project":{"key":"SEC"}}]"#,
        "",
    ] {
        assert_eq!(parse(body).3, None, "{body}");
    }
}

#[test]
fn what_is_kept_in_memory_has_a_bound_and_can_be_printed() {
    let long = "x".repeat(129);
    for text in [long.as_str(), "", "a b", "a\\u001b[2J", "\u{202e}"] {
        let body = format!(
            r#"{{"webhookEvent":"{text}","issue":{{"id":"{text}","key":"{text}"}},"project":{{"key":"{text}"}}}}"#
        );
        assert_eq!(parse(&body), (String::new(), None, None, None), "{text}");
    }
}

#[test]
fn deep_nesting_is_no_json_and_no_crash() {
    let body = format!(r#"{{"issue":{{"id":"1"}},"x":{}}}"#, "[".repeat(100_000));
    assert_eq!(JiraEvent::parse(body.as_bytes()), JiraEvent::default());
}
