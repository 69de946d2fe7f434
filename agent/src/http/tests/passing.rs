//! What passes, and that it passes untouched.

use super::support::*;
use http::{Response, StatusCode};
use http_body_util::BodyExt;
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn a_request_reaches_jira_byte_for_byte() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send(
            "POST /rest/a%20b/x+y?jql=a%2Fb+c&q=%E4%bd&e=&[x]=|%zz HTTP/1.1\r\nHost: gw:8080\r\n\
             X-B:  two  words \r\nx-a: 1\r\nX-B: \"q\";x\r\nCookie: a=1; b=2\r\nAuthorization: Basic eDp5\r\n\
             X-Latin: caf\u{e9}\r\nUser-Agent: Mozilla/5.0\r\nX-Request-Id: order-1\r\nConnection: keep-alive, x-hop\r\n\
             X-Hop: gone\r\nContent-Length: 9\r\n\r\n{\"a\":1}\r\n",
        )
        .await;
    let reply = vendor.reply().await;
    let (head, body) = reply.text().split_once("\n\n").unwrap();
    let mut lines: Vec<_> = head.lines().collect();
    assert_eq!(
        lines.remove(0),
        "POST /rest/a%20b/x+y?jql=a%2Fb+c&q=%E4%bd&e=&[x]=|%zz"
    );
    let host = lines
        .iter()
        .position(|line| line.starts_with("host: 127.0.0.1:"))
        .unwrap();
    lines.remove(host);
    let order = |name: &str| {
        lines
            .iter()
            .filter(|l| l.starts_with(name))
            .copied()
            .collect::<Vec<_>>()
    };
    assert_eq!(order("x-b"), ["x-b: two  words", "x-b: \"q\";x"]);
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            "authorization: Basic eDp5",
            "content-length: 9",
            "cookie: a=1; b=2",
            "user-agent: Mozilla/5.0",
            "x-a: 1",
            "x-b: \"q\";x",
            "x-b: two  words",
            "x-latin: caf\u{e9}",
            "x-request-id: order-1",
        ]
    );
    assert_eq!(body, "{\"a\":1}\r\n");
    assert_eq!(reply.header("x-request-id"), Some("order-1"));
    assert_eq!(reply.header("proxy-status"), None);
    assert_eq!(reply.header("via"), None);
}

