//! Issues: create, read, change; comments, transitions, links, both forms of createmeta.

use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{
    ADMIN_TOKEN, get, get_as_bot, new_issue, request, send, send_json, start, start_with,
};

async fn create(jira: &fake_jira::jira::RunningJira, fields: Value) -> crate::client::Reply {
    send_json(
        jira,
        Method::POST,
        "/rest/api/2/issue",
        json!({ "fields": fields }),
    )
    .await
}

#[tokio::test]
async fn created_is_201_with_id_key_and_self() {
    let jira = start().await;
    let reply = create(
        &jira,
        json!({ "project": { "key": "DEMO" }, "issuetype": { "name": "Bug" }, "summary": "s" }),
    )
    .await;
    assert_eq!(reply.status, 201);
    let bean = reply.json();
    assert_eq!(bean["key"], "DEMO-1");
    let id = bean["id"].as_str().unwrap();
    assert_eq!(
        bean["self"],
        format!("{}/rest/api/2/issue/{id}", jira.base_url)
    );
    assert_eq!(bean.as_object().unwrap().len(), 3);
    let by_id = get_as_bot(&jira, &format!("/rest/api/2/issue/{id}")).await;
    assert_eq!(by_id.json()["key"], "DEMO-1");
}

#[tokio::test]
async fn an_issue_that_is_not_there_is_404_in_jiras_words() {
    let jira = start().await;
    let reply = get_as_bot(&jira, "/rest/api/2/issue/DEMO-999").await;
    assert_eq!(reply.status, 404);
    assert_eq!(
        reply.json(),
        json!({ "errorMessages": ["Issue Does Not Exist"], "errors": {} })
    );
}

#[tokio::test]
async fn a_bad_field_is_400_under_its_name() {
    let jira = start().await;
    let good =
        json!({ "project": { "key": "DEMO" }, "issuetype": { "name": "Task" }, "summary": "s" });
    for (field, value, text) in [
        (
            "summary",
            json!(null),
            "You must specify a summary of the issue.",
        ),
        (
            "summary",
            json!("a\nb"),
            "The summary is invalid because it contains newline characters.",
        ),
        ("summary", json!(7), "Operation value must be a string"),
        (
            "project",
            json!({ "key": "NOPE" }),
            "valid project is required",
        ),
        (
            "project",
            json!({ "key": "HR" }),
            "valid project is required",
        ),
        (
            "issuetype",
            json!({ "name": "Nope" }),
            "valid issue type is required",
        ),
        (
            "priority",
            json!({ "name": "Nope" }),
            "Priority name 'Nope' is not valid",
        ),
        (
            "assignee",
            json!({ "name": "nobody" }),
            "User 'nobody' does not exist.",
        ),
        (
            "labels",
            json!(["a b"]),
            "The label 'a b' contains spaces which is invalid.",
        ),
        (
            "components",
            json!([{ "name": "X" }]),
            "Component name 'X' is not valid",
        ),
        (
            "duedate",
            json!("tomorrow"),
            "Error parsing date string: tomorrow",
        ),
        (
            "customfield_10101",
            json!("many"),
            "Operation value must be a number",
        ),
        (
            "status",
            json!({ "name": "Done" }),
            "Field 'status' cannot be set. It is not on the appropriate screen, or unknown.",
        ),
        (
            "nope",
            json!(1),
            "Field 'nope' cannot be set. It is not on the appropriate screen, or unknown.",
        ),
    ] {
        let mut fields = good.clone();
        fields[field] = value;
        let reply = create(&jira, fields).await;
        assert_eq!(reply.status, 400, "{field}");
        assert_eq!(
            reply.json(),
            json!({ "errorMessages": [], "errors": { field: text } })
        );
    }
    let reply = create(&jira, json!({})).await.json();
    assert_eq!(reply["errors"]["project"], "project is required");
    assert_eq!(
        get_as_bot(&jira, "/rest/api/2/search").await.json()["total"],
        0
    );
}

#[tokio::test]
async fn a_body_that_is_no_json_is_400_and_another_type_415() {
    let jira = start().await;
    let post = |kind: &'static str, body: &'static str| {
        let request = request(&jira, Method::POST, "/rest/api/2/issue");
        send(
            request
                .bearer_auth(ADMIN_TOKEN)
                .header("content-type", kind)
                .body(body),
        )
    };
    assert_eq!(post("application/json", "{").await.status, 400);
    assert_eq!(post("application/json", "").await.status, 400);
    assert_eq!(post("application/xml", "<a/>").await.status, 415);
}

