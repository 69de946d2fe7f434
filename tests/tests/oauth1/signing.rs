//! What is signed, and over which URL; what cannot be signed.

use crate::common::two_legged;
use crate::corners::{CORNERS, FORMS, send_corner_cases, verified_by_others};
use e2e::{
    login::output_text,
    test_env::{BOT, SEARCH, TestEnv, TestEnvPlan, vendor},
};
use reqwest::Method;
use serde_json::Value;
use server_stub::jira::AuthKind;

#[tokio::test(flavor = "multi_thread")]
async fn every_corner_of_a_request_is_signed_as_two_others_verify_it() {
    let site = two_legged(TestEnv::builder()).start().await.unwrap();
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
    let behind = |plan: TestEnvPlan| {
        two_legged(plan).jira(|jira| {
            jira.connector.scheme = Some("https".into());
            jira.connector.proxy_name = Some("jira.corp.example".into());
            jira.connector.proxy_port = Some(443);
        })
    };
    let with_base_url = TestEnv::builder().line(
        "forward.auth",
        "signed_base_url = \"https://jira.corp.example/jira\"",
    );
    let site = behind(with_base_url).start().await.unwrap();
    send_corner_cases(&site).await;
    verified_by_others("https://jira.corp.example", "", &site.received()).await;

    // Without the setting the login fails, and the remedy names the setting.
    let site = behind(TestEnv::builder()).start_unproven().await.unwrap();
    let login = site.agent.login_failure().await.unwrap();
    assert!(login.0.contains(&site.jira().url), "{login:?}");
    assert!(login.1.contains("signed_base_url"), "{login:?}");
    let checked = output_text(&site.agent.run(&["check"]).unwrap());
    assert!(checked.contains("does not fit the signature"), "{checked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_signed_in_one_way_is_refused_and_not_sent() {
    let site = two_legged(TestEnv::builder()).start().await.unwrap();
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
