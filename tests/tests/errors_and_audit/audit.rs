//! One audit line for each request.

use e2e::test_env::{BOT_TOKEN, ISSUE, MYSELF, TestEnv, new_issue, vendor};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_an_id_and_a_line_whatever_becomes_of_it() {
    let plan = TestEnv::builder().pat(BOT_TOKEN);
    let plan = plan.deny("* /rest/api/2/user/**");
    let site = plan.start().await.unwrap();
    let url = site.vendor_url();
    let request = |method: &str, target: &str| {
        vendor().request(method.parse().unwrap(), url.clone() + target)
    };
    let body = new_issue("Printer on fire").to_string();
    let cases = [
        (
            request("GET", MYSELF),
            200,
            json!({"decision": "allowed", "outcome": "complete", "delivery": "answered", "user": "acme-bot", "error": null, "request_bytes": 0}),
        ),
        (
            request("POST", ISSUE)
                .header("content-type", "application/json")
                .body(body.clone()),
            201,
            json!({"decision": "allowed", "outcome": "complete", "request_bytes": body.len()}),
        ),
        (
            request("GET", "/rest/api/2/issue/NONE-1"),
            404,
            json!({"decision": "allowed", "outcome": "complete", "delivery": "answered"}),
        ),
        (
            request("GET", "/rest/api/2/search?jql=project%3DDEMO&fields=key"),
            200,
            json!({"decision": "allowed", "target": "/jira/rest/api/2/search?jql=*&fields=*"}),
        ),
        (
            request("DELETE", "/rest/api/2/issue/DEMO-1"),
            403,
            json!({"decision": "refused", "outcome": "refused", "delivery": "not_sent", "error": "policy-refused", "rule": null}),
        ),
        (
            request("GET", "/rest/api/2/user?username=x"),
            403,
            json!({"decision": "refused", "outcome": "refused", "error": "policy-refused"}),
        ),
        (
            request("GET", "/rest/api/2/issue/DEMO-1;x"),
            400,
            json!({"decision": "refused", "outcome": "refused", "error": "ambiguous-target"}),
        ),
        (
            request("GET", &format!("{MYSELF}?os_username=x")),
            403,
            json!({"outcome": "refused", "error": "foreign-identity", "target": "/jira/rest/api/2/myself?os_username=*"}),
        ),
        (
            request("GET", MYSELF).header("x-http-method-override", "DELETE"),
            400,
            json!({"outcome": "refused", "error": "method-override"}),
        ),
    ];
    for (index, (request, status, expected)) in cases.into_iter().enumerate() {
        // Every second one comes with an id of the vendor's own.
        let own = format!("vendors-id-{index}");
        let request = if index % 2 == 0 {
            request
        } else {
            request.header("x-request-id", &own)
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{expected}");
        let id = answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(id == own, index % 2 == 1, "{id}");
        let length = answer.bytes().await.unwrap().len();
        let record = site.audit_of(&id).await.unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&record[name], value, "{name} of {record}");
        }
        assert_eq!(record["status"], status);
        assert_eq!(record["response_bytes"], length);
        assert_eq!(record["forward"], "jira");
        let names: Vec<_> = record
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for name in AUDIT_FIELDS {
            assert!(names.contains(name), "{name} is missing in {record}");
        }
        assert!(
            record["rule"].as_str().is_some() || record["decision"] == "refused",
            "{record}"
        );
    }
    let denied = site
        .agent
        .audit()
        .into_iter()
        .find(|r| r["target"] == "/jira/rest/api/2/user?username=*");
    assert!(
        denied.unwrap()["rule"]
            .as_str()
            .is_some_and(|rule| rule.contains("/rest/api/2/user/**"))
    );
}

const AUDIT_FIELDS: &[&str] = &[
    "time",
    "request_id",
    "forward",
    "connection",
    "originator",
    "method",
    "target",
    "decision",
    "rule",
    "error",
    "status",
    "request_bytes",
    "response_bytes",
    "duration_ms",
    "first_byte_ms",
    "delivery",
    "outcome",
    "user",
];
