//! What an answer that passes proves of Jira: nothing, unless Jira gave it.

use super::support::*;
use crate::status::ProofState;
use tokio::io::AsyncWriteExt;

/// The layer after one GET below `/rest` that is answered by this head, and whether it is doubted.
async fn seen(before: ProofState, head: &'static str) -> (ProofState, bool) {
    let jira = raw_jira(move |mut stream| async move {
        read_head(&mut stream).await;
        let answer = format!("HTTP/1.1 {head}content-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.unwrap();
    })
    .await;
    let agent = Agent::new(&jira, Options::default());
    match before {
        ProofState::Proven => agent.jira.proven(None),
        before @ (ProofState::Unknown | ProofState::Degraded | ProofState::Failed) => agent
            .jira
            .failed(before, "what answers is not Jira", "look"),
    };
    agent.channel().get("/rest/api/2/issue/A-1").await;
    (agent.jira.snapshot().state, agent.jira.take_doubt())
}

#[tokio::test]
async fn only_jiras_own_answers_prove_jira() {
    for head in [
        "200 X\r\nx-arequestid: 1x1x1\r\n",
        "400 X\r\nx-ausername: anonymous\r\n",
        "302 X\r\natl-traceid: 0f\r\nlocation: https://media.example/1\r\n",
    ] {
        assert_eq!(
            seen(ProofState::Degraded, head).await,
            (ProofState::Proven, false),
            "{head}"
        );
    }
    for (head, doubted) in [
        ("200 X\r\ncontent-type: text/html\r\n", true),
        ("302 X\r\nlocation: https://idp.example/saml\r\n", true),
        ("401 X\r\nwww-authenticate: Negotiate\r\n", true),
        ("403 X\r\ncontent-type: text/html\r\n", true),
        ("407 X\r\n", true),
        ("429 X\r\n", true),
        ("511 X\r\ncontent-type: text/html\r\n", true),
        ("302 X\r\nlocation: /waiting-room\r\n", true),
        // Of one path.
        ("503 X\r\nx-arequestid: 1x1x1\r\n", true),
        ("504 X\r\ncontent-type: text/html\r\n", true),
        // No HTTP at all.
        ("X\r\n", true),
        // As each request is answered under a wrong context path.
        ("404 X\r\nx-ausername: anonymous\r\n", false),
        // From a cache, and from whatever speaks JSON: the probe knows better.
        ("200 X\r\nx-arequestid: 1x1x1\r\nage: 60\r\n", false),
        ("200 X\r\ncontent-type: application/json\r\n", false),
        ("401 X\r\ncontent-type: application/json\r\n", false),
    ] {
        // What is not proven needs no doubt to be looked at.
        let fails = ["503", "504", "X"]
            .iter()
            .any(|start| head.starts_with(start));
        assert_eq!(
            seen(ProofState::Degraded, head).await,
            (ProofState::Degraded, doubted && !fails),
            "{head}"
        );
        // One odd path does not spoil what stands proven, either.
        assert_eq!(
            seen(ProofState::Proven, head).await,
            (ProofState::Proven, doubted),
            "{head}"
        );
    }
}
