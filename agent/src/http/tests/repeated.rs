//! What is sent once more because a kept-alive connection broke before its answer.

use super::support::*;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET /x HTTP/1.1\r\nhost: x\r\n\r\n";

/// Reads a request with its body; false at the end of the connection.
async fn read_request(stream: &mut TcpStream) -> bool {
    let head = read_head(stream).await.to_ascii_lowercase();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    !head.is_empty() && stream.read_exact(&mut body).await.is_ok()
}

/// Answers the first request of the first connection, and ends it after reading the second one and writing `interim`.
/// Answers all on the later connections. Counts the requests.
async fn jira_that_drops_one(interim: &'static [u8]) -> (String, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let (connections, counted) = (AtomicUsize::new(0), Arc::clone(&requests));
    let jira = raw_jira(move |mut stream: TcpStream| {
        let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        let counted = Arc::clone(&counted);
        async move {
            let mut answered = 0;
            while read_request(&mut stream).await {
                counted.fetch_add(1, Ordering::SeqCst);
                if is_first && answered == 1 {
                    stream.write_all(interim).await.unwrap();
                    return;
                }
                stream.write_all(OK).await.unwrap();
                answered += 1;
            }
        }
    });
    (jira.await, requests)
}

/// The answer to this request, after another one left a kept-alive connection; and how many requests Jira saw.
async fn second(request: &str, interim: &'static [u8]) -> (Agent, Reply, usize) {
    let (jira, requests) = jira_that_drops_one(interim).await;
    let agent = Agent::new(&jira, Options::default());
    let mut vendor = agent.channel();
    assert_eq!(vendor.get("/first").await.status, 200);
    vendor.send(request).await;
    let reply = vendor.reply().await;
    (agent, reply, requests.load(Ordering::SeqCst))
}

fn with_body(method: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} /x HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}")
}

#[tokio::test]
async fn an_idempotent_request_is_sent_once_more() {
    for request in [
        GET.to_owned(),
        "DELETE /x HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        with_body("PUT", r#"{"fields":{"summary":"x"}}"#),
    ] {
        let (mut agent, reply, requests) = second(&request, b"").await;
        assert_eq!((reply.status, reply.text()), (200, "ok"), "{request}");
        assert_eq!(requests, 3);
        assert_eq!(agent.forward.traffic().repeated(), 1);
        agent.records.next().await;
        assert_eq!(agent.records.next().await["delivery"], "answered");
    }
}

/// A comment that is added twice is there twice, whatever the method.
#[tokio::test]
async fn what_would_not_be_as_good_as_once_is_not() {
    for request in [
        with_body("POST", "{}"),
        with_body("PATCH", "{}"),
        with_body("POST", ""),
        with_body("PUT", r#"{"update":{"comment":[{"add":{"body":"x"}}]}}"#),
        with_body(
            "PUT",
            r#"{"upd\u0061te":{"comment":[{"add":{"body":"x"}}]}}"#,
        ),
        with_body("PUT", r#"{"list":[{"update":{}}],"x":1}"#),
        with_body("PUT", "update=comment"),
        with_body("PUT", &" ".repeat((64 << 10) + 1)),
    ] {
        let (agent, reply, requests) = second(&request, b"").await;
        reply.assert_problem("jira-broke", "maybe_sent");
        assert_eq!(requests, 2);
        assert_eq!(agent.forward.traffic().repeated(), 0);
    }
}

#[tokio::test]
async fn nothing_is_repeated_once_an_answer_has_begun() {
    let (_, reply, requests) = second(GET, b"HTTP/1.1 2").await;
    reply.assert_problem("jira-broke", "maybe_sent");
    assert_eq!(requests, 2);
}

/// A Jira that drops each request gets it once more over a new connection, and not again.
#[tokio::test]
async fn nothing_is_repeated_twice_or_after_a_new_connection() {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let jira = raw_jira(move |mut stream: TcpStream| {
        let counted = Arc::clone(&counted);
        async move {
            read_head(&mut stream).await;
            // Only the very first one is answered.
            if counted.fetch_add(1, Ordering::SeqCst) == 0 {
                stream.write_all(OK).await.unwrap();
                read_head(&mut stream).await;
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    assert_eq!(vendor.get("/first").await.status, 200);
    for seen in [3, 4] {
        vendor.send(GET).await;
        vendor
            .reply()
            .await
            .assert_problem("jira-broke", "maybe_sent");
        assert_eq!(requests.load(Ordering::SeqCst), seen);
    }
}
