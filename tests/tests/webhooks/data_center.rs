//! Webhooks of administrators: registration and payloads in Data Center's older and newer form.

use crate::hook_sink::HookSink;
use crate::instance::{ADMIN, BOT, Instance, NEW, OLD, registration};
use reqwest::Method;
use serde_json::{Value, json};

const ALL: &[&str] = &[
    "jira:issue_created",
    "jira:issue_updated",
    "jira:issue_deleted",
    "comment_created",
    "comment_updated",
    "comment_deleted",
    "attachment_created",
    "attachment_deleted",
    "issuelink_created",
];

#[tokio::test]
async fn an_administrator_manages_webhooks_of_jira_9() {
    let jira = Instance::start("9.12.15").await;
    let asked = registration("http://127.0.0.1:9/hook", &["jira:issue_created"]);
    let bean = jira.register(OLD, asked.clone()).await;
    let own = bean["self"].as_str().unwrap();
    assert_eq!(own, format!("{}{OLD}/1", jira.jira.base_url));
    for (member, value) in [
        ("name", json!("vendor")),
        ("enabled", json!(true)),
        ("excludeBody", json!(false)),
        ("events", json!(["jira:issue_created"])),
        ("filters", asked["filters"].clone()),
        ("lastUpdatedUser", json!("admin")),
        ("lastUpdatedDisplayName", json!("Ada Administrator")),
    ] {
        assert_eq!(bean[member], value, "{member}");
    }
    let one = format!("{OLD}/1");
    let call = |method: Method, path: &str, body: Value| {
        let path = path.to_owned();
        let jira = &jira;
        async move { jira.send(method, &path, ADMIN, body).await }
    };
    assert_eq!(call(Method::GET, &one, Value::Null).await.1, bean);
    let (status, changed) = call(Method::PUT, &one, json!({ "enabled": false })).await;
    assert_eq!((status.as_u16(), &changed["enabled"]), (200, &json!(false)));
    assert_eq!(changed["events"], bean["events"]);
    let (_, list) = call(Method::GET, OLD, Value::Null).await;
    assert_eq!(list, json!([changed]));
    assert_eq!(call(Method::DELETE, &one, Value::Null).await.0, 204);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(call(method, &one, Value::Null).await.0, 404);
    }
    // The newer resource does not exist yet.
    assert_eq!(call(Method::GET, NEW, Value::Null).await.0, 404);
}

#[tokio::test]
async fn an_administrator_manages_webhooks_of_jira_10() {
    let jira = Instance::start("10.3.2").await;
    let bean = jira
        .register(
            NEW,
            json!({
                "name": "vendor",
                "url": "http://127.0.0.1:9/hook",
                "events": ["comment_created", "jira:issue_updated"],
                "active": "true",
                "scopeType": "global",
                "configuration": {
                    "SECRET": "s3cret",
                    "EXCLUDE_BODY": "false",
                    "FILTERS": "{\"issue-related-events-section\":\"project = DEMO\"}",
                },
            }),
        )
        .await;
    for (member, value) in [
        ("id", json!(1)),
        ("active", json!(true)),
        ("scopeType", json!("global")),
        ("sslVerificationRequired", json!(true)),
    ] {
        assert_eq!(bean[member], value, "{member}");
    }
    assert!(bean["createdDate"].is_number() && bean["updatedDate"].is_number());
    assert!(!bean.to_string().contains("s3cret"), "{bean}");
    assert!(
        bean["configuration"]["FILTERS"]
            .as_str()
            .unwrap()
            .contains("project = DEMO")
    );
    let list = |query: &'static str| {
        let jira = &jira;
        async move {
            let path = format!("{NEW}{query}");
            let (status, list) = jira.send(Method::GET, &path, ADMIN, Value::Null).await;
            assert_eq!(status, 200);
            list.as_array().unwrap().len()
        }
    };
    assert_eq!(list("").await, 1);
    assert_eq!(list("?event=comment_created").await, 1);
    assert_eq!(list("?event=user_created").await, 0);
    assert_eq!(list("?start=1").await, 0);
    let one = format!("{NEW}/1");
    let changed = json!({ "name": "other", "active": false });
    let (status, changed) = jira.send(Method::PUT, &one, ADMIN, changed).await;
    assert_eq!(status, 200);
    assert_eq!(
        (&changed["name"], &changed["active"]),
        (&json!("other"), &json!(false))
    );
    assert_eq!(
        jira.send(Method::DELETE, &one, ADMIN, Value::Null).await.0,
        204
    );
    assert_eq!(
        jira.send(Method::GET, &one, ADMIN, Value::Null).await.0,
        404
    );
    // The older resource is gone.
    assert_eq!(jira.send(Method::GET, OLD, ADMIN, Value::Null).await.0, 404);
}

