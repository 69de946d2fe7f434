//! `agent policy explain` says what the running agent does.

use super::support::*;
use crate::{
    auth::Settings as Auth,
    http::{DryRun, HttpLimits},
    policy::{CompiledPolicy, Settings as PolicySettings},
    secret::SecretFile,
};
use http::Method;
use proptest::{
    collection::vec, prelude::*, sample::select, strategy::ValueTree, test_runner::TestRunner,
};
use tokio::io::AsyncWriteExt;

/// Framing, precheck, policy and identity, on targets of arbitrary bytes: what is explained as allowed reaches Jira with
/// these bytes, and what is explained as refused is refused for the same reason.
#[tokio::test]
async fn explaining_and_running_agree_on_arbitrary_bytes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, "token").unwrap();
    let pat = || Auth::Pat {
        token_file: SecretFile::new(file.path()),
        expires: None,
    };
    agree(Auth::PassThrough, Auth::PassThrough).await;
    agree(pat(), pat()).await;
}

async fn agree(auth: Auth, same_auth: Auth) {
    let jira = raw_jira(|mut stream| async move {
        // Says the request line back.
        loop {
            let head = read_head(&mut stream).await;
            let line = head.split("\r\n").next().unwrap().to_owned();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nX-AUSERNAME: bot\r\nContent-Length: {}\r\n\r\n{line}",
                line.len()
            );
            if stream.write_all(answer.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let limits = HttpLimits {
        max_head: 2048,
        ..HttpLimits::default()
    };
    let agent = Agent::new(
        &jira.await,
        Options {
            auth,
            limits: limits.clone(),
            ..Options::default()
        },
    );
    let policy = CompiledPolicy::new(&PolicySettings {
        allow: vec!["* /**".to_owned()],
        deny: vec!["* /secret".to_owned()],
        ..PolicySettings::default()
    })
    .unwrap();
    let judges = DryRun {
        policy: &policy,
        auth: &same_auth,
        profile: &crate::profile::ServiceProfile::jira(),
        max_head: limits.max_head,
    };
    let mut runner = TestRunner::deterministic();
    let (mut allowed, mut refused) = (0, 0);
    for _ in 0..CASES {
        let (method, target) = (method(), target())
            .new_tree(&mut runner)
            .unwrap()
            .current();
        let explained = judges.explain_as_sent(&method, &target);
        let shown = String::from_utf8_lossy(&target).into_owned();
        let mut vendor = agent.channel();
        let head = [
            method.as_str().as_bytes(),
            b" ",
            &target,
            b" HTTP/1.1\r\nhost: x\r\n\r\n",
        ]
        .concat();
        vendor.send(&head).await;
        let reply = vendor.reply().await;
        let text = reply.text();
        match explained.decision.code() {
            "allow" => {
                allowed += 1;
                let line = format!("{method} {shown} HTTP/1.1");
                assert_eq!(text, line, "explained as allowed");
            }
            code => {
                refused += 1;
                let problem: serde_json::Value = serde_json::from_str(text).unwrap_or_else(|_| {
                    panic!("{method} {shown:?} passed: {text}, explained: {explained}")
                });
                let kind = problem["type"].as_str().unwrap().rsplit(':').next();
                let reason = problem["reason"].as_str().or(kind);
                assert_eq!(
                    reason,
                    Some(code),
                    "{method} {shown:?}: {problem}, explained: {explained}"
                );
                assert_eq!(problem["detail"], explained.because, "{method} {shown:?}");
            }
        }
    }
    assert!(
        allowed > CASES / 20 && refused > CASES / 4,
        "{allowed} {refused}"
    );
}

fn method() -> impl Strategy<Value = Method> {
    select(vec![
        Method::GET,
        Method::POST,
        Method::DELETE,
        Method::TRACE,
        Method::CONNECT,
        Method::OPTIONS,
    ])
    .prop_union(select(vec![
        Method::GET,
        Method::from_bytes(b"get").unwrap(),
        Method::from_bytes(&[b'A'; 40]).unwrap(),
    ]))
}

fn target() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        "/",
        "/rest/api/2",
        "/secret",
        "/ſecret",
        "/secure/attachment/1/",
        "a%3Bb",
        "%252F",
        "%2e",
        "%C3%BC",
        "?",
        "&",
        "jql=a",
        "\"",
        "<",
        ">",
        "`",
        "^",
        "{|}",
        "[]",
        "\\",
        ";",
        "#",
        " ",
        "\r",
        "\0",
        "ü",
        "%",
        "os_username=x",
        "os%5Fpassword=x",
        "user_id=1",
        "_method=x",
        ".json",
        "..",
        "http://x",
        "*",
    ]);
    let pieces = vec(piece, 0..6).prop_map(|pieces| pieces.concat().into_bytes());
    let bytes = vec(
        any::<u8>().prop_filter("it would end the line", |b| *b != b'\n'),
        0..24,
    );
    let long = (0_usize..3000).prop_map(|length| vec![b'"'; length]);
    prop_oneof![
        6 => (Just(b"/x?".to_vec()), pieces.clone()).prop_map(|(a, b)| [a, b].concat()),
        6 => pieces.clone().prop_map(|rest| [b"/".to_vec(), rest].concat()),
        2 => pieces,
        2 => bytes.clone(),
        4 => bytes.prop_map(|rest| [b"/x?".to_vec(), rest].concat()),
        1 => long.prop_map(|rest| [b"/x?".to_vec(), rest].concat()),
    ]
}

const CASES: u32 = 600;
