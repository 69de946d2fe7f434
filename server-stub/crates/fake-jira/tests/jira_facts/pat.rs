//! Personal access tokens, valid and invalid.

use reqwest::Method;
use serde_json::json;

use crate::client::{BOT, BOT_TOKEN, get, new_issue, request, send, send_json, start};

const BAD: [&str; 2] = ["no-such-token", "acme-bot-expired-token"];

#[tokio::test]
async fn a_good_token_is_its_owner() {
    let jira = start().await;
    let reply = send(get(&jira, "/rest/api/2/myself").bearer_auth(BOT_TOKEN)).await;
    assert_eq!(reply.json()["name"], BOT);
    assert_eq!(reply.header("x-ausername"), Some(BOT));
    assert_eq!(reply.header("x-seraph-loginreason"), Some("OK"));
}

#[tokio::test]
async fn a_bad_or_expired_token_is_401_without_a_login_reason() {
    let jira = start().await;
    let key = new_issue(&jira, "one").await;
    for token in BAD {
        for path in ["myself", "serverInfo", &format!("issue/{key}")] {
            let reply = send(get(&jira, &format!("/rest/api/2/{path}")).bearer_auth(token)).await;
            assert_eq!(reply.status, 401, "{token} {path}");
            assert_eq!(reply.header("x-seraph-loginreason"), None);
        }
    }
}

#[tokio::test]
async fn a_bad_or_expired_token_searches_as_anonymous_and_finds_nothing() {
    let jira = start().await;
    new_issue(&jira, "one").await;
    for token in BAD {
        for query in ["", "?jql=project%20%3D%20DEMO"] {
            let path = format!("/rest/api/latest/search{query}");
            let reply = send(get(&jira, &path).bearer_auth(token)).await;
            assert_eq!(reply.status, 200, "{}", reply.body);
            assert_eq!(reply.json()["total"], 0);
            assert_eq!(reply.header("x-ausername"), Some("anonymous"));
        }
        let post = request(&jira, Method::POST, "/rest/api/2/search").json(&json!({ "jql": "" }));
        assert_eq!(send(post.bearer_auth(token)).await.json()["total"], 0);
    }
}

#[tokio::test]
async fn another_spelling_of_bearer_is_no_token() {
    let jira = start().await;
    for value in [
        "bearer acme-bot-token",
        "Bearer  acme-bot-token",
        "BEARER acme-bot-token",
    ] {
        let search = get(&jira, "/rest/api/2/search").header("authorization", value);
        assert_eq!(
            send(search).await.header("x-ausername"),
            Some("anonymous"),
            "{value}"
        );
    }
}

#[tokio::test]
async fn a_token_can_expire_while_jira_runs() {
    let jira = start().await;
    jira.expire_token(BOT_TOKEN);
    let reply = send(get(&jira, "/rest/api/2/myself").bearer_auth(BOT_TOKEN)).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn tokens_are_made_listed_with_their_end_and_revoked() {
    let jira = start().await;
    let tokens = "/rest/pat/latest/tokens";
    let body = json!({ "name": "made", "expirationDuration": 90 });
    let made = send_json(&jira, Method::POST, tokens, body).await;
    assert_eq!(made.status, 201);
    let secret = made.json()["rawToken"].as_str().unwrap().to_owned();
    let listed = send(get(&jira, tokens).bearer_auth(&secret)).await.json();
    let entry = listed
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["name"] == "made")
        .unwrap();
    assert!(entry["expiringAt"].is_string() && entry["createdAt"].is_string());
    assert_eq!(entry.get("rawToken"), None);
    let one = format!("{tokens}/{}", entry["id"]);
    assert_eq!(
        send_json(&jira, Method::DELETE, &one, json!({}))
            .await
            .status,
        204
    );
    assert_eq!(
        send(get(&jira, tokens).bearer_auth(&secret)).await.status,
        401
    );
}
