//! Characters that Jira's Tomcat accepts unencoded in a query, over the whole path. The imitation Jira accepts fewer,
//! so a minimal server replaces it.

use e2e::{raw_http, tcp_server::TcpServer, test_env::TestEnv};
use parking_lot::Mutex;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

#[tokio::test(flavor = "multi_thread")]
async fn raw_jql_reaches_jira_byte_for_byte_and_explain_says_so() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let jira = TcpServer::start(move |stream| {
        let seen = Arc::clone(&seen);
        async move {
            let mut stream = BufReader::new(stream);
            let (mut line, mut first) = (String::new(), String::new());
            while stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                if first.is_empty() {
                    first = line.trim_end().to_owned();
                } else if line == "\r\n" {
                    seen.lock().push(std::mem::take(&mut first));
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
                    stream.write_all(answer).await.unwrap();
                }
                line.clear();
            }
        }
    });
    let jira = jira.await.unwrap();
    let upstream = format!("http://{}/jira", jira.addr);
    let plan = TestEnv::builder()
        .jira(|jira| jira.https = None)
        .upstream(&upstream);
    let site = plan.start_unproven().await.unwrap();
    for query in [
        "jql=created>-7d",
        "jql=project=\"ABC\"+AND+x<3",
        "x=[]{}|^`\\",
    ] {
        let target = format!("/jira/rest/api/2/search?{query}");
        let answers = raw_http::exchange(site.addr(), &raw_http::get(&target))
            .await
            .unwrap();
        assert_eq!(answers[0].status, 200, "{answers:?}");
        let line = format!("GET {target} HTTP/1.1");
        assert!(lines.lock().contains(&line), "{:?}", lines.lock());
        let explain = ["policy", "explain", "GET", &target];
        site.agent.succeed(&explain).unwrap();
    }
}

/// `explain` accepts a target as a refusal or a document writes it.
#[tokio::test(flavor = "multi_thread")]
async fn explain_takes_a_target_with_or_without_the_context_path() {
    let site = TestEnv::builder().start().await.unwrap();
    let explain = |target: &str| {
        let done = site
            .agent
            .run(&["policy", "explain", "GET", target])
            .unwrap();
        let text = String::from_utf8(done.stdout).unwrap();
        (done.status.code(), text)
    };
    let (code, text) = explain("/rest/api/2/user/search?username=x");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("refused (no-rule)"), "{text}");
    assert!(
        text.contains("allow = [\"GET /rest/api/2/user/search\"]"),
        "{text}"
    );
    assert_eq!(explain("/jira/rest/api/2/myself").0, Some(0));
    let (code, text) = explain("/rest/api/2/myself");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("below /jira"), "{text}");
    // Framing is explained too.
    let (code, text) = explain("/jira/rest/api/2/sear ch");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("refused (malformed-request)"), "{text}");
    let (code, text) = explain("/jira/rest/api/2/search?a=\u{e9}");
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("0xC3 at byte 2 of the query"), "{text}");
}
