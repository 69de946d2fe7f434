//! What the vendor is told when Jira does not answer, and when either side breaks off.

use super::support::*;
use crate::{auth::Settings as Auth, secret::SecretFile, status::ProofState};
use http::Response;
use std::{io::Write, os::unix::fs::PermissionsExt, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_util::sync::CancellationToken;

async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

async fn one_answer(
    jira: &str,
    options: Options,
    request: &str,
    code: &str,
    delivery: &str,
) -> Agent {
    let mut agent = Agent::new(jira, options);
    let mut vendor = agent.channel();
    vendor.send(request).await;
    let reply = vendor.reply().await;
    let problem = reply.assert_problem(code, delivery);
    assert_eq!(reply.header("retry-after").is_some(), {
        let kind = crate::http::problem::ProblemKind::ALL
            .into_iter()
            .find(|k| k.code() == code)
            .unwrap();
        let post = request.starts_with("POST");
        kind.retry_after().is_some() && (delivery == "not_sent" || !post)
    });
    assert!(!problem.to_string().contains("CANARY"), "{problem}");
    let record = agent.records.next().await;
    assert_eq!(
        (&record["error"], &record["delivery"]),
        (&code.into(), &delivery.into())
    );
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["status"], reply.status);
    assert!(!record.to_string().contains("CANARY"), "{record}");
    if reply.header("connection") == Some("close") {
        // Nobody knows how much of the body was read.
        assert_eq!(request, POST);
        assert!(vendor.end().await.is_empty());
    } else {
        vendor.send("GET /a/../b HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert_eq!(vendor.reply().await.status, 400);
    }
    agent
}

const GET: &str = "GET /x?a=CANARY HTTP/1.1\r\nhost: x\r\n\r\n";
const POST: &str = "POST /x?a=CANARY HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nhi";

/// The span of the request names both on each line that is written within it.
#[tokio::test]
async fn a_line_about_a_request_names_its_forward_and_id() {
    let lines = crate::telemetry::CapturedLines::human();
    let agent = Agent::new(&nobody().await, Options::default());
    let mut vendor = agent.channel();
    let request = "GET /x HTTP/1.1\r\nhost: x\r\nx-request-id: order-4711\r\n\r\n";
    vendor.send(request).await;
    assert_eq!(vendor.reply().await.status, 502);
    let lines = lines.text();
    let about = lines
        .lines()
        .find(|line| line.contains("forward jira: a request to Jira failed: "));
    let line = about.unwrap_or_else(|| panic!("{lines}"));
    assert!(line.contains("(request id order-4711); remedy: "), "{line}");
}

#[tokio::test]
async fn no_connection_means_not_sent() {
    let agent = one_answer(
        &nobody().await,
        Options::default(),
        POST,
        "jira-unreachable",
        "not_sent",
    )
    .await;
    let snapshot = agent.jira.snapshot();
    assert_eq!(snapshot.state, ProofState::Failed);
    assert!(snapshot.cause.is_some() && snapshot.remedy.is_some());
    one_answer(
        "jira.invalid:80",
        Options::default(),
        POST,
        "jira-unresolved",
        "not_sent",
    )
    .await;
}

#[tokio::test]
async fn no_tls_means_not_sent() {
    let plain = raw_jira(|mut stream| async move {
        let mut hello = [0; 64];
        let _ = stream.read(&mut hello).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    });
    let options = Options {
        scheme: "https",
        ..Options::default()
    };
    one_answer(&plain.await, options, POST, "jira-tls", "not_sent").await;
}

#[tokio::test]
async fn a_connection_lost_before_the_answer_means_maybe_sent() {
    for request in [GET, POST] {
        let jira = raw_jira(|mut stream| async move {
            read_head(&mut stream).await;
        });
        let agent = one_answer(
            &jira.await,
            Options::default(),
            request,
            "jira-broke",
            "maybe_sent",
        )
        .await;
        assert_eq!(agent.jira.snapshot().state, ProofState::Degraded);
    }
}

#[tokio::test]
async fn no_answer_in_time_means_maybe_sent() {
    for request in [GET, POST] {
        let jira = raw_jira(|mut stream| async move {
            read_head(&mut stream).await;
            std::future::pending().await
        });
        let options = Options {
            response_timeout: Duration::from_millis(50),
            ..Options::default()
        };
        one_answer(&jira.await, options, request, "jira-timeout", "maybe_sent").await;
    }
}

#[tokio::test]
async fn no_free_connection_to_jira_means_not_sent() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending().await
    });
    let options = Options {
        max_connections: 1,
        pool_wait: Duration::from_millis(50),
        ..Options::default()
    };
    let agent = Agent::new(&jira.await, options);
    let mut first = agent.channel();
    first.send(GET).await;
    while agent.forward.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    let mut second = agent.channel();
    second.send(POST).await;
    second.reply().await.assert_problem("jira-busy", "not_sent");
}

