//! The order in which a channel is closed.

use super::*;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::{Instant, sleep},
};

#[tokio::test(start_paused = true)]
async fn leaving_sends_eof_and_waits_for_the_peer_to_close() {
    let session = Session::new(ChannelLimits::default());
    let (stream, peer) = session.open();
    drop(stream);
    sleep(9 * SECOND).await;
    assert_eq!(peer.said(), [Said::Eof]);
    peer.say(ChannelMsg::Close).await;
    eventually("over", || session.budget.open_channels() == 0).await;
    assert_eq!(peer.said(), [Said::Eof], "russh answers a CLOSE itself");
    assert_eq!(session.budget.closed_first(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_never_closes_is_closed_and_counted() {
    let session = Session::new(ChannelLimits::default());
    let (stream, peer) = session.open();
    let begun = Instant::now();
    drop(stream);
    eventually("over", || session.budget.open_channels() == 0).await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert_eq!(peer.said(), [Said::Eof, Said::Close]);
    assert_eq!(session.budget.closed_first(), 1);
    assert_eq!(session.budget.resets(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_still_comes_for_one_who_has_left_is_swallowed_up_to_a_limit() {
    let session = Session::new(ChannelLimits::default());
    let (stream, peer) = session.open();
    drop(stream);
    let begun = Instant::now();
    peer.send_all(&pattern(4 << 20)).await;
    sleep(SECOND).await;
    assert_eq!(session.budget.closed_first(), 0);
    assert_eq!(session.budget.used(), 0);
    let _ = peer
        .messages
        .as_ref()
        .unwrap()
        .send(ChannelMsg::Data {
            data: Bytes::from_static(b"x"),
        })
        .await;
    eventually("closed first", || peer.said().contains(&Said::Close)).await;
    assert!(begun.elapsed() < 2 * SECOND, "only the time ended it");
    assert_eq!(session.budget.closed_first(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_sent_before_the_eof_although_the_stream_is_gone() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    stream.write_all(b"last words").await.unwrap();
    drop(stream);
    sleep(5 * SECOND).await;
    assert!(peer.said().is_empty(), "the window is shut");
    peer.open_window(1);
    sleep(SECOND).await;
    assert_eq!(peer.said(), [Said::Data(b"last words".to_vec()), Said::Eof]);
}

#[tokio::test(start_paused = true)]
async fn an_eof_that_was_sent_by_shutdown_is_not_sent_again() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    stream.shutdown().await.unwrap();
    drop(stream);
    peer.say(ChannelMsg::Close).await;
    eventually("over", || session.budget.open_channels() == 0).await;
    assert_eq!(peer.said(), [Said::Eof]);
}

#[tokio::test(start_paused = true)]
async fn channels_are_counted_while_they_live() {
    let session = Session::new(ChannelLimits::default());
    let open: Vec<_> = (0..5).map(|_| session.open()).collect();
    assert_eq!(session.budget.open_channels(), 5);
    for (_stream, mut peer) in open {
        peer.die();
    }
    eventually("none left", || session.budget.open_channels() == 0).await;
    assert_eq!(session.budget.closed_first(), 0);
}

/// Whoever waits for the end learns of it beside the bytes, which wait for a reader.
#[tokio::test]
async fn the_end_is_announced_beside_unread_bytes_and_the_bytes_stay() {
    let limits = ChannelLimits {
        memory: 64 << 10,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let sent = pattern(2 << 20);
    for end in [Some(ChannelMsg::Eof), Some(ChannelMsg::Close), None] {
        let (mut stream, mut peer) = session.open();
        let disconnected = tokio::spawn(stream.disconnected());
        peer.send_all(&sent).await;
        eventually("all is received", || {
            session.budget.used() >= sent.len() as u64
        })
        .await;
        assert!(!disconnected.is_finished());
        match end {
            Some(end) => peer.say(end).await,
            None => peer.die(),
        }
        tokio::time::timeout(LIVENESS, disconnected)
            .await
            .unwrap()
            .unwrap();
        let mut read = vec![0; sent.len()];
        stream.read_exact(&mut read).await.unwrap();
        assert!(read == sent);
        drop(stream);
        eventually("given back", || session.budget.used() == 0).await;
    }
}

/// A peer that does not answer our EOF keeps the channel for `close_wait`, and nothing of its spool.
#[tokio::test]
async fn the_spool_file_is_closed_when_the_application_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let limits = ChannelLimits {
        memory: 64 << 10,
        spool_dir: folder.path().to_owned(),
        close_wait: 3600 * SECOND,
        ..ChannelLimits::default()
    };
    let spools = || {
        let open = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .filter(|target| target.starts_with(folder.path()))
            .count()
    };
    let session = Session::new(limits);
    let (stream, peer) = session.open();
    peer.send_all(&pattern(2 << 20)).await;
    eventually("spooled", || spools() == 1).await;
    drop(stream);
    eventually("closed", || spools() == 0).await;
    assert_eq!(session.budget.open_channels(), 1);
}

/// EOF alone closes nothing: the peer still reads.
#[tokio::test]
async fn the_close_is_announced_beside_unread_bytes_and_tells_whether_all_was_sent() {
    let session = Session::new(ChannelLimits::default());
    for (with_eof, end) in [
        (false, Some(ChannelMsg::Close)),
        (true, Some(ChannelMsg::Close)),
        (false, None),
        (true, None),
    ] {
        let (stream, mut peer) = session.open();
        let mut closed = tokio::spawn(stream.closed());
        peer.send_all(&pattern(100_000)).await;
        if with_eof {
            peer.say(ChannelMsg::Eof).await;
            tokio::time::timeout(LIVENESS, stream.disconnected())
                .await
                .unwrap();
        }
        let early = tokio::time::timeout(Duration::from_millis(20), &mut closed);
        assert!(early.await.is_err(), "not closed yet");
        match end {
            Some(end) => peer.say(end).await,
            None => peer.die(),
        }
        let closed = tokio::time::timeout(LIVENESS, closed).await;
        assert_eq!(closed.unwrap().unwrap(), with_eof);
        drop(stream);
        eventually("nothing is held", || session.budget.used() == 0).await;
    }
}
