//! The promises of the module, tested between two ends of a pipe in paused time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::{
    Gate, SshTransport, TcpPair, TransportHandle, TransportLimits, socket::ResettableSocket,
};
use futures_util::FutureExt;
use std::{future::poll_fn, io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, ReadHalf, duplex, simplex, split},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    time::{Instant, advance, sleep, timeout},
};

type Piped = SshTransport<ReadHalf<DuplexStream>>;

/// A transport, and the far end of a pipe that holds `kernel` bytes.
fn piped(kernel: usize, limits: TransportLimits) -> (Piped, Arc<TransportHandle>, DuplexStream) {
    let (near, far) = duplex(kernel);
    let (read_half, write_half) = split(near);
    let (transport, handle) = SshTransport::new(read_half, write_half, limits);
    (transport, handle, far)
}

async fn admitted(gate: &mut Gate, bytes: usize) -> usize {
    poll_fn(|cx| gate.poll_admit(cx, bytes)).await
}

const CHUNK: usize = 32 << 10;
const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn writing_never_waits_for_a_far_side_that_reads_nothing() {
    let (mut transport, handle, _far) = piped(1024, TransportLimits::default());
    let written = transport.write_all(&vec![7; 20 << 20]).now_or_never();
    assert!(matches!(written, Some(Ok(()))));
    sleep(SECOND).await;
    assert_eq!(handle.backlog(), (20 << 20) - 1024);
    assert_eq!(handle.sent(), 1024);
    assert!(handle.peak() >= handle.backlog());
}

