//! `agent login` and `agent logout`, and credentials that need neither.

use crate::{issue, log_in, logged_in, plan, plan_with};
use agent::{check::StepVerdict, status::LayerState};
use e2e::{
    agent::write_secret,
    login::{LoginProcess, browser, consent, output_text},
    sshd::free_port,
    test_env::{BOT, BOT_PASSWORD, ISSUE, LOGIN_UNAVAILABLE, MYSELF, json_of},
};
use serde_json::{Value, json};
use server_stub::jira::HttpsRule;
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

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
    let text = output_text(&done);
    assert!(done.status.success(), "{text}");
    assert!(text.contains("logged in as acme-bot"), "{text}");
    assert!(text.contains("access token: until 2"), "{text}");

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
        assert!(!text.contains(token) && !site.agent.log().contains(token));
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
    let text = output_text(&done);
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains("not revoked"), "{text}");
    assert!(text.contains("delete the link in Jira"), "{text}");
    assert!(!site.token_file().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_the_other_oauth_is_bad_usage() {
    let site = plan("").start_unproven().await.unwrap();
    let done = site.agent.run(&["login", "--callback", "oob"]).unwrap();
    let text = output_text(&done);
    assert_eq!(done.status.code(), Some(64), "{text}");
    assert!(text.contains("redirect_uri"), "{text}");
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

/// Data Center's answers name no scope, so the requested one counts, also after a refresh.
#[tokio::test(flavor = "multi_thread")]
async fn a_reading_login_is_named_where_the_rules_write() {
    let mut site = plan("scope = \"READ\"").start_unproven().await.unwrap();
    let done = log_in(&site).await;
    let text = output_text(&done);
    assert!(done.status.success(), "{text}");
    let lacks =
        "the token has the scope READ and lacks WRITE, which the preset \"ticketing\" needs";
    assert!(text.contains(&format!("warning: {lacks}")), "{text}");
    site.until_proven().await.unwrap();
    site.agent.succeed(&["login", "--renew"]).unwrap();
    assert_eq!(site.stored_tokens().unwrap()["tokens"]["scope"], "READ");

    let (report, code) = site.agent.check(&[]).unwrap();
    let step = report.steps.iter().find(|step| step.step == "scopes");
    let step = step.unwrap();
    assert_eq!((step.verdict, code), (StepVerdict::Warn, Some(1)));
    let cause = step.cause.as_deref().unwrap();
    assert!(cause.starts_with(lacks), "{cause}");
    let remedy = step.remedy.as_deref().unwrap();
    assert!(
        remedy.contains("scope = \"WRITE\"") && remedy.contains("agent login jira"),
        "{remedy}"
    );
    assert_eq!(site.post(ISSUE, &issue()).await.unwrap().status(), 403);
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
}
