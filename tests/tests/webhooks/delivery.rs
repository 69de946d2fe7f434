//! How deliveries leave: signed, never in the way of Jira's own requests, bounded.

use crate::hmac::hub;
use crate::hook_sink::HookSink;
use crate::instance::{ADMIN, BOT, Instance, NEW, registration};
use e2e::wait::soon;
use reqwest::Method;
use serde_json::{Value, json};
use server_stub::jira::WebhookSettings;

const CREATED: &[&str] = &["jira:issue_created"];

#[tokio::test]
async fn jira_10_signs_with_the_secret_in_the_configuration_only() {
    let jira = Instance::start("10.3.2").await;
    let (signed, plain) = (HookSink::start().await, HookSink::start().await);
    let url = format!("{}/{{project.key}}/{{issue.key}}", signed.url);
    let mut body = registration(&url, CREATED);
    body["configuration"] = json!({ "SECRET": "It's a secret" });
    jira.register(NEW, body).await;
    let mut body = registration(&plain.url, CREATED);
    body["secret"] = json!("It's a secret");
    jira.register(NEW, body).await;
    let key = jira.create("DEMO").await;
    let hooks = signed.hooks(1).await;
    let expected = hub("It's a secret", &hooks[0].body);
    assert_eq!(hooks[0].header("x-hub-signature"), Some(&*expected));
    assert_eq!(hooks[0].target, format!("/DEMO/{key}"));
    assert_eq!(plain.hooks(1).await[0].header("x-hub-signature"), None);
    // A changed secret counts from the next delivery on.
    let change = json!({ "configuration": { "SECRET": "another" } });
    let (status, _) = jira
        .send(Method::PUT, &format!("{NEW}/1"), ADMIN, change)
        .await;
    assert_eq!(status, 200);
    jira.create("DEMO").await;
    let hooks = signed.hooks(2).await;
    let expected = hub("another", &hooks[1].body);
    assert_eq!(hooks[1].header("x-hub-signature"), Some(&*expected));
}

#[tokio::test]
async fn an_inactive_webhook_gets_nothing() {
    let jira = Instance::start("10.3.2").await;
    let sink = HookSink::start().await;
    jira.register(NEW, registration(&sink.url, CREATED)).await;
    let one = format!("{NEW}/1");
    let set = |active: bool| {
        let (jira, one) = (&jira, &one);
        async move {
            let body = json!({ "active": active });
            let (status, _) = jira.send(Method::PUT, one, ADMIN, body).await;
            assert_eq!(status, 200);
        }
    };
    set(false).await;
    jira.create("DEMO").await;
    set(true).await;
    let key = jira.create("DEMO").await;
    let hooks = sink.hooks(1).await;
    assert_eq!(hooks.len(), 1);
    assert_eq!(hooks[0].json()["issue"]["key"], key);
}

#[tokio::test]
async fn data_center_sends_once_and_drops_what_fails() {
    let jira = Instance::start("10.3.2").await;
    let sink = HookSink::start().await;
    sink.answer_with(&[503, 200]);
    jira.register(NEW, registration(&sink.url, CREATED)).await;
    let failed = jira.create("DEMO").await;
    jira.create("DEMO").await;
    soon(jira.jira.webhooks_attempted(2)).await;
    let attempts = jira.jira.webhook_attempts();
    let seen: Vec<_> = attempts.iter().map(|a| (a.retry, a.status)).collect();
    assert_eq!(seen, [(0, Some(503)), (0, Some(200))]);
    let hooks = sink.hooks(2).await;
    assert_eq!(hooks[0].json()["issue"]["key"], failed);
    assert_ne!(hooks[1].json()["issue"]["key"], failed);
    let path = format!("{NEW}/1/statistics");
    let (status, statistics) = jira.send(Method::GET, &path, ADMIN, Value::Null).await;
    assert_eq!(status, 200);
    let counts = &statistics["counts"];
    assert_eq!(
        (&counts["successes"], &counts["failures"]),
        (&json!(1), &json!(1))
    );
}

#[tokio::test]
async fn a_receiver_that_hangs_delays_no_request_and_its_queue_is_bounded() {
    let webhooks = WebhookSettings {
        queue: 2,
        ..WebhookSettings::default()
    };
    let jira = Instance::start_with("10.3.2", webhooks).await;
    let (hanging, other) = (HookSink::start().await, HookSink::start().await);
    hanging.hold(true);
    jira.register(NEW, registration(&hanging.url, CREATED))
        .await;
    jira.register(NEW, registration(&other.url, CREATED)).await;
    let first = jira.create("DEMO").await;
    // It is on its way, so the queue behind it is empty.
    hanging.hooks(1).await;
    let mut keys = vec![first];
    for _ in 0..5 {
        keys.push(jira.create("DEMO").await);
        // The other webhook gets each at once.
        other.hooks(keys.len()).await;
    }
    let path = format!("{NEW}/1/statistics");
    let (_, statistics) = jira.send(Method::GET, &path, ADMIN, Value::Null).await;
    assert_eq!(statistics["counts"]["errors"], json!(3), "{statistics}");
    hanging.hold(false);
    let hooks = hanging.hooks(3).await;
    let seen: Vec<String> = hooks
        .iter()
        .map(|hook| hook.json()["issue"]["key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(seen, keys[..3]);
}

#[tokio::test]
async fn a_request_that_is_refused_fires_nothing() {
    let jira = Instance::start("10.3.2").await;
    let sink = HookSink::start().await;
    let events = [
        "jira:issue_created",
        "jira:issue_updated",
        "jira:issue_deleted",
    ];
    jira.register(NEW, registration(&sink.url, &events)).await;
    let key = jira.create("DEMO").await;
    let path = format!("/rest/api/2/issue/{key}");
    let (status, _) = jira.send(Method::DELETE, &path, BOT, Value::Null).await;
    assert_eq!(status, 403);
    let wrong = json!({ "fields": { "summary": "" } });
    let (status, _) = jira.send(Method::PUT, &path, BOT, wrong).await;
    assert_eq!(status, 400);
    let good = json!({ "fields": { "summary": "Other" } });
    jira.send(Method::PUT, &path, BOT, good).await;
    let events = sink.events(2).await;
    assert_eq!(events, ["jira:issue_created", "jira:issue_updated"]);
}
