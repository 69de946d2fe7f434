//! Injected faults.

use std::time::Duration;

use bytes::Bytes;
use fake_jira::jira::{FaultKind, InjectedFault, RunningJira};
use futures_util::stream;
use reqwest::{Body, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{BOT_TOKEN, get, get_as_bot, new_issue, request, send, start};

/// Long enough for a response that would come.
const LIVENESS: Duration = Duration::from_secs(30);

fn endless_upload(jira: &RunningJira, key: &str) -> reqwest::RequestBuilder {
    let chunk = Bytes::from(vec![0; 64 << 10]);
    let chunks = stream::iter(std::iter::repeat_with(move || {
        Ok::<_, std::io::Error>(chunk.clone())
    }));
    request(
        jira,
        Method::POST,
        &format!("/rest/api/2/issue/{key}/attachments"),
    )
    .bearer_auth(BOT_TOKEN)
    .header("x-atlassian-token", "no-check")
    .body(Body::wrap_stream(chunks))
}

#[tokio::test]
async fn a_fault_applies_to_what_it_names_alone() {
    let jira = start().await;
    jira.set_faults(vec![InjectedFault {
        method: Some("GET".into()),
        ..InjectedFault::on("/myself", FaultKind::AnswerEarly(503))
    }]);
    assert_eq!(get_as_bot(&jira, "/rest/api/2/myself").await.status, 503);
    assert_eq!(get_as_bot(&jira, "/rest/api/2/project").await.status, 200);
    jira.set_faults(Vec::new());
    assert_eq!(get_as_bot(&jira, "/rest/api/2/myself").await.status, 200);
}

#[tokio::test]
async fn an_early_answer_comes_while_the_upload_still_runs() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    jira.set_faults(vec![InjectedFault::on(
        "/attachments",
        FaultKind::AnswerEarly(413),
    )]);
    // Over a plain socket: what the client library makes of it is not the question here.
    let mut stream = TcpStream::connect(jira.addr).await.unwrap();
    let head = format!(
        "POST /jira/rest/api/2/issue/{key}/attachments HTTP/1.1\r\nHost: x\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 1000000\r\n\r\n--b"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    timeout(LIVENESS, stream.read_exact(&mut answer))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_stall_reads_nothing_and_answers_nothing() {
    let jira = start().await;
    let key = new_issue(&jira, "s").await;
    jira.set_faults(vec![InjectedFault::on("/attachments", FaultKind::Stall)]);
    let before = jira.received_count();
    let upload = tokio::spawn(endless_upload(&jira, &key).send());
    timeout(LIVENESS, jira.received(before + 1)).await.unwrap();
    assert_eq!(
        get_as_bot(&jira, "/rest/api/2/myself").await.status,
        200,
        "others are served"
    );
    let stalled = &jira.requests()[usize::try_from(before).unwrap()];
    assert!(stalled.target_text().ends_with("/attachments"));
    assert_eq!((stalled.body_length, stalled.status), (0, None));
    assert!(!upload.is_finished());
    timeout(LIVENESS, jira.stop())
        .await
        .expect("stopping ends stalled requests too");
    assert!(timeout(LIVENESS, upload).await.unwrap().unwrap().is_err());
}

#[tokio::test]
async fn a_cut_answer_promises_more_than_it_gives() {
    let jira = start().await;
    jira.set_faults(vec![InjectedFault::on("/myself", FaultKind::CutAfter(10))]);
    let mut answer = get(&jira, "/rest/api/2/myself")
        .bearer_auth(BOT_TOKEN)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 200);
    let promised: usize = answer.headers()["content-length"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!(promised > 10);
    let mut read = 0;
    let end = loop {
        match timeout(LIVENESS, answer.chunk()).await.unwrap() {
            Ok(Some(chunk)) => read += chunk.len(),
            other => break other,
        }
    };
    assert!(end.is_err());
    assert_eq!(read, 10);
}

#[tokio::test]
async fn a_hang_up_reads_the_request_and_ends_without_an_answer() {
    let jira = start().await;
    jira.set_faults(vec![InjectedFault::on("/search", FaultKind::HangUp)]);
    let post = request(&jira, Method::POST, "/rest/api/2/search").body("{\"jql\":\"\"}");
    assert!(timeout(LIVENESS, post.send()).await.unwrap().is_err());
    let received = jira.requests().remove(0);
    assert_eq!(received.body_head, b"{\"jql\":\"\"}");
    assert!(received.body_complete);
    assert_eq!(received.status, None);
}

#[tokio::test]
async fn a_slow_answer_is_the_usual_one_later() {
    let jira = start().await;
    jira.set_faults(vec![InjectedFault::on("/myself", FaultKind::Slow(200))]);
    let began = std::time::Instant::now();
    assert_eq!(get_as_bot(&jira, "/rest/api/2/myself").await.status, 200);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn faults_can_be_set_from_outside() {
    let jira = crate::client::start_with(|settings| settings.control = true).await;
    let url = format!("http://{}/__stub/faults", jira.addr);
    let faults = r#"[{"target": "/myself", "kind": {"answer_early": 502}}]"#;
    let set = reqwest::Client::new()
        .put(url)
        .body(faults)
        .send()
        .await
        .unwrap();
    assert_eq!(set.status(), 200);
    assert_eq!(send(get(&jira, "/rest/api/2/myself")).await.status, 502);
}
