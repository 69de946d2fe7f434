//! OAuth 1.0a held by the agent, end to end: every signature is verified by the imitation Jira, by `oauthlib` and
//! by OpenSSL.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{auth::oauth1::SigningKey, status::LayerState};
use e2e::{
    agent::write_secret,
    login::{Dialogue, browser, consent, said},
    python,
    site::{Plan, Site, vendor},
};
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server_stub::jira::{AuthKind, OAuth1Consumer, Received};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Output, sync::LazyLock};

#[tokio::test(flavor = "multi_thread")]
async fn every_corner_of_a_request_is_signed_as_two_others_verify_it() {
    let site = two_legged(Site::plan()).start().await.unwrap();
    send_corner_cases(&site).await;
    let received = site.received();
    assert_eq!(received.len(), CORNERS.len() + FORMS.len() + 1);
    for request in &received {
        assert_eq!(request.user.as_deref(), Some(BOT), "{request:?}");
        assert_eq!(request.auth, Some(AuthKind::OAuth1), "{request:?}");
    }
    let origin = format!("https://{}", site.jira().addr);
    verified_by_others(&origin, "", &received).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_the_signature_is_made_over_what_jira_sees() {
    let behind = |plan: Plan| {
        two_legged(plan).jira(|jira| {
            jira.connector.scheme = Some("https".into());
            jira.connector.proxy_name = Some("jira.corp.example".into());
            jira.connector.proxy_port = Some(443);
        })
    };
    let told = Site::plan().line(
        "forward.auth",
        "signed_base_url = \"https://jira.corp.example/jira\"",
    );
    let site = behind(told).start().await.unwrap();
    send_corner_cases(&site).await;
    verified_by_others("https://jira.corp.example", "", &site.received()).await;

    // Not told, it fails, and says what to set.
    let site = behind(Site::plan()).start_unproven().await.unwrap();
    let login = failed_login(&site).await;
    assert!(login.0.contains(&site.jira().url), "{login:?}");
    assert!(login.1.contains("signed_base_url"), "{login:?}");
    let checked = said(&site.agent.run(&["check"]).unwrap());
    assert!(checked.contains("does not fit the signature"), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_signed_in_one_way_is_refused_and_not_sent() {
    let site = two_legged(Site::plan()).start().await.unwrap();
    let url = site.vendor_url();
    let form = |method: Method, body: &'static str| {
        vendor()
            .request(method, format!("{url}{SEARCH}"))
            .header("content-type", "application/x-www-form-urlencoded")
            .body(body)
    };
    let cases = [
        (
            vendor().get(format!("{url}{SEARCH}?jql=%zz")),
            "ambiguous-target",
        ),
        (
            vendor().get(format!("{url}{SEARCH}?=x")),
            "ambiguous-target",
        ),
        (
            vendor().get(format!("{url}{SEARCH}?jql=%ff")),
            "ambiguous-target",
        ),
        (form(Method::POST, "jql=%f"), "form-body"),
        (form(Method::POST, "=&"), "form-body"),
        (form(Method::POST, "oauth_token=x"), "foreign-identity"),
    ];
    for (request, kind) in cases {
        let answer = request.send().await.unwrap();
        let problem: Value = answer.json().await.unwrap();
        let wanted = format!("urn:jira-tunnel-agent:problem:{kind}");
        assert_eq!(problem["type"], wanted, "{problem}");
        assert_eq!(problem["delivery"], "not_sent", "{problem}");
    }
    assert!(site.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_named_with_its_amount_and_mends_by_itself() {
    let mut site = two_legged(Site::plan()).start().await.unwrap();
    site.jira().set_clock_offset(-900);
    let answer = vendor()
        .get(site.vendor_url() + MYSELF)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 502);
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["delivery"], "answered");
    let login = failed_login(&site).await;
    assert!(login.0.contains("clock"), "{login:?}");
    assert!(
        login.0.contains("15m ahead of Jira's") || login.0.contains("14m"),
        "{login:?}"
    );
    assert!(login.1.contains("NTP"), "{login:?}");
    site.jira().set_clock_offset(0);
    site.agent.run(&["login-retry"]).unwrap();
    until_ok(&site).await;
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_jira_does_not_know_is_told_apart_from_a_consumer_that_it_does_not_know() {
    let stranger = SigningKey::generate(2048).unwrap();
    let plan = two_legged(Site::plan()).jira(|jira| {
        jira.oauth1.consumers[0].public_key = stranger.public_pem().unwrap();
    });
    let site = plan.start_unproven().await.unwrap();
    let login = failed_login(&site).await;
    assert!(login.0.contains("does not fit the signature"), "{login:?}");
    assert!(login.1.contains("public key"), "{login:?}");
    // Put right in Jira.
    site.jira().register_oauth1_consumer(consumer()).unwrap();
    site.agent.run(&["login-retry"]).unwrap();
    until_ok(&site).await;

    let plan = two_legged(Site::plan()).jira(|jira| jira.oauth1.consumers[0].key = "other".into());
    let site = plan.start_unproven().await.unwrap();
    let login = failed_login(&site).await;
    assert!(
        login.0.contains("no application link") && login.0.contains("acme"),
        "{login:?}"
    );

    let plan =
        two_legged(Site::plan()).jira(|jira| jira.oauth1.consumers[0].two_legged_user = None);
    let site = plan.start_unproven().await.unwrap();
    let login = failed_login(&site).await;
    assert!(login.1.contains("2LO"), "{login:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_key_file_is_picked_up_without_a_restart() {
    let site = two_legged(Site::plan()).start().await.unwrap();
    let next = SigningKey::generate(3072).unwrap();
    let mut link = consumer();
    link.public_key = next.public_pem().unwrap();
    site.jira().register_oauth1_consumer(link).unwrap();
    let pem = next.private_pem().unwrap();
    let pem = std::str::from_utf8(pem.expose()).unwrap();
    site.change_secret(pem).unwrap();
    until_ok(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_with_a_code_and_the_running_agent_takes_it_up() {
    let mut site = three_legged(Site::plan()).start_unproven().await.unwrap();
    let login = failed_login(&site).await;
    assert!(login.0.contains("nobody has logged in"), "{login:?}");
    assert!(login.1.contains("agent login jira"), "{login:?}");

    let done = log_in_by_code(&site).await;
    let told = said(&done);
    assert!(done.status.success(), "{told}");
    assert!(told.contains("logged in as acme-bot"), "{told}");
    assert!(
        told.contains("access token: until 2") && told.contains("session"),
        "{told}"
    );
    site.until_proven().await.unwrap();
    assert_eq!(
        site.agent.status().await.unwrap().forwards[0].auth_mode,
        "oauth1"
    );

    site.jira().clear_requests();
    send_corner_cases(&site).await;
    let token = stored(&site)["tokens"]["access"]
        .as_str()
        .unwrap()
        .to_owned();
    let origin = format!("https://{}", site.jira().addr);
    verified_by_others(&origin, &token, &site.received()).await;

    // Nothing of it is anybody else's to see.
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(token_file(&site)), 0o600);
    let refresh = stored(&site)["tokens"]["refresh"]
        .as_str()
        .unwrap()
        .to_owned();
    for secret in [&token, &refresh] {
        assert!(!told.contains(secret.as_str()) && !site.agent.log().contains(secret.as_str()));
    }

    // Forgotten: Jira has no way to revoke it, and the command says where to do that.
    let out = site.agent.run(&["logout"]).unwrap();
    assert!(
        !out.status.success() && said(&out).contains("View OAuth Access Tokens"),
        "{out:?}"
    );
    assert!(!token_file(&site).exists());
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    while vendor()
        .get(site.vendor_url() + MYSELF)
        .send()
        .await
        .unwrap()
        .status()
        != 503
    {
        assert!(tokio::time::Instant::now() < deadline);
    }
    failed_login(&site).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_on_this_host_comes_back_by_itself() {
    let mut site = three_legged(Site::plan()).start_unproven().await.unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let callback = format!("http://127.0.0.1:{port}/back?to=us");
    let arguments = ["login", "--callback", &callback];
    let mut dialogue = Dialogue::start_with(site.agent.dir(), &arguments).unwrap();
    let address = dialogue.address().await.unwrap();
    // Somebody else's answer is refused, and the wait goes on.
    let forged = browser().get(format!("{callback}&oauth_token=other&oauth_verifier=x"));
    assert_eq!(forged.send().await.unwrap().status(), 400);
    let location = consent(&address, BOT, BOT_PASSWORD).await.unwrap();
    assert!(location.starts_with(&callback), "{location}");
    assert_eq!(browser().get(location).send().await.unwrap().status(), 200);
    let done = dialogue.end().await.unwrap();
    assert!(done.status.success(), "{}", said(&done));
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn oauth_1_0_needs_no_code() {
    let mut site = three_legged(Site::plan()).start_unproven().await.unwrap();
    let arguments = ["login", "--callback", "none"];
    let mut dialogue = Dialogue::start_with(site.agent.dir(), &arguments).unwrap();
    let address = dialogue.address().await.unwrap();
    let page = decide(&address, "allow").await;
    assert!(!page.contains("verification code"), "{page}");
    dialogue.paste("done").await.unwrap();
    let done = dialogue.end().await.unwrap();
    assert!(done.status.success(), "{}", said(&done));
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_not_allowed_stores_nothing_and_says_why() {
    let site = three_legged(Site::plan()).start_unproven().await.unwrap();
    for (decision, pasted, complaint) in [
        (None, "123456", "does not let the consumer"),
        (Some("deny"), "123456", "does not let the consumer"),
        (Some("allow"), "wrong1", "does not know the access token"),
        (
            Some("allow"),
            "https://x/?oauth_token=other&oauth_verifier=1",
            "not that of this login",
        ),
        (
            Some("allow"),
            "https://x/?oauth_verifier=denied",
            "not that of this login",
        ),
    ] {
        let mut dialogue = Dialogue::start(site.agent.dir()).unwrap();
        let address = dialogue.address().await.unwrap();
        if let Some(decision) = decision {
            decide(&address, decision).await;
        }
        dialogue.paste(pasted).await.unwrap();
        let done = dialogue.end().await.unwrap();
        assert!(!done.status.success());
        assert!(said(&done).contains(complaint), "{}", said(&done));
    }
    assert!(!token_file(&site).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_session_renews_the_token_before_it_ends_and_no_request_notices() {
    let plan = three_legged(Site::plan()).jira(|jira| jira.oauth1.access_lifetime = 30);
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
    let mut site = three_legged(Site::plan()).start_unproven().await.unwrap();
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
        said(&renewed).contains("renewed; logged in as acme-bot"),
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

#[tokio::test(flavor = "multi_thread")]
async fn an_access_token_may_come_from_a_file() {
    let issuing = three_legged(Site::plan()).start_unproven().await.unwrap();
    assert!(log_in_by_code(&issuing).await.status.success());
    let token = stored(&issuing)["tokens"]["access"]
        .as_str()
        .unwrap()
        .to_owned();
    let config = issuing.dir().join("agent.toml");
    let text = fs::read_to_string(&config).unwrap();
    let text = text.replace(
        "consumer_key",
        "access_token_file = \"token\"\nconsumer_key",
    );
    write_secret(&issuing.dir().join("token"), &token).unwrap();
    fs::remove_file(token_file(&issuing)).unwrap();
    fs::write(config, text).unwrap();
    let mut site = issuing;
    site.agent.restart().unwrap();
    site.until_proven().await.unwrap();
    let refused = site.agent.run(&["login"]).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(
        said(&refused).contains("access_token_file is set"),
        "{refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_made_once_and_what_is_printed_is_what_jira_wants() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("oauth1.pem");
    let file = path.to_str().unwrap();
    let new_key = |arguments: &[&str]| {
        std::process::Command::new(e2e::agent::binary("agent"))
            .env_clear()
            .args(["login", "--new-key", file])
            .args(arguments)
            .output()
            .unwrap()
    };
    let made = new_key(&["--bits", "3072"]);
    let printed = said(&made);
    assert!(made.status.success(), "{printed}");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    for said in [
        "consumer_key",
        "Application links",
        "Consumer key",
        "2-Legged",
        file,
    ] {
        assert!(printed.contains(said), "{said}: {printed}");
    }
    assert!(!printed.contains("PRIVATE KEY"));
    let pem = fs::read_to_string(&path).unwrap();
    assert_eq!(SigningKey::from_pem(pem.as_bytes()).unwrap().bits(), 3072);
    let again = new_key(&[]);
    assert!(
        !again.status.success() && said(&again).contains("never overwritten"),
        "{again:?}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), pem);

    // Pasted into Jira, it logs the agent in.
    let end = "-----END PUBLIC KEY-----";
    let from = printed.find("-----BEGIN PUBLIC KEY-----").unwrap();
    let to = printed.find(end).unwrap() + end.len();
    let mut link = consumer();
    link.public_key = printed[from..to].to_owned();
    let plan = two_legged(Site::plan()).jira(|jira| jira.oauth1.consumers = vec![link]);
    let mut site = plan.start_unproven().await.unwrap();
    site.change_secret(&pem).unwrap();
    site.until_proven().await.unwrap();
}

/// Targets below the context path that are signed in as many ways as there are to get them wrong.
const CORNERS: &[&str] = &[
    "/rest/api/2/myself",
    "/rest/api/2/myself?",
    "/rest/api/2/myself?a",
    "/rest/api/2/myself?a=",
    "/rest/api/2/myself?a=1&a=1&a=&a&a=0",
    "/rest/api/2/myself?&&a=1&",
    "/rest/api/2/myself?b=2&a=1&c=3&B=0&%41=9",
    "/rest/api/2/myself?a=b=c==",
    "/rest/api/2/myself?a=%2b+%20%2B",
    "/rest/api/2/myself?a=%26%3D%25&%26=%3D",
    "/rest/api/2/myself?a=%252F",
    "/rest/api/2/myself?a=%c3%a4%E2%98%83&%C3%A4=1&z=1",
    "/rest/api/2/myself?a=-._~!*'()/?:@,",
    "/rest/api/2/myself?a;b=c;d",
    "/rest/api/2/myself?a1=x&a=x&a-=x&a%20=x&a%2B=x",
    "/rest/api/2/myself?a=%0A%0d%00",
    "/rest/api/2/myself?username=fred&expand=a,b,c",
    "/rest/api/2/search?jql=project%20%3D%20DEMO%20AND%20text%20~%20%22a%2Bb%22&maxResults=1",
    "/rest/api/2/issue/D%45MO-1?fields=summary",
];

/// Form bodies, likewise.
const FORMS: &[&str] = &[
    "jql=project+%3D+DEMO&maxResults=1",
    "jql=project%20%3D%20DEMO&jql=&jql&a=%2B+%20",
    "&&a=%C3%A4&b=b=b&",
];

/// With queries too, and one JSON body, which is not signed.
async fn send_corner_cases(site: &Site) {
    let url = site.vendor_url();
    for target in CORNERS {
        // reqwest's URLs keep these targets as they are, or the test of what was received would tell.
        let answer = vendor().get(format!("{url}{target}")).send().await.unwrap();
        let status = answer.status();
        assert!(
            ![401, 502, 503].contains(&status.as_u16()),
            "{target}: {status}"
        );
    }
    for form in FORMS {
        let request = vendor()
            .post(format!("{url}{SEARCH}?a=2&a=1"))
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=UTF-8",
            )
            .header("x-atlassian-token", "no-check")
            .body(*form);
        let status = request.send().await.unwrap().status();
        assert!(
            ![401, 403, 502, 503].contains(&status.as_u16()),
            "{form}: {status}"
        );
    }
    let json = vendor()
        .post(format!("{url}{SEARCH}"))
        .json(&json!({"jql": "project = DEMO", "a": "b=c&d"}));
    assert_eq!(json.send().await.unwrap().status(), 200);
}

async fn verified_by_others(origin: &str, token: &str, received: &[Received]) {
    let requests: Vec<Value> = received
        .iter()
        .map(|request| {
            let mut headers = serde_json::Map::new();
            let authorization = request.header("authorization").unwrap();
            headers.insert("Authorization".into(), authorization.into());
            if let Some(kind) = request.header("content-type") {
                headers.insert("Content-Type".into(), kind.into());
            }
            json!({
                "method": request.method,
                "url": format!("{origin}{}", request.target_text()),
                "headers": headers,
                "body": String::from_utf8(request.body_head.clone()).unwrap(),
            })
        })
        .collect();
    let told = json!({
        "public_key": KEY.public_pem().unwrap(),
        "consumer_key": CONSUMER,
        "token": token,
        "requests": requests,
    });
    let said = python::run(
        python::script("oauth1_verify.py"),
        told.to_string().as_bytes(),
    )
    .await;
    let said = said.unwrap();
    assert!(
        said.contains(&format!("{} requests, 0 wrong", received.len())),
        "{said}"
    );
}

async fn until_ok(site: &Site) {
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        let answer = vendor()
            .get(site.vendor_url() + MYSELF)
            .send()
            .await
            .unwrap();
        if answer.status() == StatusCode::OK {
            return;
        }
        let said = answer.text().await.unwrap();
        assert!(tokio::time::Instant::now() < deadline, "{said}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

/// Cause and remedy of the failed login layer.
async fn failed_login(site: &Site) -> (String, String) {
    let report = site.agent.until("the login to have failed", |r| {
        r.layers.login.state == LayerState::Failed
    });
    let login = report.await.unwrap().layers.login;
    (login.cause.unwrap(), login.remedy.unwrap())
}

/// A person allows it, reads the code off Jira's page, and types it.
async fn log_in_by_code(site: &Site) -> Output {
    let mut dialogue = Dialogue::start(site.agent.dir()).unwrap();
    let address = dialogue.address().await.unwrap();
    let page = decide(&address, "allow").await;
    let (_, rest) = page.split_once("verification code is '").expect(&page);
    let code = rest.split('\'').next().unwrap();
    dialogue.paste(code).await.unwrap();
    dialogue.end().await.unwrap()
}

/// What Jira's page says after the decision.
async fn decide(address: &str, decision: &str) -> String {
    let form = [
        ("username", BOT),
        ("password", BOT_PASSWORD),
        ("decision", decision),
    ];
    let reply = browser().post(address).form(&form).send().await.unwrap();
    reply
        .text()
        .await
        .unwrap()
        .replace("&#39;", "'")
        .replace("&apos;", "'")
}

fn token_file(site: &Site) -> PathBuf {
    site.dir().join("state/tokens/jira.json")
}

fn stored(site: &Site) -> Value {
    serde_json::from_slice(&fs::read(token_file(site)).unwrap()).unwrap()
}

/// The agent has a token of its own, once somebody has logged in.
fn three_legged(plan: Plan) -> Plan {
    let pem = KEY.private_pem().unwrap();
    let pem = std::str::from_utf8(pem.expose()).unwrap();
    plan.auth(OAUTH1, pem).jira(|jira| {
        jira.oauth1.consumers = vec![OAuth1Consumer::new(CONSUMER, &KEY.public_pem().unwrap())];
    })
}

/// The agent signs without a token, as the user of the link.
fn two_legged(plan: Plan) -> Plan {
    let pem = KEY.private_pem().unwrap();
    let pem = std::str::from_utf8(pem.expose()).unwrap();
    let lines = format!("{OAUTH1}\ntwo_legged = true");
    plan.auth(&lines, pem)
        .jira(|jira| jira.oauth1.consumers = vec![consumer()])
}

fn consumer() -> OAuth1Consumer {
    let mut consumer = OAuth1Consumer::new(CONSUMER, &KEY.public_pem().unwrap());
    consumer.two_legged_user = Some(BOT.into());
    consumer
}

static KEY: LazyLock<SigningKey> = LazyLock::new(|| SigningKey::generate(2048).unwrap());
const OAUTH1: &str =
    "mode = \"oauth1\"\nconsumer_key = \"acme \\\"tunnel\\\" & co\"\nprivate_key_file = \"secret\"";
const CONSUMER: &str = "acme \"tunnel\" & co";
const BOT: &str = "acme-bot";
const BOT_PASSWORD: &str = "acme-password";
const MYSELF: &str = "/rest/api/2/myself";
const SEARCH: &str = "/rest/api/2/search";
