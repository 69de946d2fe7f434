//! Proven means proven: an answer on one path does not decide about the credential, a changed secret is unproven until
//! Jira accepts it, and only Jira proves Jira.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod intermediaries;
mod paths;
mod secrets;

use agent::status::StatusReport;
use e2e::test_env::{TestEnv, json_of};
use reqwest::Response;
use serde_json::Value;

async fn until(site: &TestEnv, what: &str, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
    site.agent.until_status(what, wanted).await.unwrap()
}

async fn problem_of(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert!(
        answer.headers().contains_key("proxy-status"),
        "{status} is not the agent's own answer"
    );
    json_of(answer).await
}

const ISSUE_TYPES: &str = "/rest/api/2/issuetype";
