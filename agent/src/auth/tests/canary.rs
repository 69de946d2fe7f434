//! Nothing of the vendor's credential gets through: looked for in the bytes that reach Jira.

use super::*;
use crate::upstream::{self, Upstream};
use http_body_util::{BodyExt, Empty};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

#[tokio::test]
async fn no_credential_of_the_vendor_reaches_jira_and_no_session_of_jira_the_vendor() {
    const CANARY: &str = "canary-7d1f";
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let jira = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            seen.push(stream.read_u8().await.unwrap());
        }
        let heard = format!(
            "HTTP/1.1 200 OK\r\nx-ausername: acme-bot\r\nset-cookie: JSESSIONID={CANARY}\r\nset-cookie: a={CANARY}\r\ncontent-length: 0\r\n\r\n"
        );
        stream.write_all(heard.as_bytes()).await.unwrap();
        String::from_utf8(seen).unwrap()
    });
    let secrets = Secrets::new("own-secret");
    let (login, _) = secrets.pat();
    let mut head = request(
        "/jira/rest/api/2/myself?expand=groups",
        &[
            ("authorization", CANARY),
            ("authorization", CANARY),
            ("proxy-authorization", CANARY),
            ("cookie", CANARY),
            ("x-forwarded-user", CANARY),
            ("remote_user", CANARY),
            ("x-seraph-trusted-app-cert", CANARY),
            ("x-atlassian-token", "no-check"),
        ],
    );
    let attempt = login.prepare(&mut head).await.unwrap();
    let mut settings = upstream::Settings::new("http://jira.test/jira".parse().unwrap());
    settings.address = Some(address);
    let upstream = Upstream::new(settings).unwrap();
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let sent = upstream.send(Request::from_parts(head, body));
    let (mut heard, _) = sent.await.unwrap().into_parts();
    assert_eq!(attempt.on_response(&mut heard), AuthVerdict::Accepted);
    let seen = jira.await.unwrap();
    assert!(!seen.contains(CANARY), "{seen}");
    assert!(
        seen.contains("authorization: Bearer own-secret\r\n"),
        "{seen}"
    );
    assert!(seen.contains("x-atlassian-token: no-check\r\n"), "{seen}");
    assert!(!format!("{:?}", heard.headers).contains(CANARY));
}
