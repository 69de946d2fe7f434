//! The way out: the gate, the window, cancelled writes, the peer's close.

use super::*;
use futures_util::FutureExt;
use std::io;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

fn data(said: &[Said]) -> Vec<u8> {
    said.iter()
        .flat_map(|said| match said {
            Said::Data(data) => data.clone(),
            Said::Eof | Said::Close | Said::Died => Vec::new(),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_write_goes_in_chunks_of_32_kib() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    peer.open_window(1000);
    let sent = pattern(100_000);
    stream.write_all(&sent).await.unwrap();
    stream.flush().await.unwrap();
    let said = peer.said();
    assert_eq!(said.len(), 4);
    assert_eq!(data(&said), sent);
}

#[tokio::test(start_paused = true)]
async fn writers_wait_while_the_transport_is_behind() {
    let mut session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    peer.open_window(1000);
    session
        .transport
        .write_all(&vec![0; 2 << 20])
        .await
        .unwrap();
    let blocked = timeout(60 * SECOND, stream.write(b"x")).await;
    assert!(blocked.is_err());
    assert!(peer.said().is_empty());
    let mut sink = vec![0; 2000 << 10];
    session.far.read_exact(&mut sink).await.unwrap();
    stream.write_all(b"y").await.unwrap();
    assert_eq!(data(&peer.said()), b"y");
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_write_is_neither_sent_nor_repeated() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    stream.write_all(b"first ").await.unwrap();
    assert!(stream.write_all(b"given up").now_or_never().is_none());
    assert!(
        timeout(SECOND, stream.write_all(b"a much longer one, given up too"))
            .await
            .is_err()
    );
    peer.open_window(1000);
    stream.write_all(b"second").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(data(&peer.said()), b"first second");
}

#[tokio::test(start_paused = true)]
async fn flush_waits_for_the_window() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    stream.write_all(b"hello").await.unwrap();
    assert!(timeout(60 * SECOND, stream.flush()).await.is_err());
    peer.open_window(1);
    stream.flush().await.unwrap();
    assert_eq!(data(&peer.said()), b"hello");
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_fails_a_waiting_writer_at_once() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    let writer = tokio::spawn(async move { stream.write_all(&[0; 1 << 20]).await });
    sleep(60 * SECOND).await;
    assert!(!writer.is_finished());
    let begun = Instant::now();
    peer.say(ChannelMsg::Close).await;
    let error = writer.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_peers_close_fails_a_writer_that_waits_at_the_gate() {
    let mut session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    session
        .transport
        .write_all(&vec![0; 2 << 20])
        .await
        .unwrap();
    let writer = tokio::spawn(async move { stream.write_all(b"x").await });
    sleep(SECOND).await;
    peer.say(ChannelMsg::Close).await;
    let error = writer.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
}

#[tokio::test(start_paused = true)]
async fn the_death_of_the_session_fails_a_waiting_writer_as_such() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, mut peer) = session.open();
    let writer = tokio::spawn(async move {
        let error = stream.write_all(&[0; 1 << 20]).await.unwrap_err();
        (error.kind(), stream.shutdown().await.unwrap_err().kind())
    });
    sleep(SECOND).await;
    session.handle().abort("test");
    peer.die();
    let aborted = io::ErrorKind::ConnectionAborted;
    assert_eq!(writer.await.unwrap(), (aborted, aborted));
}

#[tokio::test(start_paused = true)]
async fn half_closed_a_stream_still_reads_and_no_longer_writes() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    peer.open_window(10);
    stream.write_all(b"all I have").await.unwrap();
    stream.shutdown().await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(peer.said().last(), Some(&Said::Eof));
    assert_eq!(peer.said().len(), 2, "EOF was sent twice");
    let error = stream.write(b"more").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    peer.send(b"answer").await;
    stream.read_exact(&mut [0; 6]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_other_direction_goes_on_after_the_peers_eof() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    peer.say(ChannelMsg::Eof).await;
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
    peer.open_window(10);
    stream.write_all(b"answer").await.unwrap();
    assert_eq!(data(&peer.said()), b"answer");
}
