//! Application links (OAuth 1.0a) of a Cloud site: legacy, with the same signer as for any other Jira.

use crate::common::{ACCOUNT, CloudEnv, EMAIL, SITE, get};
use agent::auth::oauth1::{ProtocolParameters, RequestSigner, SignedParts, SigningKey};
use e2e::{
    login::{LoginProcess, browser, code_on, output_text, private_pem, submit_consent},
    setup::RunningAgent,
    test_env::{BOT_PASSWORD, MYSELF, new_issue, vendor},
    wait::until,
};
use serde_json::{Value, json};
use server_stub::jira::{AuthKind, OAuth1Consumer};
use std::{
    fs,
    process::Output,
    sync::{Arc, LazyLock},
    time::SystemTime,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_by_an_application_link_and_a_ticket_is_made() {
    let site = linked(|_| {}).await;
    let (agent, url) = site.start().await;
    let done = log_in(&site, &agent).await;
    assert!(done.status.success(), "{}", output_text(&done));
    assert!(
        output_text(&done).contains("logged in as Acme Bot"),
        "{}",
        output_text(&done)
    );
    let report = agent.until_proven().await.unwrap();
    let detail = report.layers.login.detail.unwrap();
    assert!(detail.starts_with("oauth1"), "{detail}");

    site.cloud.clear_requests();
    let created = vendor().post(format!("{url}/rest/api/2/issue?updateHistory=true"));
    let created = created.json(&new_issue("one")).send().await.unwrap();
    assert_eq!(created.status(), 201);
    let created: Value = created.json().await.unwrap();
    let key = created["key"].as_str().unwrap();
    let (_, issue) = get(&format!("{url}/rest/api/2/issue/{key}?fields=reporter")).await;
    assert_eq!(issue["fields"]["reporter"]["accountId"], ACCOUNT, "{issue}");
    let requests = site.cloud.requests(0);
    assert!(requests.len() >= 2);
    for request in &requests {
        assert_eq!(request.auth, Some(AuthKind::OAuth1), "{request:?}");
    }
    // A signature covers the site's own URL: nothing goes to the API gateway.
    assert!(site.cloud.api_targets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_two_legged_link_needs_no_login() {
    let site = linked(|link| link.two_legged_user = Some(ACCOUNT.into())).await;
    let site = site.with("auth.two_legged", true);
    let (agent, url) = site.start().await;
    agent.until_proven().await.unwrap();
    let (status, me) = get(&format!("{url}{MYSELF}")).await;
    assert_eq!((status, &me["accountId"]), (200, &json!(ACCOUNT)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_site_refuses_is_told_with_its_cause() {
    let site = linked(|_| {}).await;
    let (agent, url) = site.start().await;
    // Denied by the person.
    let mut dialogue = LoginProcess::start(agent.dir()).unwrap();
    let address = dialogue.address().await.unwrap();
    submit_consent(&at(&site, &address), EMAIL, BOT_PASSWORD, "deny")
        .await
        .unwrap();
    dialogue.paste("123456").await.unwrap();
    let denied = output_text(&dialogue.end().await.unwrap());
    assert!(denied.contains("does not let the consumer"), "{denied}");

    assert!(log_in(&site, &agent).await.status.success());
    agent.until_proven().await.unwrap();
    let refused = async |cause: &str, remedy: &str| {
        let (status, problem) = get(&format!("{url}{MYSELF}")).await;
        assert_ne!(status, 200, "{problem}");
        let (why, what) = agent.login_failure().await.unwrap();
        assert!(
            why.contains(cause) && what.contains(remedy),
            "{why}; {what}"
        );
    };
    // A wrong clock, another key in the link and a revoked token have different causes.
    site.cloud.set_clock_offset(-900);
    refused("15m ahead of Jira's", "NTP").await;
    site.cloud.set_clock_offset(0);
    again(&agent, &url).await;

    let other = SigningKey::generate(2048).unwrap().public_pem().unwrap();
    let link = OAuth1Consumer::new(CONSUMER, &other);
    site.cloud.register_oauth1_consumer(link).unwrap();
    // While the login is proven, a bad signature counts as the request's fault until a request that cannot be wrong
    // confirms it.
    agent.succeed(&["login-retry"]).unwrap();
    refused("does not fit the signature", "public key").await;
    site.cloud.register_oauth1_consumer(link_of_ours()).unwrap();
    again(&agent, &url).await;

    site.cloud.expire_oauth1_tokens(true);
    refused("the login for Jira has ended", "agent login jira").await;
}

/// Neither another site nor the API gateway accepts a signature for one site.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_one_site_is_good_there_alone() {
    let site = linked(|_| {}).await;
    let (agent, _) = site.start().await;
    assert!(log_in(&site, &agent).await.status.success());
    let stored = fs::read(agent.dir().join("state/tokens/jira.json")).unwrap();
    let stored: Value = serde_json::from_slice(&stored).unwrap();
    let token = stored["tokens"]["access"].as_str().unwrap();
    let cloud = &site.cloud;
    let gateway = format!("{}/ex/jira/{}", cloud.api_url, cloud.sites[0].cloud_id);
    for (seen, base, status) in [
        (
            SITE.to_owned(),
            format!("https://{}", cloud.sites[0].addr),
            200,
        ),
        (
            cloud.sites[1].url.clone(),
            format!("https://{}", cloud.sites[1].addr),
            401,
        ),
        (gateway.clone(), gateway, 401),
    ] {
        let request = browser().get(format!("{base}{MYSELF}"));
        let host = seen.split('/').nth(2).unwrap().to_owned();
        let request = request
            .header("host", host)
            .header("authorization", signed(&format!("{seen}{MYSELF}"), token));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{seen}");
    }
}

fn signed(url: &str, token: &str) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let request = SignedParts {
        method: "GET",
        uri: url,
        parameters: &[],
    };
    let protocol = ProtocolParameters {
        token: Some(token),
        timestamp: now.unwrap().as_secs(),
        nonce: url,
        extra: &[],
    };
    let signer = RequestSigner::new(CONSUMER, KEY.clone());
    signer
        .authorization(&request, &protocol)
        .unwrap()
        .to_string()
}

/// A Cloud whose sites have our application link, and an agent that signs.
async fn linked(change: impl FnOnce(&mut OAuth1Consumer)) -> CloudEnv {
    let mut link = link_of_ours();
    change(&mut link);
    let site = CloudEnv::new(|settings| settings.oauth1.consumers = vec![link]).await;
    let pem = private_pem(&KEY).unwrap();
    site.with("auth.mode", "oauth1")
        .with("auth.consumer_key", CONSUMER)
        .secret("auth.private_key_file", &pem)
}

fn link_of_ours() -> OAuth1Consumer {
    OAuth1Consumer::new(CONSUMER, &KEY.public_pem().unwrap())
}

/// `agent login` with a person who consents and types the code that the site shows.
async fn log_in(site: &CloudEnv, agent: &RunningAgent) -> Output {
    let mut dialogue = LoginProcess::start(agent.dir()).unwrap();
    let address = dialogue.address().await.unwrap();
    assert!(address.starts_with(SITE), "{address}");
    let page = submit_consent(&at(site, &address), EMAIL, BOT_PASSWORD, "allow").await;
    let page = page.unwrap();
    dialogue.paste(code_on(&page).unwrap()).await.unwrap();
    dialogue.end().await.unwrap()
}

/// The address of the site in this test, whose browser cannot resolve its name.
fn at(site: &CloudEnv, address: &str) -> String {
    address.replacen(SITE, &format!("https://{}", site.cloud.sites[0].addr), 1)
}

/// `login-retry` after a correction in Jira; waits until requests pass.
async fn again(agent: &RunningAgent, url: &str) {
    agent.succeed(&["login-retry"]).unwrap();
    let myself = format!("{url}{MYSELF}");
    let answered = async || (get(&myself).await.0 == 200).then_some(());
    until("an answer of Jira", answered).await.unwrap();
}

static KEY: LazyLock<Arc<SigningKey>> =
    LazyLock::new(|| Arc::new(SigningKey::generate(2048).unwrap()));
const CONSUMER: &str = "jira-tunnel-agent";
