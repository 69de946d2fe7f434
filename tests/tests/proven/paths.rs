//! An answer on one path does not decide about the credential.

use crate::{ISSUE_TYPES, problem_of, until};
use agent::status::LayerState;
use e2e::test_env::{
    BOT, BOT_PASSWORD, BOT_TOKEN, ISSUE, LOGIN_FAILED, MYSELF, TestEnv, TestEnvPlan, new_issue,
    vendor,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use server_stub::jira::{CannedResponse, FaultKind, InjectedFault};

/// Ways in which Jira or an intermediary rejects a credential on one path and accepts it on others.
fn refusals() -> Vec<FaultKind> {
    let jiras = |status, headers: &[(&str, &str)]| {
        FaultKind::Answer(CannedResponse::new(status, headers, ""))
    };
    vec![
        jiras(401, &[("x-seraph-loginreason", "AUTHENTICATED_FAILED")]),
        jiras(401, &[("content-type", "application/json")]),
        jiras(
            302,
            &[
                ("location", "/jira/login.jsp"),
                ("x-ausername", "anonymous"),
            ],
        ),
        jiras(
            302,
            &[("location", "/jira/login.jsp?permissionViolation=true")],
        ),
        jiras(
            200,
            &[
                ("x-ausername", "anonymous"),
                ("content-type", "application/json"),
            ],
        ),
        FaultKind::Intermediary(CannedResponse::proxy_password()),
        FaultKind::Intermediary(CannedResponse::negotiate()),
        FaultKind::Intermediary(CannedResponse::login_form()),
        FaultKind::Intermediary(CannedResponse::identity_provider()),
        FaultKind::Intermediary(CannedResponse::proxy_login()),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_path_refuses_fails_that_request_alone_with_a_token() {
    one_path_alone(TestEnv::builder().pat(BOT_TOKEN)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_path_refuses_fails_that_request_alone_with_a_password() {
    one_path_alone(TestEnv::builder().basic(BOT, BOT_PASSWORD)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_path_refuses_refreshes_no_token() {
    let plan = TestEnv::builder().oauth2_service("acme-secret");
    let site = one_path_alone(plan).await;
    assert_eq!(site.jira().oauth2_counts().client_credentials, 1);
}

async fn one_path_alone(plan: TestEnvPlan) -> TestEnv {
    let site = plan.start().await.unwrap();
    for kind in refusals() {
        let case = format!("{kind:?}");
        site.jira()
            .set_faults(vec![InjectedFault::on("/issuetype", kind)]);
        for _ in 0..2 {
            let answer = site.get(ISSUE_TYPES);
            let (status, problem) = problem_of(answer.await.unwrap()).await;
            assert_eq!(
                (status, &problem["type"]),
                (502, &json!(LOGIN_FAILED)),
                "{case}"
            );
            // Other requests pass at once.
            let others = join_all((0..5).map(|_| site.get(MYSELF)));
            for other in others.await {
                assert_eq!(other.unwrap().status(), 200, "{case}");
            }
        }
    }
    let report = site.agent.status().await.unwrap();
    assert_eq!(report.layers.login.state, LayerState::Proven);
    assert!(!report.forwards[0].circuit_open);
    site
}

/// Refusals that the vendor may see and that do not concern the login.
#[tokio::test(flavor = "multi_thread")]
async fn answers_of_firewall_and_rate_limit_reach_the_vendor() {
    let site = TestEnv::start().await.unwrap();
    for (answer, status) in [
        (CannedResponse::firewall(), 403),
        (CannedResponse::rate_limit(), 429),
    ] {
        let fault = InjectedFault::on("/issuetype", FaultKind::Intermediary(answer));
        site.jira().set_faults(vec![fault]);
        let answer = site.get(ISSUE_TYPES).await.unwrap();
        assert_eq!(answer.status(), status);
        assert!(!answer.headers().contains_key("proxy-status"));
    }
}

/// Jira 8.14.1 accepts a token only below /rest and redirects a download to the login page.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_that_wants_a_login_page_leaves_the_forward_open() {
    let plan = TestEnv::builder()
        .pat(BOT_TOKEN)
        .jira(|jira| jira.version = "8.14.1".into());
    let site = plan.start().await.unwrap();
    let url = site.vendor_url();
    let created = site.post(ISSUE, &new_issue("x")).await.unwrap();
    let created: Value = created.json().await.unwrap();
    let key = created["key"].as_str().unwrap();
    let part = reqwest::multipart::Part::bytes(b"x".to_vec()).file_name("a.png");
    let form = reqwest::multipart::Form::new().part("file", part);
    let uploaded = vendor()
        .post(format!("{url}/rest/api/2/issue/{key}/attachments"))
        .header("x-atlassian-token", "no-check")
        .multipart(form);
    let uploaded: Value = uploaded.send().await.unwrap().json().await.unwrap();
    let id = uploaded[0]["id"].as_str().unwrap();
    for _ in 0..5 {
        let download = vendor().get(format!("{url}/secure/attachment/{id}/a.png"));
        let (status, problem) = problem_of(download.send().await.unwrap()).await;
        assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
        let next = vendor().get(format!("{url}/rest/api/2/issue/{key}")).send();
        assert_eq!(next.await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_for_another_user_never_reaches_the_vendor() {
    let mut site = TestEnv::start().await.unwrap();
    let json = ("content-type", "application/json");
    let fault = |target: &str, user| {
        let canned = CannedResponse::new(200, &[("x-ausername", user), json], "{\"name\":\"x\"}");
        vec![InjectedFault::on(target, FaultKind::Answer(canned))]
    };
    site.jira().set_faults(fault("/issuetype", "admin"));
    let answer = site.get(ISSUE_TYPES);
    let (status, problem) = problem_of(answer.await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
    // Another spelling of the same user.
    site.jira().set_faults(fault("/issuetype", "ACME%2Dbot"));
    let answer = site.get(ISSUE_TYPES);
    assert_eq!(answer.await.unwrap().status(), 200);

    // The user is renamed: the probe sees the new name, which is accepted from then on.
    site.jira().set_faults(fault("/rest/api/2/", "acme-robot"));
    let answer = site.get(ISSUE_TYPES);
    problem_of(answer.await.unwrap()).await;
    until(&site, "the new name", |r| {
        let detail = r.layers.login.detail.as_deref();
        detail.is_some_and(|detail| detail.contains("acme-robot"))
    })
    .await;
    let answer = site.get(ISSUE_TYPES);
    assert_eq!(answer.await.unwrap().status(), 200);
    site.jira().set_faults(Vec::new());
    site.until_proven().await.unwrap();
}