#[tokio::test]
async fn what_was_set_is_what_is_read() {
    let jira = start().await;
    let reply = create(
        &jira,
        json!({
            "project": { "key": "DEMO" }, "issuetype": { "id": "10002" }, "summary": "Über \u{2603}",
            "description": "a\r\nb %2F +", "priority": { "id": "1" }, "labels": ["x", "y"],
            "components": [{ "name": "API" }], "fixVersions": [{ "name": "2.0" }],
            "assignee": { "name": "-1" }, "duedate": "2030-01-31",
            "customfield_10100": "CASE-1", "customfield_10101": 2.5,
        }),
    )
    .await;
    let key = reply.json()["key"].as_str().unwrap().to_owned();
    let issue = get_as_bot(&jira, &format!("/rest/api/2/issue/{key}"))
        .await
        .json();
    let fields = &issue["fields"];
    assert_eq!(fields["summary"], "Über \u{2603}");
    assert_eq!(fields["description"], "a\r\nb %2F +");
    assert_eq!(fields["priority"]["name"], "Highest");
    assert_eq!(fields["labels"], json!(["x", "y"]));
    assert_eq!(fields["components"][0]["name"], "API");
    assert_eq!(fields["fixVersions"][0]["name"], "2.0");
    assert_eq!(fields["assignee"]["name"], "admin");
    assert_eq!(fields["reporter"]["name"], "acme-bot");
    assert_eq!(fields["duedate"], "2030-01-31");
    assert_eq!(fields["customfield_10100"], "CASE-1");
    assert_eq!(fields["customfield_10101"], 2.5);
    assert_eq!(fields["status"]["statusCategory"]["key"], "new");
    let created = fields["created"].as_str().unwrap();
    assert!(
        created.ends_with("+0000") && created.len() == 28,
        "{created}"
    );
}

#[tokio::test]
async fn fields_chooses_what_is_read() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let names = |path: String| {
        let jira = &jira;
        async move {
            let issue = get_as_bot(jira, &path).await.json();
            let fields = issue["fields"].as_object().unwrap();
            fields.keys().cloned().collect::<Vec<_>>()
        }
    };
    let path = format!("/rest/api/2/issue/{key}");
    assert_eq!(
        names(format!("{path}?fields=summary,status")).await,
        ["status", "summary"]
    );
    assert!(names(path.clone()).await.contains(&"comment".to_owned()));
    assert!(
        !names(format!("{path}?fields=-comment"))
            .await
            .contains(&"comment".to_owned())
    );
}

#[tokio::test]
async fn an_update_is_204_and_says_what_cannot_be_set() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let path = format!("/rest/api/2/issue/{key}");
    let body = json!({
        "fields": { "summary": "t" },
        "update": { "labels": [{ "add": "a" }, { "add": "b" }, { "remove": "a" }],
                    "comment": [{ "add": { "body": "c" } }] },
    });
    let reply = send_json(&jira, Method::PUT, &path, body).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (204, ""));
    let fields = get_as_bot(&jira, &path).await.json()["fields"].clone();
    assert_eq!(fields["summary"], "t");
    assert_eq!(fields["labels"], json!(["b"]));
    assert_eq!(fields["comment"]["comments"][0]["body"], "c");
    let wrong = send_json(
        &jira,
        Method::PUT,
        &path,
        json!({ "fields": { "summary": "" , "labels": ["z"] } }),
    )
    .await;
    assert_eq!(wrong.status, 400);
    let fields = get_as_bot(&jira, &path).await.json()["fields"].clone();
    assert_eq!(
        fields["labels"],
        json!(["b"]),
        "a refused update changes nothing"
    );
}

#[tokio::test]
async fn assigning_is_204_and_unassigned_is_null() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let path = format!("/rest/api/2/issue/{key}/assignee");
    for (name, assignee) in [
        (json!("acme-bot"), json!("acme-bot")),
        (json!(null), json!(null)),
        (json!("-1"), json!("admin")),
    ] {
        assert_eq!(
            send_json(&jira, Method::PUT, &path, json!({ "name": name }))
                .await
                .status,
            204
        );
        let issue = get_as_bot(&jira, &format!("/rest/api/2/issue/{key}"))
            .await
            .json();
        assert_eq!(
            issue["fields"]["assignee"]
                .get("name")
                .cloned()
                .unwrap_or_default(),
            assignee
        );
    }
    let reply = send_json(&jira, Method::PUT, &path, json!({ "name": "nobody" })).await;
    assert_eq!(
        reply.json()["errors"],
        json!({ "assignee": "User 'nobody' does not exist." })
    );
}

