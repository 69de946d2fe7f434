//! Search: results, pages, errors of invalid queries.

use fake_jira::jira::RunningJira;
use reqwest::Method;
use serde_json::json;

use crate::client::{get_as_bot, new_issue, send_json, start};

async fn found(jira: &RunningJira, jql: &str) -> Vec<String> {
    let body = json!({ "jql": jql, "fields": ["summary"] });
    let reply = send_json(jira, Method::POST, "/rest/api/2/search", body).await;
    assert_eq!(reply.status, 200, "{jql}: {}", reply.body);
    let bean = reply.json();
    let keys = bean["issues"].as_array().unwrap().iter();
    keys.map(|issue| issue["key"].as_str().unwrap().to_owned())
        .collect()
}

async fn three_issues() -> RunningJira {
    let jira = start().await;
    for summary in ["Printer on fire", "Fire in the hall", "Coffee cold"] {
        new_issue(&jira, summary).await;
    }
    let path = "/rest/api/2/issue/DEMO-2/transitions";
    send_json(
        &jira,
        Method::POST,
        path,
        json!({ "transition": { "id": "31" } }),
    )
    .await;
    let path = "/rest/api/2/issue/DEMO-3/assignee";
    send_json(&jira, Method::PUT, path, json!({ "name": "acme-bot" })).await;
    let path = "/rest/api/2/issue/DEMO-3/comment";
    send_json(&jira, Method::POST, path, json!({ "body": "needs fire" })).await;
    jira
}

#[tokio::test]
async fn a_query_selects_and_orders() {
    let jira = three_issues().await;
    for (jql, keys) in [
        ("", vec!["DEMO-3", "DEMO-2", "DEMO-1"]),
        (
            "project = DEMO ORDER BY key ASC",
            vec!["DEMO-1", "DEMO-2", "DEMO-3"],
        ),
        ("project = ops", vec![]),
        ("key = DEMO-2", vec!["DEMO-2"]),
        (
            "issueKey in (DEMO-1, 'demo-3') order by created",
            vec!["DEMO-1", "DEMO-3"],
        ),
        ("status = Done", vec!["DEMO-2"]),
        (
            "status != Done and project = Demo",
            vec!["DEMO-3", "DEMO-1"],
        ),
        ("statusCategory = \"To Do\"", vec!["DEMO-3", "DEMO-1"]),
        ("summary ~ fire", vec!["DEMO-2", "DEMO-1"]),
        ("summary ~ \"print*\"", vec!["DEMO-1"]),
        ("summary ~ print", vec![]),
        (
            "text ~ fire ORDER BY key",
            vec!["DEMO-1", "DEMO-2", "DEMO-3"],
        ),
        ("assignee = acme-bot", vec!["DEMO-3"]),
        ("assignee = currentUser()", vec!["DEMO-3"]),
        (
            "assignee is EMPTY AND resolution = Unresolved",
            vec!["DEMO-1"],
        ),
        ("assignee is not empty", vec!["DEMO-3"]),
        ("NOT (status = Done OR assignee = acme-bot)", vec!["DEMO-1"]),
        (
            "created >= -1d AND created <= now()",
            vec!["DEMO-3", "DEMO-2", "DEMO-1"],
        ),
        ("created < '2001-01-01'", vec![]),
        ("ORDER BY summary DESC", vec!["DEMO-1", "DEMO-2", "DEMO-3"]),
    ] {
        assert_eq!(found(&jira, jql).await, keys, "{jql}");
    }
}

#[tokio::test]
async fn get_and_post_answer_the_same_and_are_paged() {
    let jira = three_issues().await;
    let get = get_as_bot(
        &jira,
        "/rest/api/2/search?jql=project+%3D+DEMO+ORDER+BY+key&startAt=1&maxResults=1&fields=summary,status",
    )
    .await
    .json();
    let body = json!({
        "jql": "project = DEMO ORDER BY key", "startAt": 1, "maxResults": 1,
        "fields": ["summary", "status"],
    });
    let post = send_json(&jira, Method::POST, "/rest/api/2/search", body)
        .await
        .json();
    assert_eq!(get, post);
    assert_eq!(get["expand"], "schema,names");
    assert_eq!(
        (&get["startAt"], &get["maxResults"], &get["total"]),
        (&json!(1), &json!(1), &json!(3))
    );
    assert_eq!(get["issues"][0]["key"], "DEMO-2");
    assert_eq!(get["issues"][0]["fields"].as_object().unwrap().len(), 2);
    let default = get_as_bot(&jira, "/rest/api/2/search").await.json();
    assert_eq!(default["maxResults"], 50);
    assert_eq!(
        default["issues"][0]["fields"].get("comment"),
        None,
        "not navigable"
    );
    let most = get_as_bot(&jira, "/rest/api/2/search?maxResults=100000")
        .await
        .json();
    assert_eq!(most["maxResults"], 1000);
}

#[tokio::test]
async fn a_bad_query_is_400_in_jiras_words() {
    let jira = start().await;
    for (jql, message) in [
        (
            "project DEMO",
            "Error in the JQL Query: Expecting operator but got 'DEMO'. The valid operators are '=', \
             '!=', '<', '>', '<=', '>=', '~', '!~', 'IN', 'NOT IN', 'IS' and 'IS NOT'. (line 1, \
             character 9)",
        ),
        (
            "project = NOPE",
            "The value 'NOPE' does not exist for the field 'project'.",
        ),
        (
            "project = HR",
            "The value 'HR' does not exist for the field 'project'.",
        ),
        (
            "key = DEMO-9",
            "An issue with key 'DEMO-9' does not exist for field 'key'.",
        ),
        (
            "nope = 1",
            "Field 'nope' does not exist or you do not have permission to view it.",
        ),
        (
            "status ~ Done",
            "The operator '~' is not supported by the 'status' field.",
        ),
        (
            "summary = x",
            "The operator '=' is not supported by the 'summary' field.",
        ),
        ("assignee = f()", "Unable to find JQL function 'f()'."),
    ] {
        let reply = send_json(
            &jira,
            Method::POST,
            "/rest/api/2/search",
            json!({ "jql": jql }),
        )
        .await;
        assert_eq!(reply.status, 400, "{jql}");
        assert_eq!(
            reply.json(),
            json!({ "errorMessages": [message], "warningMessages": [] })
        );
    }
}
