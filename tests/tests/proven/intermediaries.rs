//! Only Jira proves Jira: answers of intermediaries and of a wrong path prove nothing.

use crate::{ISSUE_TYPES, until};
use agent::status::{LayerState, OverallState};
use e2e::test_env::{TestEnv, vendor};
use server_stub::jira::{CannedResponse, FaultKind, InjectedFault};

#[tokio::test(flavor = "multi_thread")]
async fn a_login_form_of_single_sign_on_proves_nothing_and_is_named() {
    nothing_is_proven_by(&[(CannedResponse::login_form(), "not Jira")]).await;
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
        let case = format!("{answer:?}");
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
        assert_eq!(after.overall, wanted, "{case}");
        assert_eq!(site.agent.status_output().unwrap().1, code);
        for layers in [&report.layers, &after.layers] {
            assert_ne!(layers.jira.state, LayerState::Proven, "{case}");
            let cause = layers.jira.cause.as_deref().unwrap();
            assert!(cause.contains(part), "{case}: {cause}");
            assert!(
                layers.login.cause.is_some() && layers.login.remedy.is_some(),
                "{case}"
            );
        }
        let (check, _) = site.agent.check(&[]).unwrap();
        let text = serde_json::to_string(&check).unwrap();
        assert!(text.contains(part), "{case}: {text}");
        assert!(!text.contains("came back with Jira's"), "{case}: {text}");
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
