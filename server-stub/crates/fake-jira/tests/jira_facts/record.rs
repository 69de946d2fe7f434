//! The record shows what reached Jira, byte for byte.

use fake_jira::jira::AuthKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::{BOT, BOT_PASSWORD, BOT_TOKEN, get, send, start, start_with};

#[tokio::test]
async fn target_headers_body_and_trailers_are_kept_as_they_came() {
    let jira = start().await;
    let mut stream = TcpStream::connect(jira.addr).await.unwrap();
    let request = b"POST /jira/rest/api/2/x%2fY%2F/..;a=1//?b=%zz+%2B&c= HTTP/1.1\r\nHost: jira.example\r\n\
        Content-Type: application/json\r\nX-Odd:  a\xe9 ,b\t\r\nX-Odd: second\r\n\
        Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 1\r\n\r\n";
    jira.set_faults(vec![fake_jira::jira::InjectedFault::on(
        "",
        fake_jira::jira::FaultKind::HangUp,
    )]);
    stream.write_all(request).await.unwrap();
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    let received = jira.requests().remove(0);
    assert_eq!(received.method, "POST");
    assert_eq!(
        received.target,
        b"/jira/rest/api/2/x%2fY%2F/..;a=1//?b=%zz+%2B&c="
    );
    let odd: Vec<&[u8]> = received
        .headers
        .iter()
        .filter(|(name, _)| name == "x-odd")
        .map(|(_, value)| value.as_slice())
        .collect();
    assert_eq!(odd, [&b"a\xe9 ,b"[..], b"second"]);
    assert_eq!(
        (received.body_head.as_slice(), received.body_length),
        (&b"abcde"[..], 5)
    );
    assert_eq!(received.trailers, [("x-sum".to_owned(), b"1".to_vec())]);
}

#[tokio::test]
async fn the_record_tells_who_asked_and_by_which_login() {
    let jira = start().await;
    let path = "/rest/api/2/serverInfo";
    let basic = send(get(&jira, path).basic_auth(BOT, Some(BOT_PASSWORD))).await;
    let cookie = format!("JSESSIONID={}", basic.cookie("JSESSIONID").unwrap());
    send(get(&jira, path).bearer_auth(BOT_TOKEN)).await;
    send(get(&jira, path).header("cookie", cookie)).await;
    send(get(
        &jira,
        &format!("{path}?os_username={BOT}&os_password={BOT_PASSWORD}"),
    ))
    .await;
    send(get(&jira, path)).await;
    send(get(&jira, path).bearer_auth("bad")).await;
    let seen: Vec<_> = jira
        .requests()
        .into_iter()
        .map(|received| (received.user, received.auth, received.status))
        .collect();
    let bot = || Some(BOT.to_owned());
    assert_eq!(
        seen,
        [
            (bot(), Some(AuthKind::Basic), Some(200)),
            (bot(), Some(AuthKind::Pat), Some(200)),
            (bot(), Some(AuthKind::Session), Some(200)),
            (bot(), Some(AuthKind::Query), Some(200)),
            (None, Some(AuthKind::Anonymous), Some(200)),
            (None, Some(AuthKind::Anonymous), Some(401)),
        ]
    );
}

#[tokio::test]
async fn the_record_is_bounded_and_shows_no_credentials_outside() {
    let jira = start_with(|settings| settings.control = true).await;
    let client = reqwest::Client::new();
    for number in 0..1100 {
        let url = format!("{}/rest/api/2/serverInfo?n={number}", jira.url);
        client.get(url).bearer_auth(BOT_TOKEN).send().await.unwrap();
    }
    let requests = jira.requests();
    assert_eq!(requests.len(), 1024);
    assert!(requests.last().unwrap().target_text().ends_with("n=1099"));
    assert_eq!(jira.received_count(), 1100);
    let url = format!("http://{}/__stub/requests", jira.addr);
    let shown = client.get(&url).send().await.unwrap().text().await.unwrap();
    assert!(shown.contains("n=1099") && !shown.contains(BOT_TOKEN));
    client.delete(&url).send().await.unwrap();
    assert_eq!(jira.requests().len(), 0);
}

#[tokio::test]
async fn tomcats_reading_of_a_path_decides_what_is_reached() {
    let jira = start().await;
    for path in [
        "/rest/api/2/x/..;/myself",
        "/rest//api/2/myself;a=b",
        "/rest/api/2/%2e/myself",
    ] {
        let mut stream = TcpStream::connect(jira.addr).await.unwrap();
        let head = format!(
            "GET /jira{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {BOT_TOKEN}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.contains(BOT),
            "{path}"
        );
    }
}
