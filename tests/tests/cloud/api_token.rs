//! API tokens, on the site's own URL and behind the API gateway.

use crate::common::{ACCOUNT, CloudEnv, SCOPED, SITE, TOKEN, get};
use agent::status::{LayerState, StatusReport};
use e2e::test_env::{MYSELF, new_issue, vendor};
use serde_json::{Value, json};
use server_stub::cloud::Settings;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_token_logs_in_on_the_sites_own_url() {
    let site = CloudEnv::new(|_| {}).await.api_token(TOKEN, false);
    let (agent, url) = site.start().await;
    let report = agent.until_proven().await.unwrap();
    let detail = report.layers.login.detail.unwrap();
    assert_eq!(detail, "api-token, user Acme Bot");
    let (status, me) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!((status, &me["accountId"]), (200, &json!(ACCOUNT)));
    assert!(site.cloud.api_targets().is_empty());

    site.cloud.revoke_api_token(TOKEN);
    let (status, problem) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!(status, 502, "{problem}");
    let (_, remedy) = agent.login_failure().await.unwrap();
    assert!(
        remedy.contains("manage-profile/security/api-tokens"),
        "{remedy}"
    );
}

/// Jira treats a dead token as anonymous, so a search would look like "nothing found".
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_api_token_is_no_empty_search_result() {
    let site = CloudEnv::new(|_| {}).await.api_token(TOKEN, false);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let search = format!("{url}/rest/api/2/search/jql?jql=project=DEMO");
    assert_eq!(get(&search).await.0, 200);
    site.cloud.revoke_api_token(TOKEN);
    assert_eq!(get(&search).await.0, 502);
}

/// Requests with a scoped token go to the API gateway, and the vendor sees the site's own paths.
#[tokio::test(flavor = "multi_thread")]
async fn a_scoped_token_uses_the_api_gateway() {
    let site = CloudEnv::new(|_| {}).await.api_token(SCOPED, true);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let created = vendor().post(format!("{url}/rest/api/2/issue"));
    let created = created.json(&new_issue("one")).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let created: Value = created.json().await.unwrap();
    // Jira's own link is passed on unchanged.
    let link = created["self"].as_str().unwrap();
    assert!(
        link.starts_with(&format!("{SITE}/rest/api/2/issue/")),
        "{link}"
    );

    site.cloud.clear_requests();
    let raw = "/rest/api/2/search/jql?jql=project+%3d%20DEMO&fields=a%2Bb&x=%7e";
    assert_eq!(get(&format!("{url}{raw}")).await.0, 200);
    let id = &site.cloud.sites[0].cloud_id;
    let wanted = format!("/ex/jira/{id}{raw}");
    assert!(site.cloud.api_targets().contains(&wanted));
    // Only the agent adds the prefix; the policy permits no such path.
    let (status, problem) = get(&format!("{url}/ex/jira/{id}{MYSELF}")).await;
    assert_eq!(status, 403, "{problem}");
}

/// The address that users copy from Atlassian's pages: the vendor calls the same paths.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_of_the_api_gateway_works_as_upstream() {
    let site = CloudEnv::new(|_| {}).await.api_token(SCOPED, true);
    let mut site = site;
    let copied = format!(
        "https://api.atlassian.com/ex/jira/{}",
        site.cloud.sites[0].cloud_id
    );
    site.upstream = copied.leak();
    let more = ["address", "auth.api_url", "auth.scoped"];
    site.keys.retain(|(key, _)| !more.contains(key));
    let api = site.cloud.api_addr.to_string();
    let site = site.with("address", api);
    let (agent, url) = site.start().await;
    let report = agent.until_proven().await.unwrap();
    assert_eq!(
        report.layers.login.detail.unwrap(),
        "api-token, user Acme Bot"
    );
    let (status, me) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!((status, &me["accountId"]), (200, &json!(ACCOUNT)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_written_cloud_id_spares_the_site() {
    let site = CloudEnv::new(|_| {}).await.api_token(SCOPED, true);
    let id = site.cloud.sites[0].cloud_id.clone();
    let mut site = site.with("auth.cloud_id", id);
    // Nothing listens there.
    site.keys.retain(|(key, _)| *key != "address");
    let site = site.with("address", "127.0.0.1:1");
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    assert_eq!(get(&format!("{url}{MYSELF}")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_tells_no_cloud_id_is_named_and_nothing_is_sent() {
    let site = CloudEnv::new(|_| {}).await.api_token(SCOPED, true);
    let elsewhere = site.cloud.auth_addr.to_string();
    let mut site = site;
    site.keys.retain(|(key, _)| *key != "address");
    // That certificate does not have the site's name.
    let site = site
        .with("address", elsewhere)
        .with("server_name", "auth.atlassian.com");
    let (agent, url) = site.start().await;
    let (_, problem) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!(problem["delivery"], "not_sent", "{problem}");
    assert!(site.cloud.api_targets().is_empty());
    let failed = |r: &StatusReport| r.layers.jira.state == LayerState::Failed;
    let report = agent.until_status("Jira to fail", failed).await.unwrap();
    let cause = report.layers.jira.cause.unwrap();
    assert!(
        cause.contains("cloud id of https://acme.atlassian.net"),
        "{cause}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_the_other_kind_names_the_right_setting() {
    for (token, scoped, right) in [
        (SCOPED, false, "with scopes it needs scoped = true"),
        (TOKEN, true, "without scopes it needs scoped = false"),
    ] {
        let site = CloudEnv::new(|_| {}).await.api_token(token, scoped);
        let (agent, _) = site.start().await;
        let (_, remedy) = agent.login_failure().await.unwrap();
        assert!(remedy.contains(right), "{remedy}");
    }
}

/// Otherwise one request of the vendor could block the whole forward.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_scope_fails_the_request_not_the_login() {
    let narrow = |settings: &mut Settings| {
        settings.api_tokens[1].scopes =
            Some(vec!["read:jira-work".into(), "read:jira-user".into()]);
    };
    let site = CloudEnv::new(narrow).await.api_token(SCOPED, true);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    for _ in 0..3 {
        let request = vendor()
            .post(format!("{url}/rest/api/2/issue"))
            .json(&new_issue("one"));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 401);
        let body: Value = answer.json().await.unwrap();
        assert_eq!(body["message"], "Unauthorized; scope does not match");
        assert_eq!(
            get(&format!("{url}/rest/api/2/search/jql?jql=project=DEMO"))
                .await
                .0,
            200
        );
    }
    let report = agent.status().await.unwrap();
    assert_eq!(report.layers.login.state, LayerState::Proven);
}

/// Cloud's search is at `search/jql`; its answer at the old path reaches the vendor.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_searches_on_cloud_with_the_preset_alone() {
    let site = CloudEnv::new(|_| {}).await.api_token(TOKEN, false);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let (status, found) = get(&format!("{url}/rest/api/2/search/jql?jql=project=DEMO")).await;
    assert_eq!((status, &found["isLast"]), (200, &Value::Bool(true)));
    let (status, gone) = get(&format!("{url}/rest/api/2/search?jql=project=DEMO")).await;
    assert_eq!(status, 410);
    assert!(
        gone["errorMessages"][0]
            .as_str()
            .unwrap()
            .contains("search/jql")
    );
    let (status, _) = get(&format!("{url}/rest/api/3/search/jql?jql=project=DEMO")).await;
    assert_eq!(status, 403, "version 3 has a preset of its own");
}
