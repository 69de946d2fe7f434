//! Proven means proven: an answer on one path does not decide about the credential, a changed secret is unproven until
//! Jira accepts it, and only Jira proves Jira.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{LayerState, OverallState, StatusReport};
use e2e::test_env::{
    BOT, BOT_PASSWORD, BOT_TOKEN, ISSUE, LOGIN_FAILED, LOGIN_UNAVAILABLE, MYSELF, TestEnv,
    TestEnvPlan, json_of, new_issue, vendor,
};
use futures_util::future::join_all;
use reqwest::Response;
use serde_json::{Value, json};
use server_stub::jira::{CannedResponse, FaultKind, InjectedFault};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

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
        let told = format!("{kind:?}");
        site.jira()
            .set_faults(vec![InjectedFault::on("/issuetype", kind)]);
        for _ in 0..2 {
            let answer = site.get(ISSUE_TYPES);
            let (status, problem) = problem_of(answer.await.unwrap()).await;
            assert_eq!(
                (status, &problem["type"]),
                (502, &json!(LOGIN_FAILED)),
                "{told}"
            );
            // Other requests pass at once.
            let others = join_all((0..5).map(|_| site.get(MYSELF)));
            for other in others.await {
                assert_eq!(other.unwrap().status(), 200, "{told}");
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
async fn a_password_that_was_changed_in_jira_locks_no_account() {
    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let site = plan
        .jira(|jira| jira.captcha_after = 3)
        .start()
        .await
        .unwrap();
    let url = site.vendor_url() + MYSELF;
    site.jira().clear_requests();
    site.jira().set_password(BOT, "changed in Jira");
    site.jira().end_sessions();
    let (status, problem) = problem_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
    let answers = join_all((0..30).map(|_| vendor().get(&url).send())).await;
    for answer in answers {
        let (status, problem) = problem_of(answer.unwrap()).await;
        assert_eq!((status, &problem["type"]), (503, &json!(LOGIN_UNAVAILABLE)));
        assert_eq!(problem["delivery"], "not_sent");
    }
    until(&site, "the login to have failed", |r| {
        r.layers.login.state == LayerState::Failed && r.forwards[0].circuit_open
    })
    .await;
    let requests = site.jira().requests();
    let tried = requests
        .iter()
        .filter(|r| r.header("authorization").is_some());
    assert_eq!(tried.count(), 2, "one request and the agent's own probe");
}

/// Each rejection is known only once it arrives: forty simultaneous ones would lock the account.
#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_requests_try_a_changed_password_once() {
    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let plan = plan.jira(|jira| jira.captcha_after = 3);
    let mut site = plan.start().await.unwrap();
    let url = site.vendor_url() + MYSELF;
    let send = || join_all((0..40).map(|_| vendor().get(&url).send()));
    for answer in send().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    tokio::time::sleep(SILENCE).await;
    site.jira().clear_requests();
    site.jira().set_password(BOT, "changed in Jira");
    let mut failed = 0;
    for answer in send().await {
        let (status, problem) = problem_of(answer.unwrap()).await;
        match status {
            502 => failed += 1,
            _ => assert_eq!((status, &problem["delivery"]), (503, &json!("not_sent"))),
        }
    }
    assert_eq!(failed, 1, "the request that went first");
    let requests = site.jira().requests();
    let tried = requests
        .iter()
        .filter(|r| r.header("authorization").is_some());
    assert_eq!(tried.count(), 2, "one request and the agent's own probe");
    // The right password meets no CAPTCHA.
    site.change_secret("changed in Jira").unwrap();
    site.until_proven().await.unwrap();
}

/// Slightly longer than a good answer vouches for the requests that follow.
const SILENCE: Duration = Duration::from_millis(1500);

/// Under steady traffic, one request and the probe try a changed password.
/// Continuous requests, a Jira that keeps its sessions, and a changed password: at intervals, one request renews the
/// sessions of the agent's login.
#[tokio::test(flavor = "multi_thread")]
async fn steady_traffic_tries_a_changed_password_once() {
    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let plan = plan.jira(|jira| jira.captcha_after = 3);
    let mut site = plan.start().await.unwrap();
    let url = site.vendor_url() + MYSELF;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let (url, stop) = (url.clone(), stop.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                while !stop.load(Ordering::Relaxed) {
                    let status = vendor().get(&url).send().await.unwrap().status();
                    refused += u32::from(status == 502);
                    // Many other tests run at the same time.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                refused
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.jira()
        .set_password_and_keep_sessions(BOT, "changed in Jira");
    until(&site, "the login to have failed", |r| {
        r.layers.login.state == LayerState::Failed && r.forwards[0].circuit_open
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let refused: u32 = join_all(workers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    assert!(refused <= 1, "{refused} requests met the wrong password");
    site.change_secret("changed in Jira").unwrap();
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_is_unproven_until_it_is_proven_either_way() {
    for (plan, good) in [
        (TestEnv::builder().pat(BOT_TOKEN), BOT_TOKEN),
        (TestEnv::builder().basic(BOT, BOT_PASSWORD), BOT_PASSWORD),
    ] {
        let site = plan.start().await.unwrap();
        for (secret, state) in [
            ("wrong", LayerState::Failed),
            (good, LayerState::Proven),
            ("wrong-again", LayerState::Failed),
            (good, LayerState::Proven),
        ] {
            site.change_secret(secret).unwrap();
            let begun = Instant::now();
            let report = until(&site, "the secret to be tried", |r| {
                r.layers.login.state == state
            });
            let report = report.await;
            // Two seconds on an idle machine; the regular probe would take up to thirty.
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{:?}",
                begun.elapsed()
            );
            let login = report.layers.login;
            if state == LayerState::Proven {
                assert!(login.since_seconds.unwrap() < 10.0);
            } else {
                assert!(login.cause.unwrap().contains("(401)"));
            }
        }
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

#[tokio::test(flavor = "multi_thread")]
async fn a_login_form_of_single_sign_on_proves_nothing_and_is_named() {
    nothing_is_proven_by(&[(CannedResponse::login_form(), "no Jira")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_to_an_identity_provider_proves_nothing_and_is_named() {
    nothing_is_proven_by(&[(CannedResponse::identity_provider(), "single sign-on")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kerberos_before_jira_proves_nothing_and_is_named() {
    nothing_is_proven_by(&[(CannedResponse::negotiate(), "Negotiate, NTLM")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_of_a_proxy_proves_nothing_and_is_named() {
    nothing_is_proven_by(&[
        (CannedResponse::proxy_login(), "407"),
        (CannedResponse::proxy_password(), "Intranet"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_firewall_proves_nothing_and_is_named() {
    nothing_is_proven_by(&[(CannedResponse::firewall(), "firewall")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_proves_nothing_and_is_named() {
    nothing_is_proven_by(&[(CannedResponse::rate_limit(), "rate limit")]).await;
}

async fn nothing_is_proven_by(answers: &[(CannedResponse, &str)]) {
    let site = TestEnv::start().await.unwrap();
    for (answer, part) in answers.iter().cloned() {
        site.jira().set_faults(Vec::new());
        until(&site, "Jira to be proven", |r| {
            r.overall == OverallState::Proven
        })
        .await;
        let told = format!("{answer:?}");
        let wanted = match answer.status {
            429 => OverallState::Degraded,
            _ => OverallState::Down,
        };
        let code = i32::from(wanted.exit_code());
        site.jira()
            .set_faults(vec![InjectedFault::on("", FaultKind::Intermediary(answer))]);
        // Traffic sees the answer first, the probe second; no further request proves anything.
        let get = || site.get(ISSUE_TYPES);
        get().await.unwrap();
        let report = until(&site, "the cause", |r| {
            r.overall == wanted && r.layers.jira.cause.is_some() && r.layers.login.cause.is_some()
        });
        let report = report.await;
        get().await.unwrap();
        let after = site.agent.status().await.unwrap();
        assert_eq!(after.overall, wanted, "{told}");
        assert_eq!(site.agent.status_output().unwrap().1, code);
        for layers in [&report.layers, &after.layers] {
            assert_ne!(layers.jira.state, LayerState::Proven, "{told}");
            let cause = layers.jira.cause.as_deref().unwrap();
            assert!(cause.contains(part), "{told}: {cause}");
            assert!(
                layers.login.cause.is_some() && layers.login.remedy.is_some(),
                "{told}"
            );
        }
        let (check, _) = site.agent.check(&[]).unwrap();
        let text = serde_json::to_string(&check).unwrap();
        assert!(text.contains(part), "{told}: {text}");
        assert!(!text.contains("came back with Jira's"), "{told}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_context_path_is_down_and_names_the_line_to_write() {
    let site = TestEnv::start().await.unwrap();
    let right = site.jira().url.clone();
    let wrong = right.trim_end_matches("/jira").to_owned() + "/tracker";
    let upstream = format!("upstream = {right:?}");
    let slip = |config: String| {
        assert!(config.contains(&upstream));
        config.replace(&upstream, &format!("upstream = {wrong:?}"))
    };
    site.agent.edit_config(slip).unwrap();
    site.agent.succeed(&["reload"]).unwrap();
    let report = until(&site, "the wrong path to be seen", |r| {
        r.overall == OverallState::Down
    });
    let remedy = report.await.layers.jira.remedy.unwrap();
    assert_eq!(remedy, format!("write {upstream}"));
    // Jira's 404 to everything below the wrong path proves nothing.
    let url = site.vendor_url().trim_end_matches("/jira").to_owned();
    let answer = vendor().get(url + "/tracker/rest/api/2/myself").send();
    assert_eq!(answer.await.unwrap().status(), 404);
    assert_eq!(site.agent.status_output().unwrap().1, 2);
    let check = site.agent.run(&["check"]).unwrap();
    let check = String::from_utf8_lossy(&check.stdout).into_owned();
    assert!(check.contains(&remedy), "{check}");
}

async fn until(site: &TestEnv, what: &str, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
    site.agent.until_status(what, wanted).await.unwrap()
}

async fn problem_of(answer: Response) -> (u16, Value) {
    let status = answer.status().as_u16();
    assert!(
        answer.headers().contains_key("proxy-status"),
        "{status} is not the agent's own answer"
    );
    json_of(answer).await
}

const ISSUE_TYPES: &str = "/rest/api/2/issuetype";
