//! Refresh by the session.

use crate::common::{log_in_by_code, logged_in};
use e2e::{
    agent::write_secret,
    login::output_text,
    test_env::{MYSELF, TestEnv, vendor},
    wait::until,
};
use futures_util::future::join_all;
use serde_json::Value;

/// No request fails meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_oauth1_token_is_refreshed_before_it_expires() {
    let plan = TestEnv::builder().jira(|jira| jira.oauth1.access_lifetime = 30);
    let site = logged_in(plan).await;
    let before = site.stored_tokens().unwrap()["tokens"].clone();
    let first = before["access"].clone();
    let renewed = async || {
        assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
        let tokens = site.stored_tokens().unwrap()["tokens"].clone();
        (tokens["access"] != first).then_some(tokens)
    };
    let renewed = until("a new token", renewed).await.unwrap();
    // Obtained while the first one was still valid; both times have the same format.
    let (obtained, end) = (&renewed["obtained"], &before["access_expires"]);
    assert!(obtained.as_str() < end.as_str(), "{renewed} {before}");
    site.until_answered(MYSELF).await.unwrap();
}

/// The request is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_jira_ended_early_is_refreshed() {
    let mut site = logged_in(TestEnv::builder()).await;
    let first = site.stored_tokens().unwrap()["tokens"]["access"].clone();
    site.jira().expire_oauth1_tokens(false);
    let requests = (0..20).map(|_| vendor().get(site.vendor_url() + MYSELF).send());
    for answer in join_all(requests).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_ne!(site.stored_tokens().unwrap()["tokens"]["access"], first);
    let renewed = site.agent.run(&["login", "--renew"]).unwrap();
    assert!(
        output_text(&renewed).contains("refreshed; logged in as acme-bot"),
        "{renewed:?}"
    );
    site.until_answered(MYSELF).await.unwrap();

    // Without its session the login has ended, and a person must log in.
    site.jira().expire_oauth1_tokens(true);
    let answer = site.get(MYSELF).await.unwrap();
    assert!([502, 503].contains(&answer.status().as_u16()));
    let login = site.agent.login_failure().await.unwrap();
    assert!(login.1.contains("agent login jira"), "{login:?}");
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
}

/// An interrupted refresh is finished at the next start, or named as the reason for a new login.
/// The mark of a refresh in progress, as a crash leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_refresh_is_finished_or_named() {
    let mut site = logged_in(TestEnv::builder()).await;
    let mark = |site: &TestEnv, mut record: Value| {
        record["pending"] = "2026-01-02T03:04:05Z".into();
        write_secret(&site.token_file(), &record.to_string()).unwrap();
    };
    // Killed before Jira received it: the token is valid, and is exchanged before it signs a request.
    let first = site.stored_tokens().unwrap();
    mark(&site, first.clone());
    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    let second = site.stored_tokens().unwrap();
    assert_ne!(second["tokens"]["access"], first["tokens"]["access"]);
    assert!(second["pending"].is_null(), "{second}");

    // Killed after Jira answered: the answer is lost.
    mark(&site, first);
    site.agent.restart().unwrap();
    let login = site.agent.login_failure().await.unwrap();
    assert!(
        login.0.contains(
            "started 2026-01-02T03:04:05Z was interrupted before the new tokens were saved"
        ),
        "{login:?}"
    );
    assert!(login.1.contains("agent login jira"), "{login:?}");
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
}
