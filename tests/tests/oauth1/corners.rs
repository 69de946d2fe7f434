//! Requests with every corner case of signing, and others that verify their signatures.

use crate::common::{CONSUMER, KEY};
use e2e::{
    client_script,
    test_env::{SEARCH, TestEnv, vendor},
};
use serde_json::{Value, json};
use server_stub::jira::ReceivedRequest;

/// Sends all corner cases, also with queries, and one JSON body, which is not signed.
pub async fn send_corner_cases(site: &TestEnv) {
    let url = site.vendor_url();
    for target in CORNERS {
        // reqwest does not change these targets; the test of what was received would show it.
        let answer = site.get(target).await.unwrap();
        let status = answer.status();
        assert!(
            ![401, 502, 503].contains(&status.as_u16()),
            "{target}: {status}"
        );
    }
    for form in FORMS {
        let request = vendor()
            .post(format!("{url}{SEARCH}?a=2&a=1"))
            .header(
                "content-type",
                "application/x-www-form-urlencoded; charset=UTF-8",
            )
            .header("x-atlassian-token", "no-check")
            .body(*form);
        let status = request.send().await.unwrap().status();
        assert!(
            ![401, 403, 502, 503].contains(&status.as_u16()),
            "{form}: {status}"
        );
    }
    let json = json!({"jql": "project = DEMO", "a": "b=c&d"});
    assert_eq!(site.post(SEARCH, &json).await.unwrap().status(), 200);
}

pub async fn verified_by_others(origin: &str, token: &str, received: &[ReceivedRequest]) {
    let requests: Vec<Value> = received
        .iter()
        .map(|request| {
            let mut headers = serde_json::Map::new();
            let authorization = request.header("authorization").unwrap();
            headers.insert("Authorization".into(), authorization.into());
            if let Some(kind) = request.header("content-type") {
                headers.insert("Content-Type".into(), kind.into());
            }
            json!({
                "method": request.method,
                "url": format!("{origin}{}", request.target_text()),
                "headers": headers,
                "body": String::from_utf8(request.body_head.clone()).unwrap(),
            })
        })
        .collect();
    let input = json!({
        "public_key": KEY.public_pem().unwrap(),
        "consumer_key": CONSUMER,
        "token": token,
        "requests": requests,
    });
    let script = client_script::python("oauth1_verify.py");
    let output = client_script::run(script, input.to_string().as_bytes()).await;
    let output = output.unwrap();
    assert!(
        output.contains(&format!("{} requests, 0 wrong", received.len())),
        "{output}"
    );
}

/// Targets below the context path with corner cases of signing.
pub const CORNERS: &[&str] = &[
    "/rest/api/2/myself",
    "/rest/api/2/myself?",
    "/rest/api/2/myself?a",
    "/rest/api/2/myself?a=",
    "/rest/api/2/myself?a=1&a=1&a=&a&a=0",
    "/rest/api/2/myself?&&a=1&",
    "/rest/api/2/myself?b=2&a=1&c=3&B=0&%41=9",
    "/rest/api/2/myself?a=b=c==",
    "/rest/api/2/myself?a=%2b+%20%2B",
    "/rest/api/2/myself?a=%26%3D%25&%26=%3D",
    "/rest/api/2/myself?a=%252F",
    "/rest/api/2/myself?a=%c3%a4%E2%98%83&%C3%A4=1&z=1",
    "/rest/api/2/myself?a=-._~!*'()/?:@,",
    "/rest/api/2/myself?a;b=c;d",
    "/rest/api/2/myself?a1=x&a=x&a-=x&a%20=x&a%2B=x",
    "/rest/api/2/myself?a=%0A%0d%00",
    "/rest/api/2/myself?username=fred&expand=a,b,c",
    "/rest/api/2/search?jql=project%20%3D%20DEMO%20AND%20text%20~%20%22a%2Bb%22&maxResults=1",
    "/rest/api/2/issue/D%45MO-1?fields=summary",
];

/// Form bodies with corner cases of signing.
pub const FORMS: &[&str] = &[
    "jql=project+%3D+DEMO&maxResults=1",
    "jql=project%20%3D%20DEMO&jql=&jql&a=%2B+%20",
    "&&a=%C3%A4&b=b=b&",
];
