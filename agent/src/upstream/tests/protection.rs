//! The protection of Jira, seen from a request.

use super::*;
use tokio::sync::mpsc;

#[tokio::test]
async fn after_three_failed_connections_the_next_request_is_not_tried_until_a_trial_succeeds() {
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let upstream = upstream(address);
    for _ in 0..3 {
        let error = upstream.send(get("/x")).await.unwrap_err();
        assert_eq!((error.kind, error.retry_after), (FailedStep::Connect, None));
    }
    let error = upstream.send(request("POST", "/x", empty())).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind, FailedStep::Connect);
    assert_eq!(error.delivery, Delivery::NotSent);
    assert!(error.retry_after.is_some_and(|after| !after.is_zero()));
    assert!(upstream.protection().breaker_open);
    // The trial gets through, and others are sent after it.
    let listener = TcpListener::bind(address).await.unwrap();
    tokio::spawn(async move {
        for index in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            let unread = Vec::new();
            let peer = Peer {
                index,
                stream,
                unread,
            };
            tokio::spawn(peer.serve());
        }
    });
    soon("a trial succeeds", async {
        while upstream.send(get("/x")).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(!upstream.protection().breaker_open);
    upstream.send(get("/x")).await.unwrap();
}

/// Answers each request with these lines, and counts them.
async fn counted(answer: &'static str) -> (SocketAddr, mpsc::Receiver<()>) {
    let (arrived, arrivals) = mpsc::channel(64);
    let address = server(move |mut peer| {
        let arrived = arrived.clone();
        async move {
            while peer.head().await.is_some() {
                arrived.send(()).await.unwrap();
                peer.say(answer).await;
            }
        }
    });
    (address.await, arrivals)
}

fn of(requester: &'static str) -> Request<UpstreamBody> {
    let mut request = get("/x");
    let value = HeaderValue::from_static(requester);
    request.headers_mut().insert("authorization", value);
    let key = RequesterKey::of(request.headers());
    request.extensions_mut().insert(key);
    request
}

#[tokio::test]
async fn what_jira_limits_is_not_sent_before_its_time_and_others_are() {
    let (address, mut arrivals) =
        counted("HTTP/1.1 429 Slow\r\nretry-after: 7\r\ncontent-length: 0\r\n\r\n").await;
    let upstream = upstream(address);
    let answer = upstream.send(of("Bearer one")).await.unwrap();
    assert_eq!(answer.status(), 429);
    let error = upstream.send(of("Bearer one")).await.unwrap_err();
    assert_eq!(error.kind, FailedStep::RateLimit);
    assert_eq!(error.delivery, Delivery::NotSent);
    let left = error.retry_after.unwrap();
    assert!(left <= Duration::from_secs(7) && left > Duration::from_secs(1));
    assert_eq!(upstream.protection().held.unwrap().0, 1);
    upstream.send(of("Bearer two")).await.unwrap();
    for _ in 0..2 {
        arrivals.recv().await.unwrap();
    }
    assert!(arrivals.try_recv().is_err(), "only what was not limited");
}

#[tokio::test]
async fn a_pause_of_one_path_ends_with_an_answered_probe() {
    let (address, _arrivals) =
        counted("HTTP/1.1 503 No\r\nretry-after: 50\r\ncontent-length: 0\r\n\r\n").await;
    let upstream = upstream(address);
    upstream.send(get("/a?x=1")).await.unwrap();
    let error = upstream.send(get("/a?x=2")).await.unwrap_err();
    assert_eq!(error.kind, FailedStep::JiraPause);
    upstream.send(get("/b")).await.unwrap();
    upstream.probe_ended(ProbeOutcome::Well);
    upstream.send(get("/a?x=3")).await.unwrap();
}

/// A Jira that reads requests and never answers, and `connections` requests that wait for it.
async fn silent_jira(connections: usize) -> (Arc<Upstream>, Vec<tokio::task::JoinHandle<()>>) {
    let address = server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let mut settings = settings(address);
    settings.max_connections = connections;
    let upstream = Arc::new(Upstream::new(settings).unwrap());
    let waiting = (0..connections).map(|_| ask(&upstream)).collect();
    until("all connections are in use", || {
        upstream.protection.free() == 0
    })
    .await;
    (upstream, waiting)
}

fn ask(upstream: &Arc<Upstream>) -> tokio::task::JoinHandle<()> {
    let upstream = upstream.clone();
    tokio::spawn(async move {
        let error = upstream.send(get("/x")).await.map(drop).unwrap_err();
        assert_eq!(error.kind, FailedStep::PoolExhausted);
        assert_eq!(error.delivery, Delivery::NotSent);
    })
}

/// By the deadline alone a caller would wait ten seconds for nothing.
#[tokio::test]
async fn a_queue_that_does_not_move_is_answered_within_a_second_or_two() {
    let (upstream, hanging) = silent_jira(4).await;
    let asked = tokio::time::Instant::now();
    let waiting: Vec<_> = (0..20).map(|_| ask(&upstream)).collect();
    for one in waiting {
        one.await.unwrap();
    }
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(6), "{took:?}");
    assert_eq!(upstream.protection().queued, 0);
    for one in hanging {
        one.abort();
    }
    until("their turns end", || upstream.protection.free() == 4).await;
}

#[tokio::test]
async fn a_waiting_request_that_leaves_gives_up_its_place_in_the_queue() {
    let (upstream, hanging) = silent_jira(1).await;
    let (second, third) = (ask(&upstream), ask(&upstream));
    until("both wait", || upstream.protection().queued == 2).await;
    second.abort();
    until("one waits", || upstream.protection().queued == 1).await;
    hanging[0].abort();
    until("the last has its turn", || {
        upstream.protection().queued == 0
    })
    .await;
    assert_eq!(upstream.protection.free(), 0);
    third.abort();
    until("no turn is left behind", || upstream.protection.free() == 1).await;
}
