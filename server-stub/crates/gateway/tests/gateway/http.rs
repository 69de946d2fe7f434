//! The HTTP listener.

use crate::support::{Origin, PIECE, TestGateway, in_time, piece};
use agent_base::printable::hex;
use reqwest::{Method, StatusCode};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::{sync::atomic::Ordering::SeqCst, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

const ACME: &str = "acme.gateway.localhost";

async fn problem(response: reqwest::Response) -> (u16, String, String) {
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/problem+json");
    assert!(headers.contains_key("proxy-status") && headers.contains_key("x-request-id"));
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status);
    let kind = body["type"].as_str().unwrap().to_owned();
    let kind = kind.rsplit(':').next().unwrap().to_owned();
    // What Jira clients show of an error.
    assert_eq!(body["errorMessages"][0], body["title"]);
    assert!(body["errors"].is_object() && body["message"] == body["title"]);
    (status, kind, body["delivery"].as_str().unwrap().to_owned())
}

fn expected(status: u16, kind: &str, delivery: &str) -> (u16, String, String) {
    (status, kind.to_owned(), delivery.to_owned())
}

#[tokio::test]
async fn the_host_names_the_agent_and_its_forward() {
    let gateway = TestGateway::start().await;
    let (acme, globex) = (Origin::start("acme").await, Origin::start("globex").await);
    let second = Origin::start("second").await;
    let keys = (gateway.authorize("acme"), gateway.authorize("globex"));
    let _acme = gateway.forward("acme", &keys.0, "0", &acme).await;
    let _globex = gateway.forward("globex", &keys.1, "0", &globex).await;
    let path = gateway.folder("acme").join("second.sock");
    let _second = gateway
        .forward("acme", &keys.0, path.to_str().unwrap(), &second)
        .await;
    for (host, name) in [
        ("acme.gateway.localhost", "acme"),
        ("globex.gateway.localhost:8088", "globex"),
        ("second--acme.gateway.localhost", "second"),
    ] {
        assert_eq!(gateway.get(host, "/").await.text().await.unwrap(), name);
    }
}

#[tokio::test]
async fn a_request_that_reaches_no_agent_gets_a_typed_problem() {
    let gateway = TestGateway::start().await;
    let key = gateway.authorize("acme");
    let origin = Origin::start("acme").await;
    let offline = gateway.get(ACME, "/").await;
    assert_eq!(offline.headers()["retry-after"], "5");
    assert_eq!(
        problem(offline).await,
        expected(503, "agent-offline", "not_sent")
    );
    for (host, kind) in [
        (
            "nobody.gateway.localhost",
            expected(404, "unknown-agent", "not_sent"),
        ),
        ("acme.example", expected(421, "unknown-host", "not_sent")),
    ] {
        assert_eq!(problem(gateway.get(host, "/").await).await, kind);
    }
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    let other = gateway.get("other--acme.gateway.localhost", "/").await;
    assert_eq!(
        problem(other).await,
        expected(503, "no-forward", "not_sent")
    );
    let upgrade = gateway
        .request(Method::GET, ACME, "/")
        .header("upgrade", "websocket");
    let upgrade = upgrade.send().await.unwrap();
    assert_eq!(
        problem(upgrade).await,
        expected(501, "upgrade-not-supported", "not_sent")
    );
}

#[tokio::test]
async fn the_callers_request_id_is_kept_in_problems() {
    let gateway = TestGateway::start().await;
    let asked = gateway
        .request(Method::GET, ACME, "/")
        .header("x-request-id", "abc-1");
    let response = asked.send().await.unwrap();
    assert_eq!(response.headers()["x-request-id"], "abc-1");
}

