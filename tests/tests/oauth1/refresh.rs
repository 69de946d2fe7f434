//! Renewing by the session.

use crate::common::{
    MYSELF, failed_login, log_in_by_code, stored, three_legged, token_file, until_ok,
};
use e2e::{
    agent::write_secret,
    login::output_text,
    test_env::{TestEnv, vendor},
};
use futures_util::future::join_all;
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn the_session_renews_the_token_before_it_ends_and_no_request_notices() {
    let plan = three_legged(TestEnv::builder()).jira(|jira| jira.oauth1.access_lifetime = 30);
    let mut site = plan.start_unproven().await.unwrap();
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
    let before = stored(&site)["tokens"].clone();
    let first = before["access"].clone();
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while stored(&site)["tokens"]["access"] == first {
        let answer = vendor()
            .get(site.vendor_url() + MYSELF)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            tokio::time::Instant::now() < deadline,
            "{}",
            site.agent.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    // While the first one still served; both are times of the same form.
    let renewed = stored(&site)["tokens"]["obtained"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        renewed.as_str() < before["access_expires"].as_str().unwrap(),
        "{renewed} {before}"
    );
    until_ok(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_jira_ended_early_is_renewed_and_the_request_answered() {
    let mut site = three_legged(TestEnv::builder())
        .start_unproven()
        .await
        .unwrap();
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
    let first = stored(&site)["tokens"]["access"].clone();
    site.jira().expire_oauth1_tokens(false);
    let requests = (0..20).map(|_| vendor().get(site.vendor_url() + MYSELF).send());
    for answer in join_all(requests).await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_ne!(stored(&site)["tokens"]["access"], first);
    let renewed = site.agent.run(&["login", "--renew"]).unwrap();
    assert!(
        output_text(&renewed).contains("renewed; logged in as acme-bot"),
        "{renewed:?}"
    );
    until_ok(&site).await;

    // With its session the login has ended, and only a person helps.
    site.jira().expire_oauth1_tokens(true);
    let answer = vendor()
        .get(site.vendor_url() + MYSELF)
        .send()
        .await
        .unwrap();
    assert!([502, 503].contains(&answer.status().as_u16()));
    let login = failed_login(&site).await;
    assert!(login.1.contains("agent login jira"), "{login:?}");
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
}

/// As a crash leaves it: the mark that a renewal was under way.
#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_renewal_is_finished_at_the_next_start_or_told_as_the_reason() {
    let mut site = three_legged(TestEnv::builder())
        .start_unproven()
        .await
        .unwrap();
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
    let mark = |site: &TestEnv, mut record: Value| {
        record["pending"] = "2026-01-02T03:04:05Z".into();
        write_secret(&token_file(site), &record.to_string()).unwrap();
    };
    // Killed before Jira had heard of it: the token still lives, and is exchanged before it signs anything.
    let first = stored(&site);
    mark(&site, first.clone());
    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    let second = stored(&site);
    assert_ne!(second["tokens"]["access"], first["tokens"]["access"]);
    assert!(second["pending"].is_null(), "{second}");

    // Killed after Jira had answered: nothing can bring the answer back.
    mark(&site, first);
    site.agent.restart().unwrap();
    let login = failed_login(&site).await;
    assert!(
        login.0.contains(
            "begun 2026-01-02T03:04:05Z was interrupted before the new tokens were saved"
        ),
        "{login:?}"
    );
    assert!(login.1.contains("agent login jira"), "{login:?}");
    assert!(log_in_by_code(&site).await.status.success());
    site.until_proven().await.unwrap();
}
