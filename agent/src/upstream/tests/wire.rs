//! What Jira sees on the wire.

use super::*;
use tokio::sync::mpsc;

/// A server that passes on every head it reads.
async fn recording() -> (SocketAddr, mpsc::Receiver<String>) {
    let (heads, seen) = mpsc::channel(8);
    let address = server(move |mut peer| {
        let heads = heads.clone();
        async move {
            while let Some(head) = peer.head().await {
                heads.send(head).await.unwrap();
                peer.ok("").await;
            }
        }
    })
    .await;
    (address, seen)
}

#[tokio::test]
async fn odd_targets_reach_jira_byte_for_byte() {
    let (address, mut seen) = recording().await;
    let upstream = upstream(address);
    for target in [
        "/jira/rest/api/2/issue/A%2FB",
        "/jira/rest/api/2/search?jql=a+b%20c%2Bd",
        "/jira/%e4%f6%fc?x=%E4",
        "/jira/x?a=b=c&&d&=",
        "/jira/x?",
        "/jira/x?a|b",
        "/jira/\"quoted\"",
        "/jira/a|b\\c^d",
        "/jira/{a}",
        "/jira/grüße?ü",
        "/jira/%25%32%66",
        "/jira/a;jsessionid=1?b;c",
        "/jira//a/./../b",
        "/jira/x?u=http://h/?p=%zz",
        "/jira/~!$&'()*+,;=:@-._",
        "/jira/x?q={a}[b]^`",
        "*",
    ] {
        let method = if target == "*" { "OPTIONS" } else { "GET" };
        text(
            upstream
                .send(request(method, target, empty()))
                .await
                .unwrap(),
        )
        .await;
        let head = seen.recv().await.unwrap();
        let line = head.lines().next().unwrap();
        assert_eq!(line, format!("{method} {target} HTTP/1.1"));
    }
}

#[test]
fn what_cannot_be_carried_unchanged_is_refused_before_it_gets_here() {
    for target in ["/a b", "/x?\"", "/x?<", "/x?\u{7f}", "/a`b"] {
        assert!(target.parse::<http::Uri>().is_err(), "{target:?}");
    }
    assert!(http::Uri::from_maybe_shared(Bytes::from_static(b"/raw/\xe4")).is_err());
}

#[tokio::test]
async fn host_is_jiras_and_other_headers_pass_with_their_values_unchanged() {
    let (address, mut seen) = recording().await;
    let upstream = upstream(address);
    let mut asked = get("/jira/x");
    let headers = asked.headers_mut();
    headers.append(
        "host",
        HeaderValue::from_static("acme.gateway.vendor.example"),
    );
    headers.append("host", HeaderValue::from_static("second"));
    headers.append("user-agent", HeaderValue::from_static("vendor/1 (x;  y)"));
    headers.append(
        "authorization",
        HeaderValue::from_static("Bearer  two  spaces"),
    );
    headers.append("x-latin", HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap());
    headers.append("x-many", HeaderValue::from_static("1"));
    headers.append("x-many", HeaderValue::from_static("2"));
    text(upstream.send(asked).await.unwrap()).await;
    let head = seen.recv().await.unwrap();
    let mut lines: Vec<&str> = head.lines().skip(1).filter(|l| !l.is_empty()).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "authorization: Bearer  two  spaces",
            "host: jira.test",
            "user-agent: vendor/1 (x;  y)",
            "x-latin: café",
            "x-many: 1",
            "x-many: 2",
        ]
    );
}

#[tokio::test]
async fn an_http2_request_goes_out_as_http_1_1_in_origin_form() {
    let (address, mut seen) = recording().await;
    let mut asked = request("GET", "http://acme.gateway.example/jira/a%2Fb?c+d", empty());
    *asked.version_mut() = http::Version::HTTP_2;
    text(upstream(address).send(asked).await.unwrap()).await;
    let head = seen.recv().await.unwrap();
    assert_eq!(head.lines().next(), Some("GET /jira/a%2Fb?c+d HTTP/1.1"));
    assert!(head.contains("host: jira.test\r\n"), "{head}");
}

#[tokio::test]
async fn the_body_of_a_get_of_unknown_length_is_not_lost() {
    let address = server(|mut peer| async move {
        let head = peer.head().await.unwrap();
        assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
        let body = peer.body(15).await;
        peer.ok(&String::from_utf8(body).unwrap()).await;
    })
    .await;
    let (mut sender, body) = fed();
    let upstream = upstream(address);
    let answer = upstream.send(request("GET", "/x", body));
    let feed = async {
        sender
            .send_data(Bytes::from_static(b"hello"))
            .await
            .unwrap();
        drop(sender);
    };
    let (answer, ()) = tokio::join!(answer, feed);
    assert_eq!(text(answer.unwrap()).await, "5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let address = server(|mut peer| async move {
        peer.head().await.unwrap();
        let body = peer.body("2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n".len()).await;
        assert!(body.ends_with(b"0\r\nx-sum: 7\r\n\r\n"));
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-end\r\n\r\n1\r\na\r\n0\r\nx-end: 9\r\n\r\n")
            .await;
    })
    .await;
    let (mut sender, body) = fed();
    let mut asked = request("POST", "/x", body);
    asked
        .headers_mut()
        .insert("trailer", HeaderValue::from_static("x-sum"));
    let feed = async {
        sender.send_data(Bytes::from_static(b"hi")).await.unwrap();
        let trailers = [("x-sum".parse().unwrap(), HeaderValue::from_static("7"))];
        sender
            .send_trailers(trailers.into_iter().collect())
            .await
            .unwrap();
        drop(sender);
    };
    let upstream = upstream(address);
    let (answer, ()) = tokio::join!(upstream.send(asked), feed);
    let collected = answer.unwrap().into_body().collect().await.unwrap();
    assert_eq!(collected.trailers().unwrap()["x-end"], "9");
    assert_eq!(collected.to_bytes(), "a");
}
