//! Answers that refuse a request, and not the login.

use super::support::*;
use crate::{auth::Settings, secret::SecretFile};
use std::os::unix::fs::PermissionsExt;
use tokio::io::AsyncWriteExt;

const WORDS: &str = r#"{"code":401,"message":"Unauthorized; scope does not match"}"#;

/// An agent with a token before a Jira that answers every head with `answer`.
async fn agent(answer: &'static str) -> (Agent, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "token").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let jira = raw_jira(move |mut stream| async move {
        while !read_head(&mut stream).await.is_empty() {
            stream.write_all(answer.as_bytes()).await.unwrap();
            if !answer.contains("\r\n0\r\n") {
                return;
            }
        }
    })
    .await;
    let options = Options {
        auth: Settings::Pat {
            token_file: SecretFile::new(file),
            expires: None,
        },
        ..Options::default()
    };
    (Agent::new(&jira, options), folder)
}

#[tokio::test]
async fn a_lacking_scope_is_read_from_a_body_of_unknown_length_too() {
    let (agent, _folder) = agent(
        "HTTP/1.1 401 x\r\ntransfer-encoding: chunked\r\n\r\n\
         1c\r\n{\"code\":401,\"message\":\"Unaut\r\n\
         21\r\nhorized; scope does not match\"}\n\n\r\n0\r\n\r\n",
    )
    .await;
    let mut vendor = agent.channel();
    for _ in 0..2 {
        let reply = vendor.get("/rest/api/3/issue/A-1").await;
        assert_eq!((reply.status, reply.text().trim()), (401, WORDS));
    }
}

#[tokio::test]
async fn a_refusal_that_breaks_off_is_not_told_as_a_whole_one() {
    let (mut agent, _folder) = agent(
        "HTTP/1.1 401 x\r\ntransfer-encoding: chunked\r\n\r\n\
         3b\r\n{\"code\":401,\"message\":\"Unauthorized; scope does not match\"}\r\n",
    )
    .await;
    let mut vendor = agent.channel();
    vendor
        .send("GET /rest/api/3/issue/A-1 HTTP/1.1\r\nhost: x\r\n\r\n")
        .await;
    assert!(vendor.try_reply("GET").await.is_err());
    assert_ne!(agent.records.next().await["outcome"], "complete");
}
