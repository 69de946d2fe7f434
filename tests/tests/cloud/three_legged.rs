//! OAuth 2.0 (3LO).

use crate::common::{ACCOUNT, CloudEnv, SCOPE, get, log_in};
use e2e::test_env::{MYSELF, new_issue, vendor};
use serde_json::json;
use server_stub::cloud::DeadTokenAnswer;

#[tokio::test(flavor = "multi_thread")]
async fn a_3lo_login_refreshes_and_reports_its_end() {
    let site = CloudEnv::new(|_| {}).await.oauth2().seeded(SCOPE).await;
    let (agent, url) = site.start().await;
    let report = agent.until_proven().await.unwrap();
    assert!(report.layers.login.detail.unwrap().contains("Acme Bot"));
    let myself = format!("{url}{MYSELF}");
    assert_eq!(get(&myself).await.1["accountId"], ACCOUNT);
    let refreshes = site.cloud.counts().refreshes;
    let credentials = serde_json::to_string(&report.credentials).unwrap();
    assert!(
        credentials.contains("the refresh token ends in 364 days"),
        "{credentials}"
    );

    // The vendor does not notice an expired access token.
    site.cloud.expire_tokens(false);
    assert_eq!(get(&myself).await.0, 200);
    assert_eq!(site.cloud.counts().refreshes, refreshes + 1);

    site.cloud
        .set_dead_token(DeadTokenAnswer::UnauthorizedClient);
    site.cloud.expire_tokens(true);
    assert_ne!(get(&myself).await.0, 200);
    let (cause, remedy) = agent.login_failure().await.unwrap();
    assert!(remedy.contains("agent login"), "{cause}: {remedy}");
}

/// Otherwise each such request would use up a refresh token.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_refreshes_no_token() {
    let site = CloudEnv::new(|_| {}).await.oauth2();
    let site = site
        .seeded("read:jira-work read:jira-user offline_access")
        .await;
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let refreshes = site.cloud.counts().refreshes;
    let request = vendor()
        .post(format!("{url}/rest/api/2/issue"))
        .json(&new_issue("one"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 401);
    assert!(
        answer
            .text()
            .await
            .unwrap()
            .contains("scope does not match")
    );
    assert_eq!(get(&format!("{url}{MYSELF}")).await.0, 200);
    assert_eq!(site.cloud.counts().refreshes, refreshes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_reaches_other_sites_is_told_with_their_names() {
    let mut site = CloudEnv::new(|_| {}).await.oauth2().seeded(SCOPE).await;
    site.upstream = "https://third.atlassian.net";
    site.keys.push(("server_name", json!("acme.atlassian.net")));
    let (agent, url) = site.start().await;
    let (cause, _) = agent.login_failure().await.unwrap();
    assert_eq!(
        cause,
        "the login gives access to https://acme.atlassian.net, https://other.atlassian.net, but the \
         forward needs https://third.atlassian.net"
    );
    let (status, problem) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!(status, 503, "{problem}");
    assert_eq!(problem["delivery"], "not_sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_login_lets_a_person_consent_and_proves_the_site() {
    let site = CloudEnv::new(|_| {}).await.oauth2();
    let (agent, url) = site.start().await;
    let (printed, ok) = log_in(&agent).await;
    assert!(ok, "{printed}");
    assert!(printed.contains("logged in as Acme Bot"), "{printed}");
    agent.until_proven().await.unwrap();
    assert_eq!(get(&format!("{url}{MYSELF}")).await.1["accountId"], ACCOUNT);
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_login_refuses_a_consent_for_other_sites() {
    let mut site = CloudEnv::new(|_| {}).await.oauth2();
    site.upstream = "https://third.atlassian.net";
    site.keys.push(("server_name", json!("acme.atlassian.net")));
    let (agent, _) = site.start().await;
    let (printed, ok) = log_in(&agent).await;
    assert!(!ok);
    assert!(
        printed.contains("the login gives access to https://acme.atlassian.net"),
        "{printed}"
    );
}