#[tokio::test]
async fn a_transition_is_204_and_only_those_from_here_are_valid() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let path = format!("/rest/api/2/issue/{key}/transitions");
    let listed = get_as_bot(&jira, &path).await.json();
    assert_eq!(listed["expand"], "transitions");
    let ids: Vec<&str> = listed["transitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["11", "31"]);
    assert_eq!(listed["transitions"][0]["to"]["name"], "In Progress");
    let act = |body: Value| send_json(&jira, Method::POST, &path, body);
    let reply = act(json!({ "transition": { "id": "41" } })).await;
    assert_eq!(reply.status, 400);
    assert!(reply.body.contains("not valid"), "{}", reply.body);
    let reply = act(json!({})).await;
    assert_eq!(
        reply.json()["errorMessages"],
        json!(["Missing 'transition' identifier"])
    );
    let body = json!({
        "transition": { "id": "31" }, "fields": { "resolution": { "name": "Duplicate" } },
        "update": { "comment": [{ "add": { "body": "why" } }] },
    });
    let reply = act(body).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (204, ""));
    let fields = get_as_bot(&jira, &format!("/rest/api/2/issue/{key}"))
        .await
        .json()["fields"]
        .clone();
    assert_eq!(fields["status"]["name"], "Done");
    assert_eq!(fields["resolution"]["name"], "Duplicate");
    assert_eq!(fields["comment"]["total"], 1);
    assert_eq!(act(json!({ "transition": { "id": 41 } })).await.status, 204);
    let fields = get_as_bot(&jira, &format!("/rest/api/2/issue/{key}"))
        .await
        .json()["fields"]
        .clone();
    assert_eq!(fields["resolution"], json!(null), "reopened is unresolved");
}

#[tokio::test]
async fn comments_are_added_listed_changed_by_their_author_and_never_empty() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let path = format!("/rest/api/2/issue/{key}/comment");
    let added = send_json(&jira, Method::POST, &path, json!({ "body": "one" })).await;
    assert_eq!(added.status, 201);
    let one = format!("{path}/{}", added.json()["id"].as_str().unwrap());
    assert_eq!(added.json()["author"]["name"], "acme-bot");
    let empty = send_json(&jira, Method::POST, &path, json!({ "body": "" })).await;
    assert_eq!(empty.status, 400);
    assert_eq!(
        empty.json()["errors"],
        json!({ "comment": "Comment body can not be empty!" })
    );
    let changed = send_json(&jira, Method::PUT, &one, json!({ "body": "two" })).await;
    assert_eq!(changed.status, 200);
    assert_eq!(get_as_bot(&jira, &one).await.json()["body"], "two");
    let by_admin = send(
        request(&jira, Method::POST, &path)
            .bearer_auth(ADMIN_TOKEN)
            .json(&json!({ "body": "x" })),
    )
    .await;
    let others = format!("{path}/{}", by_admin.json()["id"].as_str().unwrap());
    assert_eq!(
        send_json(&jira, Method::PUT, &others, json!({ "body": "y" }))
            .await
            .status,
        403
    );
    let list = get_as_bot(&jira, &format!("{path}?startAt=1&maxResults=1"))
        .await
        .json();
    assert_eq!((&list["total"], &list["startAt"]), (&json!(2), &json!(1)));
    assert_eq!(list["comments"][0]["body"], "x");
    assert_eq!(get_as_bot(&jira, &format!("{path}/1")).await.status, 404);
}

