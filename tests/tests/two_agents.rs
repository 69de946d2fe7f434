//! One OAuth credential and two whole agents: on one state folder they take turns, with copies of it the second to come
//! is told that another was there, and with a login each they do not disturb each other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    auth::oauth1::SigningKey,
    expiry::CredentialKind,
    status::{LayerState, StatusReport},
};
use e2e::{
    agent::AgentProcess,
    login::{self, CommandFolder, output_text},
    test_env::{TestEnv, TestEnvPlan, vendor},
};
use serde_json::Value;
use server_stub::{
    cloud::{self, CloudStub},
    jira::{FaultKind, InjectedFault, OAuth1Consumer, OAuth2Client},
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn on_one_state_folder_one_renews_and_the_other_takes_over() {
    let plan = oauth2().jira(|jira| jira.oauth2.access_lifetime = 12);
    let mut site = plan.start_unproven().await.unwrap();
    log_in(site.agent.dir()).await;
    site.until_proven().await.unwrap();
    let state = site.dir().join("state");
    let second = Second::start(&site, &[("STATE_DIRECTORY", state.to_str().unwrap())]).await;
    let first = site.jira().oauth2_counts().refreshes;
    let deadline = Instant::now() + PATIENCE;
    while site.jira().oauth2_counts().refreshes < first + 3 {
        assert_eq!(get(&site.vendor_url()).await, 200);
        assert_eq!(get(&second.url).await, 200);
        assert!(Instant::now() < deadline, "{}", second.agent.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // No refresh token was sent twice. (Whoever has not seen yet that the other renewed meets a 401, and looks.)
    assert_eq!(site.jira().oauth2_counts().refused, 0);
    until_in_step(&site, &second).await;
    // Refused early, the token of both is renewed once: the other waits, however long Jira takes.
    let slow = InjectedFault::on("/rest/oauth2/latest/token", FaultKind::SlowAnswer(1500));
    site.jira().set_faults(vec![slow]);
    let before = site.jira().oauth2_counts().refreshes;
    site.jira().expire_oauth2_tokens(false);
    let url = site.vendor_url();
    let answers = tokio::join!(get(&url), get(&second.url), get(&url), get(&second.url));
    assert_eq!(answers, (200, 200, 200, 200));
    assert_eq!(site.jira().oauth2_counts().refreshes, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_one_state_folder_a_session_of_oauth_1_0a_is_used_by_one_at_a_time_too() {
    let mut site = oauth1().start_unproven().await.unwrap();
    let done = login::log_in_by_code(site.agent.dir(), BOT, PASSWORD).await;
    assert!(done.unwrap().status.success());
    site.until_proven().await.unwrap();
    let state = site.dir().join("state");
    let second = Second::start(&site, &[("STATE_DIRECTORY", state.to_str().unwrap())]).await;
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
    let told = output_text(&second);
    assert!(told.contains("another agent is running here"), "{told}");
}

/// They share nothing but the client and the user: that is what two hosts are to do.
#[tokio::test(flavor = "multi_thread")]
async fn two_logins_of_the_same_client_and_user_do_not_disturb_each_other() {
    let site = logged_in().await;
    let second = Second::start(&site, &[]).await;
    log_in(second.agent.dir()).await;
    until(&second.agent, LayerState::Proven).await;
    for _ in 0..2 {
        site.jira().expire_oauth2_tokens(false);
        assert_eq!(get(&site.vendor_url()).await, 200);
        assert_eq!(get(&second.url).await, 200);
    }
    // A logout of one ends its own tokens alone.
    let done = second.agent.run(&["logout"]).unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    assert_eq!(get(&site.vendor_url()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_copies_of_one_token_the_second_to_renew_is_told_so_and_a_login_of_its_own_mends_it()
{
    let site = logged_in().await;
    let second = Second::with_tokens_of(&site).await;
    assert_eq!(get(&second.url).await, 200);
    // The first comes first.
    site.jira().expire_oauth2_tokens(false);
    assert_eq!(get(&site.vendor_url()).await, 200);
    assert_ne!(get(&second.url).await, 200);
    let login = until(&second.agent, LayerState::Failed).await.layers.login;
    let cause = login.cause.unwrap();
    assert!(
        cause.contains("another agent renewed the same tokens"),
        "{cause}"
    );
    assert!(login.remedy.unwrap().contains("agent login jira"));
    // It does not ask again and again for what is dead, and the first goes on.
    let refused = site.jira().oauth2_counts().refused;
    for _ in 0..3 {
        assert_eq!(get(&second.url).await, 503);
    }
    assert_eq!(site.jira().oauth2_counts().refused, refused);
    assert_eq!(get(&site.vendor_url()).await, 200);

    log_in(second.agent.dir()).await;
    until(&second.agent, LayerState::Proven).await;
    assert_eq!(get(&second.url).await, 200);
    assert_eq!(get(&site.vendor_url()).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_copies_of_one_session_of_oauth_1_0a_the_second_is_told_so_too() {
    let mut site = oauth1().start_unproven().await.unwrap();
    let done = login::log_in_by_code(site.agent.dir(), BOT, PASSWORD).await;
    assert!(done.unwrap().status.success());
    site.until_proven().await.unwrap();
    let second = Second::with_tokens_of(&site).await;
    assert_eq!(get(&second.url).await, 200);
    site.jira().expire_oauth1_tokens(false);
    assert_eq!(get(&site.vendor_url()).await, 200);
    assert_ne!(get(&second.url).await, 200);
    let login = until(&second.agent, LayerState::Failed).await.layers.login;
    let cause = login.cause.unwrap();
    assert!(
        cause.contains("another agent has renewed a copy"),
        "{cause}"
    );
    assert!(login.remedy.unwrap().contains("agent login jira"));
    assert_eq!(get(&site.vendor_url()).await, 200);
}

/// At Cloud a copy works for the minutes of leeway; one that comes later takes all of them along.
#[tokio::test(flavor = "multi_thread")]
async fn at_cloud_a_copy_that_comes_after_the_leeway_ends_all_of_them() {
    let settings = cloud::Settings {
        apps: vec![cloud::OAuthApp::new("app", "app-secret", REDIRECT)],
        refresh_leeway: 600,
        ..cloud::Settings::default()
    };
    let account = settings.accounts[0].clone();
    let cloud = CloudStub::start(settings).await.unwrap();
    let auth = format!(
        "mode = \"oauth2\"\nclient_id = \"app\"\nclient_secret_file = \"secret\"\naudience = \"api.atlassian.com\"\n\
         authorize_url = \"{0}/authorize\"\ntoken_url = \"{0}/oauth/token\"",
        cloud.auth_url
    );
    let upstream = format!("{}/ex/jira/{}", cloud.api_url, cloud.sites[0].cloud_id);
    let desk = || CommandFolder::new(&upstream, &cloud.ca_pem, &auth, "app-secret").unwrap();
    let (first, second, late) = (desk(), desk(), desk());
    let done = first.log_in(&account.email, &account.password).await;
    assert!(done.unwrap().status.success());
    for copy in [&second, &late] {
        let tokens = copy.token_file();
        fs::create_dir_all(tokens.parent().unwrap()).unwrap();
        fs::copy(first.token_file(), tokens).unwrap();
    }
    let renew = |desk: &CommandFolder| desk.run(&["login", "--renew"]).unwrap();
    assert!(renew(&first).status.success());
    cloud.set_clock_offset(300);
    let told = renew(&second);
    assert!(
        told.status.success(),
        "within the leeway: {}",
        output_text(&told)
    );
    cloud.set_clock_offset(601);
    for desk in [&late, &second, &first] {
        let told = output_text(&renew(desk));
        assert!(
            told.contains("another agent renewed the same tokens"),
            "{told}"
        );
        assert!(told.contains("log in again: agent login jira"), "{told}");
    }
}

/// A second agent with the configuration of a site's, in a folder of its own.
struct Second {
    agent: AgentProcess,
    url: String,
    _folder: TempDir,
}

impl Second {
    async fn start(site: &TestEnv, variables: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), site, variables).await
    }

    /// Set up from a copy of the first one's state folder.
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
        let bound = agent.until_status("the forward to be bound", |report| {
            report.forwards.first().is_some_and(|f| !f.bound.is_empty())
        });
        let bound = bound.await.unwrap().forwards[0].bound[0].clone();
        Self {
            agent,
            url: format!("http://{bound}/jira"),
            _folder: folder,
        }
    }
}

fn oauth2() -> TestEnvPlan {
    let lines = "mode = \"oauth2\"\nclient_id = \"acme\"\nclient_secret_file = \"secret\"";
    TestEnv::builder().auth(lines, "acme-secret").jira(|jira| {
        jira.oauth2.clients = vec![OAuth2Client::new("acme", "acme-secret", REDIRECT)];
    })
}

fn oauth1() -> TestEnvPlan {
    let key = SigningKey::generate(2048).unwrap();
    let pem = key.private_pem().unwrap();
    let pem = std::str::from_utf8(pem.expose()).unwrap().to_owned();
    let lines = "mode = \"oauth1\"\nconsumer_key = \"acme\"\nprivate_key_file = \"secret\"";
    TestEnv::builder().auth(lines, &pem).jira(|jira| {
        jira.oauth1.consumers = vec![OAuth1Consumer::new("acme", &key.public_pem().unwrap())];
    })
}

/// Waits until no renewal is under way and both hold what is stored.
async fn until_in_step(site: &TestEnv, second: &Second) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stored = fs::read(site.dir().join("state/tokens/jira.json")).unwrap();
        let stored: Value = serde_json::from_slice(&stored).unwrap();
        let end = stored["tokens"]["access_expires"].as_str();
        let mut in_step = stored["pending"].is_null();
        for agent in [&site.agent, &second.agent] {
            let credentials = agent.status().await.unwrap().credentials;
            let held = credentials
                .iter()
                .find(|c| c.credential == CredentialKind::AccessToken);
            in_step &= held.is_some_and(|held| held.expires.as_deref() == end);
        }
        if in_step {
            return;
        }
        assert!(Instant::now() < deadline, "{stored}");
        assert_eq!(get(&site.vendor_url()).await, 200);
        assert_eq!(get(&second.url).await, 200);
    }
}

async fn logged_in() -> TestEnv {
    let mut site = oauth2().start_unproven().await.unwrap();
    log_in(site.agent.dir()).await;
    site.until_proven().await.unwrap();
    site
}

async fn log_in(dir: &Path) {
    let done = login::log_in(dir, BOT, PASSWORD).await.unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
}

async fn until(agent: &AgentProcess, state: LayerState) -> StatusReport {
    let what = format!("the login to be {state:?}");
    let report = agent.until_status(&what, |report| report.layers.login.state == state);
    report.await.unwrap()
}

async fn get(url: &str) -> u16 {
    let request = vendor().get(format!("{url}/rest/api/2/myself"));
    request.send().await.unwrap().status().as_u16()
}

const BOT: &str = "acme-bot";
const PASSWORD: &str = "acme-password";
const REDIRECT: &str = "https://localhost/jira-tunnel-agent";
/// Generous: a loaded machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);
