//! What the vendor's receiver gets, and when.

use super::common::*;
use e2e::wait::soon;
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_stored_then_delivered_as_jira_sent_it_and_signed() {
    let env = StoreEnv::start(&[]).await;
    let body = event("SEC", 1, 1);
    let signature = jira_signature(&body);
    let request = env.request(body.clone());
    let request = request
        .header("x-hub-signature", &signature)
        .header("webhook-id", "forged")
        .header("x-atlassian-webhook-identifier", "abc");
    let request = request.build().unwrap();
    let mut with_query = request.try_clone().unwrap();
    with_query.url_mut().set_query(Some("issue=SEC%2D1&a=+"));
    let answer = soon(jira().execute(with_query)).await.unwrap();
    assert_eq!(answer.headers()["x-tunnel-answered-by"], "agent");
    let request_id = answer.headers()["x-request-id"]
        .to_str()
        .unwrap()
        .to_owned();
    let id = stored(answer).await;

    env.vendor.until_accepted(1).await;
    let attempts = env.vendor.attempts();
    let [attempt] = attempts.as_slice() else {
        panic!("{attempts:#?}");
    };
    assert_eq!(attempt.id, id);
    assert_eq!(attempt.target, "/hooks/jira?issue=SEC%2D1&a=+");
    assert_eq!(attempt.body, body);
    let header = |name: &str| attempt.headers[name].to_str().unwrap();
    assert_eq!(header("host"), env.vendor.addr.to_string());
    assert_eq!(header("x-hub-signature"), signature);
    assert_eq!(header("x-atlassian-webhook-identifier"), "abc");
    assert_eq!(header("content-length"), body.len().to_string());

    let call = env.record(&[("request_id", json!(request_id))]).await;
    assert_eq!(
        [
            &call["status"],
            &call["outcome"],
            &call["event_id"],
            &call["delivery"]
        ],
        [
            &json!(202),
            &json!("complete"),
            &json!(id),
            &json!("not_sent")
        ]
    );
    let end = env.record(&[("outcome", json!("delivered"))]).await;
    assert_eq!(
        [
            &end["event_id"],
            &end["attempts"],
            &end["status"],
            &end["direction"]
        ],
        [&json!(id), &json!(1), &json!(200), &json!("out")]
    );
    assert_eq!(end["target"], "/hooks/jira?issue=*&a=*");

    // Jira's repeat of the same delivery has the same id, so that the vendor can tell.
    let again = soon(jira().execute(request.try_clone().unwrap()))
        .await
        .unwrap();
    let other = stored(again).await;
    assert_ne!(other, id, "another target is another event");
    let again = soon(jira().execute(request)).await.unwrap();
    assert_eq!(stored(again).await, other);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_tunnel_is_down_events_are_stored_and_delivered_once_it_is_back() {
    let mut env = StoreEnv::start(&[]).await;
    env.sshd.kill();
    let mut ids = Vec::new();
    for sequence in 1..=3 {
        ids.push(env.store(1, sequence).await);
    }
    // Jira repeats a delivery: it is stored once.
    let repeat = || {
        let request = env.request(event("SEC", 2, 1));
        request.header("x-atlassian-webhook-identifier", "delivery-1")
    };
    let first = stored(soon(repeat().send()).await.unwrap()).await;
    assert_eq!(stored(soon(repeat().send()).await.unwrap()).await, first);
    assert!(env.vendor.attempts().is_empty());

    env.sshd.restart().unwrap();
    let accepted = env.vendor.until_accepted(4).await;
    let of_first: Vec<_> = accepted.iter().filter(|(issue, _)| *issue == 1).collect();
    assert_eq!(of_first, [&(1, 1), &(1, 2), &(1, 3)]);
    let attempts = env.vendor.attempts();
    assert_eq!(
        attempts.len(),
        4,
        "no attempt was made without a session: {attempts:#?}"
    );
    for (sequence, id) in (1..).zip(&ids) {
        let found = attempts
            .iter()
            .find(|a| (a.issue, a.sequence) == (1, sequence));
        assert_eq!(found.unwrap().id, *id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_fails_is_tried_again_before_the_next_of_its_issue_and_holds_up_no_other() {
    let env = StoreEnv::start(&[]).await;
    env.vendor.script(1, &[500, 500, 200]);
    let first = env.store(1, 1).await;
    let second = env.store(1, 2).await;
    env.store(2, 1).await;
    let accepted = env.vendor.until_accepted(3).await;
    assert_eq!(accepted, [(2, 1), (1, 1), (1, 2)]);
    let attempts = env.vendor.attempts();
    let of_first: Vec<_> = attempts.iter().filter(|a| a.issue == 1).collect();
    let seen: Vec<_> = of_first.iter().map(|a| (&*a.id, a.status)).collect();
    assert_eq!(
        seen,
        [(&*first, 500), (&first, 500), (&first, 200), (&second, 200)]
    );
    let times: Vec<u64> = of_first
        .iter()
        .map(|a| {
            a.headers["webhook-timestamp"]
                .to_str()
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect();
    assert!(times.is_sorted(), "{times:?}");
    let wanted = [("event_id", json!(first)), ("outcome", json!("delivered"))];
    let end = env.record(&wanted).await;
    assert_eq!(end["attempts"], 3);
}

/// Five refusals take half a minute at most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_the_vendor_refuses_becomes_a_dead_letter_and_the_next_one_follows() {
    let env = StoreEnv::start(&[]).await;
    env.vendor.script(1, &[410, 410, 410, 410, 410, 200]);
    let refused = env.store(1, 1).await;
    env.store(1, 2).await;
    let end = env.record(&[("outcome", json!("dead"))]).await;
    assert_eq!(
        [
            &end["event_id"],
            &end["attempts"],
            &end["status"],
            &end["delivery"]
        ],
        [&json!(refused), &json!(5), &json!(410), &json!("answered")]
    );
    assert!(end["cause"].as_str().unwrap().contains("HTTP 410"), "{end}");
    assert_eq!(env.vendor.until_accepted(1).await, [(1, 2)]);
    env.agent
        .logged("events have become dead letters")
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_is_too_old_becomes_a_dead_letter() {
    let mut env = StoreEnv::start(&[("retry_for", json!("2s"))]).await;
    env.sshd.kill();
    let id = env.store(1, 1).await;
    let end = env.record(&[("outcome", json!("dead"))]).await;
    assert_eq!(
        [&end["event_id"], &end["status"]],
        [&json!(id), &Value::Null]
    );
    env.sshd.restart().unwrap();
    // A later event of its issue is delivered, and the dead one is not.
    env.store(1, 2).await;
    assert_eq!(env.vendor.until_accepted(1).await, [(1, 2)]);
}
