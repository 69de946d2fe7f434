//! What of many requests is on record, and that nothing reaches Jira that could not be.

use super::support::*;
use crate::http::HttpLimits;

fn limited() -> Options {
    Options {
        limits: HttpLimits {
            refusals_per_minute: 3,
            ..HttpLimits::default()
        },
        ..Options::default()
    }
}

#[tokio::test]
async fn what_cannot_be_recorded_does_not_reach_jira_where_that_is_required() {
    let nothing = raw_jira(|_| async { panic!("it reached Jira") });
    let options = Options {
        audit_required: true,
        ..Options::default()
    };
    let mut agent = Agent::new(&nothing.await, options);
    agent.records.set_fault(Some("cannot write to /var/log/x"));
    let mut vendor = agent.channel();
    let reply = vendor.get("/x").await;
    let problem = reply.assert_problem("audit-unavailable", "not_sent");
    assert_eq!(reply.header("retry-after"), Some("10"));
    // Where the customer keeps its audit is none of the vendor's business.
    assert!(!problem.to_string().contains("/var/log"), "{problem}");
    assert!(agent.records.is_empty());
    assert_eq!(agent.records.summed(), 1);

    // The channel goes on, and so do requests once lines can be written.
    agent.records.set_fault(None);
    assert_eq!(vendor.get("/secret").await.status, 403);
    assert_eq!(agent.records.next().await["error"], "policy-refused");
}

#[tokio::test]
async fn a_request_with_a_place_for_its_record_is_answered_by_jira() {
    let options = Options {
        audit_required: true,
        ..Options::default()
    };
    let mut agent = Agent::new(&jira(echo).await, options);
    let mut vendor = agent.channel();
    for _ in 0..3 {
        assert_eq!(vendor.get("/x").await.status, 200);
        assert_eq!(agent.records.next().await["outcome"], "complete");
    }
}

/// A vendor can neither fill the disk with refusals nor push others' lines out of the journal.
#[tokio::test]
async fn past_a_number_in_a_minute_refusals_are_counted_and_allowed_requests_pass() {
    let mut agent = Agent::new(&jira(echo).await, limited());
    let mut vendor = agent.channel();
    for _ in 0..3 {
        let reply = vendor.get("/secret").await;
        reply.assert_problem("policy-refused", "not_sent");
        assert_eq!(agent.records.next().await["error"], "policy-refused");
    }
    for _ in 0..5 {
        let reply = vendor.get("/secret").await;
        let problem = reply.assert_problem("too-many-refusals", "not_sent");
        assert_eq!(reply.header("retry-after"), Some("60"));
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.starts_with("more than 3 requests a minute are refused"));
        assert!(detail.contains("/secret"), "{detail}");
        // What is allowed does not know of it.
        assert_eq!(vendor.get("/x").await.status, 200);
        assert_eq!(agent.records.next().await["decision"], "allowed");
    }
    assert_eq!(agent.records.summed(), 5);
    // What ends a channel ends it, counted or not.
    let mut other = agent.channel();
    other
        .send("GET /x HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n")
        .await;
    other
        .reply()
        .await
        .assert_problem("too-many-refusals", "not_sent");
    assert!(other.end().await.is_empty());
    assert_eq!(agent.records.summed(), 6);
    assert!(agent.records.is_empty());
}

/// A client that waits for the end of a pause must be able to tell it from a refusal.
#[tokio::test]
async fn a_pause_is_a_pause_however_often_it_is_answered_but_not_as_often_written_down() {
    let options = Options {
        only_expected: true,
        ..limited()
    };
    let mut agent = Agent::new("127.0.0.1:9", options);
    let mut vendor = agent.channel();
    for _ in 0..5 {
        vendor.get("/x").await.assert_problem("paused", "not_sent");
    }
    for _ in 0..3 {
        assert_eq!(agent.records.next().await["error"], "paused");
    }
    assert!(agent.records.is_empty());
    assert_eq!(agent.records.summed(), 2);
}
