//! Several sessions of one agent.

use crate::support::{Origin, TestGateway, client, free_port, in_time, spec};
use std::{collections::BTreeSet, time::Duration};
use stub_gateway::GatewaySnapshot;

#[tokio::test]
async fn an_agent_that_comes_back_is_not_blocked_by_its_dead_twin() {
    let gateway = TestGateway::start().await;
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    let key = gateway.authorize("acme");
    let port = free_port().await;
    let dead = gateway.forward("acme", &key, &port.to_string(), &old).await;
    let text = gateway
        .get("acme.gateway.localhost", "/")
        .await
        .text()
        .await;
    assert_eq!(text.unwrap(), "old");
    dead.freeze().await;
    let _alive = gateway.forward("acme", &key, &port.to_string(), &new).await;

    // At once: well before a keep-alive could notice.
    let at_once = async {
        for _ in 0..10 {
            let text = gateway
                .get("acme.gateway.localhost", "/")
                .await
                .text()
                .await;
            assert_eq!(text.unwrap(), "new");
            let url = format!("http://127.0.0.1:{port}/");
            let text = client().get(url).send().await.unwrap().text().await;
            assert_eq!(text.unwrap(), "new");
        }
    };
    tokio::time::timeout(Duration::from_secs(8), at_once)
        .await
        .expect("the dead twin holds the port");
    let snapshot = gateway.running.snapshot();
    let sessions = &snapshot.agent("acme").unwrap().sessions;
    assert!(sessions[0].owes_answer && !sessions[1].owes_answer);
}

#[tokio::test]
async fn a_dead_twin_is_cut_in_the_end() {
    let gateway = TestGateway::with(|limits| {
        limits.probe_interval = Duration::from_millis(200);
        limits.probe_timeout = Duration::from_millis(300);
    })
    .await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let dead = gateway.forward("acme", &key, "0", &origin).await;
    // Behind the first probe, which measures the round trip.
    let answer = gateway.get("acme.gateway.localhost", "/").await;
    assert_eq!(answer.status(), 200);
    dead.freeze().await;
    let cut = gateway.wait_until(|g| !g.agent("acme").unwrap().online);
    tokio::time::timeout(Duration::from_secs(10), cut)
        .await
        .expect("the probe does not notice");
}

/// A request that comes then was not sent, and the answer says so.
#[tokio::test]
async fn a_suspect_session_gets_no_request_into_an_idle_channel() {
    let gateway = TestGateway::with(|limits| {
        limits.probe_interval = Duration::from_millis(200);
        // Long enough that the session is not dead before the request.
        limits.probe_timeout = Duration::from_secs(2);
        limits.reconnect_wait = Duration::from_millis(100);
    })
    .await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let ssh = gateway.forward("acme", &key, "0", &origin).await;
    let host = "acme.gateway.localhost";
    // Leaves an idle channel.
    assert_eq!(gateway.get(host, "/").await.status(), 200);
    ssh.freeze().await;
    let suspect = |g: &GatewaySnapshot| {
        let sessions = &g.agent("acme").unwrap().sessions;
        sessions.iter().any(|session| session.suspect)
    };
    in_time(gateway.wait_until(suspect)).await;
    let answer = in_time(gateway.get(host, "/")).await;
    assert!(answer.status().is_server_error());
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["delivery"], "not_sent", "{problem}");
}

/// It is answered when the session is dead, and not after the request's own deadline.
#[tokio::test]
async fn a_request_in_flight_on_a_dead_session_is_answered_at_once() {
    let gateway = TestGateway::with(|limits| {
        limits.probe_interval = Duration::from_millis(200);
        limits.probe_timeout = Duration::from_millis(300);
    })
    .await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let ssh = gateway.forward("acme", &key, "0", &origin).await;
    let host = "acme.gateway.localhost";
    assert_eq!(gateway.get(host, "/").await.status(), 200);
    ssh.freeze().await;
    // At once, on the idle channel: the session is not suspect yet.
    let answer = in_time(gateway.get(host, "/")).await;
    let problem: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(problem["delivery"], "maybe_sent", "{problem}");
    in_time(gateway.wait_until(|g| !g.agent("acme").unwrap().online)).await;
}

