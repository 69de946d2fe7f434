//! Credentials end to end: a rejected one is sent once, and the vendor's never reaches Jira if the agent has its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{LayerState, OverallState};
use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::test_env::{
    BOT, BOT_PASSWORD, BOT_TOKEN, LOGIN_FAILED, LOGIN_UNAVAILABLE, MYSELF, SEARCH, TestEnv,
    TestEnvPlan, json_of, vendor,
};
use futures_util::future::join_all;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};
use server_stub::jira::{AuthKind, ReceivedRequest};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_reaches_jira_once_however_many_requests_come() {
    // The second failure would lock the account.
    let plan = TestEnv::builder()
        .basic(BOT, "wrong")
        .jira(|jira| jira.captcha_after = 2);
    let mut site = plan.start_unproven().await.unwrap();

    let url = site.vendor_url() + MYSELF;
    let answers = join_all((0..50).map(|_| vendor().get(&url).send())).await;
    for answer in answers {
        let (status, problem) = problem_of(answer.unwrap()).await;
        match problem["type"].as_str().unwrap() {
            LOGIN_FAILED => assert_eq!((status, &problem["delivery"]), (502, &json!("answered"))),
            LOGIN_UNAVAILABLE => {
                assert_eq!((status, &problem["delivery"]), (503, &json!("not_sent")))
            }
            other => panic!("{other}: {problem}"),
        }
    }
    assert_eq!(logins(&site), 1);

    let (cause, remedy) = site.agent.login_failure().await.unwrap();
    assert!(cause.contains("password of acme-bot"), "{cause}");
    assert!(remedy.contains("password"), "{remedy}");
    assert_eq!(site.agent.status_output().unwrap().1, 2);

    // The account is not locked: a person can log in.
    let person = direct(&site)
        .get(site.jira().url.clone() + MYSELF)
        .basic_auth(BOT, Some(BOT_PASSWORD));
    assert_eq!(person.send().await.unwrap().status(), 200);

    // A corrected password works without a restart.
    site.change_secret(BOT_PASSWORD).unwrap();
    site.until_answered(MYSELF).await.unwrap();
    site.until_proven().await.unwrap();
    assert_eq!(site.agent.status_output().unwrap().1, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_was_refused_is_tried_again_when_an_admin_says_so() {
    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let mut site = plan.start().await.unwrap();
    site.jira().set_password(BOT, "changed in Jira");
    let (status, problem) = problem_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
    let remedy = problem["remedy"].as_str().unwrap();
    assert!(remedy.contains("quote request_id"), "{problem}");
    assert!(!problem.to_string().contains(BOT), "{problem}");
    let id = problem["request_id"].as_str().unwrap();
    let record = site.audit_of(id).await.unwrap();
    let cause = record["cause"].as_str().unwrap();
    assert!(cause.contains("password of acme-bot"), "{record}");

    // The agent's own probe confirms it.
    site.agent.login_failure().await.unwrap();

    // The password is changed back in Jira; the agent does not know that and does not try.
    site.jira().set_password(BOT, BOT_PASSWORD);
    site.jira().clear_requests();
    let (status, problem) = problem_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (503, &json!(LOGIN_UNAVAILABLE)));
    assert_eq!(logins(&site), 0);

    site.agent.succeed(&["login-retry"]).unwrap();
    site.until_answered(MYSELF).await.unwrap();
    site.until_proven().await.unwrap();
}

/// Jira answers a search with a bad token 200 and "nothing found", which a vendor would believe.
#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_no_empty_search_result() {
    let site = TestEnv::start().await.unwrap();
    let jql = json!({ "jql": "project = DEMO" });
    assert_eq!(site.post(SEARCH, &jql).await.unwrap().status(), 200);

    site.jira().expire_token(BOT_TOKEN);
    let found = site.post(SEARCH, &jql).await.unwrap();
    let (status, problem) = problem_of(found).await;
    assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
    let report = site.agent.until_login(LayerState::Failed).await.unwrap();
    assert_eq!(report.overall, OverallState::Down);
    // The cause is from the agent's own probe.
    assert!(report.layers.login.cause.unwrap().contains("(401)"));
    assert!(report.layers.login.remedy.unwrap().contains("token"));
    assert_eq!(report.layers.jira.state, LayerState::Proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_never_was_good_is_refused_and_a_good_one_taken_up() {
    let mut site = TestEnv::builder()
        .pat("acme-bot-expired-token")
        .start_unproven()
        .await
        .unwrap();
    let jql = json!({ "jql": "project = DEMO" });
    for answer in [site.post(SEARCH, &jql).await, site.get(MYSELF).await] {
        let (_, problem) = problem_of(answer.unwrap()).await;
        let kind = problem["type"].as_str().unwrap();
        assert!(
            [LOGIN_FAILED, LOGIN_UNAVAILABLE].contains(&kind),
            "{problem}"
        );
    }
    site.change_secret(BOT_TOKEN).unwrap();
    site.until_answered(MYSELF).await.unwrap();
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn basic_switched_off_in_jira_is_told_as_such() {
    for running in [false, true] {
        basic_is_switched_off(running).await;
    }
}

/// Before the agent starts, or while requests go through.
async fn basic_is_switched_off(running: bool) {
    let plan = TestEnv::builder()
        .basic(BOT, BOT_PASSWORD)
        .jira(|jira| jira.basic = Some(running));
    let site = match running {
        false => plan.start_unproven().await.unwrap(),
        true => plan.start().await.unwrap(),
    };
    site.jira().set_basic(false);
    let (_, problem) = problem_of(site.get(MYSELF).await.unwrap()).await;
    let kind = problem["type"].as_str().unwrap();
    assert!([LOGIN_FAILED, LOGIN_UNAVAILABLE].contains(&kind), "{kind}");
    let (cause, remedy) = site.agent.login_failure().await.unwrap();
    assert!(cause.contains("switched off"), "{cause}");
    assert!(remedy.contains("pat"), "{remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_vendors_identity_stays_outside_where_the_agent_has_its_own() {
    for plan in [
        TestEnv::builder().basic(BOT, BOT_PASSWORD),
        TestEnv::builder().pat(BOT_TOKEN),
    ] {
        stays_outside(plan).await;
    }
}

async fn stays_outside(plan: TestEnvPlan) {
    let site = plan.start().await.unwrap();
    // A valid session of the administrator.
    let session = direct(&site)
        .get(site.jira().url.clone() + MYSELF)
        .basic_auth("admin", Some("admin-password"));
    let session = session.send().await.unwrap();
    let cookies = session.headers().get_all("set-cookie").iter();
    let cookie = cookies
        .filter_map(|c| c.to_str().ok())
        .find(|c| c.starts_with("JSESSIONID"))
        .unwrap();
    let cookie = cookie.split(';').next().unwrap().to_owned();
    site.jira().clear_requests();

    let url = site.vendor_url();
    let get = |target: &str| vendor().get(url.clone() + target);
    let stripped: Vec<RequestBuilder> = vec![
        get(MYSELF).basic_auth("admin", Some("admin-password")),
        get(MYSELF).bearer_auth("admin-token"),
        get(MYSELF).header("Authorization", "OAuth oauth_token=\"admin-token\""),
        get(MYSELF).header("Proxy-Authorization", "Basic admin-token"),
        get(MYSELF).header("Cookie", &cookie),
        get(MYSELF)
            .header("Cookie", "a=b")
            .header("Cookie", &cookie),
        get(MYSELF)
            .header("X-Forwarded-User", "admin")
            .header("X_Remote_User", "admin"),
        get(MYSELF)
            .header("X-Seraph-Trusted-App", "admin")
            .header("Remote-User", "admin"),
    ];
    let count = stripped.len();
    for request in stripped {
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            answer.headers().get("set-cookie").is_none(),
            "Jira's session leaves the site"
        );
        let user: Value = answer.json().await.unwrap();
        assert_eq!(user["name"], BOT);
    }
    let received = site.received();
    assert_eq!(received.len(), count);
    for request in &received {
        assert_eq!(request.user.as_deref(), Some(BOT));
        assert!(
            !text_of(request).to_lowercase().contains("admin"),
            "{request:?}"
        );
        // The agent's own session alone.
        let own = request.header("cookie");
        assert!(
            own.is_none_or(|own| !own.contains(&cookie) && !own.contains("a=b")),
            "{request:?}"
        );
    }

    let refused: Vec<(RequestBuilder, &str)> = vec![
        (
            get(&format!(
                "{MYSELF}?os_username=admin&os_password=admin-password"
            )),
            FOREIGN_IDENTITY,
        ),
        (
            get(&format!(
                "{MYSELF}?os%5Fusername=admin&os%5fpassword=admin-password"
            )),
            FOREIGN_IDENTITY,
        ),
        (
            get(&format!("{MYSELF}?x=y&xoauth_requestor_id=admin")),
            FOREIGN_IDENTITY,
        ),
        (get(&format!("{MYSELF}?user_id=admin")), FOREIGN_IDENTITY),
        (
            get(&format!("{MYSELF}?oauth_token=admin-token")),
            FOREIGN_IDENTITY,
        ),
        (
            vendor()
                .post(url.clone() + SEARCH)
                .form(&[("os_username", "admin"), ("os_password", "admin-password")]),
            FOREIGN_IDENTITY,
        ),
        (
            vendor()
                .post(url.clone() + SEARCH)
                .header("content-encoding", "gzip")
                .form(&[("jql", "project = DEMO")]),
            FORM_BODY,
        ),
    ];
    site.jira().clear_requests();
    for (request, expected) in refused {
        let (status, problem) = problem_of(request.send().await.unwrap()).await;
        assert_eq!(problem["type"], expected, "{problem}");
        assert_eq!(problem["delivery"], "not_sent");
        assert_eq!(status, if expected == FORM_BODY { 415 } else { 403 });
        assert!(
            !problem.to_string().contains("admin"),
            "a value is repeated: {problem}"
        );
    }
    assert!(site.received().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn passed_through_the_vendors_login_is_jiras_affair() {
    let site = TestEnv::builder().start().await.unwrap();
    let url = site.vendor_url() + MYSELF;
    let answer = vendor()
        .get(&url)
        .basic_auth("reader", Some("reader-password"))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-ausername"], "reader");
    assert!(
        answer.headers().contains_key("set-cookie"),
        "the vendor's own session is the vendor's"
    );

    // Jira itself answers each wrong password; no request is held back.
    for _ in 0..2 {
        let answer = vendor()
            .get(&url)
            .basic_auth("reader", Some("wrong"))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 401);
        assert!(!answer.headers().contains_key("proxy-status"));
    }
    let answer = vendor()
        .get(&url)
        .bearer_auth(BOT_TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let received = site.received();
    let kinds: Vec<_> = received
        .iter()
        .map(|r| (r.auth, r.user.as_deref()))
        .collect();
    let wrong = (Some(AuthKind::Anonymous), None);
    assert_eq!(
        kinds,
        [
            (Some(AuthKind::Basic), Some("reader")),
            wrong,
            wrong,
            (Some(AuthKind::Pat), Some(BOT))
        ]
    );
    let report = site.agent.status().await.unwrap();
    assert_eq!(report.layers.login.state, LayerState::NotApplicable);
    assert_eq!(report.overall, OverallState::Proven);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_the_vendors_reaches_jira_once_the_customer_names_it() {
    let site = TestEnv::start().await.unwrap();
    let send = async || {
        let request = vendor().get(site.vendor_url() + MYSELF);
        let request = request.header("x-vendor-tenant", "7");
        let request = request.header("x-invented-user", "admin");
        let request = request.header("x-forwarded-for", "10.0.0.1");
        assert_eq!(request.send().await.unwrap().status(), 200);
        let received = site.received();
        let last = received.last().unwrap();
        assert_eq!(last.header("x-invented-user"), None);
        assert_eq!(last.header("x-forwarded-for"), None);
        last.header("x-vendor-tenant")
    };
    assert_eq!(send().await, None);
    assert_eq!(send().await, None);
    for name in ["x-vendor-tenant", "x-invented-user", "x-forwarded-for"] {
        let log = site.agent.log();
        let named = log.lines().filter(|line| line.contains(name)).count();
        assert_eq!(named, 1, "{name} in {log}");
    }
    let metrics = site.agent.succeed(&["metrics"]).unwrap();
    let counted = "request_headers_removed_total{class=\"forwarding\",forward=\"jira\"} 2";
    assert!(metrics.contains(counted), "{metrics}");

    let named = "[forward.headers]\npass = [\"X-Vendor-Tenant\"]\n\n[forward.policy]\n";
    let edited = site
        .agent
        .edit_config(|text| text.replace("[forward.policy]\n", named));
    edited.unwrap();
    let reloaded = site.agent.succeed(&["reload"]).unwrap();
    assert!(reloaded.contains("forward jira: headers"), "{reloaded}");
    assert_eq!(send().await.as_deref(), Some("7"));
}

/// How many requests with a credential have reached Jira, the agent's probes included.
fn logins(site: &TestEnv) -> usize {
    let requests = site.jira().requests();
    requests
        .iter()
        .filter(|r| r.header("authorization").is_some())
        .count()
}

fn text_of(request: &ReceivedRequest) -> String {
    let headers = request.headers.iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value).into_owned();
        let decoded = value
            .strip_prefix("Basic ")
            .and_then(|v| STANDARD.decode(v).ok());
        format!(
            "{name}: {value} {}\n",
            String::from_utf8_lossy(&decoded.unwrap_or_default())
        )
    });
    request.target_text() + "\n" + &headers.collect::<String>()
}

async fn problem_of(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert!(
        answer.headers().contains_key("proxy-status"),
        "{status} is not the agent's own answer"
    );
    assert!(answer.headers().contains_key("x-request-id"));
    json_of(answer).await
}

/// A person inside the customer's network.
fn direct(site: &TestEnv) -> reqwest::Client {
    let ca =
        reqwest::Certificate::from_pem(site.jira().ca_pem.as_ref().unwrap().as_bytes()).unwrap();
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([ca])
        .user_agent("person")
        .build()
        .unwrap()
}

const FOREIGN_IDENTITY: &str = "urn:jira-tunnel-agent:problem:foreign-identity";
const FORM_BODY: &str = "urn:jira-tunnel-agent:problem:form-body";
