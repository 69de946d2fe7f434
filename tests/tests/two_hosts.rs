//! Two agents of one customer, each with its own key: one is stopped and started again under load, then the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::StatusReport;
use e2e::{
    agent::AgentProcess,
    enrollment::{CustomerHost, VendorSetup},
    recording_origin::RecordingOrigin,
    sshd::{free_port, signal},
    stub::{GatewayCallers, StubGateway},
    wait::PATIENCE,
};
use std::{collections::BTreeSet, time::Duration};
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
    // Requests of slow callers are in flight when an agent is stopped.
    let (callers, slow) = (gateway.callers(2), gateway.slow_callers(4));
    for agent in [&mut first, &mut second] {
        stop_and_start(agent).await;
    }
    for (callers, least) in [(callers, 20), (slow, 2)] {
        let (answers, failures) = callers.stop().await.unwrap();
        assert_eq!(failures, Vec::<String>::new());
        assert!(answers.iter().all(|count| *count > least), "{answers:?}");
    }
}

/// From the tokens for two hosts to requests that both serve, each host with slots and a key of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_host_enrolls_with_its_slots_and_serves_beside_the_first() {
    let vendor = VendorSetup::start().await.unwrap();
    let bind = format!("127.0.0.1:{{{}+slot}}", free_port().unwrap());
    let gateway = vendor.gateway.ssh_addr.to_string();
    let enrolled = |slots: &[&str]| {
        let new = ["new", "acme", "--gateway", &gateway, "--bind", &bind];
        let token = vendor.token_command(&[&new, slots].concat()).unwrap();
        let host = CustomerHost::new().unwrap();
        host.enroll_ok(token.trim(), &vendor.answers()).unwrap();
        host
    };
    let hosts = [enrolled(&[]), enrolled(&["--slots", "4-7"])];
    assert_eq!(vendor.authorized().lines().count(), 2);
    let [mut first, mut second] = hosts.each_ref().map(|host| host.run().unwrap());
    let mut places = BTreeSet::new();
    for agent in [&first, &second] {
        let bound = |r: &StatusReport| r.forwards[0].bound.len() == 2;
        agent.until_proven().await.unwrap();
        let report = agent.until_status("two places", bound).await.unwrap();
        places.extend(report.forwards[0].bound.clone());
    }
    assert_eq!(places.len(), 4, "{places:?}");

    let at = vendor.gateway.http_addr;
    let url = format!("http://{at}/jira/rest/api/2/serverInfo");
    let name = format!("acme.{}", vendor.gateway.snapshot().domain);
    let callers = GatewayCallers::start(&url, &name, 4);
    // While one is stopped, the other serves alone.
    for agent in [&mut first, &mut second] {
        stop_and_start(agent).await;
    }
    let (answers, failures) = callers.stop().await.unwrap();
    assert_eq!(failures, Vec::<String>::new());
    assert!(answers.iter().all(|count| *count > 20), "{answers:?}");
}

async fn stop_and_start(agent: &mut AgentProcess) {
    signal(agent.process().pid(), "TERM").unwrap();
    let ended = agent.process().wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    // The other agent serves alone for a while.
    sleep(Duration::from_millis(500)).await;
    agent.restart().unwrap();
    agent.until_proven().await.unwrap();
}