#[tokio::test]
async fn a_refusing_origin_differs_from_an_unreachable_agent() {
    let gateway = TestGateway::start().await;
    let key = gateway.authorize("acme");
    let origin = Origin::start("acme").await;
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    let address = origin.address;
    drop(origin);
    in_time(async {
        while TcpStream::connect(address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(
        problem(gateway.get(ACME, "/").await).await,
        expected(502, "channel-refused", "not_sent")
    );
}

#[tokio::test]
async fn a_request_passes_unchanged() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    let mut stream = TcpStream::connect(gateway.running.http_addr).await.unwrap();
    let request = "DELETE /seen/a%2Fb;c/%7E?x=1+2&y=%20&y= HTTP/1.1\r\n\
        Host: acme.gateway.localhost:8088\r\n\
        Authorization: OAuth oauth_consumer_key=\"k\", oauth_signature=\"%2B\"\r\n\
        X-Twice: 1\r\nX-Twice: 2\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    in_time(stream.read_to_string(&mut answer)).await.unwrap();
    let (_, seen) = answer.split_once("\r\n\r\n").unwrap();
    assert_eq!(
        seen,
        "DELETE /seen/a%2Fb;c/%7E?x=1+2&y=%20&y=\n\
         host: acme.gateway.localhost:8088\n\
         authorization: OAuth oauth_consumer_key=\"k\", oauth_signature=\"%2B\"\n\
         x-twice: 1\nx-twice: 2\n"
    );
}

#[tokio::test]
async fn large_bodies_stream_both_ways_and_arrive_whole() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    let pieces: u64 = 512;
    let mut whole = Sha256::new();
    (0..pieces).for_each(|at| whole.update(piece(at)));
    let whole = hex(&whole.finalize());

    let frames = (0..pieces).map(|at| Ok::<_, std::io::Error>(piece(at)));
    let body = reqwest::Body::wrap_stream(futures_util::stream::iter(frames));
    let up = gateway.request(Method::PUT, ACME, "/digest").body(body);
    let answer = in_time(up.send()).await.unwrap().text().await.unwrap();
    assert_eq!(answer, format!("{} {whole}", pieces as usize * PIECE));

    let mut down = gateway.get(ACME, &format!("/bytes/{pieces}")).await;
    let mut digest = Sha256::new();
    while let Some(chunk) = in_time(down.chunk()).await.unwrap() {
        digest.update(&chunk);
    }
    assert_eq!(hex(&digest.finalize()), whole);
    let snapshot = gateway.running.snapshot();
    let forward = &snapshot.agent("acme").unwrap().forwards[0];
    assert!(forward.bytes_to_agent as usize > pieces as usize * PIECE);
    assert!(forward.bytes_from_agent as usize > pieces as usize * PIECE);
}

#[tokio::test]
async fn channels_are_kept_and_opened_ahead() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    for _ in 0..50 {
        gateway.get(ACME, "/").await.text().await.unwrap();
    }
    assert_eq!(origin.requests.load(SeqCst), 50);
    assert!(
        origin.connections.load(SeqCst) < 10,
        "{:?}",
        origin.connections
    );
    in_time(async {
        loop {
            let snapshot = gateway.running.snapshot();
            if snapshot.agent("acme").unwrap().forwards[0].idle >= 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_sent_again() {
    let gateway = TestGateway::with(|limits| limits.preopened = 0).await;
    // Answers the first request of a connection, then takes one more and hangs up.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (hit, mut hits) = tokio::sync::mpsc::channel(16);
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let hit = hit.clone();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                for answer in [true, false] {
                    let mut seen = Vec::new();
                    while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
                        match socket.read(&mut buffer).await {
                            Ok(0) | Err(_) => return,
                            Ok(read) => seen.extend_from_slice(&buffer[..read]),
                        }
                    }
                    hit.send(seen.starts_with(b"POST")).await.unwrap();
                    if answer {
                        let _ = socket
                            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                            .await;
                    }
                }
            });
        }
    });
    let key = gateway.authorize("acme");
    let remote = format!("0:127.0.0.1:{port}");
    let mut ssh = gateway.ssh("acme", &key, &["-N", "-R", &remote]);
    ssh.line_with("Allocated port").await;
    assert_eq!(gateway.get(ACME, "/").await.status(), StatusCode::OK);
    in_time(async {
        while gateway.running.snapshot().agent("acme").unwrap().forwards[0].idle == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let post = gateway.request(Method::POST, ACME, "/").send();
    assert_eq!(
        problem(in_time(post).await.unwrap()).await,
        expected(502, "agent-lost", "maybe_sent")
    );
    assert_eq!(
        (hits.recv().await, hits.recv().await),
        (Some(false), Some(true))
    );
    assert!(hits.try_recv().is_err());
}

#[tokio::test]
async fn an_idle_channel_that_the_agent_closed_costs_no_request() {
    let gateway = TestGateway::with(|limits| limits.preopened = 0).await;
    // One answer per connection, and it does not say that it closes.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = socket.read(&mut buffer).await;
                let _ = socket
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                    .await;
            });
        }
    });
    let key = gateway.authorize("acme");
    let remote = format!("0:127.0.0.1:{port}");
    let mut ssh = gateway.ssh("acme", &key, &["-N", "-R", &remote]);
    ssh.line_with("Allocated port").await;
    for _ in 0..30 {
        let post = gateway.request(Method::POST, ACME, "/").send();
        assert_eq!(in_time(post).await.unwrap().status(), StatusCode::OK);
        in_time(async {
            // Until the close has come through: a request that crosses it may be lost.
            while gateway.running.snapshot().agent("acme").unwrap().forwards[0].channels > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_silent_agent_is_reported_in_time() {
    let gateway = TestGateway::with(|limits| {
        limits.answer_timeout = Duration::from_millis(200);
        limits.open_deadline = Duration::from_millis(400);
    })
    .await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let ssh = gateway.forward("acme", &key, "0", &origin).await;
    assert_eq!(
        problem(gateway.get(ACME, "/hang").await).await,
        expected(504, "no-answer", "maybe_sent")
    );
    // Without another session, a frozen agent costs the whole deadline.
    ssh.freeze().await;
    let port = gateway.running.snapshot().agent("acme").unwrap().forwards[0].port;
    let mut raw = TcpStream::connect(("127.0.0.1", port.unwrap()))
        .await
        .unwrap();
    let mut nothing = Vec::new();
    let _ = in_time(raw.read_to_end(&mut nothing)).await;
    assert_eq!(
        problem(gateway.get(ACME, "/").await).await,
        expected(504, "agent-silent", "not_sent")
    );
}

#[tokio::test]
async fn a_caller_that_leaves_takes_its_request_with_it() {
    let gateway = TestGateway::with(|limits| limits.preopened = 0).await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    let leaving = gateway
        .request(Method::GET, ACME, "/hang")
        .timeout(Duration::from_millis(300))
        .send();
    assert!(leaving.await.unwrap_err().is_timeout());
    assert_eq!(origin.requests.load(SeqCst), 1);
    until_idle(&gateway).await;
}

/// What comes behind a whole request is not read before that is answered.
#[tokio::test]
async fn a_caller_that_leaves_with_more_unread_takes_its_request_with_it() {
    let gateway = TestGateway::with(|limits| limits.preopened = 0).await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    let mut vendor = TcpStream::connect(gateway.running.http_addr).await.unwrap();
    let head = format!("POST /hang HTTP/1.1\r\nHost: {ACME}\r\nContent-Length: 4\r\n\r\n");
    vendor.write_all(head.as_bytes()).await.unwrap();
    // Longer than announced, by less than the kernel takes: otherwise its end would wait behind that.
    vendor.write_all(&[b'z'; 16 << 10]).await.unwrap();
    in_time(async {
        while origin.requests.load(SeqCst) == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(vendor);
    until_idle(&gateway).await;
}

async fn until_idle(gateway: &TestGateway) {
    in_time(async {
        loop {
            let snapshot = gateway.running.snapshot();
            let session = &snapshot.agent("acme").unwrap().sessions[0];
            if session.channels == 0 && session.busy == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn the_page_shows_agents_sessions_forwards_and_traffic() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    gateway.get(ACME, "/").await.text().await.unwrap();
    let page = gateway.get("gateway.localhost", "/").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    for shown in [
        "acme",
        "online",
        "OpenSSH",
        "127.0.0.1:",
        "acme.gateway.localhost",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    for path in ["/?format=json", "/status.json"] {
        let json: Value = gateway.get("127.0.0.1", path).await.json().await.unwrap();
        let agent = &json["agents"][0];
        assert_eq!(json["version"], 1);
        assert_eq!(agent["name"], "acme");
        assert_eq!(agent["online"], true);
        assert_eq!(agent["sessions"][0]["requests"], 1);
        assert!(agent["forwards"][0]["bytes_from_agent"].as_u64().unwrap() > 0);
        let client = agent["sessions"][0]["client"].as_str().unwrap();
        assert!(client.starts_with("OpenSSH_"), "{client}");
    }
    assert_eq!(gateway.get("localhost", "/other").await.status(), 404);
    let post = gateway.request(Method::POST, "localhost", "/").send();
    assert_eq!(post.await.unwrap().status(), 405);
}