#[tokio::test]
async fn createmeta_is_one_resource_up_to_8_and_paged_ones_from_9() {
    let old = "/rest/api/2/issue/createmeta?projectKeys=DEMO&expand=projects.issuetypes.fields";
    let paged = "/rest/api/2/issue/createmeta/DEMO/issuetypes";
    for (version, has_old) in [
        ("8.20.30", true),
        ("9.12.15", false),
        ("10.3.2", false),
        ("11.1.0", false),
    ] {
        let jira = start_with(|settings| settings.version = version.into()).await;
        let reply = get_as_bot(&jira, old).await;
        if has_old {
            let bean = reply.json();
            assert_eq!(bean["projects"][0]["key"], "DEMO");
            let fields = &bean["projects"][0]["issuetypes"][1]["fields"];
            assert_eq!(fields["summary"]["required"], true);
            assert_eq!(
                fields["summary"]["schema"],
                json!({ "type": "string", "system": "summary" })
            );
        } else {
            assert_eq!(reply.status, 404, "{version}");
        }
        let types = get_as_bot(&jira, paged).await.json();
        assert_eq!(
            (&types["startAt"], &types["isLast"]),
            (&json!(0), &json!(true))
        );
        let id = types["values"][1]["id"].as_str().unwrap();
        let fields = get_as_bot(&jira, &format!("{paged}/{id}?maxResults=3&startAt=2"))
            .await
            .json();
        assert_eq!(
            (&fields["maxResults"], &fields["isLast"]),
            (&json!(3), &json!(false))
        );
        assert_eq!(fields["values"][0]["fieldId"], "summary");
        assert_eq!(
            get_as_bot(&jira, "/rest/api/2/issue/createmeta/HR/issuetypes")
                .await
                .status,
            404
        );
    }
}

#[tokio::test]
async fn editmeta_names_what_can_be_set() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let meta = get_as_bot(&jira, &format!("/rest/api/2/issue/{key}/editmeta"))
        .await
        .json();
    assert_eq!(
        meta["fields"]["labels"]["operations"],
        json!(["add", "set", "remove"])
    );
    assert_eq!(meta["fields"].get("status"), None);
    assert_eq!(meta["fields"].get("project"), None);
}

#[tokio::test]
async fn a_remote_link_is_201_and_200_when_its_global_id_is_known() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    let path = format!("/rest/api/2/issue/{key}/remotelink");
    let body =
        json!({ "globalId": "v=1", "object": { "url": "https://v.example/1", "title": "Case" } });
    let first = send_json(&jira, Method::POST, &path, body.clone()).await;
    assert_eq!(first.status, 201);
    let second = send_json(&jira, Method::POST, &path, body).await;
    assert_eq!(second.status, 200);
    assert_eq!(first.json()["id"], second.json()["id"]);
    let list = get_as_bot(&jira, &path).await.json();
    assert_eq!(list.as_array().unwrap().len(), 1);
    assert_eq!(list[0]["object"]["title"], "Case");
    let wrong = send_json(
        &jira,
        Method::POST,
        &path,
        json!({ "object": { "url": "u" } }),
    )
    .await;
    assert_eq!(
        wrong.json()["errors"],
        json!({ "title": "'title' is required." })
    );
}

#[tokio::test]
async fn a_link_is_seen_from_both_ends() {
    let jira = start().await;
    let (a, b) = (new_issue(&jira, "a").await, new_issue(&jira, "b").await);
    let body = json!({
        "type": { "name": "Blocks" }, "inwardIssue": { "key": a }, "outwardIssue": { "key": b },
    });
    let reply = send_json(&jira, Method::POST, "/rest/api/2/issueLink", body).await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (201, ""));
    let links = |key: String| {
        let jira = &jira;
        async move {
            get_as_bot(jira, &format!("/rest/api/2/issue/{key}"))
                .await
                .json()["fields"]["issuelinks"]
                .clone()
        }
    };
    assert_eq!(links(a.clone()).await[0]["outwardIssue"]["key"], b);
    assert_eq!(links(b).await[0]["inwardIssue"]["key"], a);
    let body = json!({ "type": { "name": "Nope" }, "inwardIssue": { "key": a }, "outwardIssue": { "key": a } });
    assert_eq!(
        send_json(&jira, Method::POST, "/rest/api/2/issueLink", body)
            .await
            .status,
        404
    );
}

#[tokio::test]
async fn a_user_is_found_by_name_and_key() {
    let jira = start().await;
    let me = get_as_bot(&jira, "/rest/api/2/user?username=acme-bot")
        .await
        .json();
    let key = me["key"].as_str().unwrap();
    let same = get_as_bot(&jira, &format!("/rest/api/2/user?key={key}"))
        .await
        .json();
    assert_eq!(same["name"], "acme-bot");
    let missing = get_as_bot(&jira, "/rest/api/2/user?username=nobody").await;
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.json()["errorMessages"],
        json!(["The user named 'nobody' does not exist"])
    );
    assert_eq!(
        send(get(&jira, "/rest/api/2/user?username=admin"))
            .await
            .status,
        401
    );
}
