//! The write-safety contract: what is sent again, and what is known of a request that failed.

use super::*;

#[tokio::test]
async fn a_pooled_connection_closed_by_jira_costs_nothing_even_for_a_post() {
    // The server has a thread of its own, so that it can close while this runtime stands still and
    // hyper can have noticed nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (close, closing) = std::sync::mpsc::channel::<()>();
    let (closed, is_closed) = std::sync::mpsc::channel::<()>();
    let served = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let mut requests = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                assert_eq!(stream.read(&mut byte).unwrap(), 1);
                head.push(byte[0]);
            }
            requests.push(String::from_utf8(head).unwrap());
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .unwrap();
            closing.recv().unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
        requests
    });
    let upstream = upstream(address);
    text(
        upstream
            .send(request("POST", "/one", empty()))
            .await
            .unwrap(),
    )
    .await;
    until("the connection is kept", || upstream.pool.idle_count() == 1).await;
    close.send(()).unwrap();
    is_closed.recv().unwrap();
    let answer = upstream.send(request("POST", "/two", empty())).await;
    assert_eq!(answer.unwrap().status(), 200);
    close.send(()).unwrap();
    let requests = served.join().unwrap();
    assert!(requests[0].starts_with("POST /one ") && requests[1].starts_with("POST /two "));
}

#[tokio::test]
async fn a_request_hyper_gives_back_is_sent_once_more_on_a_fresh_connection() {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let address = server(|mut peer| async move {
        while let Some(head) = peer.head().await {
            REQUESTS.fetch_add(1, Ordering::Relaxed);
            let body = if head.starts_with("POST") {
                peer.body(5).await
            } else {
                Vec::new()
            };
            peer.ok(&format!(
                "{} {}",
                peer.index,
                String::from_utf8(body).unwrap()
            ))
            .await;
        }
    })
    .await;
    let upstream = upstream(address);
    text(upstream.send(get("/one")).await.unwrap()).await;
    until("the connection is kept", || upstream.pool.idle_count() == 1).await;
    upstream.pool.doom_idle();
    let mut asked = request("POST", "/two", full("hello"));
    asked.headers_mut().insert("content-length", 5.into());
    assert_eq!(text(upstream.send(asked).await.unwrap()).await, "1 hello");
    assert_eq!(REQUESTS.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_request_that_was_written_is_never_repeated() {
    static REQUESTS: AtomicUsize = AtomicUsize::new(0);
    let address = server(|mut peer| async move {
        peer.head().await.unwrap();
        peer.ok("").await;
        // The second request is read and then the connection is dropped.
        if peer.head().await.is_some() {
            REQUESTS.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    let upstream = upstream(address);
    text(upstream.send(get("/one")).await.unwrap()).await;
    until("the connection is kept", || upstream.pool.idle_count() == 1).await;
    let error = upstream.send(get("/two")).await.unwrap_err();
    assert_eq!(error.kind, FailedStep::KeptConnection);
    assert_eq!(error.delivery, Delivery::MaybeSent);
    assert_eq!(REQUESTS.load(Ordering::Relaxed), 1);
    assert_eq!(upstream.pool.idle_count(), 0);
}

#[tokio::test]
async fn the_vendors_own_broken_body_is_told_as_such() {
    let address = server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let (mut sender, body) = fed();
    let upstream = upstream(address);
    let answer = upstream.send(request("POST", "/x", body));
    let feed = async {
        sender.send_data(Bytes::from_static(b"half")).await.unwrap();
        sender.abort("the channel closed".into());
    };
    let (answer, ()) = tokio::join!(answer, feed);
    let error = answer.unwrap_err();
    assert_eq!(error.kind, FailedStep::RequestBody);
    assert_eq!(error.delivery, Delivery::MaybeSent);
    assert!(error.detail.contains("the channel closed"), "{error}");
}

#[tokio::test]
async fn a_silent_jira_runs_into_the_deadline_and_loses_the_connection() {
    let address = server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let mut settings = settings(address);
    settings.response_timeout = Duration::from_millis(50);
    settings.max_connections = 1;
    let upstream = Upstream::new(settings).unwrap();
    for _ in 0..2 {
        let error = upstream.send(get("/x")).await.unwrap_err();
        assert_eq!(error.kind, FailedStep::ResponseTimeout);
        assert_eq!(error.delivery, Delivery::MaybeSent);
    }
}
