//! An agent that leaves and comes back.

use crate::support::{Origin, TestGateway, client, free_port, in_time};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

const ACME: &str = "acme.gateway.localhost";

/// Whoever calls while the agent restarts waits for it, on the HTTP listener and on the forward's own port.
#[tokio::test]
async fn requests_wait_for_an_agent_that_has_just_left() {
    let gateway = TestGateway::start().await;
    let (old, new) = (Origin::start("old").await, Origin::start("new").await);
    let key = gateway.authorize("acme");
    let port = free_port().await;
    let first = gateway.forward("acme", &key, &port.to_string(), &old).await;
    drop(first);
    let gone = gateway.wait_until(|g| !g.agent("acme").unwrap().online);
    gone.await;
    let url = format!("http://127.0.0.1:{port}/");
    let raw: Vec<_> = (0..5)
        .map(|_| tokio::spawn(client().get(&url).send()))
        .collect();
    let by_http = gateway.get(ACME, "/");
    let comes_back = async { gateway.forward("acme", &key, &port.to_string(), &new).await };
    let (by_http, _second) = in_time(async { tokio::join!(by_http, comes_back) }).await;
    assert_eq!(by_http.status(), 200);
    assert_eq!(by_http.text().await.unwrap(), "new");
    for one in raw {
        let answer = in_time(one).await.unwrap().unwrap();
        assert_eq!(answer.text().await.unwrap(), "new");
    }
}

#[tokio::test]
async fn an_agent_that_does_not_come_back_is_told_in_time_and_its_port_is_closed() {
    let gateway = TestGateway::with(|limits| {
        limits.reconnect_wait = Duration::from_millis(300);
    })
    .await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let port = free_port().await;
    let first = gateway
        .forward("acme", &key, &port.to_string(), &origin)
        .await;
    drop(first);
    let gone = gateway.wait_until(|g| !g.agent("acme").unwrap().online);
    gone.await;
    let asked = Instant::now();
    assert_eq!(in_time(gateway.get(ACME, "/")).await.status(), 503);
    assert!(asked.elapsed() >= Duration::from_millis(200));
    let closed = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    in_time(closed).await;
    assert!(
        gateway
            .running
            .snapshot()
            .agent("acme")
            .unwrap()
            .forwards
            .is_empty()
    );
}

/// Another agent gets the port at once: nothing waits at its cost.
#[tokio::test]
async fn a_port_that_waits_for_its_agent_gives_way_to_another() {
    let gateway = TestGateway::start().await;
    let (acme, globex) = (Origin::start("acme").await, Origin::start("globex").await);
    let keys = (gateway.authorize("acme"), gateway.authorize("globex"));
    let port = free_port().await.to_string();
    drop(gateway.forward("acme", &keys.0, &port, &acme).await);
    let gone = gateway.wait_until(|g| !g.agent("acme").unwrap().online);
    gone.await;
    let _second = in_time(gateway.forward("globex", &keys.1, &port, &globex)).await;
    let answer = client().get(format!("http://127.0.0.1:{port}/")).send();
    assert_eq!(
        in_time(answer).await.unwrap().text().await.unwrap(),
        "globex"
    );
}

#[tokio::test]
async fn only_so_many_wait() {
    let gateway = TestGateway::with(|limits| {
        limits.reconnect_wait = Duration::from_secs(20);
        limits.max_reconnect_waits = 0;
    })
    .await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    drop(gateway.forward("acme", &key, "0", &origin).await);
    let gone = gateway.wait_until(|g| !g.agent("acme").unwrap().online);
    gone.await;
    let asked = Instant::now();
    assert_eq!(in_time(gateway.get(ACME, "/")).await.status(), 503);
    assert!(asked.elapsed() < Duration::from_secs(10));
}
