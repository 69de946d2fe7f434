//! Each refusal of Jira has its own cause.

use crate::common::{consumer, two_legged};
use agent::auth::oauth1::SigningKey;
use e2e::test_env::{MYSELF, TestEnv, json_of};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_is_named_with_its_offset() {
    let mut site = two_legged(TestEnv::builder()).start().await.unwrap();
    site.jira().set_clock_offset(-900);
    let (status, problem) = json_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!(status, 502);
    assert_eq!(problem["delivery"], "answered");
    let login = site.agent.login_failure().await.unwrap();
    assert!(login.0.contains("clock"), "{login:?}");
    assert!(
        login.0.contains("15m ahead of Jira's") || login.0.contains("14m"),
        "{login:?}"
    );
    assert!(login.1.contains("NTP"), "{login:?}");
    site.jira().set_clock_offset(0);
    site.agent.run(&["login-retry"]).unwrap();
    site.until_answered(MYSELF).await.unwrap();
    site.until_proven().await.unwrap();
}

/// A key and a consumer that Jira does not know have different causes and remedies.
#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_differs_from_an_unknown_consumer() {
    let stranger = SigningKey::generate(2048).unwrap();
    let plan = two_legged(TestEnv::builder()).jira(|jira| {
        jira.oauth1.consumers[0].public_key = stranger.public_pem().unwrap();
    });
    let site = plan.start_unproven().await.unwrap();
    let login = site.agent.login_failure().await.unwrap();
    assert!(login.0.contains("does not fit the signature"), "{login:?}");
    assert!(login.1.contains("public key"), "{login:?}");
    // Corrected in Jira.
    site.jira().register_oauth1_consumer(consumer()).unwrap();
    site.agent.run(&["login-retry"]).unwrap();
    site.until_answered(MYSELF).await.unwrap();

    let plan =
        two_legged(TestEnv::builder()).jira(|jira| jira.oauth1.consumers[0].key = "other".into());
    let site = plan.start_unproven().await.unwrap();
    let login = site.agent.login_failure().await.unwrap();
    assert!(
        login.0.contains("no application link") && login.0.contains("acme"),
        "{login:?}"
    );

    let plan =
        two_legged(TestEnv::builder()).jira(|jira| jira.oauth1.consumers[0].two_legged_user = None);
    let site = plan.start_unproven().await.unwrap();
    let login = site.agent.login_failure().await.unwrap();
    assert!(login.1.contains("2LO"), "{login:?}");
}
