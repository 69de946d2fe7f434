//! The pool: reuse, order, cap, age.

use super::*;
use tokio::sync::{mpsc, oneshot};

#[tokio::test]
async fn one_connection_serves_request_after_request() {
    let address = server(Peer::serve).await;
    let upstream = upstream(address);
    for _ in 0..50 {
        assert_eq!(text(upstream.send(get("/x")).await.unwrap()).await, "0");
        until("the connection is kept", || upstream.pool.idle_count() == 1).await;
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_the_connection_too() {
    let address = server(|mut peer| async move {
        while let Some(head) = peer.head().await {
            let index = peer.index;
            match head.as_bytes()[0] {
                b'H' => {
                    peer.say(&format!(
                        "HTTP/1.1 200 OK\r\nx-index: {index}\r\ncontent-length: 99\r\n\r\n"
                    ))
                    .await
                }
                b'D' => {
                    peer.say(&format!(
                        "HTTP/1.1 204 No Content\r\nx-index: {index}\r\n\r\n"
                    ))
                    .await
                }
                _ => {
                    peer.say(&format!(
                        "HTTP/1.1 304 Not Modified\r\nx-index: {index}\r\n\r\n"
                    ))
                    .await
                }
            }
        }
    })
    .await;
    let upstream = upstream(address);
    for method in ["HEAD", "DELETE", "GET", "HEAD"] {
        let answer = upstream.send(request(method, "/x", empty())).await.unwrap();
        assert_eq!(answer.headers()["x-index"], "0", "{method}");
        drop(answer);
        until("the connection is kept", || upstream.pool.idle_count() == 1).await;
    }
}

#[tokio::test]
async fn the_connection_used_last_is_used_next() {
    let (arrivals, mut arrived) = mpsc::channel::<oneshot::Sender<()>>(8);
    let address = server(move |mut peer| {
        let arrivals = arrivals.clone();
        async move {
            while peer.head().await.is_some() {
                let (go, gate) = oneshot::channel();
                arrivals.send(go).await.unwrap();
                gate.await.unwrap();
                peer.ok(&peer.index.to_string()).await;
            }
        }
    })
    .await;
    let upstream = Arc::new(upstream(address));
    let ask = || {
        let upstream = upstream.clone();
        tokio::spawn(async move { text(upstream.send(get("/x")).await.unwrap()).await })
    };
    let (one, two) = (ask(), ask());
    let (first, second) = (arrived.recv().await.unwrap(), arrived.recv().await.unwrap());
    first.send(()).unwrap();
    until("the first is kept", || upstream.pool.idle_count() == 1).await;
    second.send(()).unwrap();
    until("the second is kept", || upstream.pool.idle_count() == 2).await;
    let both = (one.await.unwrap(), two.await.unwrap());
    let third = ask();
    arrived.recv().await.unwrap().send(()).unwrap();
    // Whichever index arrived second was given back last.
    let third = third.await.unwrap();
    assert!(third == both.0 || third == both.1);
    until("both are kept", || upstream.pool.idle_count() == 2).await;
    let fourth = ask();
    arrived.recv().await.unwrap().send(()).unwrap();
    assert_eq!(fourth.await.unwrap(), third, "the one used last");
}

#[tokio::test]
async fn never_more_connections_than_the_cap() {
    static OPEN: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let address = server(|peer| async move {
        let open = OPEN.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(open, Ordering::SeqCst);
        peer.serve().await;
        OPEN.fetch_sub(1, Ordering::SeqCst);
    })
    .await;
    let mut settings = settings(address);
    settings.max_connections = 3;
    let upstream = Arc::new(Upstream::new(settings).unwrap());
    let all = (0..100).map(|_| {
        let upstream = upstream.clone();
        tokio::spawn(async move { text(upstream.send(get("/x")).await.unwrap()).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.unwrap();
    }
    assert_eq!(MOST.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_idle_connection_is_closed_when_its_time_is_over() {
    let (ended, mut ends) = mpsc::channel(8);
    let address = server(move |peer| {
        let ended = ended.clone();
        async move {
            peer.serve().await;
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let mut settings = settings(address);
    settings.idle_timeout = Duration::from_millis(30);
    let upstream = Upstream::new(settings).unwrap();
    for index in 0..3 {
        let answer = text(upstream.send(get("/x")).await.unwrap()).await;
        assert_eq!(answer, index.to_string());
        soon("the idle connection closes", ends.recv())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_connection_whose_answer_was_not_read_to_its_end_is_closed() {
    let (ended, mut ends) = mpsc::channel(8);
    let address = server(move |mut peer| {
        let ended = ended.clone();
        async move {
            peer.head().await;
            peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
                .await;
            peer.rest().await;
            ended.send(()).await.unwrap();
        }
    })
    .await;
    let upstream = upstream(address);
    let answer = upstream.send(get("/x")).await.unwrap();
    drop(answer);
    soon("the connection closes", ends.recv()).await.unwrap();
    let waiting = upstream.send(get("/x")).await.unwrap();
    assert_eq!(upstream.pool.idle_count(), 0);
    drop(waiting);
}

#[tokio::test]
async fn a_caller_that_gives_up_frees_its_place() {
    let (arrived, mut arrivals) = mpsc::channel(8);
    let address = server(move |mut peer| {
        let arrived = arrived.clone();
        async move {
            peer.head().await;
            arrived.send(()).await.unwrap();
            peer.rest().await;
            arrived.send(()).await.unwrap();
        }
    })
    .await;
    let mut settings = settings(address);
    settings.max_connections = 1;
    let upstream = Arc::new(Upstream::new(settings).unwrap());
    for _ in 0..3 {
        let asking = tokio::spawn({
            let upstream = upstream.clone();
            async move { upstream.send(get("/x")).await.map(drop) }
        });
        soon("the request arrives", arrivals.recv()).await.unwrap();
        asking.abort();
        soon("its connection closes", arrivals.recv())
            .await
            .unwrap();
    }
}
