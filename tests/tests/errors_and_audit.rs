//! What the vendor is told when something goes wrong, what is written down of it, and that nothing reaches Jira that
//! the policy did not see.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::LayerState;
use e2e::{
    site::{Plan, Site, vendor},
    wire,
};
use futures_util::{StreamExt, stream};
use reqwest::Response;
use serde_json::{Value, json};
use server_stub::{
    authority::Authority,
    jira::{Fault, FaultKind},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread")]
async fn while_jira_is_down_the_vendor_knows_that_nothing_was_sent() {
    let mut site = pat().start().await.unwrap();
    let url = site.vendor_url() + ISSUE;
    // A kept-alive connection, which the restart makes stale.
    assert_eq!(
        vendor()
            .post(&url)
            .json(&ticket())
            .send()
            .await
            .unwrap()
            .status(),
        201
    );
    site.stop_jira().await;
    let told = Told::of(vendor().post(&url).json(&ticket()).send().await.unwrap()).await;
    assert_eq!(
        (told.status, told.kind(), told.delivery()),
        (502, "jira-unreachable", "not_sent")
    );
    assert_eq!(told.retry_after.as_deref(), Some("5"));
    assert!(
        told.proxy_status.contains("destination_unavailable"),
        "{}",
        told.proxy_status
    );
    let record = site.audit_of(&told.request_id).await.unwrap();
    assert_eq!(record["decision"], "allowed");
    assert_eq!(record["outcome"], "failed");
    assert_eq!(record["error"], "jira-unreachable");
    assert_eq!(record["delivery"], "not_sent");

    site.start_jira().await.unwrap();
    assert_eq!(
        vendor()
            .post(&url)
            .json(&ticket())
            .send()
            .await
            .unwrap()
            .status(),
        201
    );
    assert_eq!(site.received().len(), 1, "the refused one came late");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_the_request_leaves_open_whether_it_was_carried_out() {
    let site = pat().start().await.unwrap();
    let url = site.vendor_url();
    site.jira()
        .set_faults(vec![Fault::on("/rest/api/2/issue", FaultKind::HangUp)]);
    let told = Told::of(
        vendor()
            .post(url.clone() + ISSUE)
            .json(&ticket())
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        (told.status, told.kind(), told.delivery()),
        (502, "jira-broke", "maybe_sent")
    );
    // A POST must not be repeated unseen, neither by the vendor nor by the agent.
    assert_eq!(told.retry_after, None);
    assert_eq!(site.received().len(), 1);
    let record = site.audit_of(&told.request_id).await.unwrap();
    assert_eq!(
        (&record["delivery"], &record["outcome"]),
        (&json!("maybe_sent"), &json!("failed"))
    );

    site.jira().clear_requests();
    let told = Told::of(vendor().get(url + ISSUE + "/DEMO-1").send().await.unwrap()).await;
    assert_eq!((told.kind(), told.delivery()), ("jira-broke", "maybe_sent"));
    assert_eq!(told.retry_after.as_deref(), Some("1"));
    assert_eq!(site.received().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jira_that_does_not_answer_is_given_up_and_others_go_on() {
    let site = pat()
        .line("forward", "response_timeout = \"1s\"")
        .start()
        .await
        .unwrap();
    let url = site.vendor_url();
    site.jira()
        .set_faults(vec![Fault::on("SLOW", FaultKind::Slow(120_000))]);
    let slow = tokio::spawn(vendor().get(url.clone() + ISSUE + "/SLOW-1").send());
    site.jira().received(site.jira().received_count() + 1).await;
    assert_eq!(
        vendor().get(url + MYSELF).send().await.unwrap().status(),
        200
    );
    let told = Told::of(slow.await.unwrap().unwrap()).await;
    assert_eq!(
        (told.status, told.kind(), told.delivery()),
        (504, "jira-timeout", "maybe_sent")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_an_unknown_ca_is_refused_before_anything_is_sent() {
    let same_name = Authority::new().unwrap().certificate_pem().to_owned();
    let other = rcgen::generate_simple_self_signed(["ca".to_owned()]).unwrap();
    for ca in [same_name, other.cert.pem()] {
        refuses_the_certificate(&ca).await;
    }
}

async fn refuses_the_certificate(trusted: &str) {
    let site = pat().trusting(trusted).start_unproven().await.unwrap();
    let told = Told::of(
        vendor()
            .get(site.vendor_url() + MYSELF)
            .send()
            .await
            .unwrap(),
    )
    .await;
    assert_eq!(
        (told.status, told.kind(), told.delivery()),
        (502, "jira-tls", "not_sent")
    );
    let report = site.agent.until("Jira to have failed", |r| {
        r.layers.jira.state == LayerState::Failed
    });
    let cause = report.await.unwrap().layers.jira.cause.unwrap();
    assert!(
        cause.contains("certificate") && cause.contains("ca_file"),
        "{cause}"
    );
    assert_eq!(site.jira().received_count(), 0);
}

/// Jira says "too large" while the file is still on its way; whoever waits for the end of the upload never hears it.
#[tokio::test(flavor = "multi_thread")]
async fn an_early_answer_reaches_the_vendor_before_the_upload_has_ended() {
    let site = pat().start().await.unwrap();
    site.jira()
        .set_faults(vec![Fault::on("attachments", FaultKind::AnswerEarly(413))]);
    let mut stream = TcpStream::connect(site.addr()).await.unwrap();
    let head = format!(
        "POST /jira{ISSUE}/DEMO-1/attachments HTTP/1.1\r\nHost: vendor\r\nX-Atlassian-Token: no-check\r\n\
         Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 1073741824\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&[b'x'; 64 << 10]).await.unwrap();
    let mut received = Vec::new();
    let answer = loop {
        let mut buffer = [0; 4096];
        let n = stream.read(&mut buffer).await.unwrap();
        received.extend_from_slice(&buffer[..n]);
        match wire::answers(&received).pop() {
            Some(answer) if answer.complete => break answer,
            _ => assert!(
                n > 0,
                "ended early: {:?}",
                String::from_utf8_lossy(&received)
            ),
        }
    };
    assert_eq!(answer.status, 413);
    assert_eq!(answer.header("proxy-status"), None, "it is Jira's answer");
    let record = site
        .audit_of(answer.header("x-request-id").unwrap())
        .await
        .unwrap();
    assert_eq!(
        (&record["status"], &record["delivery"]),
        (&json!(413), &json!("answered"))
    );
    assert!(record["request_bytes"].as_u64().unwrap() < 1 << 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_off_does_not_look_whole() {
    let site = pat().start().await.unwrap();
    let mut description = ticket();
    description["fields"]["description"] = json!("x".repeat(20_000));
    let url = site.vendor_url() + ISSUE;
    let created = vendor().post(&url).json(&description).send().await.unwrap();
    let created: Value = created.json().await.unwrap();
    site.jira().set_faults(vec![Fault::on(
        "/rest/api/2/issue",
        FaultKind::CutAfter(5_000),
    )]);
    let path = format!("/jira{ISSUE}/{}", created["key"].as_str().unwrap());
    let answers = wire::exchange(site.addr(), &wire::get(&path))
        .await
        .unwrap();
    let [answer] = &answers[..] else {
        panic!("{} answers", answers.len())
    };
    assert_eq!(answer.status, 200);
    assert!(
        !answer.complete,
        "a cut answer of {} bytes ended well",
        answer.body.len()
    );
    let record = site
        .audit_of(answer.header("x-request-id").unwrap())
        .await
        .unwrap();
    assert_eq!(record["outcome"], "jira_broke");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_has_an_id_and_a_line_whatever_becomes_of_it() {
    let site = pat().deny("* /rest/api/2/user/**").start().await.unwrap();
    let url = site.vendor_url();
    let request = |method: &str, target: &str| {
        vendor().request(method.parse().unwrap(), url.clone() + target)
    };
    let body = ticket().to_string();
    let cases = [
        (
            request("GET", MYSELF),
            200,
            json!({"decision": "allowed", "outcome": "complete", "delivery": "answered", "user": "acme-bot", "error": null, "request_bytes": 0}),
        ),
        (
            request("POST", ISSUE)
                .header("content-type", "application/json")
                .body(body.clone()),
            201,
            json!({"decision": "allowed", "outcome": "complete", "request_bytes": body.len()}),
        ),
        (
            request("GET", "/rest/api/2/issue/NONE-1"),
            404,
            json!({"decision": "allowed", "outcome": "complete", "delivery": "answered"}),
        ),
        (
            request("GET", "/rest/api/2/search?jql=project%3DDEMO&fields=key"),
            200,
            json!({"decision": "allowed", "target": "/jira/rest/api/2/search?jql=*&fields=*"}),
        ),
        (
            request("DELETE", "/rest/api/2/issue/DEMO-1"),
            403,
            json!({"decision": "refused", "outcome": "refused", "delivery": "not_sent", "error": "policy-refused", "rule": null}),
        ),
        (
            request("GET", "/rest/api/2/user?username=x"),
            403,
            json!({"decision": "refused", "outcome": "refused", "error": "policy-refused"}),
        ),
        (
            request("GET", "/rest/api/2/issue/DEMO-1;x"),
            400,
            json!({"decision": "refused", "outcome": "refused", "error": "ambiguous-target"}),
        ),
        (
            request("GET", &format!("{MYSELF}?os_username=x")),
            403,
            json!({"outcome": "refused", "error": "foreign-identity", "target": "/jira/rest/api/2/myself?os_username=*"}),
        ),
        (
            request("GET", MYSELF).header("x-http-method-override", "DELETE"),
            400,
            json!({"outcome": "refused", "error": "method-override"}),
        ),
    ];
    for (index, (request, status, expected)) in cases.into_iter().enumerate() {
        // Every second one comes with an id of the vendor's own.
        let own = format!("vendors-id-{index}");
        let request = if index % 2 == 0 {
            request
        } else {
            request.header("x-request-id", &own)
        };
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), status, "{expected}");
        let id = answer.headers()["x-request-id"]
            .to_str()
            .unwrap()
            .to_owned();
        assert_eq!(id == own, index % 2 == 1, "{id}");
        let length = answer.bytes().await.unwrap().len();
        let record = site.audit_of(&id).await.unwrap();
        for (name, value) in expected.as_object().unwrap() {
            assert_eq!(&record[name], value, "{name} of {record}");
        }
        assert_eq!(record["status"], status);
        assert_eq!(record["response_bytes"], length);
        assert_eq!(record["forward"], "jira");
        let names: Vec<_> = record
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        for name in AUDIT_FIELDS {
            assert!(names.contains(name), "{name} is missing in {record}");
        }
        assert!(
            record["rule"].as_str().is_some() || record["decision"] == "refused",
            "{record}"
        );
    }
    let denied = site
        .agent
        .audit()
        .into_iter()
        .find(|r| r["target"] == "/jira/rest/api/2/user?username=*");
    assert!(
        denied.unwrap()["rule"]
            .as_str()
            .is_some_and(|rule| rule.contains("/rest/api/2/user/**"))
    );
}

/// The table of the policy's own tests, sent as it stands: what is allowed arrives byte for byte, nothing else arrives.
#[tokio::test(flavor = "multi_thread")]
async fn no_trick_with_the_target_gets_past_the_policy() {
    let open = Site::plan()
        .presets(&[])
        .allow("* /**")
        .allow("OPTIONS /**");
    for (section, plan) in [("open", open), ("ticketing", Site::plan())] {
        let site = plan.start().await.unwrap();
        let rows = table(section);
        assert!(rows.len() > 30, "[{section}] has {} rows", rows.len());
        let addr = site.addr();
        let answered: Vec<_> = stream::iter(rows.clone())
            .map(|row| async move {
                let mut request = Vec::from(format!("{} ", row.method));
                request.extend_from_slice(&row.target);
                request
                    .extend_from_slice(b" HTTP/1.1\r\nHost: vendor\r\nConnection: close\r\n\r\n");
                let answers = wire::exchange(addr, &request).await.unwrap();
                (row, answers)
            })
            .buffer_unordered(16)
            .collect()
            .await;
        let mut expected = Vec::new();
        for (row, answers) in answered {
            let [answer] = &answers[..] else {
                panic!("{} answers to {row:?}", answers.len())
            };
            assert!(
                answer.header("x-request-id").is_some(),
                "{row:?}: {answer:?}"
            );
            let own = answer.header("proxy-status").is_some();
            assert_eq!(own, !row.allowed, "{row:?}: {answer:?}");
            if row.allowed {
                expected.push((row.method, row.target));
            }
        }
        let mut arrived: Vec<_> = site
            .received()
            .into_iter()
            .map(|r| (r.method, r.target))
            .collect();
        arrived.sort();
        expected.sort();
        assert_eq!(arrived, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_smuggled_past_the_policy() {
    let site = Site::plan().start().await.unwrap();
    for (name, request) in smuggling() {
        let answers = wire::exchange(site.addr(), &request).await.unwrap();
        assert!(!answers.is_empty(), "{name}: no answer");
        for answer in &answers {
            assert!(
                answer.header("x-request-id").is_some(),
                "{name}: {answer:?}"
            );
            assert!((400..=505).contains(&answer.status), "{name}: {answer:?}");
            assert!(
                answer.header("proxy-status").is_some(),
                "{name}: {answer:?}"
            );
        }
        let arrived: Vec<_> = site.received().iter().map(|r| r.target_text()).collect();
        assert!(arrived.is_empty(), "{name}: {arrived:?} reached Jira");
    }
    // A request in a body is a body.
    let inner = String::from_utf8(wire::get("/jira/rest/api/2/issue/SMUGGLED-1")).unwrap();
    let outer = "POST /jira/rest/api/2/issue/OUTER-1/comment HTTP/1.1\r\nHost: vendor\r\nContent-Type: application/json\r\n\
                 Connection: close\r\n";
    let sized = format!("{outer}Content-Length: {}\r\n\r\n{inner}", inner.len());
    let chunked = format!(
        "{outer}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
        inner.len()
    );
    for request in [sized, chunked] {
        site.jira().clear_requests();
        let answers = wire::exchange(site.addr(), request.as_bytes())
            .await
            .unwrap();
        assert_eq!(answers.len(), 1);
        let received = site.received();
        assert_eq!(received.len(), 1);
        assert_eq!(
            received[0].target,
            b"/jira/rest/api/2/issue/OUTER-1/comment"
        );
        assert_eq!(received[0].body_head, inner.as_bytes());
    }
}

/// `Connection` may name headers to take away; the login is not the vendor's to take away.
#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_cannot_have_the_login_removed() {
    let site = pat().start().await.unwrap();
    let request = format!(
        "GET /jira{MYSELF} HTTP/1.1\r\nHost: vendor\r\nAuthorization: Basic YTpi\r\n\
         Connection: close, Authorization, Host, X-Atlassian-Token\r\n\r\n"
    );
    let answers = wire::exchange(site.addr(), request.as_bytes())
        .await
        .unwrap();
    assert_eq!(answers[0].status, 200);
    let received = site.received();
    assert_eq!(received[0].user.as_deref(), Some("acme-bot"));
    assert_eq!(
        received[0].header("host").unwrap(),
        site.jira().addr.to_string()
    );
}

#[derive(Clone, Debug)]
struct Row {
    allowed: bool,
    method: String,
    target: Vec<u8>,
}

/// One section of the table, which explains its own notation.
fn table(section: &str) -> Vec<Row> {
    let mut here = false;
    let mut rows = Vec::new();
    for line in TARGETS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            here = name.split(']').next() == Some(section);
            continue;
        }
        if !here || line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (expected, rest) = line.split_once(' ').unwrap();
        let (method, target) = rest.trim_start().split_once(' ').unwrap();
        // The end of a line ends the target.
        if target.contains(r"\x0d\x0a") {
            continue;
        }
        rows.push(Row {
            allowed: expected == "allow",
            method: method.to_owned(),
            target: unescape(target.trim_start_matches(' ')),
        });
    }
    rows
}

fn unescape(text: &str) -> Vec<u8> {
    if text == r"\empty" {
        return Vec::new();
    }
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap().to_owned();
    while let Some(part) = parts.next() {
        let (digits, rest) = if part.is_empty() {
            plain.push('\\');
            plain.push_str(parts.next().unwrap_or_default());
            continue;
        } else if let Some(part) = part.strip_prefix("u{") {
            part.split_once('}').unwrap()
        } else {
            part.strip_prefix('x').unwrap().split_at(2)
        };
        plain.push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
        plain.push_str(rest);
    }
    plain.into_bytes()
}

/// Each ends in a request for SMUGGLED-1 that one reader sees and another does not.
fn smuggling() -> Vec<(&'static str, Vec<u8>)> {
    let inner = "GET /jira/rest/api/2/issue/SMUGGLED-1 HTTP/1.1\r\nHost: vendor\r\nConnection: close\r\n\r\n";
    let post = "POST /jira/rest/api/2/issue HTTP/1.1\r\nHost: vendor\r\n";
    let get = "GET /jira/rest/api/2/issue/OUTER-1 HTTP/1.1\r\nHost: vendor\r\n";
    let n = inner.len();
    let chunk = format!("{n:x}\r\n{inner}\r\n0\r\n\r\n");
    let cases = [
        (
            "CL.TE",
            format!(
                "{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}",
                n + 5
            ),
        ),
        (
            "TE.CL",
            format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{chunk}"),
        ),
        (
            "two lengths",
            format!("{post}Content-Length: 0\r\nContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "one length twice",
            format!("{post}Content-Length: {n}\r\nContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "a list of lengths",
            format!("{post}Content-Length: 0, {n}\r\n\r\n{inner}"),
        ),
        (
            "signed length",
            format!("{post}Content-Length: +0\r\n\r\n{inner}"),
        ),
        (
            "hexadecimal length",
            format!("{post}Content-Length: 0x0\r\n\r\n{inner}"),
        ),
        (
            "negative length",
            format!("{post}Content-Length: -1\r\n\r\n{inner}"),
        ),
        (
            "empty length",
            format!("{post}Content-Length:\r\n\r\n{inner}"),
        ),
        (
            "endless length",
            format!("{post}Content-Length: 99999999999999999999\r\n\r\n{inner}"),
        ),
        (
            "length with an inner space",
            format!("{post}Content-Length: 0 0\r\n\r\n{inner}"),
        ),
        (
            "space before the colon",
            format!("{post}Content-Length : {n}\r\n\r\n{inner}"),
        ),
        (
            "tab before the colon",
            format!("{post}Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "folded length",
            format!("{post}Content-Length:\r\n 0\r\n\r\n{inner}"),
        ),
        (
            "folded coding",
            format!("{post}Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "unknown coding",
            format!("{post}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "identity coding",
            format!("{post}Transfer-Encoding: identity\r\n\r\n{inner}"),
        ),
        (
            "coding list",
            format!("{post}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "coding twice",
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"
            ),
        ),
        (
            "two codings",
            format!(
                "{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n{inner}"
            ),
        ),
        (
            "gzip, chunked",
            format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "quoted coding",
            format!("{post}Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "vertical tab before the coding",
            format!("{post}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n{inner}"),
        ),
        (
            "NUL in a value",
            format!("{post}X: a\0b\r\nContent-Length: 0\r\n\r\n{inner}"),
        ),
        (
            "CR in a value",
            format!("{get}X: a\rContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "LF in a value",
            format!("{get}X: a\nContent-Length: {n}\r\n\r\n{inner}"),
        ),
        (
            "lines that end in LF",
            format!("{}\n{inner}", get.replace("\r\n", "\n")),
        ),
        ("an empty line with LF", format!("{get}\n{inner}")),
        (
            "a line without a colon",
            format!("{get}nonsense\r\n\r\n{inner}"),
        ),
        ("a name with a space", format!("{get}X Y: a\r\n\r\n{inner}")),
        ("an empty name", format!("{get}: a\r\n\r\n{inner}")),
        (
            "a first line that is folded",
            format!(
                "{} folded: x\r\n\r\n{inner}",
                get.replace("Host: vendor\r\n", "")
            ),
        ),
        (
            "no Host",
            format!("{}\r\n{inner}", get.replace("Host: vendor\r\n", "")),
        ),
        ("two Hosts", format!("{get}Host: other\r\n\r\n{inner}")),
        (
            "a Host with a path",
            format!("{}\r\n{inner}", get.replace("vendor", "vendor/x")),
        ),
        (
            "HTTP/1.0",
            format!("{}\r\n{inner}", get.replace("HTTP/1.1", "HTTP/1.0")),
        ),
        (
            "HTTP/0.9",
            format!("GET /jira/rest/api/2/issue/OUTER-1\r\n\r\n{inner}"),
        ),
        (
            "HTTP/1.2",
            format!("{}\r\n{inner}", get.replace("HTTP/1.1", "HTTP/1.2")),
        ),
        (
            "a version with more",
            format!("{}\r\n{inner}", get.replace("HTTP/1.1", "HTTP/1.1x")),
        ),
        (
            "two spaces",
            format!("{}\r\n{inner}", get.replace("GET /", "GET  /")),
        ),
        (
            "a tab",
            format!("{}\r\n{inner}", get.replace("GET /", "GET\t/")),
        ),
        (
            "a space in the target",
            format!("{}\r\n{inner}", get.replace("OUTER-1", "OUTER-1 x")),
        ),
        ("a space before the method", format!(" {get}\r\n{inner}")),
        (
            "CONNECT",
            format!("CONNECT jira:443 HTTP/1.1\r\nHost: vendor\r\n\r\n{inner}"),
        ),
        (
            "TRACE",
            format!("{}Connection: close\r\n\r\n", get.replace("GET", "TRACE")),
        ),
        (
            "a whole URL",
            format!(
                "{}Connection: close\r\n\r\n",
                get.replace("GET /", "GET http://jira/")
            ),
        ),
        (
            "WebSocket",
            format!("{get}Connection: close, Upgrade\r\nUpgrade: websocket\r\n\r\n"),
        ),
        (
            "a chunk size with a space",
            format!(
                "{post}Transfer-Encoding: chunked\r\n\r\n{}",
                chunk.replacen("\r\n", " \r\n", 1)
            ),
        ),
        (
            "a chunk size with a sign",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n+{chunk}"),
        ),
        (
            "a chunk size with 0x",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0x{chunk}"),
        ),
        (
            "a chunk size that overflows",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n10000000000000000{chunk}"),
        ),
        (
            "a chunk line that ends in LF",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0\n\n{inner}"),
        ),
        (
            "LF in a chunk extension",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0;a\n\r\n\r\n{inner}"),
        ),
        (
            "a chunk that is longer than it says",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n1\r\nxx\r\n0\r\n\r\n{inner}"),
        ),
        (
            "a bad trailer",
            format!("{post}Transfer-Encoding: chunked\r\n\r\n0\r\nX : y\r\n\r\n{inner}"),
        ),
    ];
    cases
        .into_iter()
        .map(|(name, text)| (name, text.into_bytes()))
        .collect()
}

/// The agent's own answer.
struct Told {
    status: u16,
    request_id: String,
    retry_after: Option<String>,
    proxy_status: String,
    problem: Value,
}

impl Told {
    async fn of(answer: Response) -> Self {
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(
            header("content-type").as_deref(),
            Some("application/problem+json")
        );
        let status = answer.status().as_u16();
        let (request_id, retry_after) = (header("x-request-id").unwrap(), header("retry-after"));
        let proxy_status = header("proxy-status").unwrap();
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["request_id"], *request_id);
        assert_eq!(problem["status"], status);
        assert!(
            problem["remedy"]
                .as_str()
                .is_some_and(|remedy| !remedy.is_empty())
        );
        Self {
            status,
            request_id,
            retry_after,
            proxy_status,
            problem,
        }
    }

    fn kind(&self) -> &str {
        self.problem["type"]
            .as_str()
            .unwrap()
            .strip_prefix("urn:jira-tunnel-agent:problem:")
            .unwrap()
    }

    fn delivery(&self) -> &str {
        self.problem["delivery"].as_str().unwrap()
    }
}

fn pat() -> Plan {
    Site::plan().pat("acme-bot-token")
}

fn ticket() -> Value {
    json!({ "fields": { "project": { "key": "DEMO" }, "summary": "Printer on fire", "issuetype": { "name": "Bug" } } })
}

const ISSUE: &str = "/rest/api/2/issue";
const MYSELF: &str = "/rest/api/2/myself";
const AUDIT_FIELDS: &[&str] = &[
    "time",
    "request_id",
    "forward",
    "connection",
    "originator",
    "method",
    "target",
    "decision",
    "rule",
    "error",
    "status",
    "request_bytes",
    "response_bytes",
    "duration_ms",
    "first_byte_ms",
    "delivery",
    "outcome",
    "user",
];
const TARGETS: &str = include_str!("../../agent/tests/policy/targets.txt");
