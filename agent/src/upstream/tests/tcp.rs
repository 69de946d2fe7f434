//! `tcp://` upstreams.

use super::*;
use crate::upstream::tcp::{PumpError, PumpedBytes, pump};
use std::sync::Arc;
use tokio::{
    io::duplex,
    sync::{Notify, oneshot},
};

fn tcp(address: SocketAddr) -> Settings {
    Settings::new(format!("tcp://{address}").parse().unwrap())
}

#[tokio::test]
async fn each_way_ends_on_its_own() {
    let address = server(|mut peer| async move {
        // Reads to the end, and only then answers: half-close must have arrived.
        let all = peer.rest().await;
        peer.say(&format!("got {}", all.len())).await;
    })
    .await;
    let (mut vendor, ours) = duplex(1 << 10);
    let pumped =
        tokio::spawn(async move { pump(ours, std::future::pending(), &tcp(address)).await });
    vendor.write_all(&[7; 100_000]).await.unwrap();
    vendor.shutdown().await.unwrap();
    let mut answer = String::new();
    vendor.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "got 100000");
    let (counts, result) = pumped.await.unwrap();
    result.unwrap();
    assert_eq!(
        counts,
        PumpedBytes {
            sent: 100_000,
            received: 10
        }
    );
}

#[tokio::test]
async fn an_upstream_that_refuses_is_told_as_not_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (_vendor, ours) = duplex(64);
    let (counts, result) = pump(ours, std::future::pending(), &tcp(address)).await;
    assert_eq!(counts, PumpedBytes::default());
    match result {
        Err(PumpError::Connect(error)) => {
            assert_eq!(error.kind, FailedStep::Connect);
            assert_eq!(error.delivery, Delivery::NotSent);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_on_which_nothing_moves_is_ended() {
    let address = server(|mut peer| async move {
        peer.rest().await;
    })
    .await;
    let mut settings = tcp(address);
    settings.tcp_idle_timeout = Duration::from_millis(30);
    let (_vendor, ours) = duplex(64);
    let (_, result) = soon("the end", pump(ours, std::future::pending(), &settings)).await;
    assert!(matches!(result, Err(PumpError::Idle(_))), "{result:?}");
}

/// An upstream that reads nothing keeps the end of the vendor's bytes from being seen.
#[tokio::test]
async fn a_closed_channel_ends_its_exchange_whatever_waits_for_the_upstream() {
    let address = server(|peer| async move {
        let _unread = peer;
        std::future::pending().await
    })
    .await;
    for vendor_sent_all in [false, true] {
        let (close, closed) = oneshot::channel();
        let (mut vendor, ours) = duplex(1 << 10);
        let pumped = tokio::spawn(async move {
            let closed = async { closed.await.unwrap() };
            pump(ours, closed, &tcp(address)).await
        });
        let stuck = async { while vendor.write_all(&[7; 64 << 10]).await.is_ok() {} };
        let _ = tokio::time::timeout(Duration::from_millis(300), stuck).await;
        assert!(!pumped.is_finished());
        close.send(vendor_sent_all).unwrap();
        let (counts, result) = soon("the end", pumped).await.unwrap();
        assert!(matches!(result, Err(PumpError::VendorClosed)), "{result:?}");
        assert!(counts.sent > 0);
    }
}

/// A channel is closed as well when each side has sent all: that cuts nothing off.
#[tokio::test]
async fn what_both_sides_have_sent_is_delivered_after_the_channel_is_closed() {
    const SENT: usize = 16 << 20;
    let (go_on, taken) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let upstream = (Arc::clone(&go_on), Arc::clone(&taken));
    let address = server(move |mut peer| {
        let (go_on, taken) = upstream.clone();
        async move {
            peer.say("bye").await;
            peer.stream.shutdown().await.unwrap();
            go_on.notified().await;
            taken.store(peer.rest().await.len(), Ordering::Relaxed);
        }
    })
    .await;
    let (close, closed) = oneshot::channel();
    let (vendor, ours) = duplex(64 << 10);
    let pumped = tokio::spawn(async move {
        let closed = async { closed.await.unwrap() };
        pump(ours, closed, &tcp(address)).await
    });
    let (mut from_agent, mut to_agent) = tokio::io::split(vendor);
    let sending = tokio::spawn(async move {
        to_agent.write_all(&vec![7; SENT]).await.unwrap();
        to_agent.shutdown().await.unwrap();
    });
    let mut answer = String::new();
    from_agent.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "bye");
    close.send(true).unwrap();
    go_on.notify_one();
    sending.await.unwrap();
    soon("the end", pumped).await.unwrap().1.unwrap();
    until("all is taken", || taken.load(Ordering::Relaxed) == SENT).await;
}
