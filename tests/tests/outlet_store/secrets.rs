//! No secret is in the queue file, the audit or the log.

use super::common::*;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{agent::write_secret, wait::soon};
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

const PATH_SECRET: &str = "CANARY-path-secret-0123456789";

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn neither_queue_nor_audit_nor_log_holds_a_secret() {
    let mut env = StoreEnv::start_with(&[], |setup, _, folder| {
        let path = folder.path().join("path");
        write_secret(&path, PATH_SECRET).unwrap();
        let jira = folder.path().join("jira");
        setup
            .also("path_secret_file", json!(path))
            .also("jira_secret_file", json!(jira))
    })
    .await;
    env.agent.succeed(&["log-level", "trace"]).unwrap();
    let root = env.url.strip_suffix("/hooks/jira").unwrap().to_owned();
    let post = |secret: &str, body: Vec<u8>| {
        let request = jira().post(format!("{root}/{secret}/hooks/jira?a=b"));
        let signature = jira_signature(&body);
        soon(
            request
                .header("x-hub-signature", signature)
                .body(body)
                .send(),
        )
    };
    stored(post(PATH_SECRET, event("SEC", 1, 1)).await.unwrap()).await;
    env.vendor.until_accepted(1).await;
    assert_eq!(env.vendor.attempts()[0].target, "/hooks/jira?a=b");
    // Those that wait, fail and are refused.
    env.vendor.script(2, &[500]);
    stored(post(PATH_SECRET, event("SEC", 2, 1)).await.unwrap()).await;
    env.sshd.kill();
    stored(post(PATH_SECRET, event("SEC", 3, 1)).await.unwrap()).await;
    let wrong = post(&format!("{PATH_SECRET}x"), event("SEC", 4, 1))
        .await
        .unwrap();
    assert_eq!(problem(wrong).await, (403, "source-refused".to_owned()));
    env.agent.process().kill();

    let mut found = vec![env.audit_file()];
    files(env.agent.dir(), &mut found);
    let queue = env.agent.dir().join("state/events/events.redb");
    assert!(found.contains(&queue), "{found:#?}");
    let whole = SIGNING_SECRET.trim_start_matches("whsec_");
    let decoded = BASE64_STANDARD.decode(whole).unwrap();
    let secrets = [
        PATH_SECRET.as_bytes(),
        JIRA_SECRET.as_bytes(),
        whole.as_bytes(),
        &decoded,
    ];
    for path in found.iter().filter(|path| path.is_file()) {
        let content = fs::read(path).unwrap();
        for secret in secrets {
            let holds = content.windows(secret.len()).any(|part| part == secret);
            assert!(!holds, "{} holds a secret", path.display());
        }
    }
    // The search finds what is there.
    let stored = fs::read(queue).unwrap();
    let key = b"\"SEC-3\"";
    assert!(stored.windows(key.len()).any(|part| part == key));
}
