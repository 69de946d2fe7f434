//! Two agents of one customer, each with its own key: one is stopped and started again under load, then the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    recording_origin::RecordingOrigin,
    setup::RunningAgent,
    sshd::{free_port, signal},
    stub::StubGateway,
    wait::PATIENCE,
};
use std::time::Duration;
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_or_refused_when_one_is_stopped() {
    let gateway = StubGateway::start(2).await.unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let bind = format!("127.0.0.1:{}", free_port().unwrap());
    let start = |key| {
        let setup = gateway.agent(key).unwrap();
        setup.forward("jira", &bind, &jira.url()).start().unwrap()
    };
    let (mut first, mut second) = (start(0), start(1));
    for agent in [&first, &second] {
        agent.until_proven().await.unwrap();
    }
    let callers = gateway.callers(4);
    for agent in [&mut first, &mut second] {
        stop_and_start(agent).await;
    }
    let (answers, failures) = callers.stop().await.unwrap();
    assert_eq!(failures, Vec::<String>::new());
    assert!(answers.iter().all(|count| *count > 20), "{answers:?}");
}

async fn stop_and_start(agent: &mut RunningAgent) {
    signal(agent.process().pid(), "TERM").unwrap();
    let ended = agent.process().wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    // The other agent serves alone for a while.
    sleep(Duration::from_millis(500)).await;
    agent.restart().unwrap();
    agent.until_proven().await.unwrap();
}
