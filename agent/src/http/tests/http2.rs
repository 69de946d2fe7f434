//! HTTP/2 by prior knowledge.

use super::support::*;
use crate::{http::HttpLimits, upstream::BodyError};
use bytes::Bytes;
use http::{Method, Request, Response, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::{io::AsyncReadExt, sync::mpsc, task::JoinHandle};
use tokio_util::sync::CancellationToken;

type Client = SendRequest<Full<Bytes>>;

async fn client(agent: &Agent) -> (Client, JoinHandle<()>, JoinHandle<()>) {
    let (io, channel) = tokio::io::duplex(64 << 10);
    let served = agent.serve(channel);
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    let driven = tokio::spawn(async move {
        let _ = connection.await;
    });
    (client, served, driven)
}

fn request(method: Method, target: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder()
        .method(method)
        .uri(format!("http://gw:8080{target}"))
        .version(Version::HTTP_2)
        .body(Full::from(body))
        .unwrap()
}

async fn text(response: Response<hyper::body::Incoming>) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn requests_pass_side_by_side_and_untouched() {
    let mut agent = Agent::new(&jira(echo).await, Options::default());
    let (client, ..) = client(&agent).await;
    let answers = (0..20).map(|number| {
        let mut client = client.clone();
        async move {
            let target = format!("/a%20b/{number}?q=%2F+x");
            let response = client
                .send_request(request(Method::POST, &target, "body"))
                .await
                .unwrap();
            assert!(response.headers().contains_key("x-request-id"));
            let text = text(response).await;
            assert!(text.starts_with(&format!("POST {target}\n")), "{text}");
            assert!(text.contains("\nhost: 127.0.0.1:"), "{text}");
            assert!(text.ends_with("\n\nbody"), "{text}");
        }
    });
    futures_util::future::join_all(answers).await;
    for _ in 0..20 {
        let record = agent.records.next().await;
        assert_eq!(
            (&record["outcome"], &record["request_bytes"]),
            (&"complete".into(), &4.into())
        );
    }
}

#[tokio::test]
async fn refusals_are_problems_and_the_connection_goes_on() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let (mut client, ..) = client(&agent).await;
    for (method, target, status) in [
        (Method::GET, "/secret", 403),
        (Method::HEAD, "/secret", 403),
        (Method::GET, "/a/../b", 400),
        (Method::TRACE, "/x", 501),
        (Method::GET, "/x", 200),
    ] {
        let response = client
            .send_request(request(method, target, ""))
            .await
            .unwrap();
        assert_eq!(response.status(), status, "{target}");
        assert_eq!(
            response.headers().contains_key("proxy-status"),
            status != 200
        );
        text(response).await;
    }
}

#[tokio::test]
async fn one_stalled_answer_is_reset_and_the_others_go_on() {
    let stall = Duration::from_millis(300);
    let jira = jira(|request| async move {
        let size = if request.uri().path() == "/big" {
            32 << 20
        } else {
            10
        };
        Response::new(full(vec![b'x'; size]))
    });
    let limits = HttpLimits {
        stall_timeout: stall,
        ..HttpLimits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let mut agent = Agent::new(&jira.await, options);
    let (mut client, ..) = client(&agent).await;
    let unread = client
        .send_request(request(Method::GET, "/big", ""))
        .await
        .unwrap();
    let record = loop {
        let response = client
            .send_request(request(Method::GET, "/small", ""))
            .await
            .unwrap();
        assert_eq!(text(response).await.len(), 10);
        let record = agent.records.next().await;
        if record["target"] == "/big" {
            break record;
        }
    };
    assert_eq!(record["outcome"], "stalled");
    assert!(
        unread.into_body().collect().await.is_err(),
        "reset, not ended"
    );
    let response = client
        .send_request(request(Method::GET, "/small", ""))
        .await
        .unwrap();
    assert_eq!(text(response).await.len(), 10);
}

#[tokio::test]
async fn when_the_vendor_resets_a_stream_its_exchange_is_dropped() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        std::future::pending().await
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let (mut client, ..) = client(&agent).await;
    let answer = tokio::spawn(async move {
        let _ = client.send_request(request(Method::GET, "/x", "")).await;
    });
    while agent.forward.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    answer.abort();
    assert_eq!(agent.records.next().await["outcome"], "vendor_gone");
    assert_eq!(agent.forward.in_flight(), 0);
}

