//! One OAuth credential and two agents: on one state folder they take turns, with copies of it the second to refresh
//! reports the other one, and with separate logins they do not affect each other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{auth::oauth1::SigningKey, expiry::CredentialKind, status::LayerState};
use e2e::{
    agent::AgentProcess,
    login::{self, CommandFolder, output_text},
    test_env::{BOT, BOT_PASSWORD, REDIRECT, TestEnv, TestEnvPlan, vendor},
    wait::until,
};
use server_stub::{
    cloud::{self, CloudStub},
    jira::{FaultKind, InjectedFault},
};
use std::{fs, path::Path};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn agents_on_one_state_folder_refresh_once() {
    let plan = oauth2().jira(|jira| jira.oauth2.access_lifetime = 12);
    let site = logged_in(plan).await;
    let state = site.dir().join("state");
    let second = SecondAgent::start(&site, &[("STATE_DIRECTORY", state.to_str().unwrap())]).await;
    let first = site.jira().oauth2_counts().refreshes;
    let renewed = async || {
        assert_eq!(get(&site.vendor_url()).await, 200);
        assert_eq!(get(&second.url).await, 200);
        (site.jira().oauth2_counts().refreshes >= first + 3).then_some(())
    };
    until("three refreshes", renewed).await.unwrap();
    // No refresh token was sent twice. An agent that has not yet seen the other's refresh gets a 401 and reads the
    // file.
    assert_eq!(site.jira().oauth2_counts().refused, 0);
    until_in_step(&site, &second).await;
    // A token that Jira ended early is refreshed once: the other agent waits, however long Jira takes.
    let slow = InjectedFault::on("/rest/oauth2/latest/token", FaultKind::SlowAnswer(1500));
    site.jira().set_faults(vec![slow]);
    let before = site.jira().oauth2_counts().refreshes;
    site.jira().expire_oauth2_tokens(false);
    let url = site.vendor_url();
    let answers = tokio::join!(get(&url), get(&second.url), get(&url), get(&second.url));
    assert_eq!(answers, (200, 200, 200, 200));
    assert_eq!(site.jira().oauth2_counts().refreshes, before + 1);
}

/// They use it one at a time.
#[tokio::test(flavor = "multi_thread")]
async fn agents_on_one_state_folder_share_an_oauth1_session() {
    let site = logged_in_by_code().await;
    let state = site.dir().join("state");
    let second = SecondAgent::start(&site, &[("STATE_DIRECTORY", state.to_str().unwrap())]).await;
    for _ in 0..3 {
        site.jira().expire_oauth1_tokens(false);
        let url = site.vendor_url();
        let answers = tokio::join!(get(&url), get(&second.url), get(&url), get(&second.url));
        assert_eq!(answers, (200, 200, 200, 200), "{}", second.agent.log());
    }
    assert!(!output_text(&site.agent.run(&["status"]).unwrap()).contains("has ended"));
}

#[tokio::test(flavor = "multi_thread")]
async fn in_one_runtime_folder_the_second_says_that_the_first_runs() {
    let site = TestEnv::builder().start().await.unwrap();
    let second = site.agent.run(&["run"]).unwrap();
    assert!(!second.status.success());
    let text = output_text(&second);
    assert!(text.contains("another agent is running here"), "{text}");
}

/// They share only the client and the user, as two hosts should.
#[tokio::test(flavor = "multi_thread")]
async fn two_logins_of_the_same_client_and_user_do_not_disturb_each_other() {
    let site = logged_in(oauth2()).await;
    let second = SecondAgent::start(&site, &[]).await;
    log_in(second.agent.dir()).await;
    second.agent.until_login(LayerState::Proven).await.unwrap();
    for _ in 0..2 {
        site.jira().expire_oauth2_tokens(false);
        assert_eq!(get(&site.vendor_url()).await, 200);
        assert_eq!(get(&second.url).await, 200);
    }
    // Each has rotated its own refresh token, and none was sent twice.
    let counts = site.jira().oauth2_counts();
    assert!(counts.refreshes >= 4, "{}", counts.refreshes);
    assert_eq!(counts.refused, 0);
    // A logout ends only the agent's own tokens.
    let done = second.agent.run(&["logout"]).unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    assert_eq!(get(&site.vendor_url()).await, 200);
}