#[tokio::test(start_paused = true)]
async fn what_is_written_arrives_in_order_and_once() {
    let (mut transport, handle, mut far) = piped(1000, TransportLimits::default());
    let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let writer = tokio::spawn(async move {
        for piece in copy.chunks(7919) {
            transport.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        transport.shutdown().await.unwrap();
        transport
    });
    let mut received = Vec::new();
    far.read_to_end(&mut received).await.unwrap();
    assert!(received == sent);
    assert_eq!(handle.backlog(), 0);
    drop(writer.await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_a_burst_has_taken_is_given_back_at_rest() {
    let (mut transport, handle, mut far) = piped(1000, TransportLimits::default());
    let mut taken = vec![0; 300 << 10];
    // Twice, because there are two buffers that change places.
    for _ in 0..2 {
        transport.write_all(&vec![7; 300 << 10]).await.unwrap();
        far.read_exact(&mut taken).await.unwrap();
        sleep(Duration::from_millis(1)).await;
    }
    assert!(handle.queue().capacity() >= 300 << 10);
    sleep(20 * SECOND).await;
    assert_eq!(handle.queue().capacity(), 0);
    transport.write_all(&taken).await.unwrap();
    far.read_exact(&mut taken).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn past_the_cap_the_session_dies_and_says_why() {
    let limits = TransportLimits {
        cap: 1 << 20,
        ..TransportLimits::default()
    };
    let (mut transport, handle, _far) = piped(1024, limits);
    transport.write_all(&vec![0; 1 << 20]).await.unwrap();
    sleep(SECOND).await;
    let error = transport.write_all(&[0; 2048]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
    assert!(
        handle
            .death_reason()
            .unwrap()
            .contains("the cap is 1048576")
    );
    assert!(transport.read_u8().await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_abort_wakes_the_reader_and_those_at_the_gate_at_once() {
    let (mut transport, handle, mut far) = piped(1024, TransportLimits::default());
    transport.write_all(&vec![0; 2 << 20]).await.unwrap();
    let mut gate = Gate::new(Arc::clone(&handle));
    let waiting = tokio::spawn(async move { admitted(&mut gate, CHUNK).await });
    let reading = tokio::spawn(async move { transport.read_u8().await.unwrap_err() });
    sleep(SECOND).await;
    assert!(!waiting.is_finished() && !reading.is_finished());
    let begun = Instant::now();
    handle.abort("a test said so");
    handle.abort("too late");
    assert_eq!(waiting.await.unwrap(), CHUNK);
    assert_eq!(reading.await.unwrap().to_string(), "a test said so");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    let mut rest = Vec::new();
    far.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest.len(), 1024, "queued bytes were sent after the abort");
}

#[tokio::test(start_paused = true)]
async fn dropping_the_transport_closes_the_socket() {
    let (transport, handle, mut far) = piped(1024, TransportLimits::default());
    drop(transport);
    assert_eq!(far.read(&mut [0; 8]).await.unwrap(), 0);
    assert!(handle.is_dead());
    handle.died().await;
}

#[tokio::test(start_paused = true)]
async fn ages_tell_when_something_last_came_and_went() {
    let (mut transport, handle, mut far) = piped(1024, TransportLimits::default());
    advance(5 * SECOND).await;
    assert_eq!(handle.rx_age(), 5 * SECOND);
    assert_eq!(handle.tx_age(), Duration::ZERO, "nothing waits");
    far.write_all(b"x").await.unwrap();
    transport.read_u8().await.unwrap();
    assert_eq!(handle.rx_age(), Duration::ZERO);
    assert_eq!(handle.received(), 1);
    transport.write_all(&[0; 2048]).await.unwrap();
    sleep(3 * SECOND).await;
    assert_eq!(handle.tx_age(), 3 * SECOND);
    far.read_exact(&mut [0; 2048]).await.unwrap();
    sleep(SECOND).await;
    assert_eq!(handle.tx_age(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_a_session_whose_bytes_nobody_takes() {
    let (mut transport, handle, _far) = piped(1024, TransportLimits::default());
    sleep(100 * SECOND).await;
    transport.write_all(&[0; 2048]).await.unwrap();
    let begun = Instant::now();
    handle.watch(10 * SECOND, false).await;
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert!(
        handle
            .death_reason()
            .unwrap()
            .starts_with("stalled: 1024 bytes")
    );
}

#[tokio::test(start_paused = true)]
async fn the_watch_ends_a_silent_session_only_where_the_peer_must_speak() {
    let (_transport, handle, _far) = piped(1024, TransportLimits::default());
    let quiet = timeout(1000 * SECOND, handle.watch(10 * SECOND, false)).await;
    assert!(quiet.is_err() && !handle.is_dead());

    let (mut transport, handle, mut far) = piped(1024, TransportLimits::default());
    let watch = {
        let handle = Arc::clone(&handle);
        tokio::spawn(async move { handle.watch(10 * SECOND, true).await })
    };
    for _ in 0..10 {
        sleep(9 * SECOND).await;
        far.write_all(b"x").await.unwrap();
        transport.read_u8().await.unwrap();
    }
    assert!(!handle.is_dead());
    let begun = Instant::now();
    watch.await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 10);
    assert!(handle.death_reason().unwrap().contains("nothing has come"));
}

#[tokio::test(start_paused = true)]
async fn the_watch_leaves_a_slow_session_alone_and_ends_with_it() {
    let (mut transport, handle, mut far) = piped(16, TransportLimits::default());
    transport.write_all(&[0; 160]).await.unwrap();
    let watch = {
        let handle = Arc::clone(&handle);
        tokio::spawn(async move { handle.watch(10 * SECOND, false).await })
    };
    for _ in 0..9 {
        sleep(9 * SECOND).await;
        far.read_exact(&mut [0; 16]).await.unwrap();
    }
    assert!(!handle.is_dead());
    drop(transport);
    watch.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_counts_its_grace_from_the_last_byte_taken() {
    let (mut transport, handle, mut far) = piped(1024, TransportLimits::default());
    transport.write_all(&[0; 8 * 1024]).await.unwrap();
    let slow = tokio::spawn(async move {
        for _ in 0..4 {
            sleep(2 * SECOND).await;
            far.read_exact(&mut [0; 1024]).await.unwrap();
        }
        far
    });
    let begun = Instant::now();
    transport.shutdown().await.unwrap();
    // Four times two seconds, in each of which bytes went, then the grace of three.
    assert_eq!(begun.elapsed().as_secs(), 11);
    assert!(handle.death_reason().unwrap().starts_with("shutdown"));
    drop(slow.await.unwrap());
}

/// A transport over TCP to an end with a small buffer.
async fn over_tcp() -> (SshTransport<OwnedReadHalf>, Arc<TransportHandle>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap());
    let (near, far) = tokio::join!(near, listener.accept());
    let (near, (far, _)) = (near.unwrap(), far.unwrap());
    let small = socket2::SockRef::from(&far).set_recv_buffer_size(4 << 10);
    small.unwrap();
    let pair = TcpPair::of(&near).unwrap();
    let resettable = ResettableSocket::of(&near).unwrap();
    let (reader, writer) = near.into_split();
    let (transport, handle) = SshTransport::new(reader, writer, TransportLimits::default());
    handle.set_tcp_pair(pair);
    handle.set_resettable(resettable);
    (transport, handle, far)
}

/// The peer answers while it reads. A closed socket would answer that with a reset, and drop what it has not sent.
#[tokio::test]
async fn shutdown_waits_until_the_far_kernel_has_everything() {
    const SENT: usize = 64 << 10;
    let (mut transport, handle, mut far) = over_tcp().await;
    transport.write_all(&vec![7; SENT]).await.unwrap();
    let slow = tokio::spawn(async move {
        let (mut taken, mut piece) = (0, vec![0; 32 << 10]);
        loop {
            match far.read(&mut piece).await.unwrap() {
                0 => return taken,
                length => taken += length,
            }
            far.write_all(b"more window").await.unwrap();
            sleep(Duration::from_millis(5)).await;
        }
    });
    transport.shutdown().await.unwrap();
    assert_eq!(handle.death_reason(), None);
    drop(transport);
    assert_eq!(slow.await.unwrap(), SENT);
}

#[tokio::test]
async fn shutdown_ends_at_its_deadline_with_a_reset() {
    let (mut transport, handle, mut far) = over_tcp().await;
    transport.write_all(&vec![7; 8 << 20]).await.unwrap();
    handle.set_shutdown_deadline(Instant::now() + Duration::from_millis(300));
    let begun = Instant::now();
    transport.shutdown().await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert!(handle.death_reason().unwrap().starts_with("shutdown"));
    drop(transport);
    let error = loop {
        if let Err(error) = far.read(&mut vec![0; 64 << 10]).await {
            break error;
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_has_been_stuck_gets_no_second_wait_at_shutdown() {
    let (mut transport, _meter, _far) = piped(1024, TransportLimits::default());
    transport.write_all(&[0; 2048]).await.unwrap();
    sleep(60 * SECOND).await;
    let begun = Instant::now();
    transport.shutdown().await.unwrap();
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn shutdown_has_an_end_however_slowly_bytes_go() {
    let (mut transport, _meter, mut far) = piped(1, TransportLimits::default());
    transport.write_all(&[0; 4096]).await.unwrap();
    let trickle = tokio::spawn(async move {
        while far.read(&mut [0; 1]).await.unwrap() > 0 {
            sleep(SECOND).await;
        }
    });
    let begun = Instant::now();
    transport.shutdown().await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 30);
    drop(transport);
    trickle.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_kept_back_below_is_flushed() {
    let (reader, writer) = simplex(64 << 10);
    let (mut far, near) = duplex(64 << 10);
    let (mut transport, _meter) = SshTransport::new(
        reader,
        BufWriter::with_capacity(4096, near),
        TransportLimits::default(),
    );
    transport.write_all(b"hello").await.unwrap();
    let mut hello = [0; 5];
    timeout(SECOND, far.read_exact(&mut hello))
        .await
        .expect("not flushed")
        .unwrap();
    drop(writer);
}

#[tokio::test(start_paused = true)]
async fn the_gate_holds_writers_back_by_the_backlog() {
    let (mut transport, handle, mut far) = piped(1024, TransportLimits::default());
    transport.write_all(&vec![0; 2 << 20]).await.unwrap();
    let mut gate = Gate::new(Arc::clone(&handle));
    assert!(
        timeout(60 * SECOND, admitted(&mut gate, CHUNK))
            .await
            .is_err()
    );
    let reader = tokio::spawn(async move {
        let mut sink = vec![0; 64 << 10];
        while far.read(&mut sink).await.unwrap() > 0 {}
    });
    assert_eq!(admitted(&mut gate, CHUNK).await, CHUNK);
    assert!(handle.backlog() <= 512 << 10);
    drop(transport);
    reader.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_is_dropped_gives_back_what_it_held() {
    let (_transport, handle, _far) = piped(1024, TransportLimits::default());
    let mut gates: Vec<Gate> = (0..5).map(|_| Gate::new(Arc::clone(&handle))).collect();
    for gate in &mut gates {
        admitted(gate, CHUNK).await;
    }
    let mut next = Gate::new(Arc::clone(&handle));
    assert!(admitted(&mut next, CHUNK).now_or_never().is_none());
    drop(gates);
    assert!(admitted(&mut next, CHUNK).now_or_never().is_some());
}

#[tokio::test(start_paused = true)]
async fn channels_without_window_do_not_keep_the_gate_shut() {
    let (_transport, handle, _far) = piped(1024, TransportLimits::default());
    let mut stalled: Vec<Gate> = (0..33).map(|_| Gate::new(Arc::clone(&handle))).collect();
    for gate in &mut stalled {
        admitted(gate, CHUNK).await;
    }
    let mut live = Gate::new(Arc::clone(&handle));
    timeout(SECOND, admitted(&mut live, CHUNK))
        .await
        .expect("the gate stayed shut with nothing in the backlog");
}
