//! Trailers on the wire of both sides, over HTTP/1.1 and HTTP/2: none passes where the agent logs in; in pass-through
//! mode those that RFC 9110 §6.5.1 allows.

use super::{failing::secret, support::*};
use crate::auth::Settings as Auth;
use bytes::Bytes;
use http::{HeaderMap, Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
};

/// Fields that a vendor could hope for: each would choose an identity, a method or a path if it stood in the head.
const REQUEST: &[&str] = &[
    "x-remote-user",
    "x-forwarded-user",
    "cookie",
    "x-seraph-trusted-app-id",
    "x-http-method-override",
    "x-original-url",
    "proxy-authorization",
    "remote_user",
    "x-forwarded-for",
    "content-type",
];
/// Fields that a Jira could use against the vendor, or by which it says more than the vendor may know.
const ANSWER: &[&str] = &[
    "set-cookie",
    "set-cookie2",
    "authorization",
    "x-request-id",
    "proxy-status",
    "x-tunnel-answered-by",
    "location",
    "content-encoding",
];
/// Belongs into a trailer.
const HONEST: &str = "x-sum";

/// A Jira that reports each request as it came on the wire, and answers with trailers.
async fn recording_jira() -> (String, mpsc::Receiver<String>) {
    let (seen, received) = mpsc::channel(8);
    let jira = raw_jira(move |mut stream| {
        let seen = seen.clone();
        async move {
            let mut request = read_head(&mut stream).await;
            let mut body = Vec::new();
            while !body.ends_with(b"\r\n\r\n") {
                body.push(stream.read_u8().await.unwrap());
            }
            request += &String::from_utf8(body).unwrap();
            seen.send(request).await.unwrap();
            let mut answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                              X-AUSERNAME: acme-bot\r\nTrailer: "
                .to_owned();
            answer += &[ANSWER, &[HONEST]].concat().join(", ");
            answer += "\r\n\r\n2\r\nok\r\n0\r\n";
            for name in ANSWER.iter().chain([&HONEST]) {
                answer += &format!("{name}: from-jira\r\n");
            }
            answer += "\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            std::future::pending().await
        }
    });
    (jira.await, received)
}

/// What reached Jira and the vendor, by the vendor's protocol.
async fn exchange(agent: &Agent, http2: bool) -> HeaderMap {
    let names = [REQUEST, &[HONEST]].concat();
    if !http2 {
        let mut vendor = agent.channel();
        let mut request = format!(
            "POST /jira/rest/api/2/search HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te\r\n\
             content-type: application/json\r\ntransfer-encoding: chunked\r\ntrailer: {}\r\n\r\n\
             2\r\n{{}}\r\n0\r\n",
            names.join(", ")
        );
        for name in names {
            request += &format!("{name}: from-vendor\r\n");
        }
        vendor.send(request + "\r\n").await;
        let reply = vendor.reply().await;
        assert_eq!((reply.status, reply.text()), (200, "ok"));
        let lines = reply.trailers.lines().map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse().unwrap(), value.parse().unwrap())
        });
        return lines.collect();
    }
    let (io, channel) = tokio::io::duplex(64 << 10);
    let _served = agent.serve(channel);
    let (mut client, connection) = handshake(TokioExecutor::new(), TokioIo::new(io))
        .await
        .unwrap();
    tokio::spawn(connection);
    let trailers: HeaderMap = names
        .iter()
        .map(|name| (name.parse().unwrap(), "from-vendor".parse().unwrap()))
        .collect();
    let frames = [Frame::data(Bytes::from("{}")), Frame::trailers(trailers)];
    let frames = frames.map(Ok::<_, Infallible>);
    let body = StreamBody::new(futures_util::stream::iter(frames));
    let request = Request::post("http://x/jira/rest/api/2/search")
        .version(Version::HTTP_2)
        .header("te", "trailers")
        .header("content-type", "application/json")
        .header("trailer", names.join(", "))
        .body(body)
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(response.status(), 200);
    let collected = response.into_body().collect().await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or_default();
    assert_eq!(collected.to_bytes(), "ok");
    trailers
}

#[tokio::test]
async fn where_the_agent_logs_in_no_trailer_passes_either_way() {
    for http2 in [false, true] {
        let (jira, mut received) = recording_jira().await;
        let (_file, token_file) = secret("token");
        let auth = Auth::Pat {
            token_file,
            expires: None,
        };
        let options = Options {
            auth,
            ..Options::default()
        };
        let agent = Agent::new(&jira, options);
        let trailers = exchange(&agent, http2).await;
        assert!(trailers.is_empty(), "h2 {http2}: {trailers:?}");
        let request = received.recv().await.unwrap();
        assert!(request.contains("authorization: Bearer token\r\n"));
        assert!(
            request.ends_with("\r\n\r\n2\r\n{}\r\n0\r\n\r\n"),
            "h2 {http2}: {request}"
        );
        // Nor are they announced or asked for.
        for header in ["trailer:", "te:", "connection:", "from-vendor"] {
            assert!(!request.contains(header), "h2 {http2}: {request}");
        }
    }
}

#[tokio::test]
async fn in_pass_through_mode_a_trailer_decides_nothing() {
    for http2 in [false, true] {
        let (jira, mut received) = recording_jira().await;
        let agent = Agent::new(&jira, Options::default());
        let trailers = exchange(&agent, http2).await;
        let names: Vec<_> = trailers.keys().map(|name| name.as_str()).collect();
        assert_eq!(names, [HONEST], "h2 {http2}");
        let request = received.recv().await.unwrap();
        assert!(
            request.ends_with("\r\n0\r\nx-sum: from-vendor\r\n\r\n"),
            "h2 {http2}: {request}"
        );
    }
}
