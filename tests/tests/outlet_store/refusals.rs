//! What is not stored, and what Jira gets instead.

use super::common::*;
use agent::status::{OverallState, StatusReport};
use e2e::{agent::records, wait::soon};
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_queue_refuses_or_drops_the_oldest_as_it_is_told() {
    let bound = ("max_queue_events", json!(2));
    let mut env = StoreEnv::start(std::slice::from_ref(&bound)).await;
    env.sshd.kill();
    env.store(1, 1).await;
    env.store(2, 1).await;
    let answer = env.post(3, 1).await;
    assert_eq!(answer.headers()["retry-after"], "60");
    assert_eq!(problem(answer).await, (503, "queue-full".to_owned()));
    env.sshd.restart().unwrap();
    let mut accepted = env.vendor.until_accepted(2).await;
    accepted.sort_unstable();
    assert_eq!(accepted, [(1, 1), (2, 1)]);
    // There is room again.
    env.store(3, 2).await;
    env.vendor.until_accepted(3).await;

    let drops = ("when_full", json!("drop-oldest"));
    let mut env = StoreEnv::start(&[bound, drops]).await;
    env.sshd.kill();
    // An event whose attempt runs makes no room.
    let is_lost = |report: &StatusReport| report.overall != OverallState::Proven;
    let lost = env.agent.until_status("the session to be lost", is_lost);
    lost.await.unwrap();
    let oldest = env.store(1, 1).await;
    env.store(2, 1).await;
    env.store(3, 1).await;
    let end = env.record(&[("outcome", json!("dropped"))]).await;
    assert_eq!(end["event_id"], json!(oldest));
    env.sshd.restart().unwrap();
    let mut accepted = env.vendor.until_accepted(2).await;
    accepted.sort_unstable();
    assert_eq!(accepted, [(2, 1), (3, 1)]);
    let dropped = records(&env.audit_file());
    let dropped = dropped.iter().filter(|r| r["outcome"] == "dropped");
    assert_eq!(dropped.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_jira_has_signed_and_the_scope_names_is_stored() {
    let env = StoreEnv::start_with(&[("scope.projects", json!(["SEC"]))], |setup, _, folder| {
        let jira = folder.path().join("jira");
        setup.also("jira_secret_file", json!(jira))
    })
    .await;
    let post = |body: Vec<u8>, signature: Option<String>| {
        let request = env.request(body);
        let request = match signature {
            Some(signature) => request.header("x-hub-signature", signature),
            None => request,
        };
        soon(request.send())
    };
    let signed = |body: Vec<u8>| {
        let signature = jira_signature(&body);
        post(body, Some(signature))
    };
    let good = event("SEC", 1, 1);
    for signature in [
        None,
        Some(jira_signature(b"other")),
        Some("sha256=".to_owned()),
    ] {
        let answer = post(good.clone(), signature).await.unwrap();
        assert_eq!(problem(answer).await, (403, "signature-refused".to_owned()));
    }
    let answer = signed(event("HR", 2, 1)).await.unwrap();
    assert_eq!(problem(answer).await, (403, "scope-refused".to_owned()));
    for undecidable in [
        json!({"webhookEvent": "jira:issue_updated", "issue": {"id": "3"}}).to_string(),
        "no JSON".to_owned(),
        String::new(),
    ] {
        let answer = signed(undecidable.clone().into_bytes()).await.unwrap();
        let problem = problem(answer).await;
        assert_eq!(
            problem,
            (403, "scope-undecidable".to_owned()),
            "{undecidable}"
        );
    }
    stored(signed(good).await.unwrap()).await;
    assert_eq!(env.vendor.until_accepted(1).await, [(1, 1)]);
    let lines = records(&env.audit_file());
    let refused = |error: &str| lines.iter().filter(|r| r["error"] == error).count();
    assert_eq!(
        [
            refused("signature-refused"),
            refused("scope-refused"),
            refused("scope-undecidable")
        ],
        [3, 1, 3]
    );
    assert_eq!(env.vendor.attempts().len(), 1);
}

/// A second outlet that is not paused shows that the deliverers run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_stops_jira_and_the_delivery() {
    let listen = e2e::sshd::free_addr().unwrap();
    let mut env = StoreEnv::start_with(&[], |setup, to, folder| {
        let keys = store_keys(folder);
        setup.outlet("other", &listen.to_string(), &to.to_string(), &keys)
    })
    .await;
    env.sshd.kill();
    env.store(1, 1).await;
    env.agent.succeed(&["pause", "events"]).unwrap();
    assert_eq!(
        problem(env.post(1, 2).await).await,
        (503, "paused".to_owned())
    );
    env.sshd.restart().unwrap();
    let other = jira().post(format!("http://{listen}/hooks/jira"));
    let other = soon(other.body(event("SEC", 2, 1)).send()).await.unwrap();
    stored(other).await;
    assert_eq!(env.vendor.until_accepted(1).await, [(2, 1)]);
    assert_eq!(
        env.vendor.attempts().len(),
        1,
        "the paused outlet has sent nothing"
    );
    env.agent.succeed(&["resume", "events"]).unwrap();
    assert_eq!(env.vendor.until_accepted(2).await, [(2, 1), (1, 1)]);
}
