//! HTTP as vendors' clients send it, over the whole path.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use e2e::{egress, raw_http, test_env::TestEnv};
use futures_util::future::join_all;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_share_one_http2_connection() {
    let site = TestEnv::start().await.unwrap();
    let stream = TcpStream::connect(site.addr()).await.unwrap();
    let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let requests = (0..100).map(|number| {
        let mut sender = sender.clone();
        let uri = format!("http://vendor{MYSELF}?number={number}");
        let request = Request::get(uri).body(Empty::<Bytes>::new()).unwrap();
        async move {
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert!(answer.headers().contains_key("x-request-id"));
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let user: Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(user["name"], "acme-bot");
        }
    });
    join_all(requests).await;
    let mut arrived: Vec<_> = site.received().iter().map(|r| r.target_text()).collect();
    let mut sent: Vec<_> = (0..100).map(|n| format!("{MYSELF}?number={n}")).collect();
    arrived.sort();
    sent.sort();
    assert_eq!(arrived, sent);
    assert_eq!(
        site.agent.status().await.unwrap().connections[0].channels,
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_their_order_refused_ones_too() {
    let site = TestEnv::start().await.unwrap();
    let get =
        |target: &str, more: &str| format!("GET {target} HTTP/1.1\r\nHost: vendor\r\n{more}\r\n");
    let pipelined = [
        get(MYSELF, ""),
        get("/jira/rest/api/2/issue/NONE-1", ""),
        get("/jira/secure/admin/x", ""),
        get(MYSELF, ""),
        get("/jira/rest/api/2/serverInfo", "Connection: close\r\n"),
    ]
    .concat();
    let answers = raw_http::exchange(site.addr(), pipelined.as_bytes())
        .await
        .unwrap();
    let kinds: Vec<_> = answers.iter().map(|a| (a.status, a.problem())).collect();
    let none = String::new();
    assert_eq!(
        kinds,
        [
            (200, none.clone()),
            (404, none.clone()),
            (403, "policy-refused".to_owned()),
            (200, none.clone()),
            (200, none),
        ]
    );
    let mut ids: Vec<_> = answers
        .iter()
        .map(|a| a.header("x-request-id").unwrap())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    assert_eq!(site.received().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_waits_for_100_continue_gets_it_and_its_trailers_arrive() {
    let site = TestEnv::builder().start().await.unwrap();
    let mut stream = TcpStream::connect(site.addr()).await.unwrap();
    let head = "POST /jira/rest/api/2/search HTTP/1.1\r\nHost: vendor\r\nContent-Type: application/json\r\n\
                Authorization: Bearer acme-bot-token\r\nTransfer-Encoding: chunked\r\nTrailer: X-Check\r\nTE: trailers\r\nExpect: 100-continue\r\n\
                Connection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = vec![0; 1024];
    let n = stream.read(&mut interim).await.unwrap();
    let interim = String::from_utf8_lossy(&interim[..n]).into_owned();
    assert!(interim.starts_with("HTTP/1.1 100 "), "{interim}");
    let body = "5\r\n{\"jql\r\n13\r\n\":\"project = DEMO\"}\r\n0\r\nX-Check: whole\r\n\r\n";
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    let answers = raw_http::answers(&rest);
    assert_eq!(answers[0].status, 200, "{answers:?}");
    let received = site.received();
    assert_eq!(received[0].body_head, b"{\"jql\":\"project = DEMO\"}");
    assert!(received[0].body_complete);
    let check = ("x-check".to_owned(), b"whole".to_vec());
    assert_eq!(received[0].trailers, [check]);
}

/// By default HAProxy's `option httpchk` is HTTP/1.0 without a Host.
#[tokio::test(flavor = "multi_thread")]
async fn a_stock_haproxy_takes_the_forward_for_up_and_passes_requests() {
    let site = TestEnv::start().await.unwrap();
    let haproxy = egress::haproxy_http(site.addr(), "/jira/status")
        .await
        .unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], haproxy.port()));
    let line = "Health check for server customer/agent";
    haproxy.logged(line).await.unwrap();
    let passed = haproxy.log().contains("Layer7 check passed, code: 200");
    assert!(passed, "{}", haproxy.log());
    let answers = raw_http::exchange(addr, &raw_http::get(MYSELF))
        .await
        .unwrap();
    assert_eq!(answers[0].status, 200, "{answers:?}\n{}", haproxy.log());
    // As nginx's `proxy_pass` sends it by default.
    let nginx = format!("GET {MYSELF} HTTP/1.0\r\nHost: vendor\r\nConnection: close\r\n\r\n");
    let answers = raw_http::exchange(site.addr(), nginx.as_bytes())
        .await
        .unwrap();
    assert_eq!(answers[0].status, 200, "{answers:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn head_tells_the_length_without_the_body() {
    let site = TestEnv::start().await.unwrap();
    let head = String::from_utf8(raw_http::get(MYSELF))
        .unwrap()
        .replace("GET", "HEAD");
    let [get, head] = [raw_http::get(MYSELF), head.into_bytes()];
    let get = raw_http::exchange(site.addr(), &get).await.unwrap();
    let head = raw_http::exchange(site.addr(), &head).await.unwrap();
    assert_eq!((head[0].status, head[0].body.len()), (200, 0));
    let length = header::CONTENT_LENGTH.as_str();
    assert_eq!(head[0].header(length), get[0].header(length));
}

const MYSELF: &str = "/jira/rest/api/2/myself";
