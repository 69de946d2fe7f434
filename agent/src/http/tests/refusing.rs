//! What is refused before policy sees it, and how.

use super::support::*;
use crate::http::HttpLimits;
use std::time::Duration;

/// Sends one request, expects one answer of this kind and the end of the channel after it, and
/// nothing at Jira.
async fn refused(request: &[u8], code: &str) {
    let jira = raw_jira(|_| async { panic!("it reached Jira") });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor.send(request).await;
    // What a smuggler hopes to have taken for a request of its own.
    vendor
        .send("GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let method = if request.starts_with(b"HEAD ") {
        "HEAD"
    } else {
        "GET"
    };
    let shown = String::from_utf8_lossy(request).into_owned();
    let reply = vendor.try_reply(method).await;
    let reply = reply.unwrap_or_else(|rest| panic!("{shown:?}: {rest:?}"));
    if method == "GET" {
        reply.assert_problem(code, "not_sent");
    }
    assert_eq!(reply.header("connection"), Some("close"), "{shown:?}");
    let rest = vendor.end().await;
    assert!(
        rest.is_empty(),
        "{shown:?}: {}",
        String::from_utf8_lossy(&rest)
    );
    let record = agent.records.next().await;
    assert_eq!(record["error"], code, "{shown:?}");
    assert_eq!(record["outcome"], "refused", "{shown:?}");
    assert_eq!(record["decision"], "refused", "{shown:?}");
    assert!(!record.to_string().contains("CANARY"), "{record}");
    assert!(agent.records.is_empty(), "{shown:?}");
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused_and_ends_the_channel() {
    let long = format!(
        "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        "9".repeat(30)
    );
    let cases: &[&[u8]] = &[
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5, 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: +5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0x5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5 5\r\n\r\nhello",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length:\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9223372036854775808\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\nContent_Length: 5\r\ncontent-length: 0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer_encoding: chunked\r\ncontent-length: 0\r\n\r\n",
        b"POST / HTTP/1.0\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.0\r\nhost: x\r\n\r\nhello",
        b"GET / HTTP/1.0\r\nhost: x\r\nhost: x\r\n\r\n",
        b"\r\n\r\n\r\n\r\n\r\n",
        long.as_bytes(),
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding\r\n : chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nHost: y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost:\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x, y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x/@y\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\r\n\tc\r\n\r\n",
        b"GET / HTTP/1.1\r\n host: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\rc: d\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na: b\x7fc\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\na b: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\xc3\xa4: c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\na: b\r\n\r\n",
        b"GET / HTTP/1.1\nhost: x\n\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n\n",
        b"GET / HTTP/1.1\r\nhost: x\n\r\n",
        b"GET  / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /  HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1 \r\nhost: x\r\n\r\n",
        b" GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1 GET /a HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\r\nhost: x\r\n\r\n",
        b"G(T / HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / http/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.10\r\nhost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    ];
    for request in cases {
        refused(request, "malformed-request").await;
    }
}

#[tokio::test]
async fn a_target_that_is_no_plain_path_is_refused() {
    for request in [
        &b"GET http://jira/x?a=CANARY HTTP/1.1\r\nhost: x\r\n\r\n"[..],
        b"GET x HTTP/1.1\r\nhost: x\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a#CANARY HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a?b=1#CANARY HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a<b HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a\x7fb HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a\tb HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /a\rb HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
        b"HEAD /a#b HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        refused(request, "ambiguous-target").await;
    }
}

#[tokio::test]
async fn other_versions_and_connect_are_refused() {
    for request in [
        &b"GET / HTTP/2.0\r\nhost: x\r\n\r\n"[..],
        b"GET /x?CANARY HTTP/1.2\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.2\r\nhost: x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        refused(request, "http-version").await;
    }
    refused(
        b"CONNECT jira:443 HTTP/1.1\r\nhost: x\r\n\r\n",
        "method-refused",
    )
    .await;
}

#[tokio::test]
async fn websocket_trace_and_overrides_are_refused_and_the_channel_goes_on() {
    let mut agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    let websocket = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13";
    for (method, header, code) in [
        ("GET", websocket, "upgrade-refused"),
        ("TRACE", "a: b", "method-refused"),
        ("POST", "x-http-method-override: DELETE", "method-override"),
        ("POST", "X-HTTP-Method: DELETE", "method-override"),
        ("POST", "X-Method-Override: DELETE", "method-override"),
        ("POST", "X-Original-URL: /secret", "method-override"),
        ("POST", "X-Rewrite-URL: /secret", "method-override"),
        ("POST", "X_HTTP_Method_Override: DELETE", "method-override"),
        ("POST", "X-Original_URL: /secret", "method-override"),
    ] {
        let request = format!("{method} /x HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n");
        vendor.send(request).await;
        vendor.reply().await.assert_problem(code, "not_sent");
        assert_eq!(agent.records.next().await["error"], code);
    }
    assert_eq!(vendor.get("/still").await.status, 200);
}

/// What Java's client sends on each request over plain HTTP.
#[tokio::test]
async fn an_offer_of_h2c_is_ignored() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("GET /x HTTP/1.1\r\nhost: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n\r\n")
        .await;
    let reply = vendor.reply().await;
    assert_eq!(reply.status, 200);
    assert!(!reply.text().contains("http2-settings") && !reply.text().contains("upgrade"));
    assert_eq!(vendor.get("/y").await.status, 200);
}

#[tokio::test]
async fn what_policy_finds_ambiguous_is_a_bad_request() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    for target in ["/a/../b", "/a%2fb", "/a;b=CANARY", "/a//b", "/a%252e"] {
        let reply = vendor.get(target).await;
        let problem = reply.assert_problem("ambiguous-target", "not_sent");
        assert_eq!(problem["reason"], "ambiguous-target");
    }
}