/// Jira's own Tomcat takes them (`relaxedQueryChars`), hyper's types do not.
#[tokio::test]
async fn raw_characters_in_a_query_reach_jira_byte_for_byte() {
    let jira = raw_jira(|mut stream| async move {
        loop {
            let head = read_head(&mut stream).await;
            let body = format!("{}\n", head.lines().next().unwrap());
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    // On one connection to Jira, plain ones among them.
    for query in [
        "jql=created>-7d",
        "jql=a",
        "jql=project=\"ABC\"",
        "<[]{}|^`\\\"<>>&x=%22",
        "jql=b",
        ">",
    ] {
        let target = format!("/rest/api/2/search?{query}");
        let reply = vendor.get(&target).await;
        assert_eq!(reply.text(), format!("GET {target} HTTP/1.1\n"));
        assert_eq!(agent.records.next().await["decision"], "allowed");
    }
    // With a body behind it, pipelined.
    vendor
        .send(
            "POST /p?<1> HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\nGET /p?\"2\" HTTP/1.1\r\nhost: x\r\n\r\n",
        )
        .await;
    assert_eq!(vendor.reply().await.text(), "POST /p?<1> HTTP/1.1\n");
    assert_eq!(vendor.reply().await.text(), "GET /p?\"2\" HTTP/1.1\n");
}

/// A refusal says which byte it is, and where.
#[tokio::test]
async fn a_refusal_for_a_character_names_byte_and_place() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    for (target, said) in [
        ("/a<b", "`<`, at byte 2"),
        ("/a?b#c", "`#` at byte 1 of the query"),
        ("/\u{e9}", "0xC3, at byte 1"),
        ("/a?b\u{1}", "0x01 at byte 1 of the query"),
        ("/abc;d", "`;`, at byte 4"),
    ] {
        let mut vendor = agent.channel();
        let reply = vendor.get(target).await;
        let problem = reply.assert_problem("ambiguous-target", "not_sent");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(said), "{target}: {detail}");
    }
}

#[tokio::test]
async fn one_channel_carries_many_requests() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    for number in 0..50 {
        let reply = vendor.get(&format!("/n/{number}")).await;
        assert!(reply.text().starts_with(&format!("GET /n/{number}\n")));
        assert!(reply.header("x-request-id").is_some());
        assert_eq!(reply.header("connection"), None);
    }
    vendor
        .send("GET /last HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    let reply = vendor.reply().await;
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(vendor.end().await.is_empty());
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order_a_refused_one_among_them() {
    let running = Arc::new(AtomicUsize::new(0));
    let jira = jira(move |request| {
        let running = running.clone();
        async move {
            // One at a time: an answer must not overtake another.
            assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0);
            tokio::task::yield_now().await;
            running.fetch_sub(1, Ordering::SeqCst);
            echo(request).await
        }
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send(
            "GET /1 HTTP/1.1\r\nhost: x\r\n\r\n\
             POST /2 HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\ntwo\
             \r\nPOST /secret HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nthree\
             POST /4 HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n\
             HEAD /5 HTTP/1.1\r\nhost: x\r\n\r\n\
             GET /6 HTTP/1.1\r\nhost: x\r\n\r\n",
        )
        .await;
    assert!(vendor.reply().await.text().starts_with("GET /1\n"));
    let second = vendor.reply().await;
    assert!(second.text().starts_with("POST /2\n") && second.text().ends_with("\n\ntwo"));
    let refused = vendor
        .reply()
        .await
        .assert_problem("policy-refused", "not_sent");
    assert_eq!(refused["reason"], "denied");
    let fourth = vendor.reply().await;
    assert!(fourth.text().starts_with("POST /4\n") && fourth.text().ends_with("\n\nfour"));
    assert_eq!(vendor.reply_to("HEAD").await.status, 200);
    assert!(vendor.reply().await.text().starts_with("GET /6\n"));
    for target in ["/1", "/2", "/secret", "/4", "/5", "/6"] {
        assert_eq!(agent.records.next().await["target"], target);
    }
}

#[tokio::test]
async fn a_body_is_asked_for_by_100_continue_only_when_jira_takes_it() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("POST /x HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
        .await;
    assert_eq!(vendor.reply().await.status, 100);
    vendor.send("body").await;
    assert!(vendor.reply().await.text().ends_with("\n\nbody"));
    vendor
        .send(
            "POST /secret HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n",
        )
        .await;
    let reply = vendor.reply().await;
    reply.assert_problem("policy-refused", "not_sent");
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(vendor.end().await.is_empty());
}

#[tokio::test]
async fn bodies_stream_both_ways_at_once() {
    // Jira gives back each piece as it comes, so nobody can have waited for the whole.
    let jira = jira(|request| async move {
        Response::new(
            request
                .into_body()
                .map_err(|error| panic!("{error}"))
                .boxed(),
        )
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("POST /echo HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        .await;
    let head = vendor.take_until(b"\r\n\r\n").await.unwrap();
    assert!(String::from_utf8_lossy(&head).contains("transfer-encoding: chunked"));
    assert_eq!(
        vendor.take_until(b"one\r\n").await.unwrap(),
        b"3\r\none\r\n"
    );
    vendor.send("5;ext=1\r\nthree\r\n").await;
    assert_eq!(
        vendor.take_until(b"three\r\n").await.unwrap(),
        b"5\r\nthree\r\n"
    );
    vendor.send("0\r\n\r\n").await;
    assert_eq!(vendor.take_until(b"0\r\n\r\n").await.unwrap(), b"0\r\n\r\n");
    assert_eq!(vendor.get("/after").await.status, 200);
}

#[tokio::test]
async fn a_large_body_of_known_length_passes_whole() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let vendor = agent.channel();
    let body = "0123456789abcdef".repeat(100_000);
    let head = format!(
        "PUT /big HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let (mut reader, mut writer) = tokio::io::split(vendor.io);
    let sent = body.clone();
    tokio::spawn(async move {
        writer.write_all(head.as_bytes()).await.unwrap();
        writer.write_all(sent.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let mut answer = Vec::new();
    while !answer.ends_with(&body.as_bytes()[body.len() - 64..]) || answer.len() < body.len() {
        use tokio::io::AsyncReadExt;
        assert!(reader.read_buf(&mut answer).await.unwrap() > 0);
    }
    assert!(answer.ends_with(body.as_bytes()));
    vendor.served.abort();
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let jira = raw_jira(|mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.contains("te: trailers\r\n"), "{head}");
        let mut body = Vec::new();
        while !body.ends_with(b"\r\n\r\n") {
            use tokio::io::AsyncReadExt;
            body.push(stream.read_u8().await.unwrap());
        }
        let body = String::from_utf8(body).unwrap();
        assert!(body.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{body}");
        let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 8\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending().await
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send(
            "POST /t HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te\r\ntrailer: X-Sum\r\n\
             transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
        .await;
    let reply = vendor.reply().await;
    assert_eq!(
        (reply.text(), reply.trailers.as_str()),
        ("ok", "x-sum: 8\r\n")
    );
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    let jira = jira(|request| async move {
        let answer = Response::builder();
        match request.uri().path() {
            "/none" => answer.status(StatusCode::NO_CONTENT).body(full("")),
            "/same" => answer
                .status(StatusCode::NOT_MODIFIED)
                .header("etag", "\"1\"")
                .body(full("")),
            _ => answer.header("content-length", "12345").body(full("")),
        }
        .unwrap()
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor.send("HEAD /file HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let head = vendor.reply_to("HEAD").await;
    assert_eq!(
        (head.status, head.header("content-length")),
        (200, Some("12345"))
    );
    let none = vendor.get("/none").await;
    assert_eq!((none.status, none.header("content-length")), (204, None));
    let same = vendor.get("/same").await;
    assert_eq!((same.status, same.header("etag")), (304, Some("\"1\"")));
    // Still in step: the next answer begins where it should.
    vendor
        .send("HEAD /secret HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    let refused = vendor.reply_to("HEAD").await;
    assert_eq!(refused.status, 403);
    assert!(refused.header("proxy-status").is_some());
    assert_eq!(vendor.get("/none").await.status, 204);
    for _ in 0..3 {
        let record = agent.records.next().await;
        assert_eq!(
            (&record["outcome"], &record["response_bytes"]),
            (&"complete".into(), &0.into())
        );
    }
}

#[tokio::test]
async fn interim_answers_of_jira_do_not_reach_the_vendor_as_the_answer() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n\
                      HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending().await
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    assert_eq!(vendor.get("/x").await.text(), "ok");
}

#[tokio::test]
async fn an_early_answer_passes_while_the_upload_still_runs() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 413 Payload Too Large\r\nContent-Length: 3\r\n\r\nbig";
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending().await
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("POST /big HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nthe beginning")
        .await;
    let reply = vendor.reply().await;
    assert_eq!((reply.status, reply.text()), (413, "big"));
    assert!(vendor.end().await.is_empty());
    let record = agent.records.next().await;
    assert_eq!(
        (&record["status"], &record["outcome"]),
        (&413.into(), &"complete".into())
    );
}

#[tokio::test]
async fn the_record_names_the_account_that_cloud_names() {
    let jira = jira(|_| async {
        Response::builder()
            .header("x-aaccountid", "712020:5b10")
            .body(full("ok"))
            .unwrap()
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor.send("GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await;
    vendor.reply().await;
    assert_eq!(agent.records.next().await["user"], "712020:5b10");
}

#[tokio::test]
async fn an_answer_keeps_its_headers_and_jiras_own_request_id_under_another_name() {
    let jira = jira(|_| async {
        Response::builder()
            .header("set-cookie", "b=1")
            .header("set-cookie", "a=2")
            .header("x-request-id", "from-nginx")
            .header("x-arequestid", "123x456x1")
            .header("x-ausername", "agent-user")
            .header("keep-alive", "timeout=20")
            .body(full("ok"))
            .unwrap()
    });
    let mut agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("GET /a?jql=CANARY&CANARY HTTP/1.1\r\nhost: x\r\nx-request-id: mine\r\n\r\n")
        .await;
    let reply = vendor.reply().await;
    assert_eq!(reply.header("x-request-id"), Some("mine"));
    assert_eq!(reply.header("x-jira-request-id"), Some("from-nginx"));
    assert_eq!(reply.header("x-arequestid"), Some("123x456x1"));
    assert_eq!(reply.header("keep-alive"), None);
    let cookies: Vec<_> = reply
        .headers
        .iter()
        .filter(|(n, _)| n == "set-cookie")
        .map(|(_, v)| v.as_str())
        .collect();
    assert_eq!(cookies, ["b=1", "a=2"]);
    let record = agent.records.next().await;
    assert!(!record.to_string().contains("CANARY"));
    for (key, value) in [
        ("request_id", "mine"),
        ("forward", "jira"),
        ("originator", "192.0.2.7:55000"),
        ("method", "GET"),
        ("target", "/a?jql=*&*"),
        ("decision", "allowed"),
        ("delivery", "answered"),
        ("outcome", "complete"),
        ("user", "agent-user"),
    ] {
        assert_eq!(record[key], value, "{key}");
    }
    assert_eq!(
        (&record["status"], &record["response_bytes"]),
        (&200.into(), &2.into())
    );
    assert_eq!(
        (&record["request_bytes"], &record["connection"]),
        (&0.into(), &1.into())
    );
    assert!(record["rule"].as_str().unwrap().contains("* /**"));
    let took = record["duration_ms"].as_f64().unwrap();
    assert!(record["first_byte_ms"].as_f64().unwrap() <= took && took > 0.0);
    assert_eq!(
        agent.jira.snapshot().state,
        crate::status::ProofState::Proven
    );
}

/// nginx's `proxy_pass` and HAProxy's `option httpchk` as they are without another word.
#[tokio::test]
async fn http_1_0_is_served_one_request_for_each_connection() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    for (request, ends) in [
        ("GET /a%20b?c=+ HTTP/1.0\r\n\r\n", "\n\n"),
        (
            "GET /a%20b?c=+ HTTP/1.0\r\nHost: 127.0.0.1:1\r\nConnection: close\r\n\r\n",
            "\n\n",
        ),
        (
            "POST /a%20b?c=+ HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nbody",
            "\n\nbody",
        ),
    ] {
        let mut vendor = agent.channel();
        vendor.send(request).await;
        vendor.send("GET /next HTTP/1.0\r\nHost: x\r\n\r\n").await;
        let answer = String::from_utf8(vendor.end().await).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(head.contains("connection: close"), "{answer}");
        let line = format!("{} /a%20b?c=+\n", &request[..request.find(' ').unwrap()]);
        assert!(body.starts_with(&line), "{answer}");
        assert!(
            body.contains("host: 127.0.0.1:"),
            "Jira gets HTTP/1.1: {answer}"
        );
        assert!(body.ends_with(ends), "{answer}");
    }
}

#[tokio::test]
async fn chunks_of_jira_do_not_reach_an_http_1_0_client() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        let answer =
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
        stream.write_all(answer).await.unwrap();
        std::future::pending().await
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor.send("GET /x HTTP/1.0\r\n\r\n").await;
    let answer = String::from_utf8(vendor.end().await).unwrap();
    assert!(!answer.contains("chunked"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nhello"), "{answer}");
}

/// Imperva writes the first, old Java servers the others.
#[tokio::test]
async fn an_answer_with_odd_header_lines_passes_without_them() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        let answer =
            b"HTTP/1.1 200 OK\r\nset-cookie: ___utmv=dmo\x01OZPF; path=/\r\nx-space : 1\r\n\
            x-fold: a\r\n b\r\nx name: 2\r\nno colon\r\nx-good: 3\r\ncontent-length: 2\r\n\r\nok";
        stream.write_all(answer).await.unwrap();
        std::future::pending().await
    });
    let agent = Agent::new(&jira.await, Options::default());
    let reply = agent.channel().get("/x").await;
    assert_eq!((reply.status, reply.text()), (200, "ok"));
    assert_eq!(reply.header("set-cookie"), None);
    assert_eq!(reply.header("x-space"), Some("1"));
    let fold = reply.header("x-fold").unwrap().split_whitespace();
    assert_eq!(fold.collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(reply.header("x-good"), Some("3"));
}
