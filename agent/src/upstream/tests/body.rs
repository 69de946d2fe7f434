//! Bodies: streaming, early answers, and the deadline for the head of the answer.

use super::*;
use crate::upstream::exchange::outgoing;
use http_body::Body as _;
use std::task::{Context, Waker};

#[tokio::test]
async fn an_answer_reaches_the_vendor_while_the_upload_still_runs() {
    let address = server(|mut peer| async move {
        peer.head().await.unwrap();
        peer.ok("early").await;
        // The agent closes: where the upload stands, nobody would know.
        peer.rest().await;
    })
    .await;
    let upstream = upstream(address);
    let (mut sender, body) = fed();
    let answer = soon("answer", upstream.send(request("POST", "/x", body))).await;
    assert_eq!(text(answer.unwrap()).await, "early");
    assert_eq!(upstream.protection.free(), 64, "its place is free at once");
    let stopped = async { while sender.send_data(Bytes::from_static(b"more")).await.is_ok() {} };
    soon("the upload to stop", stopped).await;
    assert_eq!(upstream.pool.idle_count(), 0);
}

#[tokio::test]
async fn a_refusal_sent_by_a_server_that_closes_under_the_upload_is_delivered() {
    for _ in 0..20 {
        let address = server(|mut peer| async move {
            peer.head().await.unwrap();
            peer.say("HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 3\r\n\r\nbig")
                .await;
            // Dropped with unread bytes in its buffer, the socket resets the connection.
            peer.body(1 << 10).await;
        })
        .await;
        let body = StreamBody::new(futures_util::stream::repeat_with(|| {
            Ok::<_, BodyError>(http_body::Frame::data(Bytes::from_static(&[7; 64 << 10])))
        }));
        let upstream = upstream(address);
        let answer = upstream.send(request("POST", "/x", body.boxed_unsync()));
        let answer = soon("answer", answer).await.unwrap();
        assert_eq!(answer.status(), 413);
    }
}

#[tokio::test]
async fn a_large_body_streams_both_ways_unchanged() {
    const SIZE: usize = 8 << 20;
    let address = server(|mut peer| async move {
        peer.head().await.unwrap();
        let body = peer.body(SIZE).await;
        peer.say(&format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n"
        ))
        .await;
        peer.stream.write_all(&body).await.unwrap();
    })
    .await;
    let sent: Bytes = (0..SIZE).map(|i| ((i * 31) >> 3) as u8).collect();
    let mut asked = request("PUT", "/x", full(sent.clone()));
    asked.headers_mut().insert("content-length", SIZE.into());
    let answer = upstream(address).send(asked).await.unwrap();
    let received = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(received == sent);
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_an_error_not_an_end() {
    let address = server(|mut peer| async move {
        peer.head().await.unwrap();
        peer.say("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            .await;
    })
    .await;
    let answer = upstream(address).send(get("/x")).await.unwrap();
    let error = answer.into_body().collect().await.unwrap_err();
    assert!(!error.to_string().is_empty());
}

/// Polls the request's body once, as hyper does when it has room.
fn poll(request: &mut Request<crate::upstream::exchange::TrackedBody>) {
    let mut cx = Context::from_waker(Waker::noop());
    let _ = std::pin::Pin::new(request.body_mut()).poll_frame(&mut cx);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_for_the_answer_counts_from_the_last_byte_jira_took() {
    let limit = Duration::from_secs(10);
    let (mut sender, body) = fed();
    let mut asked = outgoing(request("POST", "/x", body), &HeaderValue::from_static("h"));
    let progress = asked.body().progress();
    let begun = tokio::time::Instant::now();
    let overdue = tokio::spawn(async move {
        progress.overdue(limit).await;
        begun.elapsed()
    });
    // It moves: one frame each 9 s, a minute long.
    for _ in 0..7 {
        sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        poll(&mut asked);
        tokio::time::sleep(Duration::from_secs(9)).await;
    }
    // The vendor pauses for longer than the limit: not Jira's fault.
    poll(&mut asked);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!overdue.is_finished());
    // It ends at 123 s; from here on Jira is awaited.
    drop(sender);
    poll(&mut asked);
    assert_eq!(overdue.await.unwrap().as_secs(), 7 * 9 + 60 + 10);
}

#[tokio::test(start_paused = true)]
async fn jira_that_stops_taking_an_upload_is_overdue() {
    let (mut sender, body) = fed();
    let mut asked = outgoing(request("POST", "/x", body), &HeaderValue::from_static("h"));
    sender.send_data(Bytes::from_static(b"x")).await.unwrap();
    poll(&mut asked);
    let begun = tokio::time::Instant::now();
    asked
        .body()
        .progress()
        .overdue(Duration::from_secs(10))
        .await;
    assert_eq!(begun.elapsed().as_secs(), 10);
}

#[tokio::test]
async fn an_answer_can_be_read_where_writing_fails_already() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (connected, connects) = std::sync::mpsc::channel::<()>();
    let served = std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 413 x\r\n").unwrap();
        // A reset before that would be the connect's own failure.
        let _ = connects.recv();
        // The next close is a reset: what the agent writes from now on fails.
        let linger = Some(Duration::ZERO);
        socket2::SockRef::from(&stream).set_linger(linger).unwrap();
    });
    let stream = TcpStream::connect(address).await.unwrap();
    drop(connected);
    let mut stream = crate::upstream::stream::EarlyAnswerStream::plain(
        crate::upstream::channel_dial::DialedStream::Tcp(stream),
        crate::upstream::dial::promised(2).unwrap(),
    );
    served.join().unwrap();
    let polled = soon("the reset", async {
        loop {
            let mut written = std::pin::pin!(stream.write(b"more of the upload"));
            let once = std::future::poll_fn(|cx| std::task::Poll::Ready(written.as_mut().poll(cx)));
            match once.await {
                // On a busy machine the reset comes a little later.
                std::task::Poll::Ready(Ok(_)) => tokio::task::yield_now().await,
                other @ (std::task::Poll::Ready(_) | std::task::Poll::Pending) => break other,
            }
        }
    });
    let polled = polled.await;
    assert!(polled.is_pending(), "{polled:?}");
    let mut answer = [0; 16];
    soon("the answer", stream.read_exact(&mut answer))
        .await
        .unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413 x\r\n");
}