#[tokio::test]
async fn two_live_sessions_of_one_agent_share_a_bind() {
    let gateway = TestGateway::start().await;
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let key = gateway.authorize("acme");
    let port = free_port().await;
    let first = gateway.forward("acme", &key, &port.to_string(), &one).await;
    let _second = gateway.forward("acme", &key, &port.to_string(), &two).await;

    let mut by_http = BTreeSet::new();
    let mut by_port = BTreeSet::new();
    for _ in 0..20 {
        let text = gateway
            .get("acme.gateway.localhost", "/")
            .await
            .text()
            .await;
        by_http.insert(text.unwrap());
        let url = format!("http://127.0.0.1:{port}/");
        let text = in_time(client().get(url).send())
            .await
            .unwrap()
            .text()
            .await;
        by_port.insert(text.unwrap());
    }
    let both = BTreeSet::from(["one".to_owned(), "two".to_owned()]);
    assert_eq!(by_http, both);
    assert_eq!(by_port, both);

    // One leaves, the other keeps the same port.
    drop(first);
    gateway
        .wait_until(|g| g.agent("acme").unwrap().sessions.len() == 1)
        .await;
    for _ in 0..5 {
        let text = gateway
            .get("acme.gateway.localhost", "/")
            .await
            .text()
            .await;
        assert_eq!(text.unwrap(), "two");
        let url = format!("http://127.0.0.1:{port}/");
        let text = in_time(client().get(url).send())
            .await
            .unwrap()
            .text()
            .await;
        assert_eq!(text.unwrap(), "two");
    }
}

#[tokio::test]
async fn sessions_that_each_got_a_port_of_their_own_share_the_http_route() {
    let gateway = TestGateway::start().await;
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let key = gateway.authorize("acme");
    let _first = gateway.forward("acme", &key, "0", &one).await;
    let _second = gateway.forward("acme", &key, "0", &two).await;
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let text = gateway
            .get("acme.gateway.localhost", "/")
            .await
            .text()
            .await;
        seen.insert(text.unwrap());
    }
    assert_eq!(seen.len(), 2);
}

#[tokio::test]
async fn busy_sessions_are_spared() {
    let gateway = TestGateway::start().await;
    let (one, two) = (Origin::start("one").await, Origin::start("two").await);
    let key = gateway.authorize("acme");
    let port = free_port().await.to_string();
    let _first = gateway.forward("acme", &key, &port, &one).await;
    let _second = gateway.forward("acme", &key, &port, &two).await;
    let slow = (0..8).map(|_| gateway.get("acme.gateway.localhost", "/slow"));
    let answers = in_time(futures_util::future::join_all(slow)).await;
    let mut counts = [0, 0];
    for answer in answers {
        counts[usize::from(answer.text().await.unwrap() == "two")] += 1;
    }
    assert_eq!(counts, [4, 4]);
}

#[tokio::test]
async fn past_the_cap_a_new_session_takes_the_place_of_the_most_silent_one() {
    let gateway = TestGateway::with(|limits| limits.max_sessions_per_agent = 1).await;
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    let key = gateway.authorize("acme");
    let port = free_port().await.to_string();
    let dead = gateway.forward("acme", &key, &port, &old).await;
    dead.freeze().await;
    let old_id = gateway.running.snapshot().agent("acme").unwrap().sessions[0].id;
    let _alive = gateway.ssh("acme", &key, &["-N", "-R", &spec(&port, &new)]);
    gateway
        .wait_until(|g| {
            let agent = g.agent("acme").unwrap();
            let serving = agent.forwards.iter().flat_map(|f| &f.sessions);
            agent.sessions.len() == 1
                && agent.sessions[0].id > old_id
                && serving.eq([&agent.sessions[0].id])
        })
        .await;
    let text = gateway
        .get("acme.gateway.localhost", "/")
        .await
        .text()
        .await;
    assert_eq!(text.unwrap(), "new");
}
