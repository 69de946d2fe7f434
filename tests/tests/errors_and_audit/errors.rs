//! The vendor's error answers, and whether it may repeat the request.

use crate::agent_response::AgentAnswer;
use agent::status::LayerState;
use e2e::{
    raw_http,
    test_env::{BOT_TOKEN, ISSUE, MYSELF, TestEnv, TestEnvPlan, new_issue, vendor},
};
use serde_json::{Value, json};
use server_stub::{
    certificate_authority::CertificateAuthority,
    jira::{FaultKind, InjectedFault},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn while_jira_is_down_the_vendor_knows_that_nothing_was_sent() {
    let mut site = TestEnv::start().await.unwrap();
    // A kept-alive connection, which the restart makes stale.
    assert_eq!(site.post(ISSUE, &ticket()).await.unwrap().status(), 201);
    site.stop_jira().await;
    let answer = AgentAnswer::of(site.post(ISSUE, &ticket()).await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.kind(), answer.delivery()),
        (502, "jira-unreachable", "not_sent")
    );
    assert_eq!(answer.retry_after.as_deref(), Some("5"));
    assert!(
        answer.proxy_status.contains("destination_unavailable"),
        "{}",
        answer.proxy_status
    );
    let record = site.audit_of(&answer.request_id).await.unwrap();
    assert_eq!(record["decision"], "allowed");
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["error"], "jira-unreachable");
    assert_eq!(record["delivery"], "not_sent");

    site.start_jira().await.unwrap();
    assert_eq!(site.post(ISSUE, &ticket()).await.unwrap().status(), 201);
    assert_eq!(site.received().len(), 1, "the refused one came late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_request_is_maybe_sent() {
    let site = TestEnv::start().await.unwrap();
    site.jira()
        .set_faults(vec![InjectedFault::on(ISSUE, FaultKind::HangUp)]);
    let answer = AgentAnswer::of(site.post(ISSUE, &ticket()).await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.kind(), answer.delivery()),
        (502, "jira-broke", "maybe_sent")
    );
    // Neither the vendor nor the agent may repeat a POST blindly.
    assert_eq!(answer.retry_after, None);
    assert_eq!(site.received().len(), 1);
    let record = site.audit_of(&answer.request_id).await.unwrap();
    assert_eq!(
        (&record["delivery"], &record["outcome"]),
        (&json!("maybe_sent"), &json!("failed"))
    );

    site.jira().clear_requests();
    let answer = AgentAnswer::of(site.get("/rest/api/2/issue/DEMO-1").await.unwrap()).await;
    assert_eq!(
        (answer.kind(), answer.delivery()),
        ("jira-broke", "maybe_sent")
    );
    assert_eq!(answer.retry_after.as_deref(), Some("1"));
    assert_eq!(site.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jira_that_does_not_answer_is_given_up_and_others_go_on() {
    let plan = pat().line("forward", "response_timeout = \"1s\"");
    let site = plan.start().await.unwrap();
    let url = site.vendor_url();
    site.jira()
        .set_faults(vec![InjectedFault::on("SLOW", FaultKind::Slow(120_000))]);
    let slow = tokio::spawn(vendor().get(url.clone() + ISSUE + "/SLOW-1").send());
    site.jira().received(site.jira().received_count() + 1).await;
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
    let answer = AgentAnswer::of(slow.await.unwrap().unwrap()).await;
    assert_eq!(
        (answer.status, answer.kind(), answer.delivery()),
        (504, "jira-timeout", "maybe_sent")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_ca_is_refused_before_anything_is_sent() {
    let same_name = CertificateAuthority::new()
        .unwrap()
        .certificate_pem()
        .to_owned();
    let other = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    for ca in [same_name, other.cert.pem()] {
        refuses_the_certificate(&ca).await;
    }
}

async fn refuses_the_certificate(trusted: &str) {
    let site = pat().trusted_ca(trusted).start_unproven().await.unwrap();
    let answer = AgentAnswer::of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!(
        (answer.status, answer.kind(), answer.delivery()),
        (502, "jira-tls", "not_sent")
    );
    let report = site.agent.until_status("Jira to have failed", |r| {
        r.layers.jira.state == LayerState::Failed
    });
    let cause = report.await.unwrap().layers.jira.cause.unwrap();
    assert!(
        cause.contains("certificate") && cause.contains("ca_file"),
        "{cause}"
    );
    assert_eq!(site.jira().received_count(), 0);
}

/// Jira answers "too large" during the upload; a client that waits for its end would never see that.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_the_vendor_before_the_upload_has_ended() {
    let site = TestEnv::start().await.unwrap();
    site.jira().set_faults(vec![InjectedFault::on(
        "attachments",
        FaultKind::AnswerEarly(413),
    )]);
    let mut stream = TcpStream::connect(site.addr()).await.unwrap();
    let head = format!(
        "POST /jira{ISSUE}/DEMO-1/attachments HTTP/1.1\r\nHost: vendor\r\nX-Atlassian-Token: no-check\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1073741824\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b'x'; 64 << 10]).await.unwrap();
    let mut received = Vec::new();
    let answer = loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        received.extend_from_slice(&buffer[..n]);
        match raw_http::answers(&received).pop() {
            Some(answer) if answer.complete => break answer,
            _ => assert!(
                n > 0,
                "ended early: {:?}",
                String::from_utf8_lossy(&received)
            ),
        }
    };
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("proxy-status"), None, "it is Jira's answer");
    let record = site
        .audit_of(answer.header("x-request-id").unwrap())
        .await
        .unwrap();
    assert_eq!(
        (&record["status"], &record["delivery"]),
        (&json!(413), &json!("answered"))
    );
    assert!(record["request_bytes"].as_u64().unwrap() < 1 << 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let site = TestEnv::start().await.unwrap();
    let mut description = ticket();
    description["fields"]["description"] = json!("x".repeat(20_000));
    let created = site.post(ISSUE, &description).await.unwrap();
    let created: Value = created.json().await.unwrap();
    site.jira().set_faults(vec![InjectedFault::on(
        "/rest/api/2/issue",
        FaultKind::CutAfter(5_000),
    )]);
    let path = format!("/jira{ISSUE}/{}", created["key"].as_str().unwrap());
    let answers = raw_http::exchange(site.addr(), &raw_http::get(&path))
        .await
        .unwrap();
    let [answer] = &answers[..] else {
        panic!("{} answers", answers.len())
    };
    assert_eq!(answer.status, 200);
    assert!(
        !answer.complete,
        "a cut answer of {} bytes ended well",
        answer.body.len()
    );
    let record = site
        .audit_of(answer.header("x-request-id").unwrap())
        .await
        .unwrap();
    assert_eq!(record["outcome"], "jira_broke");
}

fn pat() -> TestEnvPlan {
    TestEnv::builder().pat(BOT_TOKEN)
}

fn ticket() -> Value {
    new_issue("Printer on fire")
}
