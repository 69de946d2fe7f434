//! The administrator can pause the vendor at any time, and only the administrator can resume.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{LayerState, OverallState};
use e2e::test_env::{ISSUE, TestEnv, new_issue, vendor};
use futures_util::{StreamExt, stream};
use reqwest::{Body, Response};
use serde_json::{Value, json};
use tokio::sync::oneshot;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_forward_refuses_new_requests_and_finishes_others() {
    let mut site = TestEnv::start().await.unwrap();
    // A ticket whose second half waits until after the pause.
    let (go_on, second_half) = oneshot::channel::<()>();
    let text = ticket().to_string();
    let (head, tail) = text.split_at(10);
    let (head, tail) = (head.to_owned(), tail.to_owned());
    let body = stream::once(async move { Ok::<_, std::io::Error>(head) }).chain(stream::once(
        async move {
            second_half.await.unwrap();
            Ok(tail)
        },
    ));
    let upload = vendor()
        .post(site.vendor_url() + ISSUE)
        .header("content-type", "application/json")
        .body(Body::wrap_stream(body));
    let upload = tokio::spawn(upload.send());
    let in_flight = site.agent.until_status("the upload to be in flight", |r| {
        r.forwards[0].in_flight == 1
    });
    in_flight.await.unwrap();

    site.agent
        .succeed(&["pause", "jira", "--reason", "change CHG-7"])
        .unwrap();
    let refused = post(&site).await;
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()["retry-after"], "60");
    assert!(refused.headers().contains_key("proxy-status"));
    let problem: Value = refused.json().await.unwrap();
    assert_eq!(problem["type"], "urn:jira-tunnel-agent:problem:paused");
    assert_eq!(problem["delivery"], "not_sent");
    // The reason is not shown to the vendor.
    assert!(!problem.to_string().contains("CHG-7"), "{problem}");
    let record = site.audit_of(problem["request_id"].as_str().unwrap());
    let record = record.await.unwrap();
    assert_eq!(
        (&record["error"], &record["decision"], &record["outcome"]),
        (&json!("paused"), &json!("refused"), &json!("refused"))
    );
    go_on.send(()).unwrap();
    assert_eq!(upload.await.unwrap().unwrap().status(), 201);
    let tickets = site
        .received()
        .iter()
        .filter(|r| r.method == "POST")
        .count();
    assert_eq!(tickets, 1, "the refused request reached Jira");

    // The tunnel and the proof of every layer stay.
    let report = site.agent.status().await.unwrap();
    assert_eq!(report.overall, OverallState::Degraded);
    for layer in [
        &report.layers.tunnel,
        &report.layers.jira,
        &report.layers.login,
    ] {
        assert_eq!(layer.state, LayerState::Proven);
    }
    let paused = report.forwards[0].paused.as_ref().unwrap();
    assert_eq!(paused.reason.as_deref(), Some("change CHG-7"));
    assert!(paused.by_uid.is_some());
    let (text, code) = site.agent.status_output().unwrap();
    assert_eq!(code, 1);
    assert!(
        text.contains("PAUSED    since ") && text.contains("change CHG-7"),
        "{text}"
    );

    // The pause survives the death of the process.
    site.agent.restart().unwrap();
    site.until_bound().await.unwrap();
    assert_eq!(post(&site).await.status(), 503);
    let report = site.agent.status().await.unwrap();
    assert_eq!(report.forwards[0].paused.as_ref(), Some(paused));

    site.agent.succeed(&["resume", "jira"]).unwrap();
    assert_eq!(post(&site).await.status(), 201);
    assert_eq!(site.until_proven().await.unwrap().forwards[0].paused, None);
}

/// An unknown forward is refused.
#[tokio::test(flavor = "multi_thread")]
async fn pause_without_a_name_pauses_all_forwards() {
    let site = TestEnv::start().await.unwrap();
    for command in ["pause", "resume", "login-retry"] {
        let refused = site.agent.run(&[command, "jria"]).unwrap();
        assert_eq!(refused.status.code(), Some(64), "{command}");
        let text = String::from_utf8(refused.stderr).unwrap();
        assert!(text.contains("no forward \"jria\""), "{text}");
    }
    for nothing in [&["resume"][..], &["resume", "jira"]] {
        assert!(
            site.agent
                .succeed(nothing)
                .unwrap()
                .contains("nothing was paused")
        );
    }
    let refused = site
        .agent
        .run(&["pause", "--reason", "two\nlines"])
        .unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert_eq!(post(&site).await.status(), 201);

    site.agent.succeed(&["pause"]).unwrap();
    assert_eq!(post(&site).await.status(), 503);
    let refused = site.agent.run(&["resume", "jira"]).unwrap();
    assert!(!refused.status.success());
    assert_eq!(post(&site).await.status(), 503);
    assert!(
        site.agent
            .succeed(&["resume"])
            .unwrap()
            .contains("resumed all forwards")
    );
    assert_eq!(post(&site).await.status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_file_that_cannot_be_read_means_paused() {
    let mut site = TestEnv::start().await.unwrap();
    site.agent.process().kill();
    std::fs::write(site.dir().join("state/pause.json"), "{").unwrap();
    site.agent.restart().unwrap();
    let report = site.until_bound().await.unwrap();
    let paused = report.forwards[0].paused.as_ref().unwrap();
    assert!(paused.reason.as_ref().unwrap().contains("pause.json"));
    assert_eq!(post(&site).await.status(), 503);
    site.agent.succeed(&["resume"]).unwrap();
    assert_eq!(post(&site).await.status(), 201);
}

async fn post(site: &TestEnv) -> Response {
    site.post(ISSUE, &ticket()).await.unwrap()
}

fn ticket() -> Value {
    new_issue("made by the vendor")
}