/// The second agent to refresh a copied token reports that, and works again after its own login.
#[tokio::test(flavor = "multi_thread")]
async fn the_second_copy_of_a_token_needs_its_own_login() {
    let site = logged_in(oauth2()).await;
    let second = SecondAgent::with_tokens_of(&site).await;
    assert_eq!(get(&second.url).await, 200);
    // The first agent refreshes first.
    site.jira().expire_oauth2_tokens(false);
    assert_eq!(get(&site.vendor_url()).await, 200);
    assert_ne!(get(&second.url).await, 200);
    let (cause, remedy) = second.agent.login_failure().await.unwrap();
    assert!(
        cause.contains("another agent refreshed the same tokens"),
        "{cause}"
    );
    assert!(remedy.contains("agent login jira"), "{remedy}");
    // The second agent does not repeat the refresh, and the first one still works.
    let refused = site.jira().oauth2_counts().refused;
    for _ in 0..3 {
        assert_eq!(get(&second.url).await, 503);
    }
    assert_eq!(site.jira().oauth2_counts().refused, refused);
    assert_eq!(get(&site.vendor_url()).await, 200);

    log_in(second.agent.dir()).await;
    second.agent.until_login(LayerState::Proven).await.unwrap();
    assert_eq!(get(&second.url).await, 200);
    assert_eq!(get(&site.vendor_url()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_second_copy_of_an_oauth1_session_reports_it() {
    let site = logged_in_by_code().await;
    let second = SecondAgent::with_tokens_of(&site).await;
    assert_eq!(get(&second.url).await, 200);
    site.jira().expire_oauth1_tokens(false);
    assert_eq!(get(&site.vendor_url()).await, 200);
    assert_ne!(get(&second.url).await, 200);
    let (cause, remedy) = second.agent.login_failure().await.unwrap();
    assert!(
        cause.contains("another agent has refreshed a copy"),
        "{cause}"
    );
    assert!(remedy.contains("agent login jira"), "{remedy}");
    assert_eq!(get(&site.vendor_url()).await, 200);
}

/// At Cloud a copy works within the leeway; a later one ends all copies.
#[tokio::test(flavor = "multi_thread")]
async fn at_cloud_a_copy_that_comes_after_the_leeway_ends_all_of_them() {
    let settings = cloud::Settings {
        apps: vec![cloud::OAuthApp::new("app", "app-secret", REDIRECT)],
        refresh_leeway: 600,
        ..cloud::Settings::default()
    };
    let account = settings.accounts[0].clone();
    let cloud = CloudStub::start(settings).await.unwrap();
    let folder = || CommandFolder::for_cloud(&cloud).unwrap();
    let (first, second, late) = (folder(), folder(), folder());
    let done = first.log_in(&account.email, &account.password).await;
    assert!(done.unwrap().status.success());
    for copy in [&second, &late] {
        let tokens = copy.token_file();
        fs::create_dir_all(tokens.parent().unwrap()).unwrap();
        fs::copy(first.token_file(), tokens).unwrap();
    }
    let renew = |folder: &CommandFolder| folder.run(&["login", "--renew"]).unwrap();
    assert!(renew(&first).status.success());
    cloud.set_clock_offset(300);
    let refreshed = renew(&second);
    assert!(
        refreshed.status.success(),
        "within the leeway: {}",
        output_text(&refreshed)
    );
    cloud.set_clock_offset(601);
    for folder in [&late, &second, &first] {
        let text = output_text(&renew(folder));
        assert!(
            text.contains("another agent refreshed the same tokens"),
            "{text}"
        );
        assert!(text.contains("log in again: agent login jira"), "{text}");
    }
}

/// A second agent with the same configuration in its own folder.
struct SecondAgent {
    agent: AgentProcess,
    url: String,
    _folder: TempDir,
}

impl SecondAgent {
    async fn start(site: &TestEnv, variables: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), site, variables).await
    }

    /// Starts it with a copy of the first agent's state folder.
    async fn with_tokens_of(site: &TestEnv) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tokens = folder.path().join("state/tokens");
        fs::create_dir_all(&tokens).unwrap();
        fs::copy(
            site.dir().join("state/tokens/jira.json"),
            tokens.join("jira.json"),
        )
        .unwrap();
        Self::start_in(folder, site, &[]).await
    }

    async fn start_in(folder: TempDir, site: &TestEnv, variables: &[(&str, &str)]) -> Self {
        let dir = folder.path();
        for file in ["secret", "ca.pem"] {
            fs::copy(site.dir().join(file), dir.join(file)).unwrap();
        }
        let config = fs::read_to_string(site.dir().join("agent.toml")).unwrap();
        let config = config.replace(site.dir().to_str().unwrap(), dir.to_str().unwrap());
        let agent = AgentProcess::start_with(dir, &config, variables).unwrap();
        let bound = agent.until_bound().await.unwrap();
        Self {
            agent,
            url: format!("http://{bound}/jira"),
            _folder: folder,
        }
    }
}

fn oauth2() -> TestEnvPlan {
    TestEnv::builder().oauth2("acme-secret", "")
}

async fn logged_in_by_code() -> TestEnv {
    let key = SigningKey::generate(2048).unwrap();
    let plan = TestEnv::builder().oauth1(&key).unwrap();
    let mut site = plan.start_unproven().await.unwrap();
    let done = login::log_in_by_code(site.agent.dir(), BOT, BOT_PASSWORD).await;
    assert!(done.unwrap().status.success());
    site.until_proven().await.unwrap();
    site
}

/// Waits until no refresh is in progress and both use the stored token.
async fn until_in_step(site: &TestEnv, second: &SecondAgent) {
    let in_step = async || {
        assert_eq!(get(&site.vendor_url()).await, 200);
        assert_eq!(get(&second.url).await, 200);
        let stored = site.stored_tokens().unwrap();
        let end = stored["tokens"]["access_expires"].as_str();
        let mut in_step = stored["pending"].is_null();
        for agent in [&site.agent, &second.agent] {
            let credentials = agent.status().await.unwrap().credentials;
            let mut held = credentials.iter();
            let held = held.find(|c| c.credential == CredentialKind::AccessToken);
            in_step &= held.is_some_and(|held| held.expires.as_deref() == end);
        }
        in_step.then_some(())
    };
    until("both to hold what is stored", in_step).await.unwrap();
}

async fn logged_in(plan: TestEnvPlan) -> TestEnv {
    let mut site = plan.start_unproven().await.unwrap();
    log_in(site.agent.dir()).await;
    site.until_proven().await.unwrap();
    site
}

async fn log_in(dir: &Path) {
    let done = login::log_in(dir, BOT, BOT_PASSWORD).await.unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
}

async fn get(url: &str) -> u16 {
    let request = vendor().get(format!("{url}/rest/api/2/myself"));
    request.send().await.unwrap().status().as_u16()
}
