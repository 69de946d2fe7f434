//! Permissions: who may see and change what.

use fake_jira::jira::{JiraPermission, PermissionGrant, PermissionHolder};
use reqwest::Method;
use serde_json::json;

use crate::client::{
    ADMIN_TOKEN, READER_TOKEN, get, get_as_bot, new_issue, new_issue_in, request, send, send_json,
    start, start_with,
};

#[tokio::test]
async fn anonymous_requests_get_401() {
    let jira = start().await;
    let key = new_issue(&jira, "one").await;
    assert_eq!(send(get(&jira, "/rest/api/2/serverInfo")).await.status, 200);
    let myself = send(get(&jira, "/rest/api/2/myself")).await;
    assert_eq!(myself.status, 401);
    assert_eq!(
        myself.json(),
        json!({ "message": "Client must be authenticated to access this resource.", "status-code": 401 })
    );
    let issue = send(get(&jira, &format!("/rest/api/2/issue/{key}"))).await;
    assert_eq!(issue.status, 401);
    assert_eq!(
        issue.json()["errorMessages"],
        json!([
            "You do not have the permission to see the specified issue.",
            "Login Required"
        ])
    );
    assert_eq!(
        send(get(&jira, "/rest/api/2/project")).await.json(),
        json!([])
    );
}

#[tokio::test]
async fn a_project_open_to_anyone_is_seen_by_anonymous_people() {
    let jira = start_with(|settings| {
        settings.projects[0].grants.push(PermissionGrant {
            to: PermissionHolder::Anyone,
            permissions: vec![JiraPermission::BrowseProjects],
        });
    })
    .await;
    let key = new_issue(&jira, "one").await;
    let reply = send(get(&jira, &format!("/rest/api/2/issue/{key}"))).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-ausername"), Some("anonymous"));
    assert!(
        reply
            .cookie("atlassian.xsrf.token")
            .unwrap()
            .ends_with("_lout")
    );
    assert_eq!(
        send(get(&jira, "/rest/api/2/search")).await.json()["total"],
        1
    );
}

#[tokio::test]
async fn what_one_may_not_see_is_403_for_an_issue_and_404_for_a_project() {
    let jira = start().await;
    let hidden = new_issue_in(&jira, "HR", ADMIN_TOKEN, "salary").await;
    let issue = get_as_bot(&jira, &format!("/rest/api/2/issue/{hidden}")).await;
    assert_eq!(issue.status, 403);
    let project = get_as_bot(&jira, "/rest/api/2/project/HR").await;
    assert_eq!(project.status, 404);
    assert_eq!(
        project.json()["errorMessages"],
        json!(["No project could be found with key 'HR'."])
    );
    assert_eq!(
        get_as_bot(&jira, "/rest/api/2/search").await.json()["total"],
        0
    );
}

#[tokio::test]
async fn a_reader_may_look_and_do_nothing_else() {
    let jira = start().await;
    let key = new_issue(&jira, "one").await;
    let path = |rest: &str| format!("/rest/api/2/issue/{key}{rest}");
    let seen = send(get(&jira, &path("")).bearer_auth(READER_TOKEN)).await;
    assert_eq!(seen.status, 200);
    let create = json!({ "fields": {
        "project": { "key": "DEMO" }, "issuetype": { "name": "Task" }, "summary": "x" } });
    for (method, path, body, status) in [
        (Method::POST, "/rest/api/2/issue".to_owned(), create, 403),
        (
            Method::PUT,
            path(""),
            json!({ "fields": { "summary": "y" } }),
            403,
        ),
        (Method::POST, path("/comment"), json!({ "body": "x" }), 403),
        (
            Method::PUT,
            path("/assignee"),
            json!({ "name": "acme-bot" }),
            403,
        ),
        (
            Method::POST,
            path("/transitions"),
            json!({ "transition": { "id": "11" } }),
            400,
        ),
        (Method::DELETE, path(""), json!({}), 403),
    ] {
        let sent = request(&jira, method, &path)
            .bearer_auth(READER_TOKEN)
            .json(&body);
        let reply = send(sent).await;
        assert_eq!(reply.status, status, "{path}: {}", reply.body);
    }
    let transitions = send(get(&jira, &path("/transitions")).bearer_auth(READER_TOKEN)).await;
    assert_eq!(transitions.json()["transitions"], json!([]));
}

#[tokio::test]
async fn mypermissions_tells_what_one_may_do() {
    let jira = start().await;
    let reply = get_as_bot(&jira, "/rest/api/2/mypermissions?projectKey=DEMO")
        .await
        .json();
    assert_eq!(
        reply["permissions"]["CREATE_ISSUES"]["havePermission"],
        true
    );
    assert_eq!(reply["permissions"]["CREATE_ISSUES"]["id"], "11");
    assert_eq!(
        reply["permissions"]["DELETE_ISSUES"]["havePermission"],
        false
    );
    assert_eq!(reply["permissions"]["ADMINISTER"]["type"], "GLOBAL");
    let anonymous = send(get(&jira, "/rest/api/2/mypermissions")).await.json();
    assert_eq!(
        anonymous["permissions"]["BROWSE_PROJECTS"]["havePermission"],
        false
    );
}

#[tokio::test]
async fn only_administrators_delete() {
    let jira = start().await;
    let key = new_issue(&jira, "one").await;
    let path = format!("/rest/api/2/issue/{key}");
    assert_eq!(
        send_json(&jira, Method::DELETE, &path, json!({}))
            .await
            .status,
        403
    );
    let deleted = send(request(&jira, Method::DELETE, &path).bearer_auth(ADMIN_TOKEN)).await;
    assert_eq!(deleted.status, 204);
    assert_eq!(get_as_bot(&jira, &path).await.status, 404);
}

#[tokio::test]
async fn assignable_people_are_those_with_the_permission() {
    let jira = start().await;
    let path = "/rest/api/2/user/assignable/search?project=DEMO&username=";
    let names: Vec<String> = get_as_bot(&jira, path)
        .await
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(names, ["admin", "acme-bot"]);
    let key = new_issue(&jira, "one").await;
    let path = format!("/rest/api/2/issue/{key}/assignee");
    let reply = send_json(&jira, Method::PUT, &path, json!({ "name": "reader" })).await;
    assert_eq!(
        reply.json()["errors"]["assignee"],
        "User 'reader' cannot be assigned issues."
    );
}
