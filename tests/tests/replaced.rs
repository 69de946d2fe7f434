//! A session that is replaced while the vendor keeps its connections open: each is told, with its next answer, to come
//! anew, and the session ends without having cut one off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    caller::HttpCaller,
    recording_origin::{RecordingOrigin, issue},
    setup::AgentSetup,
    sshd::{Sshd, free_port},
};
use std::{fs, net::SocketAddr, time::Duration};
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_on_a_replaced_session_are_told_to_come_anew_and_lose_no_request() {
    let sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let setup = AgentSetup::for_sshd(&sshd).unwrap();
    let setup = setup.forward("jira", &addr.to_string(), &jira.url());
    let agent = setup.start().unwrap();
    agent.until_proven().await.unwrap();
    let mut pooled = HttpCaller::connect(addr).await.unwrap();
    let before = pooled.get("/rest/api/2/issue/DEMO-1").await.unwrap();
    assert_eq!(before.headers().get("connection"), None);

    let file = agent.dir().join("agent.toml");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("500ms", "600ms")).unwrap();
    let done = agent.run(&["reload"]).unwrap();
    assert!(done.status.success(), "{done:?}");
    let last = async {
        loop {
            let answer = pooled.get("/rest/api/2/issue/DEMO-2").await.unwrap();
            assert_eq!(*answer.body(), issue("DEMO-2"));
            if answer.headers().get("connection").is_some() {
                return answer;
            }
        }
    };
    let last = timeout(PATIENCE, last).await.expect("it is told nothing");
    assert_eq!(last.headers()["connection"], "close");

    // With its last connection the session goes; a new connection comes by the new one.
    sshd.logged("Disconnected from").await.unwrap();
    let mut anew = HttpCaller::connect(addr).await.unwrap();
    let answer = anew.get("/rest/api/2/issue/DEMO-3").await.unwrap();
    assert_eq!(*answer.body(), issue("DEMO-3"));
    assert_eq!(answer.headers().get("connection"), None);
}

/// Generous: a loaded machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);