#[tokio::test]
async fn both_forms_refuse_what_jira_refuses() {
    for (version, path) in [("9.12.15", OLD), ("10.3.2", NEW)] {
        let jira = Instance::start(version).await;
        let good = registration("http://127.0.0.1:9/hook", &["jira:issue_created"]);
        let with = |member: &str, value: Value| {
            let mut body = good.clone();
            body[member] = value;
            body
        };
        for (what, token, body, status) in [
            ("anonymous", "", good.clone(), 401),
            ("no administrator", BOT, good.clone(), 403),
            ("no name", ADMIN, with("name", json!(" ")), 400),
            ("no URL", ADMIN, with("url", json!("vendor")), 400),
            (
                "another scheme",
                ADMIN,
                with("url", json!("ftp://vendor.example/")),
                400,
            ),
            (
                "an unknown event",
                ADMIN,
                with("events", json!(["jira:issue_exploded"])),
                400,
            ),
            (
                "a query that does not parse",
                ADMIN,
                with(
                    "filters",
                    json!({ "issue-related-events-section": "project = = DEMO" }),
                ),
                400,
            ),
            (
                "a project that does not exist",
                ADMIN,
                with(
                    "filters",
                    json!({ "issue-related-events-section": "project = NOPE" }),
                ),
                400,
            ),
        ] {
            let (found, bean) = jira.send(Method::POST, path, token, body).await;
            assert_eq!(found, status, "{version}, {what}: {bean}");
        }
        let (status, list) = jira.send(Method::GET, path, BOT, Value::Null).await;
        assert_eq!(status, 403, "{list}");
        let (_, list) = jira.send(Method::GET, path, ADMIN, Value::Null).await;
        assert_eq!(list, json!([]), "{version}");
    }
}

#[tokio::test]
async fn the_life_of_an_issue_is_reported_as_jira_9_does() {
    let jira = Instance::start("9.12.15").await;
    let sink = HookSink::start().await;
    let url = format!(
        "{}/hook/${{project.key}}/${{issue.key}}?from=jira",
        sink.url
    );
    jira.register(OLD, registration(&url, ALL)).await;
    // Another project: the filter keeps it here.
    jira.create("OPS").await;
    let key = jira.create("DEMO").await;
    let issue = format!("/rest/api/2/issue/{key}");
    let call = |method: Method, path: String, token: &'static str, body: Value| {
        let jira = &jira;
        async move {
            let (status, answer) = jira.send(method, &path, token, body).await;
            assert!(status.is_success(), "{path}: {status} {answer}");
            answer
        }
    };
    let change = json!({ "fields": { "summary": "Another", "labels": ["red"] } });
    call(Method::PUT, issue.clone(), BOT, change).await;
    let assignee = json!({ "name": "admin" });
    call(Method::PUT, format!("{issue}/assignee"), BOT, assignee).await;
    let transitions = call(
        Method::GET,
        format!("{issue}/transitions"),
        BOT,
        Value::Null,
    )
    .await;
    let transition = json!({ "transition": { "id": transitions["transitions"][0]["id"] } });
    call(
        Method::POST,
        format!("{issue}/transitions"),
        BOT,
        transition,
    )
    .await;
    let comment = json!({ "body": "Looked at." });
    let comment = call(Method::POST, format!("{issue}/comment"), BOT, comment).await;
    let comment = format!("{issue}/comment/{}", comment["id"].as_str().unwrap());
    call(
        Method::PUT,
        comment.clone(),
        BOT,
        json!({ "body": "Looked twice." }),
    )
    .await;
    call(Method::DELETE, comment, ADMIN, Value::Null).await;
    call(Method::DELETE, issue, ADMIN, Value::Null).await;
    let hooks = sink.hooks(9).await;
    let names: Vec<(String, Option<String>)> = hooks
        .iter()
        .map(|hook| {
            let kind = hook.json()["issue_event_type_name"]
                .as_str()
                .map(str::to_owned);
            (hook.event(), kind)
        })
        .collect();
    let wanted = [
        ("jira:issue_created", Some("issue_created")),
        ("jira:issue_updated", Some("issue_updated")),
        ("jira:issue_updated", Some("issue_assigned")),
        ("jira:issue_updated", Some("issue_generic")),
        ("comment_created", None),
        ("jira:issue_updated", Some("issue_commented")),
        ("comment_updated", None),
        ("comment_deleted", None),
        ("jira:issue_deleted", Some("issue_deleted")),
    ];
    let wanted: Vec<_> = wanted
        .iter()
        .map(|(event, kind)| ((*event).to_owned(), kind.map(str::to_owned)))
        .collect();
    assert_eq!(names, wanted);

    let created = &hooks[0];
    assert_eq!(
        created.target,
        format!("/hook/DEMO/{key}?from=jira&user_id=acme-bot&user_key=JIRAUSER10001")
    );
    let agent = created.header("user-agent").unwrap();
    assert!(
        agent.starts_with("Atlassian HttpClient") && agent.contains("JIRA-9.12.15"),
        "{agent}"
    );
    assert_eq!(
        created.header("content-type"),
        Some("application/json; charset=UTF-8")
    );
    assert!(created.header("x-atlassian-webhook-identifier").is_some());
    for absent in [
        "x-atlassian-webhook-flow",
        "x-hub-signature",
        "authorization",
    ] {
        assert_eq!(created.header(absent), None);
    }
    let body = created.json();
    assert!(body["timestamp"].as_u64().unwrap() > 1_700_000_000_000);
    assert_eq!(body["user"]["name"], "acme-bot");
    assert_eq!(body["issue"]["key"], key);
    assert_eq!(body["issue"]["fields"]["project"]["key"], "DEMO");
    assert_eq!(body["changelog"], Value::Null);

    let items = hooks[1].json()["changelog"]["items"].clone();
    let summary = json!({
        "field": "summary", "fieldtype": "jira", "from": null, "fromString": "A finding",
        "to": null, "toString": "Another",
    });
    let labels = json!({
        "field": "labels", "fieldtype": "jira", "from": null, "fromString": "",
        "to": null, "toString": "red",
    });
    assert_eq!(items, json!([summary, labels]));
    let assigned = hooks[2].json()["changelog"]["items"][0].clone();
    assert_eq!(
        (&assigned["to"], &assigned["toString"]),
        (&json!("admin"), &json!("Ada Administrator"))
    );
    assert_eq!(hooks[3].json()["changelog"]["items"][0]["field"], "status");

    let comment = hooks[4].json();
    assert_eq!(comment["comment"]["body"], "Looked at.");
    let link = comment["comment"]["self"].as_str().unwrap();
    let id = body["issue"]["id"].as_str().unwrap();
    assert!(link.contains(&format!("/issue/{id}/comment/")), "{link}");
    assert_eq!(
        comment["issue"],
        Value::Null,
        "as in captures of Jira 7.3 and 8.13"
    );
    assert_eq!(hooks[5].json()["comment"]["body"], "Looked at.");
    assert_eq!(hooks[6].json()["comment"]["body"], "Looked twice.");
    assert_eq!(hooks[8].json()["issue"]["fields"]["summary"], "Another");
}

