//! The way in: draining, memory, spool, bounds.

use super::{
    super::{
        CloseReason,
        inbox::Inbox,
        spool::{SpoolJob, SpoolJobResult},
    },
    *,
};
use agent_base::disk::FreeSpaceFloor;
use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    task::Waker,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadBuf};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

async fn settled(session: &Session) {
    eventually("the account is settled", || {
        session.budget.used() == 0 && session.budget.memory() == 0
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_reads_nothing_holds_nobody_up_and_loses_nothing() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    let sent = pattern(20 << 20);
    peer.send_all(&sent).await;
    eventually("the rest is on disk", || session.budget.memory() < 3 << 20).await;
    assert!(session.budget.used() >= 20 << 20);
    peer.say(ChannelMsg::Eof).await;
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read == sent);
    settled(&session).await;
}

#[tokio::test]
async fn order_is_kept_across_memory_and_a_file_that_wraps() {
    let limits = ChannelLimits {
        memory: 64 << 10,
        spool_per_channel: 3 << 20,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (mut stream, peer) = session.open();
    let sent = pattern(24 << 20);
    let mut read = Vec::new();
    for megabytes in sent.chunks(2 << 20) {
        for piece in megabytes.chunks(30_011) {
            peer.send(piece).await;
        }
        let mut part = vec![0; megabytes.len() - 1000];
        stream.read_exact(&mut part).await.unwrap();
        read.extend(part);
    }
    peer.say(ChannelMsg::Eof).await;
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read == sent);
    settled(&session).await;
}

#[tokio::test]
async fn a_reader_and_a_sender_at_full_speed_both_get_on() {
    let limits = ChannelLimits {
        memory: 256 << 10,
        spool_per_channel: 8 << 20,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (mut stream, peer) = session.open();
    let sent = pattern(16 << 20);
    let copy = sent.clone();
    let sender = tokio::spawn(async move {
        for piece in copy.chunks(PACKET) {
            peer.send(piece).await;
            tokio::task::yield_now().await;
        }
        peer.say(ChannelMsg::Eof).await;
        peer
    });
    let mut read = Vec::new();
    let mut buffer = vec![0; 16 << 10];
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        read.extend_from_slice(&buffer[..n]);
    }
    assert!(read == sent);
    drop(sender.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_reader_at_work_needs_no_file() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    let sent = pattern(16 << 20);
    let copy = sent.clone();
    let sender = tokio::spawn(async move {
        peer.send_all(&copy).await;
        peer.say(ChannelMsg::Eof).await;
        peer
    });
    let (mut read, mut buffer) = (Vec::new(), vec![0; 16 << 10]);
    loop {
        let n = stream.read(&mut buffer).await.unwrap();
        if n == 0 {
            break;
        }
        read.extend_from_slice(&buffer[..n]);
        assert_eq!(session.budget.used(), session.budget.memory());
        tokio::task::yield_now().await;
    }
    assert!(read == sent);
    drop(sender.await.unwrap());
}

#[tokio::test]
async fn full_channels_await_their_readers_while_half_of_the_memory_is_left() {
    for (memory_per_process, expected) in [
        (64 << 20, vec![true; 4]),
        (5 << 20, vec![true, true, false, false]),
    ] {
        let session = Session::new(ChannelLimits {
            memory_per_process,
            ..ChannelLimits::default()
        });
        let mut inboxes = Vec::new();
        for waits in expected {
            let mut inbox = Inbox::new(Arc::clone(&session.budget));
            for _ in 0..(1 << 20) / PACKET {
                inbox.push(Bytes::from(vec![0; PACKET])).unwrap();
            }
            assert_eq!(inbox.awaits_reader(), waits, "{}", inboxes.len());
            inboxes.push(inbox);
        }
    }
}

#[tokio::test]
async fn neither_reading_the_file_nor_writing_it_starves() {
    let session = Session::new(ChannelLimits::default());
    let mut inbox = Inbox::new(Arc::clone(&session.budget));
    let work = |inbox: &mut Inbox| {
        for _ in 0..64 {
            inbox.push(Bytes::from(vec![0; PACKET])).unwrap();
        }
        match inbox.plan().unwrap() {
            SpoolJob::Write { .. } => {
                inbox.finish(SpoolJobResult::Written);
                'w'
            }
            SpoolJob::Read { length, .. } => {
                inbox.finish(SpoolJobResult::Read(Bytes::from(vec![0; length])));
                'r'
            }
        }
    };
    // Nobody reads, and megabytes go to the file.
    (0..8).for_each(|_| assert_eq!(work(&mut inbox), 'w'));
    let order: String = std::iter::repeat_with(|| {
        let mut sink = vec![0; 4 << 20];
        let _ = inbox.read(&mut ReadBuf::new(&mut sink), Waker::noop());
        work(&mut inbox)
    })
    .take(12)
    .collect();
    assert_eq!(order, "rwrwrwrwrwrw");
}

#[tokio::test]
async fn past_its_cap_a_channel_is_reset_and_only_that_one() {
    let limits = ChannelLimits {
        memory: 64 << 10,
        spool_per_channel: 1 << 20,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (mut stream, peer) = session.open();
    let (mut other, other_peer) = session.open();
    for piece in pattern(2 << 20).chunks(PACKET) {
        let _ = peer
            .messages
            .as_ref()
            .unwrap()
            .send(ChannelMsg::Data {
                data: Bytes::copy_from_slice(piece),
            })
            .await;
    }
    eventually("closed", || peer.said().contains(&Said::Close)).await;
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert_eq!(CloseReason::of(&error), Some(CloseReason::Overflow));
    assert_eq!(stream.reset_reason(), Some(CloseReason::Overflow));
    let error = stream.write(b"x").await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
    assert_eq!(session.budget.resets(), 1);
    other_peer.send(b"still here").await;
    other.read_exact(&mut [0; 10]).await.unwrap();
    drop(stream);
    settled(&session).await;
}

#[tokio::test(start_paused = true)]
async fn small_requests_pass_when_others_have_used_up_the_session() {
    let limits = ChannelLimits {
        spool_per_session: 1 << 20,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (_greedy, greedy_peer) = session.open();
    greedy_peer.send_all(&pattern(1000 << 10)).await;
    eventually("the budget is used up", || {
        session.budget.used() > 1000 << 10
    })
    .await;
    let (mut small, small_peer) = session.open();
    small_peer.send_all(&pattern(32 << 10)).await;
    small.read_exact(&mut vec![0; 32 << 10]).await.unwrap();
    assert_eq!(session.budget.resets(), 0);
    greedy_peer.send_all(&pattern(64 << 10)).await;
    eventually("reset", || session.budget.resets() == 1).await;
}

/// Two sessions share one memory and one disk, whatever each may hold by itself.
#[tokio::test]
async fn all_sessions_share_the_bounds_of_the_process() {
    let limits = ChannelLimits {
        memory_per_process: 2 << 20,
        spool_per_process: 40 << 20,
        ..ChannelLimits::default()
    };
    let process = Arc::<ProcessBudget>::default();
    let sessions = [(); 2].map(|()| Session::within(Arc::clone(&process), limits.clone()));
    let mut open = Vec::new();
    for session in sessions.iter().cycle().take(16) {
        let (stream, peer) = session.open();
        peer.send_all(&pattern(2 << 20)).await;
        open.push((stream, peer));
    }
    let bound = (2 << 20) + 16 * ((64 << 10) + 2 * PACKET as u64);
    eventually("the rest is on disk", || {
        process.used() >= 32 << 20 && process.memory() < bound
    })
    .await;
    let (_greedy, greedy) = sessions[0].open();
    for piece in pattern(9 << 20).chunks(PACKET) {
        let data = Bytes::copy_from_slice(piece);
        let messages = greedy.messages.as_ref().unwrap();
        if messages.send(ChannelMsg::Data { data }).await.is_err() {
            break;
        }
    }
    eventually("reset", || sessions[0].budget.resets() == 1).await;
    assert!(process.used() <= 41 << 20);
    for (mut stream, peer) in open {
        peer.say(ChannelMsg::Eof).await;
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert!(read == pattern(2 << 20));
    }
    drop(_greedy);
    eventually("given back", || {
        process.used() == 0 && process.memory() == 0
    })
    .await;
}

#[tokio::test]
async fn past_the_sessions_memory_each_channel_keeps_little() {
    let limits = ChannelLimits {
        memory_per_session: 2 << 20,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let mut open = Vec::new();
    for _ in 0..16 {
        let (stream, peer) = session.open();
        peer.send_all(&pattern(2 << 20)).await;
        open.push((stream, peer));
    }
    let bound = (2 << 20) + 16 * ((64 << 10) + 2 * PACKET as u64);
    eventually("the rest is on disk", || {
        session.budget.used() >= 32 << 20 && session.budget.memory() < bound
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_byte_packets_is_paid_for() {
    let limits = ChannelLimits {
        memory: 64 << 10,
        spool_per_channel: 128 << 10,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (_stream, peer) = session.open();
    for _ in 0..1000 {
        peer.send(b"x").await;
    }
    eventually("paid", || session.budget.memory() >= 129 * 1000).await;
    while session.budget.resets() == 0 {
        assert!(session.budget.memory() < 300 << 10);
        let one = Bytes::from_static(b"x");
        let messages = peer.messages.as_ref().unwrap();
        let _ = messages.send(ChannelMsg::Data { data: one }).await;
    }
}

#[tokio::test]
async fn a_spool_that_cannot_be_made_resets_the_channel() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let limits = ChannelLimits {
        memory: 64 << 10,
        spool_dir: file.path().join("no folder"),
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (mut stream, peer) = session.open();
    peer.send_all(&pattern(512 << 10)).await;
    eventually("reset", || session.budget.resets() == 1).await;
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(stream.reset_reason(), Some(CloseReason::SpoolFailed));
}

/// A vendor cannot fill the disk that tokens, pauses and the audit are on; a channel that stays in memory goes on.
#[tokio::test]
async fn a_spool_whose_disk_is_down_to_its_floor_resets_the_channel_that_needs_it_and_no_other() {
    let limits = ChannelLimits {
        memory: 64 << 10,
        spool_floor: FreeSpaceFloor {
            bytes: u64::MAX,
            parts: 1,
        },
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (mut small, other) = session.open();
    let (mut stream, peer) = session.open();
    peer.send_all(&pattern(512 << 10)).await;
    eventually("reset", || session.budget.resets() == 1).await;
    let error = stream.read(&mut [0; 8]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(stream.reset_reason(), Some(CloseReason::SpoolFull));

    other.send_all(&pattern(32 << 10)).await;
    let mut read = vec![0; 32 << 10];
    small.read_exact(&mut read).await.unwrap();
    assert_eq!(read, pattern(32 << 10));
}

#[tokio::test]
async fn the_spools_folder_is_made_and_nothing_is_left_in_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let spool_dir = folder.path().join("state/spool");
    let limits = ChannelLimits {
        memory: 64 << 10,
        spool_dir: spool_dir.clone(),
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (_stream, peer) = session.open();
    peer.send_all(&pattern(2 << 20)).await;
    eventually("spooled", || {
        session.budget.used() >= 2 << 20 && session.budget.memory() < 1 << 20
    })
    .await;
    assert_eq!(spool_dir.read_dir().unwrap().count(), 0);
    let mode = spool_dir.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// The only blocking thread is taken, so that no file operation ever begins: a disk that hangs.
#[test]
fn a_disk_that_hangs_ends_its_channel_by_a_deadline_and_holds_nobody_up() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (release, hang) = std::sync::mpsc::channel::<()>();
    runtime.block_on(async {
        tokio::task::spawn_blocking(move || hang.recv());
        let limits = ChannelLimits {
            memory: 64 << 10,
            spool_timeout: SECOND,
            ..ChannelLimits::default()
        };
        let session = Session::new(limits);
        let (_stream, peer) = session.open();
        peer.send_all(&pattern(4 << 20)).await;
        assert_eq!(session.budget.resets(), 0, "the channel was not drained");
        eventually("reset by the deadline", || session.budget.resets() == 1).await;
        eventually("closed", || peer.said().contains(&Said::Close)).await;

        // What comes faster than the disk ever writes is bounded in memory.
        let (_stream, peer) = session.open();
        for piece in pattern(12 << 20).chunks(PACKET) {
            let data = Bytes::copy_from_slice(piece);
            let messages = peer.messages.as_ref().unwrap();
            if messages.send(ChannelMsg::Data { data }).await.is_err() {
                break;
            }
            assert!(session.budget.memory() < 10 << 20);
        }
        eventually("reset by the bound", || session.budget.resets() == 2).await;
    });
    release.send(()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn empty_data_is_no_end_of_file() {
    let session = Session::new(ChannelLimits::default());
    let (mut stream, peer) = session.open();
    let reader = tokio::spawn(async move {
        let mut read = [0; 4];
        let n = stream.read(&mut read).await.unwrap();
        read[..n].to_vec()
    });
    peer.send(b"").await;
    tokio::time::sleep(SECOND).await;
    peer.send(b"more").await;
    assert_eq!(reader.await.unwrap(), b"more");
}

#[tokio::test(start_paused = true)]
async fn end_of_file_close_and_session_death_are_told_apart() {
    let session = Session::new(ChannelLimits::default());

    let (mut stream, peer) = session.open();
    peer.send(b"last").await;
    peer.say(ChannelMsg::Eof).await;
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, b"last");
    assert_eq!(stream.end(), None);

    let (mut stream, peer) = session.open();
    peer.send(b"last").await;
    peer.say(ChannelMsg::Close).await;
    stream.read_exact(&mut [0; 4]).await.unwrap();
    let error = stream.read(&mut [0; 4]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(CloseReason::of(&error), Some(CloseReason::Closed));

    let (mut stream, mut peer) = session.open();
    peer.send(b"last").await;
    peer.die();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    let error = stream.read(&mut [0; 4]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);

    let (mut stream, peer) = session.open();
    peer.say(ChannelMsg::Eof).await;
    peer.say(ChannelMsg::Close).await;
    assert_eq!(stream.read(&mut [0; 4]).await.unwrap(), 0);
}

#[tokio::test]
async fn what_was_spooled_is_read_after_the_peer_has_closed() {
    let limits = ChannelLimits {
        memory: 64 << 10,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    let (mut stream, peer) = session.open();
    let sent = pattern(5 << 20);
    peer.send_all(&sent).await;
    peer.say(ChannelMsg::Eof).await;
    peer.say(ChannelMsg::Close).await;
    eventually("closed", || stream.end() == Some(CloseReason::Closed)).await;
    let mut read = Vec::new();
    stream.read_to_end(&mut read).await.unwrap();
    assert!(read == sent);
    drop(stream);
    eventually("over", || session.budget.open_channels() == 0).await;
}

#[tokio::test]
async fn leaving_in_the_middle_gives_everything_back() {
    let limits = ChannelLimits {
        memory: 64 << 10,
        close_wait: Duration::ZERO,
        ..ChannelLimits::default()
    };
    let session = Session::new(limits);
    for size in [1, 100 << 10, 700 << 10, 3 << 20] {
        let (mut stream, peer) = session.open();
        peer.send_all(&pattern(size)).await;
        let _ = stream.read(&mut vec![0; 50 << 10]).await.unwrap();
        drop(stream);
        eventually("over", || session.budget.open_channels() == 0).await;
    }
    settled(&session).await;
}

/// Counts the warnings, each of which must be in the span of its channel.
#[derive(Clone, Default)]
struct Warnings(Arc<AtomicUsize>);

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Warnings {
    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() <= tracing::Level::WARN {
            let span = context.event_span(event).expect("a line without a span");
            assert_eq!(span.name(), "channel");
            self.0.fetch_add(1, Relaxed);
        }
    }
}

/// Whoever opens channels can have each of them reset, by a cap or by the disk: the log holds a few of these.
#[tokio::test]
async fn however_many_channels_of_a_session_are_reset_the_log_holds_a_few_lines() {
    let capped = ChannelLimits {
        memory: 64 << 10,
        spool_per_channel: 128 << 10,
        ..ChannelLimits::default()
    };
    let full = ChannelLimits {
        memory: 64 << 10,
        spool_floor: FreeSpaceFloor {
            bytes: u64::MAX,
            parts: 1,
        },
        ..ChannelLimits::default()
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    let broken = ChannelLimits {
        memory: 64 << 10,
        spool_dir: file.path().join("no folder"),
        ..ChannelLimits::default()
    };
    for (limits, lines) in [(capped, 10), (full, 20), (broken, 20)] {
        let warnings = Warnings::default();
        let subscriber = tracing_subscriber::registry().with(warnings.clone());
        let _logging = tracing::subscriber::set_default(subscriber);
        let session = Session::new(limits);
        for number in 1..=60 {
            let (_stream, peer) = tracing::error_span!("channel").in_scope(|| session.open());
            for piece in pattern(512 << 10).chunks(PACKET) {
                let data = Bytes::copy_from_slice(piece);
                // It may have been reset by then.
                let message = ChannelMsg::Data { data };
                let _ = peer.messages.as_ref().unwrap().send(message).await;
            }
            eventually("reset", || session.budget.resets() == number).await;
        }
        assert_eq!(warnings.0.load(Relaxed), lines);
    }
}
