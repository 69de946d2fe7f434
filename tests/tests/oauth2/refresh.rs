//! Refreshing tokens, and the end of a login.

use crate::{client, issue, log_in, logged_in, plan};
use agent::status::LayerState;
use e2e::{
    login::{CommandFolder, browser, output_text},
    test_env::{
        ISSUE, LOGIN_FAILED, LOGIN_UNAVAILABLE, MYSELF, REDIRECT, SEARCH, TestEnv, json_of, vendor,
    },
    wait::until,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use server_stub::cloud::{self, CloudStub, DeadTokenAnswer};
use std::{
    fs,
    time::{Duration, Instant},
};

/// No request fails meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_refreshed_before_they_expire() {
    let plan = plan("").jira(|jira| jira.oauth2.access_lifetime = 12);
    let mut site = plan.start_unproven().await.unwrap();
    assert!(log_in(&site).await.status.success());
    site.until_proven().await.unwrap();
    site.jira().clear_requests();
    let renewed = async || {
        assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
        // A request that meets the replacement of the token is rejected and repeated, so few are sent.
        tokio::time::sleep(Duration::from_millis(50)).await;
        (site.jira().oauth2_counts().refreshes >= 2).then_some(())
    };
    until("two refreshes", renewed).await.unwrap();
    // Jira has rejected no request, so each refresh came before the expiry.
    let refused = site
        .jira()
        .requests()
        .into_iter()
        .filter(|r| r.status == Some(401));
    assert_eq!(refused.count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refreshed_once_for_all_requests() {
    let site = logged_in().await;
    site.jira().expire_oauth2_tokens(false);
    let url = site.vendor_url() + MYSELF;
    let answers = join_all((0..20).map(|_| vendor().get(&url).send())).await;
    for answer in answers {
        assert_eq!(answer.unwrap().status(), 200);
    }
    assert_eq!(site.jira().oauth2_counts().refreshes, 1);

    // A write is repeated too: the rejection means that it was not carried out.
    site.jira().expire_oauth2_tokens(false);
    let before = issues(&site).await;
    site.jira().expire_oauth2_tokens(false);
    assert_eq!(site.post(ISSUE, &issue()).await.unwrap().status(), 201);
    assert_eq!(issues(&site).await, before + 1);
    site.agent.until_login(LayerState::Proven).await.unwrap();
}

/// A request that must not be sent twice fails with a reason, and the next one passes with the refreshed token.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_repeated_fails_once() {
    let site = logged_in().await;
    // An anonymous search is answered 200: whether it had an effect is unknown.
    site.jira().expire_oauth2_tokens(false);
    let jql = json!({ "jql": "project = DEMO" });
    let (status, problem) = json_of(site.post(SEARCH, &jql).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
    assert_eq!(problem["delivery"], "answered");
    assert!(
        problem["detail"].as_str().unwrap().contains("refreshed"),
        "{problem}"
    );
    assert_eq!(site.post(SEARCH, &jql).await.unwrap().status(), 200);

    // Too large to be kept for a repetition.
    site.jira().expire_oauth2_tokens(false);
    let large = issue().to_string() + &" ".repeat(100_000);
    let post = vendor().post(site.vendor_url() + ISSUE).body(large);
    let post = post.header("content-type", "application/json");
    let (status, problem) = json_of(post.try_clone().unwrap().send().await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
    assert_eq!(post.send().await.unwrap().status(), 201);
    site.agent.until_login(LayerState::Proven).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rotation_survives_a_restart_and_the_old_tokens_are_dead() {
    let mut site = logged_in().await;
    let old = site.stored_tokens().unwrap();
    site.jira().expire_oauth2_tokens(false);
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
    let new = site.stored_tokens().unwrap();
    assert_ne!(old["tokens"]["refresh"], new["tokens"]["refresh"]);

    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
    let counts = site.jira().oauth2_counts();
    assert_eq!((counts.codes, counts.refreshes), (1, 1));

    // The old tokens, as in a copied state folder, require a new login.
    fs::write(site.token_file(), serde_json::to_vec(&old).unwrap()).unwrap();
    let report = site.until_login_fails(MYSELF).await.unwrap();
    let login = report.layers.login;
    let cause = login.cause.unwrap();
    assert!(cause.contains("another agent refreshed"), "{cause}");
    assert!(login.remedy.unwrap().contains("agent login jira"));
    assert!(
        site.stored_tokens().unwrap()["ended"]
            .as_str()
            .unwrap()
            .contains("invalid_grant")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_jira_ended_says_so_and_a_new_one_is_taken_up() {
    let mut site = logged_in().await;
    site.jira().expire_oauth2_tokens(true);
    let (status, problem) = json_of(site.get(MYSELF).await.unwrap()).await;
    assert!([502, 503].contains(&status), "{problem}");
    let report = site.agent.until_login(LayerState::Failed).await.unwrap();
    let cause = report.layers.login.cause.unwrap();
    assert!(cause.contains("invalid_grant"), "{cause}");
    let (status, problem) = json_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (503, &json!(LOGIN_UNAVAILABLE)));
    let remedy = problem["remedy"].as_str().unwrap();
    assert!(remedy.contains("quote request_id"), "{problem}");
    assert!(!problem.to_string().contains("agent login"), "{problem}");
    // The agent does not repeat a refused refresh.
    let refused = site.jira().oauth2_counts().refused;
    assert_eq!(refused, 1);
    let renewed = site.agent.run(&["login", "--renew"]).unwrap();
    assert!(output_text(&renewed).contains("log in again: agent login jira"));
    assert_eq!(site.jira().oauth2_counts().refused, refused);

    assert!(log_in(&site).await.status.success());
    site.until_answered(MYSELF).await.unwrap();
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_client_secret_is_picked_up_without_a_restart() {
    let mut site = logged_in().await;
    site.jira()
        .register_oauth2_client(client("rotated", REDIRECT));
    site.jira().expire_oauth2_tokens(false);
    let _ = site.get(MYSELF).await.unwrap();
    let report = site.agent.until_login(LayerState::Failed).await.unwrap();
    let cause = report.layers.login.cause.unwrap();
    assert!(cause.contains("the secret is wrong"), "{cause}");
    site.change_secret("rotated").unwrap();
    site.until_answered(MYSELF).await.unwrap();
    site.until_proven().await.unwrap();
}

/// With Cloud's rules: no PKCE, an audience, a leeway, and two forms of answers to a dead refresh token.
#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_a_dead_cloud_token_ask_for_a_login() {
    let settings = cloud::Settings {
        apps: vec![cloud::OAuthApp::new("app", "app-secret", REDIRECT)],
        ..cloud::Settings::default()
    };
    let account = settings.accounts[0].clone();
    let cloud = CloudStub::start(settings).await.unwrap();
    let folder = CommandFolder::for_cloud(&cloud).unwrap();
    for shape in [
        DeadTokenAnswer::InvalidGrant,
        DeadTokenAnswer::UnauthorizedClient,
    ] {
        cloud.set_dead_token(shape);
        let done = folder
            .log_in(&account.email, &account.password)
            .await
            .unwrap();
        assert!(done.status.success(), "{}", output_text(&done));
        assert!(
            output_text(&done).contains(&account.display_name),
            "{}",
            output_text(&done)
        );

        // After a lost answer, the old token still works within its leeway.
        cloud.drop_token_responses(1);
        let lost = folder.run(&["login", "--renew"]).unwrap();
        assert!(!lost.status.success(), "{}", output_text(&lost));
        assert!(folder.stored_tokens().unwrap()["pending"].is_string());
        let renewed = folder.run(&["login", "--renew"]).unwrap();
        assert!(renewed.status.success(), "{}", output_text(&renewed));
        assert!(folder.stored_tokens().unwrap()["pending"].is_null());

        cloud.expire_tokens(true);
        let dead = folder.run(&["login", "--renew"]).unwrap();
        let text = output_text(&dead);
        assert!(
            text.contains("log in again: agent login jira"),
            "{shape:?}: {text}"
        );
        assert!(folder.stored_tokens().unwrap()["ended"].is_string());
    }
    // Cloud has no revocation endpoint; the command names the page for it.
    let out = folder.run(&["logout"]).unwrap();
    assert!(
        output_text(&out).contains("id.atlassian.com"),
        "{}",
        output_text(&out)
    );
    assert!(!folder.token_file().exists());
}

/// The access token stays valid for an hour; a wrong client secret is reported at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_client_secret_degrades_the_login_while_the_token_serves() {
    let site = logged_in().await;
    for _ in 0..2 {
        site.change_secret("wrong").unwrap();
        let changed = Instant::now();
        let report = site.agent.until_login(LayerState::Degraded).await.unwrap();
        assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
        let report = match report.layers.login.cause.as_deref() {
            // Jira has not answered the check of the new secret yet.
            Some(cause) if cause.contains("has changed") => {
                let refused = site.agent.until_status("the secret to be refused", |r| {
                    let cause = r.layers.login.cause.as_deref();
                    cause.is_some_and(|cause| cause.contains("the secret is wrong"))
                });
                refused.await.unwrap()
            }
            _ => report,
        };
        let login = &report.forwards[0].login;
        assert!(
            login.cause.as_ref().unwrap().contains("still valid"),
            "{login:?}"
        );
        assert!(
            login.remedy.as_ref().unwrap().contains("client_id and"),
            "{login:?}"
        );
        assert!(login.since_seconds.unwrap() < 5.0, "{login:?}");
        assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
        let (status, code) = site.agent.status_output().unwrap();
        assert_eq!(code, 1, "{status}");
        assert!(status.contains("the secret is wrong"), "{status}");

        site.change_secret("acme-secret").unwrap();
        let changed = Instant::now();
        site.agent.until_login(LayerState::Proven).await.unwrap();
        assert!(changed.elapsed() < SOON, "{:?}", changed.elapsed());
    }
}

/// Two seconds, and two more for a busy machine.
const SOON: Duration = Duration::from_secs(4);

/// Number of issues in Jira.
async fn issues(site: &TestEnv) -> u64 {
    let search = browser().get(site.jira().url.clone() + "/rest/api/2/search?maxResults=0");
    let found = search.bearer_auth("admin-token").send().await.unwrap();
    let found: Value = found.json().await.unwrap();
    found["total"].as_u64().unwrap()
}