#[tokio::test]
async fn a_head_over_the_limit_is_431_wherever_it_is_too_large() {
    let limits = HttpLimits {
        max_head: 8 << 10,
        ..HttpLimits::default()
    };
    let many: String = (0..101).map(|number| format!("h{number}: x\r\n")).collect();
    for (head, code) in [
        (
            format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(8 << 10)),
            431,
        ),
        (
            format!(
                "GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
                "b".repeat(8 << 10)
            ),
            431,
        ),
        (format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431),
        ("x".repeat(20 << 10), 431),
        (
            format!(
                "GET / HTTP/1.1\r\nhost: x\r\na: {}\r\n\r\n",
                "b".repeat(8 << 10 >> 1)
            ),
            200,
        ),
    ] {
        let options = Options {
            limits: limits.clone(),
            ..Options::default()
        };
        let agent = Agent::new(&jira(echo).await, options);
        let mut vendor = agent.channel();
        vendor.send(&head).await;
        let reply = vendor.reply().await;
        assert_eq!(reply.status, code);
        if code == 431 {
            reply.assert_problem("head-too-large", "not_sent");
            assert!(vendor.end().await.is_empty());
        }
    }
}

/// However the bytes are cut, the same is understood.
#[tokio::test]
async fn a_request_in_single_bytes_is_the_same_request() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    let wire = "\r\nPOST /1 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n\
                POST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ndefGET /3 HTTP/1.1\r\nhost: x\r\n\r\n";
    for byte in wire.bytes() {
        vendor.send([byte]).await;
        tokio::task::yield_now().await;
    }
    for (start, end) in [
        ("POST /1\n", "\n\nabc"),
        ("POST /2\n", "\n\ndef"),
        ("GET /3\n", "\n\n"),
    ] {
        let reply = vendor.reply().await;
        assert!(
            reply.text().starts_with(start) && reply.text().ends_with(end),
            "{reply:?}"
        );
    }
}

#[tokio::test]
async fn malformed_chunks_break_the_upload_off() {
    let mut agent = Agent::new(
        &jira(|request| async move {
            // As Jira does: the body first.
            use http_body_util::BodyExt;
            let _ = request.into_body().collect().await;
            http::Response::new(full("read"))
        })
        .await,
        Options::default(),
    );
    for body in [
        "5\r\nhelloX",
        "5\nhello\n0\n\n",
        "zz\r\n",
        "5\r\nhello\r\n0\r\nbad\r\n\r\n",
    ] {
        let mut vendor = agent.channel();
        vendor
            .send(format!(
                "POST /x HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{body}"
            ))
            .await;
        let reply = vendor.reply().await;
        let record = agent.records.next().await;
        let delivery = record["delivery"].as_str().unwrap();
        reply.assert_problem("upload-broken", delivery);
        // Nothing goes to Jira before something of the body has come.
        if !body.starts_with("5\r\n") {
            assert_eq!(delivery, "not_sent", "{body:?}");
        }
        assert!(vendor.end().await.is_empty());
        assert_eq!(
            (&record["error"], &record["outcome"]),
            (&"upload-broken".into(), &"failed".into())
        );
    }
}

#[tokio::test]
async fn a_refused_upload_too_large_to_swallow_ends_the_channel_after_its_answer() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("POST /secret HTTP/1.1\r\nhost: x\r\ncontent-length: 10000000\r\n\r\nbegun")
        .await;
    let answer = tokio::time::timeout(Duration::from_secs(20), vendor.reply())
        .await
        .unwrap();
    answer.assert_problem("policy-refused", "not_sent");
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(vendor.end().await.is_empty());
}

#[tokio::test]
async fn while_a_check_stands_in_only_its_own_request_is_answered_and_others_may_come_again() {
    let jira = jira(|_| async { http::Response::new(full("of Jira")) });
    let options = Options {
        only_expected: true,
        ..Options::default()
    };
    let agent = Agent::new(&jira.await, options);
    let awaited = agent.forward.expect("check-1", "/a");
    let mut vendor = agent.channel();
    for id in ["", "x-request-id: check-2\r\n"] {
        vendor
            .send(format!("GET /a HTTP/1.1\r\nhost: x\r\n{id}\r\n"))
            .await;
        let reply = vendor.reply().await;
        let problem = reply.assert_problem("paused", "not_sent");
        assert_eq!(reply.header("retry-after"), Some("60"), "{problem}");
    }
    let with_its_id =
        |line: &str| format!("{line} HTTP/1.1\r\nhost: x\r\nx-request-id: check-1\r\n\r\n");
    for other in ["DELETE /a", "GET /b"] {
        vendor.send(with_its_id(other)).await;
        vendor.reply().await.assert_problem("paused", "not_sent");
    }
    assert!(!awaited.was_received());
    vendor.send(with_its_id("GET /a")).await;
    assert_eq!(vendor.reply().await.text(), "of Jira");
    assert!(awaited.was_received());
    // The gateway has seen the id by now.
    vendor.send(with_its_id("GET /a")).await;
    vendor.reply().await.assert_problem("paused", "not_sent");
}
