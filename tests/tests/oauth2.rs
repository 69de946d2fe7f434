//! OAuth 2.0 end to end: the real agent logs in to an imitation Jira that rotates tokens without leeway, refreshes, and
//! reports why it cannot.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::LayerState;
use e2e::{
    agent::write_secret,
    login::{self, CommandFolder, LoginProcess, browser, consent, output_text},
    sshd::free_port,
    test_env::{
        BOT, BOT_PASSWORD, ISSUE, LOGIN_FAILED, LOGIN_UNAVAILABLE, MYSELF, REDIRECT, SEARCH,
        TestEnv, TestEnvPlan, json_of, new_issue, vendor,
    },
    wait::until,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use server_stub::{
    cloud::{self, CloudStub, DeadTokenAnswer},
    jira::{HttpsRule, OAuth2Client},
};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::Output,
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_by_pasting_and_the_running_agent_takes_it_up() {
    let mut site = plan("").start_unproven().await.unwrap();
    let report = site.agent.until_login(LayerState::Failed).await.unwrap();
    let remedy = report.layers.login.remedy.unwrap();
    assert!(remedy.contains("agent login jira"), "{remedy}");
    let (status, problem) = json_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (503, &json!(LOGIN_UNAVAILABLE)));
    assert_eq!(problem["delivery"], "not_sent");

    let done = log_in(&site).await;
    let told = output_text(&done);
    assert!(done.status.success(), "{told}");
    assert!(told.contains("logged in as acme-bot"), "{told}");
    assert!(told.contains("access token: until 2"), "{told}");

    site.until_proven().await.unwrap();
    let report = site.agent.status().await.unwrap();
    assert_eq!(report.forwards[0].auth_mode, "oauth2");
    let detail = report.layers.login.detail.unwrap();
    assert!(detail.contains("user acme-bot"), "{detail}");
    let created = site.post(ISSUE, &issue()).await.unwrap();
    assert_eq!(created.status(), 201);
    let issue: Value = created.json().await.unwrap();
    let key = issue["key"].as_str().unwrap();
    let issue = site.get(&format!("{ISSUE}/{key}")).await.unwrap();
    let issue: Value = issue.json().await.unwrap();
    assert_eq!(issue["fields"]["reporter"]["name"], "acme-bot");

    // The tokens are readable by their owner only.
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(site.token_file()), 0o600);
    assert_eq!(mode(site.token_file().parent().unwrap().into()), 0o700);
    let stored = site.stored_tokens().unwrap();
    for kind in ["access", "refresh"] {
        let token = stored["tokens"][kind].as_str().unwrap();
        assert!(!told.contains(token) && !site.agent.log().contains(token));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_on_this_host_comes_back_by_itself() {
    let port = free_port().unwrap();
    let redirect = format!("http://127.0.0.1:{port}/callback");
    let plan = plan_with(&format!("redirect_uri = {redirect:?}"), &redirect);
    let plan = plan.jira(|jira| jira.oauth2.https = HttpsRule::Loopback);
    let mut site = plan.start_unproven().await.unwrap();
    let mut dialogue = LoginProcess::start(site.agent.dir()).unwrap();
    let address = dialogue.address().await.unwrap();
    // A forged answer is refused, and the command keeps waiting.
    let forged = browser().get(format!("{redirect}?code=forged&state=other"));
    assert_eq!(forged.send().await.unwrap().status(), 400);
    let elsewhere = browser().get(format!("http://127.0.0.1:{port}/favicon.ico"));
    assert_eq!(elsewhere.send().await.unwrap().status(), 404);
    let location = consent(&address, BOT, BOT_PASSWORD).await.unwrap();
    assert!(location.starts_with(&redirect), "{location}");
    let page = browser().get(location).send().await.unwrap();
    assert_eq!(page.status(), 200);
    let done = dialogue.end().await.unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_login_is_refused() {
    let site = plan("").start_unproven().await.unwrap();
    for (change, complaint) in [
        (("state=", "state=x"), "the state in this address"),
        (
            ("code=", "error=access_denied&was="),
            "consent was not given",
        ),
        (
            ("https://localhost/jira-tunnel-agent?code=", ""),
            "paste the whole address",
        ),
    ] {
        let mut dialogue = LoginProcess::start(site.agent.dir()).unwrap();
        let address = dialogue.address().await.unwrap();
        assert!(address.contains("code_challenge_method=S256"), "{address}");
        let location = consent(&address, BOT, BOT_PASSWORD).await.unwrap();
        let changed = location.replacen(change.0, change.1, 1);
        let changed = match change.1 {
            "" => changed.split('&').next().unwrap().to_owned(),
            _ => changed,
        };
        dialogue.paste(&changed).await.unwrap();
        let done = dialogue.end().await.unwrap();
        assert!(!done.status.success());
        assert!(
            output_text(&done).contains(complaint),
            "{}",
            output_text(&done)
        );
    }
    assert_eq!(site.jira().oauth2_counts().codes, 0);
    assert!(!site.token_file().exists());
}

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
        problem["detail"].as_str().unwrap().contains("renewed"),
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
async fn logging_out_revokes_and_deletes() {
    let site = logged_in().await;
    let old = site.stored_tokens().unwrap();
    site.agent.succeed(&["logout"]).unwrap();
    assert!(!site.token_file().exists());
    let access = old["tokens"]["access"].as_str().unwrap();
    let asked = browser().get(site.jira().url.clone() + MYSELF);
    let asked = asked.bearer_auth(access).send().await.unwrap();
    assert_eq!(asked.status(), 401);
    let report = site.until_login_fails(MYSELF).await.unwrap();
    let cause = report.layers.login.cause.unwrap();
    assert!(cause.contains("no login is stored"), "{cause}");
    site.agent.succeed(&["logout"]).unwrap();
}

/// The tokens are deleted here, so nothing could revoke them later.
#[tokio::test(flavor = "multi_thread")]
async fn a_logout_without_jira_names_what_stays_valid() {
    let mut site = logged_in().await;
    site.stop_jira().await;
    let done = site.agent.run(&["logout"]).unwrap();
    let told = output_text(&done);
    assert_eq!(done.status.code(), Some(1), "{told}");
    assert!(told.contains("not revoked"), "{told}");
    assert!(told.contains("delete the link in Jira"), "{told}");
    assert!(!site.token_file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_the_other_oauth_is_bad_usage() {
    let site = plan("").start_unproven().await.unwrap();
    let done = site.agent.run(&["login", "--callback", "oob"]).unwrap();
    let told = output_text(&done);
    assert_eq!(done.status.code(), Some(64), "{told}");
    assert!(told.contains("redirect_uri"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_account_needs_no_login() {
    let mut site = plan("grant = \"client_credentials\"")
        .start_unproven()
        .await
        .unwrap();
    site.until_proven().await.unwrap();
    site.jira().expire_oauth2_tokens(true);
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
    assert_eq!(site.jira().oauth2_counts().client_credentials, 2);
    assert!(!site.token_file().exists());
    let login = site.agent.succeed(&["login"]).unwrap();
    assert!(login.contains("reader"), "{login}");
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

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_token_from_a_file_needs_no_login() {
    let seeded = logged_in().await;
    let token = seeded.stored_tokens().unwrap()["tokens"]["refresh"]
        .as_str()
        .unwrap()
        .to_owned();
    let first = seeded.agent.dir().join("first");
    write_secret(&first, &token).unwrap();
    fs::remove_file(seeded.token_file()).unwrap();
    let keys = "client_id = \"acme\"\nrefresh_token_file = \"first\"";
    let edited = seeded
        .agent
        .edit_config(|text| text.replace("client_id = \"acme\"", keys));
    edited.unwrap();
    let mut site = seeded;
    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    assert_eq!(site.jira().oauth2_counts().refreshes, 1);
    // Once used, the file is ignored after a restart and after a logout.
    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    assert_eq!(site.jira().oauth2_counts().refreshes, 1);
    site.agent.succeed(&["logout"]).unwrap();
    site.until_login_fails(MYSELF).await.unwrap();
    assert_eq!(site.jira().oauth2_counts().refused, 0);
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
    let desk = CommandFolder::for_cloud(&cloud).unwrap();
    for shape in [
        DeadTokenAnswer::InvalidGrant,
        DeadTokenAnswer::UnauthorizedClient,
    ] {
        cloud.set_dead_token(shape);
        let done = desk
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
        let lost = desk.run(&["login", "--renew"]).unwrap();
        assert!(!lost.status.success(), "{}", output_text(&lost));
        assert!(desk.stored_tokens().unwrap()["pending"].is_string());
        let renewed = desk.run(&["login", "--renew"]).unwrap();
        assert!(renewed.status.success(), "{}", output_text(&renewed));
        assert!(desk.stored_tokens().unwrap()["pending"].is_null());

        cloud.expire_tokens(true);
        let dead = desk.run(&["login", "--renew"]).unwrap();
        let told = output_text(&dead);
        assert!(
            told.contains("log in again: agent login jira"),
            "{shape:?}: {told}"
        );
        assert!(desk.stored_tokens().unwrap()["ended"].is_string());
    }
    // Cloud has no revocation endpoint; the command names the page for it.
    let out = desk.run(&["logout"]).unwrap();
    assert!(
        output_text(&out).contains("id.atlassian.com"),
        "{}",
        output_text(&out)
    );
    assert!(!desk.token_file().exists());
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

fn plan(keys: &str) -> TestEnvPlan {
    plan_with(keys, REDIRECT)
}

fn plan_with(keys: &str, redirect: &str) -> TestEnvPlan {
    TestEnv::builder()
        .oauth2("acme-secret", keys)
        .jira(|jira| jira.oauth2.clients = vec![client("acme-secret", redirect)])
}

fn client(secret: &str, redirect: &str) -> OAuth2Client {
    OAuth2Client {
        service_account: Some("reader".into()),
        ..OAuth2Client::new("acme", secret, redirect)
    }
}

async fn logged_in() -> TestEnv {
    let mut site = plan("").start_unproven().await.unwrap();
    let done = log_in(&site).await;
    assert!(done.status.success(), "{}", output_text(&done));
    site.until_proven().await.unwrap();
    site
}

async fn log_in(site: &TestEnv) -> Output {
    login::log_in(site.agent.dir(), BOT, BOT_PASSWORD)
        .await
        .unwrap()
}

fn issue() -> Value {
    new_issue("by token")
}

/// Number of issues in Jira.
async fn issues(site: &TestEnv) -> u64 {
    let search = browser().get(site.jira().url.clone() + "/rest/api/2/search?maxResults=0");
    let found = search.bearer_auth("admin-token").send().await.unwrap();
    let found: Value = found.json().await.unwrap();
    found["total"].as_u64().unwrap()
}
