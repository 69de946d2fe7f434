//! `tcp://` upstreams.

use super::*;
use crate::upstream::tcp::{PumpError, PumpedBytes, pump};
use tokio::io::duplex;

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
    let pumped = tokio::spawn(async move { pump(ours, &tcp(address)).await });
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
    let (counts, result) = pump(ours, &tcp(address)).await;
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
    let (_, result) = soon("the end", pump(ours, &settings)).await;
    assert!(matches!(result, Err(PumpError::Idle(_))), "{result:?}");
}
