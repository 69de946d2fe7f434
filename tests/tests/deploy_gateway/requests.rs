//! What the vendor's services get for their requests.

use crate::{TwoCustomers, ask, gateway_error, host};
use e2e::{
    gateway::{DOMAIN, InstalledGateway, SOCKET},
    process::ChildProcess,
    raw_http::{self, RawResponse},
    recording_origin::issue,
    sshd::signal,
    test_env::vendor,
    wait::until_true,
};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

#[tokio::test(flavor = "multi_thread")]
async fn each_customer_is_reached_by_its_name_and_by_no_other() {
    let two = TwoCustomers::start().await;
    let at = two.gateway.services();
    for (name, asked, other) in [
        ("acme", &two.jira_of_acme, &two.jira_of_bolt),
        ("bolt", &two.jira_of_bolt, &two.jira_of_acme),
    ] {
        let url = format!("http://{at}/rest/api/2/issue/{name}-1/comment");
        let sent = vendor()
            .post(url)
            .header("host", host(name))
            .body("{}")
            .send();
        assert_eq!(
            sent.await.unwrap().text().await.unwrap(),
            issue(&format!("{name}-1"))
        );
        assert_eq!(asked.comments().len(), 1);
        assert_eq!(other.comments().get(&format!("{name}-1")), None);
    }
    // Upper case and a port do not matter.
    let answer = ask(
        at,
        &format!("ACME.{DOMAIN}:8080"),
        "/rest/api/2/issue/DEMO-7",
    )
    .await;
    assert_eq!(String::from_utf8_lossy(&answer.body), issue("DEMO-7"));

    for stranger in ["eve", "acme.bolt", "customer-acme", "unknown"] {
        let answer = ask(at, &host(stranger), "/rest/api/2/issue/DEMO-7").await;
        assert_eq!(
            gateway_error(&answer),
            (421, "unknown-host".into(), "not_sent".into()),
            "{stranger}"
        );
    }
    let listed = two.gateway.customer(&["list"]).unwrap();
    assert_eq!(listed.matches("connected").count(), 2, "{listed}");
    let health = ask(two.gateway.monitoring(), "any", "/healthz").await;
    assert_eq!(health.status, 200);
    let metrics = ask(two.gateway.monitoring(), "any", "/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.body).contains(r#"proxy="customer-acme""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_passes_as_the_service_sent_it() {
    let gateway = InstalledGateway::start().unwrap();
    let (key, _) = gateway.add("acme").unwrap();
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = origin.local_addr().unwrap();
    let ssh = gateway.ssh("acme", &key, &["-N", "-R", &format!("{SOCKET}:{to}")], &[]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let _ssh = ChildProcess::spawn(ssh, log.path()).unwrap();
    let socket = gateway.path("/srv/jira-gateway/acme/s/jira.sock");
    until_true("the socket", || socket.exists()).await.unwrap();

    let head = format!(
        "POST /jira/rest/api/2/search?jql=a%2Fb+c&x=%7e&y=//..;z HTTP/1.1\r\nHost: {}:8080\r\n\
         Authorization: OAuth oauth_nonce=\"n%2F\", oauth_signature=\"a%2Bb%3D\"\r\nX-Twice: one\r\nX-Twice: Two,  three\r\n\
         Content-Type: application/json\r\nContent-Length: 4\r\n\r\n",
        host("acme")
    );
    let mut stream = TcpStream::connect(gateway.services()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"body").await.unwrap();

    let mut bytes = Vec::new();
    let mut arrived = loop {
        let (mut arrived, _) = origin.accept().await.unwrap();
        // A check connects and sends nothing.
        if arrived.read_buf(&mut bytes).await.unwrap() > 0 {
            break arrived;
        }
    };
    while !bytes.ends_with(b"\r\n\r\nbody") {
        assert_ne!(arrived.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let lines = |text: &str| -> Vec<String> {
        // A header's name may change its case.
        let lines = text.lines().map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => line.to_owned(),
        });
        lines.collect()
    };
    let bytes = String::from_utf8(bytes).unwrap();
    assert_eq!(lines(&bytes), lines(&format!("{head}body")));

    // And the answer.
    let answer = "HTTP/1.1 201 Created\r\nX-Jira: One\r\nContent-Length: 2\r\n\r\n{}";
    arrived.write_all(answer.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"{}") {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let bytes = String::from_utf8(bytes).unwrap();
    assert_eq!(lines(&bytes), lines(answer));
}

/// Requests for an offline agent are answered `not_sent` while other customers are served; the agent takes its socket
/// over again.
#[tokio::test(flavor = "multi_thread")]
async fn an_offline_agent_is_reported_and_retakes_its_socket() {
    let mut two = TwoCustomers::start().await;
    let at = two.gateway.services();
    two.acme.process().kill();
    let answer = offline(at).await;
    assert_eq!(
        gateway_error(&answer),
        (503, "agent-offline".into(), "not_sent".into())
    );
    assert_eq!(answer.header("retry-after"), Some("5"));
    let other = ask(at, &host("bolt"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(String::from_utf8_lossy(&other.body), issue("DEMO-7"));

    // The stale socket does not matter.
    assert!(
        two.gateway
            .path("/srv/jira-gateway/acme/s/jira-0.sock")
            .exists()
    );
    two.acme.restart().unwrap();
    two.acme.until_proven().await.unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(String::from_utf8_lossy(&answer.body), issue("DEMO-7"));

    // A connected but dead twin does not matter either.
    signal(two.acme.process().pid(), "STOP").unwrap();
    let (key, _) = two.gateway.add("acme").unwrap();
    let new = two
        .gateway
        .agent("acme", &key, &two.jira_of_acme.url())
        .start()
        .unwrap();
    new.until_proven().await.unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-8").await;
    assert_eq!(String::from_utf8_lossy(&answer.body), issue("DEMO-8"));
    drop(two.bolt);
}

/// Asks until sshd has noticed that the agent has ended.
async fn offline(at: SocketAddr) -> RawResponse {
    loop {
        let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
        if answer.status == 503 {
            return answer;
        }
        assert_eq!(
            gateway_error(&answer).2,
            "maybe_sent",
            "while it is noticed"
        );
    }
}

/// A connection that breaks after the request was sent is answered `maybe_sent`, and the gateway sends nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_sending_is_maybe_sent() {
    let mut two = TwoCustomers::start().await;
    let at = two.gateway.services();
    // Also on a reused connection: by default HAProxy would close it silently, and the service's HTTP client might send
    // the request again.
    let mut first = kept_alive(at, &["HELD-1"]).await;
    let mut second = kept_alive(at, &["DEMO-1", "HELD-2"]).await;
    two.jira_of_acme.wait_until_held(2).await.unwrap();
    two.acme.process().kill();
    for stream in [&mut first, &mut second] {
        let answer = answer_of(stream).await;
        assert_eq!(
            gateway_error(&answer),
            (502, "agent-lost".into(), "maybe_sent".into())
        );
        assert_eq!(answer.header("retry-after"), None);
    }
    two.acme.restart().unwrap();
    two.acme.until_proven().await.unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(answer.status, 200);
    let comments = two.jira_of_acme.comments();
    for key in ["HELD-1", "DEMO-1", "HELD-2"] {
        assert_eq!(comments.get(key), Some(&1), "{comments:?}");
    }
}

fn comment(customer: &str, key: &str) -> String {
    format!(
        "POST /rest/api/2/issue/{key}/comment HTTP/1.1\r\nHost: {}\r\nContent-Length: 13\r\n\r\n{{\"body\":\"hi\"}}",
        host(customer)
    )
}

/// A connection on which these comments were sent one after the other; all but the last are answered.
async fn kept_alive(at: SocketAddr, keys: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let (last, before) = keys.split_last().unwrap();
    for key in before {
        stream
            .write_all(comment("acme", key).as_bytes())
            .await
            .unwrap();
        let answer = answer_of(&mut stream).await;
        assert_eq!(String::from_utf8_lossy(&answer.body), issue(key));
    }
    stream
        .write_all(comment("acme", last).as_bytes())
        .await
        .unwrap();
    stream
}

/// Reads one answer.
async fn answer_of(stream: &mut TcpStream) -> RawResponse {
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "closed without an answer");
        if let Some(answer) = raw_http::answers(&bytes)
            .pop()
            .filter(|answer| answer.complete)
        {
            return answer;
        }
    }
}