pub(super) fn secret(text: &str) -> (tempfile::NamedTempFile, SecretFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(file.path(), mode).unwrap();
    let secret = SecretFile::new(file.path());
    (file, secret)
}

#[tokio::test]
async fn an_answer_to_somebody_else_is_withheld() {
    let jira = jira(|_| async {
        Response::builder()
            .header("x-ausername", "anonymous")
            .body(full("{\"total\":0}"))
            .unwrap()
    });
    let (_file, token_file) = secret("token");
    let options = Options {
        auth: Auth::Pat {
            token_file,
            expires: None,
        },
        ..Options::default()
    };
    let mut agent = Agent::new(&jira.await, options);
    let mut vendor = agent.channel();
    let reply = vendor.get("/rest/api/2/search").await;
    let problem = reply.assert_problem("login-failed", "answered");
    assert!(!problem["remedy"].as_str().unwrap().is_empty());
    assert!(!reply.text().contains("total"));
    let record = agent.records.next().await;
    assert_eq!(
        (&record["error"], &record["user"]),
        (&"login-failed".into(), &"anonymous".into())
    );
    assert_eq!(
        (&record["decision"], &record["delivery"]),
        (&"allowed".into(), &"answered".into())
    );
}

#[tokio::test]
async fn no_credential_means_not_sent() {
    let options = Options {
        auth: Auth::Pat {
            token_file: SecretFile::new("/nonexistent/token"),
            expires: None,
        },
        ..Options::default()
    };
    one_answer(
        &jira(echo).await,
        options,
        POST,
        "login-unavailable",
        "not_sent",
    )
    .await;
}

#[tokio::test]
async fn choosing_another_identity_is_refused() {
    let (_file, token_file) = secret("token");
    let options = Options {
        auth: Auth::Pat {
            token_file,
            expires: None,
        },
        ..Options::default()
    };
    let agent = Agent::new(&jira(echo).await, options);
    let mut vendor = agent.channel();
    let reply = vendor.get("/x?os_username=CANARY").await;
    let problem = reply.assert_problem("foreign-identity", "not_sent");
    assert!(!problem.to_string().contains("CANARY"));
}

#[tokio::test]
async fn an_answer_that_jira_breaks_off_never_ends_cleanly() {
    for head in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let jira = raw_jira(move |mut stream| async move {
            read_head(&mut stream).await;
            let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n5\r\nhello\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let mut agent = Agent::new(&jira.await, Options::default());
        let mut vendor = agent.channel();
        vendor.send(GET).await;
        let rest = vendor.try_reply("GET").await.expect_err("a broken answer");
        assert!(!rest.ends_with("0\r\n\r\n"), "{rest}");
        vendor.end().await;
        let record = agent.records.next().await;
        assert_eq!(
            (&record["outcome"], &record["status"]),
            (&"jira_broke".into(), &200.into())
        );
        assert_eq!(record["delivery"], "answered");
    }
}

/// Tells when the connection ends.
async fn jira_that_sees_the_end(answer: &'static str) -> (String, mpsc::Receiver<()>, Arc<Notify>) {
    let (ended, end) = mpsc::channel(1);
    let reached = Arc::new(Notify::new());
    let arrived = reached.clone();
    let jira = raw_jira(move |mut stream| {
        let (ended, arrived) = (ended.clone(), arrived.clone());
        async move {
            read_head(&mut stream).await;
            stream.write_all(answer.as_bytes()).await.unwrap();
            arrived.notify_one();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let _ = ended.send(()).await;
        }
    });
    (jira.await, end, reached)
}

#[tokio::test]
async fn when_the_vendor_goes_the_exchange_is_dropped_at_once() {
    for (answer, status) in [
        ("", serde_json::Value::Null),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello",
            200.into(),
        ),
    ] {
        // A second, pipelined request must not hide the end of the channel.
        for pipelined in ["", GET] {
            let (jira, mut end, reached) = jira_that_sees_the_end(answer).await;
            let mut agent = Agent::new(&jira, Options::default());
            let mut vendor = agent.channel();
            vendor.send(format!("{GET}{pipelined}")).await;
            reached.notified().await;
            if !answer.is_empty() {
                vendor.take_until(b"hello").await.unwrap();
            }
            drop(vendor.io);
            tokio::time::timeout(LIVENESS, end.recv())
                .await
                .unwrap()
                .unwrap();
            vendor.served.await.unwrap();
            let record = agent.records.next().await;
            assert_eq!(record["outcome"], "vendor_gone");
            assert_eq!(record["status"], status);
            assert!(agent.records.is_empty());
            assert_eq!(agent.forward.in_flight(), 0);
        }
    }
}