/// The agent speaks HTTP/1.1 to Jira, so that each stream's connection to it is closed.
#[tokio::test]
async fn when_the_vendor_leaves_all_exchanges_of_its_connection_are_dropped() {
    let (closed, mut is_closed) = mpsc::channel(3);
    let jira = raw_jira(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_head(&mut stream).await;
            let _ = stream.read_to_end(&mut Vec::new()).await;
            let _ = closed.send(()).await;
        }
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let left = CancellationToken::new();
    // The vendor's side stays open: only the end of the channel is announced.
    let Vendor { io, served, .. } = agent.leaving_channel(left.clone());
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    for _ in 0..3 {
        let mut client = client.clone();
        tokio::spawn(async move {
            let _ = client.send_request(request(Method::GET, "/x", "")).await;
        });
    }
    while agent.forward.in_flight() < 3 {
        tokio::task::yield_now().await;
    }
    left.cancel();
    let ended = tokio::time::timeout(Duration::from_secs(20), served).await;
    ended.unwrap().unwrap();
    for _ in 0..3 {
        assert_eq!(agent.records.next().await["outcome"], "vendor_gone");
    }
    assert_eq!(agent.forward.in_flight(), 0);
    for _ in 0..3 {
        let closed = tokio::time::timeout(Duration::from_secs(20), is_closed.recv());
        assert!(closed.await.unwrap().is_some());
    }
}

#[tokio::test]
async fn an_idle_or_drained_connection_ends() {
    let limits = HttpLimits {
        idle_timeout: Duration::from_secs(1),
        ..HttpLimits::default()
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    let agent = Agent::new(&jira(echo).await, options);
    let (mut idle, served, driven) = client(&agent).await;
    let response = idle
        .send_request(request(Method::GET, "/x", ""))
        .await
        .unwrap();
    text(response).await;
    tokio::time::timeout(LIVENESS, served)
        .await
        .unwrap()
        .unwrap();
    driven.await.unwrap();

    let agent = Agent::new(&jira(echo).await, Options::default());
    let (mut drained, served, _driven) = client(&agent).await;
    let response = drained
        .send_request(request(Method::GET, "/x", ""))
        .await
        .unwrap();
    text(response).await;
    agent.drain.cancel();
    tokio::time::timeout(LIVENESS, served)
        .await
        .unwrap()
        .unwrap();
}

/// HPACK lets a peer repeat it for a byte a request, and each would have been a line of that length.
#[tokio::test]
async fn a_method_that_is_no_method_is_refused_and_its_line_is_short() {
    let nothing = raw_jira(|_| async { panic!("it reached Jira") });
    let mut agent = Agent::new(&nothing.await, Options::default());
    let (mut client, ..) = client(&agent).await;
    let method = Method::from_bytes("M".repeat(15_000).as_bytes()).unwrap();
    let response = client
        .send_request(request(method, "/x", ""))
        .await
        .unwrap();
    assert_eq!(response.status(), 400);
    assert!(text(response).await.len() < 4096);
    let record = agent.records.next().await;
    assert_eq!(record["error"], "malformed-request");
    assert_eq!(record["method"], format!("{}…", "M".repeat(32)));
    assert!(record.to_string().len() < 1024, "{record}");
}

#[tokio::test]
async fn a_stream_whose_body_never_begins_takes_no_connection_to_jira() {
    let stall = Duration::from_millis(600);
    let options = Options {
        limits: HttpLimits {
            stall_timeout: stall,
            ..HttpLimits::default()
        },
        max_connections: 1,
        pool_wait: stall / 4,
        ..Options::default()
    };
    let mut agent = Agent::new(&jira(echo).await, options);
    let (io, channel) = tokio::io::duplex(64 << 10);
    let _served = agent.serve(channel);
    let (mut client, connection) = handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let silent = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BodyError>>();
    let silent = BodyExt::boxed_unsync(http_body_util::StreamBody::new(silent));
    let silent = request(Method::POST, "/slow", "").map(|_| silent);
    let silent = client.send_request(silent);
    while agent.forward.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(agent.channel().get("/x").await.status, 200);
    assert_eq!(agent.records.next().await["target"], "/x");
    let response = silent.await.unwrap();
    assert_eq!(response.status(), 408);
    assert!(text(response).await.contains(r#""delivery":"not_sent""#));
    let record = agent.records.next().await;
    assert_eq!(
        (&record["error"], &record["delivery"]),
        (&"upload-stalled".into(), &"not_sent".into())
    );
}
