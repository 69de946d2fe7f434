//! Changes of the tunnel replace its sessions one after another.

use crate::common::{TIMES, change, reload, start};
use agent::status::{ConnectionView, StatusReport};
use e2e::{
    background_load::BackgroundLoad,
    caller::HttpCaller,
    recording_origin::{RecordingOrigin, issue},
    setup::RecordedTunnel,
    sshd::{Sshd, free_addr},
    stub::StubGateway,
    wait::soon,
};

/// A changed probe interval replaces the sessions, like most other keys.
fn turned(text: String, turn: usize) -> String {
    let interval = ["500ms", "600ms"];
    text.replace(interval[turn % 2], interval[(turn + 1) % 2])
}

/// At a gateway that lets two sessions listen, replaced sessions lose no request and refuse no connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_sessions_lose_nothing_where_two_may_listen() {
    let gateway = StubGateway::start(1).await.unwrap();
    let jira = RecordingOrigin::start().await.unwrap();
    let addr = free_addr().unwrap();
    let setup = gateway.agent(0).unwrap();
    let agent = setup
        .forward("jira", &addr.to_string(), &jira.url())
        .start()
        .unwrap();
    agent.until_proven().await.unwrap();
    let load = BackgroundLoad::start(addr, 4);
    load.until_answered(50).await.unwrap();
    for turn in 0..TIMES {
        change(&agent, |text| turned(text, turn));
        assert_eq!(
            reload(&agent),
            "tunnel: the sessions are replaced one after another\n"
        );
        let next = |r: &StatusReport| r.connections[0].generation == turn as u64 + 2;
        agent.until_status("the next session", next).await.unwrap();
        load.until_answered(20).await.unwrap();
    }
    let summary = load.stop().await;
    println!(
        "{TIMES} replaced: {} answered, {} failed, {} refused",
        summary.answered, summary.failed, summary.refused
    );
    assert_eq!((summary.failed, summary.refused), (0, 0));
    summary.verify_against(&jira.comments()).unwrap();
    agent.until_proven().await.unwrap();
}

/// At a gateway that lets one session listen, replaced sessions lose no accepted request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_sessions_lose_no_accepted_request() {
    let env = start().await;
    let addr = env.addr;
    let mut caller = HttpCaller::connect(addr).await.unwrap();
    let slow = tokio::spawn(async move { caller.get("/rest/api/2/issue/HELD-1").await });
    env.jira.wait_until_held(1).await.unwrap();
    let load = BackgroundLoad::start(addr, 4);
    load.until_answered(50).await.unwrap();
    for turn in 0..TIMES {
        change(&env.agent, |text| turned(text, turn));
        reload(&env.agent);
        let next = |r: &StatusReport| {
            r.connections[0].generation == turn as u64 + 2 && !r.forwards[0].bound.is_empty()
        };
        env.agent
            .until_status("the next session", next)
            .await
            .unwrap();
        load.until_answered(20).await.unwrap();
    }
    let summary = load.stop().await;
    println!(
        "{TIMES} replaced: {} answered, {} failed, {} connections refused in the gaps",
        summary.answered, summary.failed, summary.refused
    );
    assert_eq!(summary.failed, 0);
    summary.verify_against(&env.jira.comments()).unwrap();
    // It began on the first session, which still serves it.
    env.jira.release();
    let answer = soon(slow).await.unwrap().unwrap();
    assert_eq!(*answer.body(), issue("HELD-1"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_and_gateways_come_and_go_under_load() {
    let (sshd, other) = (Sshd::start().unwrap(), Sshd::start().unwrap());
    // Both gateways accept the same key and are trusted.
    other
        .authorize(&sshd.identity().with_extension("pub"), "")
        .unwrap();
    let keys = vec![sshd.fingerprint().unwrap(), other.fingerprint().unwrap()];
    let env = RecordedTunnel::start_at(sshd, &[], |setup, _| setup.tunnel("host_keys", keys));
    let env = env.await.unwrap();
    let (sshd, agent, addr) = (&env.sshd, &env.agent, env.addr);
    let load = BackgroundLoad::start(addr, 4);
    load.until_answered(50).await.unwrap();
    for turn in 0..TIMES {
        let count = ["connections = 1", "connections = 2"];
        let (from, to) = (count[turn % 2], count[(turn + 1) % 2]);
        change(agent, |text| text.replace(from, to));
        assert!(reload(agent).starts_with("tunnel.connections: "));
        load.until_answered(10).await.unwrap();
        let wanted = |r: &StatusReport| {
            let up = |c: &ConnectionView| c.generation > 0 && c.host_key.is_some();
            r.connections.len() == (turn + 1) % 2 + 1 && r.connections.iter().all(up)
        };
        agent.until_status("the connections", wanted).await.unwrap();
    }
    let report = agent.status().await.unwrap();
    assert_eq!(report.connections[0].generation, 1, "the first one stands");
    let summary = load.stop().await;
    println!(
        "{TIMES} reloads: {} answered, {} failed, {} refused",
        summary.answered, summary.failed, summary.refused
    );
    assert_eq!((summary.failed, summary.refused), (0, 0));

    // As if it were another address of the same machine: it cannot have the port before the first session releases it.
    change(agent, |text| {
        text.replace(&sshd.address(), &other.address())
    });
    assert_eq!(
        reload(agent),
        format!("tunnel.gateways: {}\n", other.address())
    );
    let there = |r: &StatusReport| {
        r.connections[0].gateway == other.address() && r.forwards[0].bound == [addr.to_string()]
    };
    agent
        .until_status("the other gateway", there)
        .await
        .unwrap();
    let mut caller = HttpCaller::connect(addr).await.unwrap();
    soon(caller.get("/rest/api/2/issue/DEMO-1")).await.unwrap();
}