#[tokio::test]
async fn a_vendor_that_leaves_within_its_upload_leaves_nothing_behind() {
    let (jira, mut end, reached) = jira_that_sees_the_end("").await;
    let mut agent = Agent::new(&jira, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhello")
        .await;
    reached.notified().await;
    drop(vendor.io);
    tokio::time::timeout(LIVENESS, end.recv())
        .await
        .unwrap()
        .unwrap();
    let record = agent.records.next().await;
    assert_eq!(
        (&record["outcome"], &record["delivery"]),
        (&"vendor_gone".into(), &"maybe_sent".into())
    );
    assert_eq!(agent.forward.in_flight(), 0);
}

/// Jira reads nothing, so that the end of the channel lies behind a body that is never read.
#[tokio::test]
async fn a_vendor_that_leaves_ends_its_exchange_whatever_waits_for_jira() {
    for (head, whole) in [
        (
            "POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n",
            false,
        ),
        (
            "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1000000\r\n",
            false,
        ),
        ("GET /x HTTP/1.1\r\nhost: x\r\n\r\n", true),
    ] {
        let reached = Arc::new(Notify::new());
        let arrived = reached.clone();
        let jira = raw_jira(move |mut stream| {
            let arrived = arrived.clone();
            async move {
                read_head(&mut stream).await;
                arrived.notify_one();
                std::future::pending::<()>().await;
            }
        });
        let mut agent = Agent::new(&jira.await, Options::default());
        let left = CancellationToken::new();
        let Vendor { mut io, served, .. } = agent.leaving_channel(left.clone());
        io.write_all(head.as_bytes()).await.unwrap();
        if !whole {
            let stuck = async { while io.write_all(&[b'z'; 64 << 10]).await.is_ok() {} };
            let _ = tokio::time::timeout(Duration::from_millis(300), stuck).await;
        }
        reached.notified().await;
        assert_eq!(agent.forward.in_flight(), 1);
        left.cancel();
        tokio::time::timeout(LIVENESS, served)
            .await
            .unwrap()
            .unwrap();
        let record = agent.records.next().await;
        assert_eq!(
            (&record["outcome"], &record["delivery"]),
            (&"vendor_gone".into(), &"maybe_sent".into())
        );
        assert_eq!(agent.forward.in_flight(), 0);
    }
}

/// What came before the end is still read: the request gets its record.
#[tokio::test]
async fn a_request_that_came_before_its_vendor_left_has_a_record() {
    let mut agent = Agent::new(&nobody().await, Options::default());
    let left = CancellationToken::new();
    left.cancel();
    let mut vendor = agent.leaving_channel(left);
    vendor.send(GET).await;
    vendor.served.await.unwrap();
    let record = agent.records.next().await;
    assert_eq!(record["outcome"], "vendor_gone");
}

#[tokio::test]
async fn a_channel_without_a_request_leaves_no_record() {
    let agent = Agent::new(&nobody().await, Options::default());
    for bytes in ["", "GET /x HT"] {
        let mut vendor = agent.channel();
        vendor.send(bytes).await;
        vendor.io.shutdown().await.unwrap();
        assert!(vendor.end().await.is_empty());
    }
    assert!(agent.records.is_empty());
}

#[tokio::test]
async fn a_proxy_that_answers_for_jira_is_seen_in_status() {
    let jira = jira(|_| async {
        Response::builder()
            .status(503)
            .body(full("starting"))
            .unwrap()
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    let reply = vendor.get("/x").await;
    assert_eq!((reply.status, reply.text()), (503, "starting"));
    assert_eq!(reply.header("proxy-status"), None);
    assert_eq!(agent.jira.snapshot().state, ProofState::Degraded);
}

/// Without the header its bytes would pass for the content.
#[tokio::test]
async fn a_transfer_coding_that_nobody_asked_for_is_named_and_does_not_pass() {
    for (codings, passes) in [
        ("gzip, chunked", false),
        ("x-odd\r\ntransfer-encoding: chunked", false),
        ("chunked, chunked", false),
        ("Chunked", true),
        ("identity, chunked", true),
    ] {
        let jira = raw_jira(move |mut stream| async move {
            read_head(&mut stream).await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ntransfer-encoding: {codings}\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending().await
        });
        let mut agent = Agent::new(&jira.await, Options::default());
        let mut vendor = agent.channel();
        vendor.send(GET).await;
        let reply = vendor.reply().await;
        let record = agent.records.next().await;
        if passes {
            assert_eq!((reply.status, reply.text()), (200, "hello"), "{codings}");
            continue;
        }
        reply.assert_problem("jira-broke", "maybe_sent");
        assert_eq!(reply.status, 502);
        let cause = record["cause"].as_str().unwrap();
        let first = codings.split("\r\n").next().unwrap();
        assert!(
            cause.contains("Transfer-Encoding") && cause.contains(first),
            "{cause}"
        );
    }
}
