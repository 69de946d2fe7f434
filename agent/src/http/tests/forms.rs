//! Form bodies where the agent logs in by itself: read ahead, looked through, sent on byte for byte.

use super::{failing::secret, support::*};
use crate::{
    auth::{MAX_FORM, Settings as Auth},
    http::HttpLimits,
};
use std::time::Duration;

const FORM: &str =
    "POST /x HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-www-form-urlencoded\r\n";

fn injecting(token_file: crate::secret::SecretFile) -> Options {
    Options {
        auth: Auth::Pat {
            token_file,
            expires: None,
        },
        ..Options::default()
    }
}

#[tokio::test]
async fn a_form_reaches_jira_byte_for_byte() {
    let (_file, token_file) = secret("token");
    let mut agent = Agent::new(&jira(echo).await, injecting(token_file));
    let mut vendor = agent.channel();
    let body = "jql=a%20b+c&&x=%zz&x=&=&y;z=\u{e4}";
    let length = body.len();
    vendor
        .send(format!("{FORM}content-length: {length}\r\n\r\n{body}"))
        .await;
    let reply = vendor.reply().await;
    let (head, echoed) = reply.text().split_once("\n\n").unwrap();
    assert_eq!(echoed, body);
    assert!(head.contains("authorization: Bearer token"), "{head}");
    assert!(head.contains(&format!("content-length: {length}")));

    // In chunks, with one that cuts a name in two; the channel lives on.
    vendor
        .send(format!(
            "{FORM}transfer-encoding: chunked\r\n\r\n5\r\njql=a\r\n4\r\n&b=c\r\n0\r\n\r\n"
        ))
        .await;
    let reply = vendor.reply().await;
    assert!(reply.text().ends_with("\n\njql=a&b=c"), "{}", reply.text());
    vendor
        .send(format!("{FORM}content-length: 0\r\n\r\n"))
        .await;
    assert_eq!(vendor.reply().await.status, 200);

    let record = agent.records.next().await;
    assert_eq!(record["request_bytes"], length);
}

#[tokio::test]
async fn a_form_that_chooses_an_identity_never_reaches_jira() {
    let (_file, token_file) = secret("token");
    let jira = jira(|_| async { panic!("it was sent") }).await;
    let mut agent = Agent::new(&jira, injecting(token_file));
    let mut vendor = agent.channel();
    for framed in [
        "content-length: 20\r\n\r\na=b&os_username=mary",
        "transfer-encoding: chunked\r\n\r\n7\r\na=b&os_\r\n9\r\nusername=\r\n4\r\nmary\r\n0\r\n\r\n",
    ] {
        vendor.send(format!("{FORM}{framed}")).await;
        let reply = vendor.reply().await;
        let problem = reply.assert_problem("foreign-identity", "not_sent");
        assert!(!problem.to_string().contains("mary"), "{problem}");
        assert_eq!(reply.header("connection"), None);
        assert_eq!(agent.records.next().await["error"], "foreign-identity");
    }
    // Spring's filter takes the method from there.
    vendor
        .send(format!("{FORM}content-length: 14\r\n\r\n_method=DELETE"))
        .await;
    vendor.reply().await.assert_problem("form-body", "not_sent");
}

#[tokio::test]
async fn a_form_past_the_bound_is_refused_whether_it_says_so_or_not() {
    let (_file, token_file) = secret("token");
    let jira = jira(|_| async { panic!("it was sent") }).await;
    let agent = Agent::new(&jira, injecting(token_file));
    let long = "a".repeat(MAX_FORM + 1);
    let length = long.len();
    for framed in [
        format!("content-length: {length}\r\n\r\n"),
        format!("transfer-encoding: chunked\r\n\r\n{length:x}\r\n{long}\r\n"),
    ] {
        let mut vendor = agent.channel();
        vendor.send(format!("{FORM}{framed}")).await;
        let reply = vendor.reply().await;
        reply.assert_problem("form-body", "not_sent");
        assert_eq!(reply.header("connection"), Some("close"));
    }
}

#[tokio::test]
async fn a_form_that_does_not_come_to_its_end_is_not_waited_for_and_not_sent() {
    let (_file, token_file) = secret("token");
    let jira = jira(|_| async { panic!("it was sent") }).await;
    let options = Options {
        limits: HttpLimits {
            stall_timeout: Duration::from_millis(200),
            ..HttpLimits::default()
        },
        ..injecting(token_file)
    };
    let mut agent = Agent::new(&jira, options);
    let mut vendor = agent.channel();
    vendor
        .send(format!("{FORM}content-length: 9\r\n\r\na=b"))
        .await;
    let reply = vendor.reply().await;
    reply.assert_problem("upload-stalled", "not_sent");
    assert_eq!(agent.records.next().await["error"], "upload-stalled");

    let mut vendor = agent.channel();
    vendor
        .send(format!("{FORM}transfer-encoding: chunked\r\n\r\nzz\r\n"))
        .await;
    vendor
        .reply()
        .await
        .assert_problem("upload-broken", "not_sent");
}
