//! Tricks with the target, the framing and the headers.

use crate::{smuggling::smuggling, table};
use e2e::{
    raw_http,
    test_env::{MYSELF, TestEnv},
};
use futures_util::{StreamExt, stream};

/// Sends the table of the policy's own tests: allowed targets arrive byte for byte, all others never.
#[tokio::test(flavor = "multi_thread")]
async fn no_trick_with_the_target_gets_past_the_policy() {
    let open = TestEnv::builder()
        .presets(&[])
        .allow("* /**")
        .allow("OPTIONS /**");
    for (section, plan) in [("open", open), ("ticketing", TestEnv::builder())] {
        let site = plan.start().await.unwrap();
        let rows: Vec<_> = table::rows()
            .into_iter()
            // The end of a line ends the target.
            .filter(|row| row.section == section && !row.target.contains("\r\n"))
            // The imitation Jira, unlike Jira's Tomcat, accepts none of these; see `raw_query.rs`.
            .filter(|row| row.expected != "allow" || !row.target.contains(['<', '>']))
            .collect();
        assert!(rows.len() > 30, "[{section}] has {} rows", rows.len());
        let addr = site.addr();
        let answered: Vec<_> = stream::iter(rows.clone())
            .map(|row| async move {
                let mut request = Vec::from(format!("{} ", row.method));
                request.extend_from_slice(row.target.as_bytes());
                request
                    .extend_from_slice(b" HTTP/1.1\r\nHost: vendor\r\nConnection: close\r\n\r\n");
                let answers = raw_http::exchange(addr, &request).await.unwrap();
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
            let allowed = row.expected == "allow";
            assert_eq!(own, !allowed, "{row:?}: {answer:?}");
            if allowed {
                expected.push((row.method.to_owned(), row.target.into_bytes()));
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
    let site = TestEnv::builder().start().await.unwrap();
    for (name, request) in smuggling() {
        let answers = raw_http::exchange(site.addr(), &request).await.unwrap();
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
    // A request inside a body is only a body.
    let inner = String::from_utf8(raw_http::get("/jira/rest/api/2/issue/SMUGGLED-1")).unwrap();
    let outer = "POST /jira/rest/api/2/issue/OUTER-1/comment HTTP/1.1\r\nHost: vendor\r\nContent-Type: application/json\r\n\
                 Connection: close\r\n";
    let sized = format!("{outer}Content-Length: {}\r\n\r\n{inner}", inner.len());
    let chunked = format!(
        "{outer}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{inner}\r\n0\r\n\r\n",
        inner.len()
    );
    for request in [sized, chunked] {
        site.jira().clear_requests();
        let answers = raw_http::exchange(site.addr(), request.as_bytes())
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

/// `Connection` may name headers to remove, but not the agent's credential.
#[tokio::test(flavor = "multi_thread")]
async fn the_vendor_cannot_have_the_login_removed() {
    let site = TestEnv::start().await.unwrap();
    let request = format!(
        "GET /jira{MYSELF} HTTP/1.1\r\nHost: vendor\r\nAuthorization: Basic YTpi\r\n\
         Connection: close, Authorization, Host, X-Atlassian-Token\r\n\r\n"
    );
    let answers = raw_http::exchange(site.addr(), request.as_bytes())
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