#[tokio::test]
async fn attachments_and_links_are_reported() {
    let jira = Instance::start("9.12.15").await;
    let sink = HookSink::start().await;
    let events = [
        "attachment_created",
        "attachment_deleted",
        "jira:issue_updated",
        "issuelink_created",
    ];
    jira.register(OLD, registration(&sink.url, &events)).await;
    let (one, two) = (jira.create("DEMO").await, jira.create("DEMO").await);
    let part = reqwest::multipart::Part::text("content").file_name("a.txt");
    let answer = e2e::test_env::vendor()
        .post(format!(
            "{}/rest/api/2/issue/{one}/attachments",
            jira.jira.url
        ))
        .bearer_auth(BOT)
        .header("x-atlassian-token", "no-check")
        .multipart(reqwest::multipart::Form::new().part("file", part))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let link = json!({
        "type": { "name": "Blocks" }, "inwardIssue": { "key": one }, "outwardIssue": { "key": two },
    });
    let (status, _) = jira
        .send(Method::POST, "/rest/api/2/issueLink", BOT, link)
        .await;
    assert_eq!(status, 201);
    let hooks = sink.hooks(3).await;
    let attachment = hooks[0].json();
    assert_eq!(hooks[0].event(), "attachment_created");
    assert_eq!(attachment["attachment"]["filename"], "a.txt");
    let item = hooks[1].json()["changelog"]["items"][0].clone();
    assert_eq!(
        (&item["field"], &item["toString"]),
        (&json!("Attachment"), &json!("a.txt"))
    );
    let link = hooks[2].json()["issueLink"].clone();
    assert_eq!(link["issueLinkType"]["outwardName"], "blocks");
    assert!(link["sourceIssueId"].is_number() && link["destinationIssueId"].is_number());
    let id = attachment["attachment"]["id"].as_str().unwrap();
    let path = format!("/rest/api/2/attachment/{id}");
    assert_eq!(
        jira.send(Method::DELETE, &path, ADMIN, Value::Null).await.0,
        204
    );
    assert_eq!(sink.events(4).await[3], "attachment_deleted");
}

#[tokio::test]
async fn no_events_means_all_and_an_excluded_body_is_empty() {
    let jira = Instance::start("9.12.15").await;
    let sink = HookSink::start().await;
    let mut body = registration(&sink.url, &[]);
    body["excludeBody"] = json!(true);
    jira.register(OLD, body).await;
    jira.create("DEMO").await;
    let hooks = sink.hooks(1).await;
    assert_eq!(hooks[0].body.len(), 0);
    assert_eq!(hooks[0].target, "/?user_id=acme-bot&user_key=JIRAUSER10001");
}
