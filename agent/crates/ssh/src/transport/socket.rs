//! Options of the TCP socket below SSH. russh sets none of them on the stream that it gets.

use agent_base::descriptors::{DescriptorBudget, DescriptorPermit};
use socket2::{SockRef, TcpKeepalive};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::{TcpStream, tcp::OwnedReadHalf},
};

/// Values of the socket options. `Default` is for a tunnel across the internet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// `TCP_USER_TIMEOUT`: the kernel closes the connection when sent bytes stay unacknowledged for this long.
    pub user_timeout: Duration,
    /// The same while a session is not proven, at least; it grows with the round trip. A login waits for a gateway that
    /// may be slow to decide: only the far kernel tells that from a dead link. `None`: no difference.
    pub unproven_timeout: Option<Duration>,
    /// Time without traffic after which the kernel starts TCP keep-alive probes.
    pub keepalive: Duration,
    /// `TCP_NOTSENT_LOWAT` in bytes: how much the kernel may buffer beyond what is in flight. Without it megabytes of bulk
    /// data wait in the socket buffer before each small response.
    pub unsent: u32,
    /// `TCP_CONGESTION` where the other end is not near, as the kernel names it; `None`: the kernel's choice. BBR
    /// does not take a lost packet for a full link.
    pub congestion_control: Option<String>,
}

impl Default for SocketOptions {
    fn default() -> Self {
        Self {
            // A fallback only: a living link of 64 kbit/s may be silent for a minute.
            user_timeout: Duration::from_secs(120),
            unproven_timeout: None,
            keepalive: Duration::from_secs(15),
            unsent: 128 << 10,
            congestion_control: Some("bbr".to_owned()),
        }
    }
}

impl SocketOptions {
    /// Limits for a session that is not proven, over a link with this round trip.
    fn unproven(&self, round_trip: Duration) -> Option<KernelLimits> {
        let least = self.unproven_timeout?;
        let silence = least.max(round_trip * ROUND_TRIPS_UNPROVEN);
        Some(KernelLimits {
            user_timeout: silence.min(self.user_timeout),
            keepalive: UNPROVEN_KEEPALIVE,
            interval: UNPROVEN_KEEPALIVE,
        })
    }

    fn usual(&self) -> KernelLimits {
        KernelLimits {
            user_timeout: self.user_timeout,
            keepalive: self.keepalive,
            interval: self.keepalive / 3,
        }
    }
}

/// How long the kernel waits for the far kernel. Linux applies `user_timeout` to keep-alive probes too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct KernelLimits {
    user_timeout: Duration,
    keepalive: Duration,
    interval: Duration,
}

impl KernelLimits {
    fn apply(&self, socket: &SockRef<'_>) {
        let keepalive = TcpKeepalive::new()
            .with_time(self.keepalive)
            .with_interval(self.interval)
            .with_retries(3);
        note("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive));
        let user_timeout = Some(self.user_timeout);
        note(
            "TCP_USER_TIMEOUT",
            socket.set_tcp_user_timeout(user_timeout),
        );
    }
}

/// Logs an option that the kernel does not know.
fn note(option: &str, result: io::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(option, %error, "cannot set a socket option");
    }
}

/// A second descriptor of a TCP connection, with which the end of a session can be told at once.
///
/// An ordinary close puts its FIN behind the data that waits. If that data is lost, the gateway does not learn of the end
/// and keeps the port of a forward. A reset is sent without waiting.
#[derive(Debug)]
pub struct ResettableSocket {
    socket: socket2::Socket,
    /// Limits to return to once the session is proven.
    usual: Option<KernelLimits>,
    /// The receive queue is short already.
    is_near: bool,
    /// For both descriptors of the connection.
    _permit: DescriptorPermit,
}

impl ResettableSocket {
    /// A second descriptor of `stream`; `None` if there is none left.
    pub fn of(stream: &TcpStream) -> Option<Self> {
        let socket = SockRef::from(stream).try_clone().ok()?;
        Some(Self {
            socket,
            usual: None,
            is_near: false,
            _permit: DescriptorBudget::of_process().claim(2),
        })
    }

    /// Until [`TransportHandle::on_proven`](super::TransportHandle::on_proven) a link that is dead is noticed within
    /// [`SocketOptions::unproven_timeout`], even while nothing is sent.
    pub fn watch_until_proven(&mut self, options: &SocketOptions, round_trip: Duration) {
        if let Some(limits) = options.unproven(round_trip) {
            limits.apply(&SockRef::from(&self.socket));
            self.usual = Some(options.usual());
        }
    }

    pub(super) fn on_near(&mut self) {
        if !std::mem::replace(&mut self.is_near, true) {
            shorten_receive_queue(&SockRef::from(&self.socket));
        }
    }

    pub(super) fn on_proven(&mut self) {
        if let Some(usual) = self.usual.take() {
            usual.apply(&SockRef::from(&self.socket));
        }
    }

    /// From now on the last close of the connection sends a reset.
    pub(super) fn reset_on_close(self) {
        if let Err(error) = self.socket.set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "cannot reset a connection");
        }
    }
}

/// Sets `TCP_NODELAY` and [`SocketOptions`].
///
/// # Errors
/// Where `TCP_NODELAY` cannot be set, which means that the socket is closed. An option that the kernel does not know is
/// logged and skipped.
pub fn configure(stream: &TcpStream, options: &SocketOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    options.usual().apply(&socket);
    note(
        "TCP_NOTSENT_LOWAT",
        socket.set_tcp_notsent_lowat(options.unsent),
    );
    Ok(())
}

/// Adapts a connection to the distance of its other end, near or not.
///
/// Near: keeps the queue of received bytes short. The kernel grows it to megabytes while this process has no CPU, and each
/// small request waits behind them. Distant: sets the congestion control. An option that the kernel does not know is logged
/// and skipped.
pub fn adapt_to_distance(stream: &TcpStream, options: &SocketOptions, is_near: bool) {
    let socket = SockRef::from(stream);
    if is_near {
        shorten_receive_queue(&socket);
    } else if let Some(name) = &options.congestion_control {
        note("TCP_CONGESTION", socket.set_tcp_congestion(name.as_bytes()));
    }
}

fn shorten_receive_queue(socket: &SockRef<'_>) {
    note(
        "SO_RCVBUF",
        socket.set_recv_buffer_size(NEAR_RECEIVE_BUFFER),
    );
}

/// Two answers of a distant peer, as the liveness clock counts them: time for three transmissions.
const ROUND_TRIPS_UNPROVEN: u32 = 20;
/// The shortest that Linux has.
const UNPROVEN_KEEPALIVE: Duration = Duration::from_secs(1);
/// The other end is near where a round trip takes less: a short receive queue costs no speed there.
pub const NEAR: Duration = Duration::from_millis(1);
/// Bytes. 2 Gbit/s at a round trip of 1 ms.
const NEAR_RECEIVE_BUFFER: usize = 256 << 10;

/// The read half of a TCP connection that acknowledges at once what it has read.
///
/// OpenSSH sends its small packets with Nagle's algorithm (RFC 896): the next one waits until our kernel has acknowledged
/// the last one. The kernel delays that by 40 ms where we have nothing to send, and forgets `TCP_QUICKACK` by itself.
pub struct PromptReader {
    inner: OwnedReadHalf,
    /// Bytes were read since the last acknowledgment.
    owes: bool,
}

impl PromptReader {
    /// Reads from `half`.
    pub fn new(half: OwnedReadHalf) -> Self {
        Self {
            inner: half,
            owes: false,
        }
    }
}

impl AsyncRead for PromptReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        if polled.is_ready() {
            self.owes = true;
        } else if std::mem::take(&mut self.owes) {
            // Once per burst, when all of it is read. Without it there is only the delay.
            let _ = SockRef::from(self.inner.as_ref()).set_tcp_quickack(true);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn every_option_is_on_the_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        configure(&stream, &SocketOptions::default()).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(120))
        );
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), 128 << 10);
    }

    #[tokio::test]
    async fn an_answer_within_a_millisecond_shortens_the_receive_queue() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let socket = SockRef::from(&stream);
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let before = socket.recv_buffer_size().unwrap();
        let second = ResettableSocket::of(&stream).unwrap();
        let (reader, writer) = tokio::io::split(tokio::io::duplex(64).0);
        let limits = crate::transport::TransportLimits::default();
        let (_transport, handle) = crate::transport::SshTransport::new(reader, writer, limits);
        handle.set_resettable(second);
        handle.on_answer_after(NEAR);
        assert_eq!(socket.recv_buffer_size().unwrap(), before);
        handle.on_answer_after(NEAR - Duration::from_micros(1));
        // Linux doubles the value, or keeps to `net.core.rmem_max`.
        assert!(socket.recv_buffer_size().unwrap() > before);
    }

    #[tokio::test]
    async fn an_unproven_session_is_watched_closely() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let least = Duration::from_secs(3);
        let options = SocketOptions {
            user_timeout: Duration::from_secs(30),
            unproven_timeout: Some(least),
            ..SocketOptions::default()
        };
        let ms = Duration::from_millis;
        for (round_trip, expected) in [
            (ms(10), least),
            (ms(600), ms(12_000)),
            (ms(8000), options.user_timeout),
        ] {
            let stream = TcpStream::connect(address).await.unwrap();
            configure(&stream, &options).unwrap();
            let mut second = ResettableSocket::of(&stream).unwrap();
            let socket = SockRef::from(&stream);
            let limits = || {
                let keepalive = socket.tcp_keepalive_time().unwrap();
                (socket.tcp_user_timeout().unwrap().unwrap(), keepalive)
            };
            second.watch_until_proven(&options, round_trip);
            assert_eq!(limits(), (expected, UNPROVEN_KEEPALIVE));
            second.on_proven();
            assert_eq!(limits(), (options.user_timeout, options.keepalive));
        }
    }

    #[tokio::test]
    async fn a_distant_end_gets_the_congestion_control_of_the_setting() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        // Every kernel has this one; what it does not have changes nothing.
        for (name, set) in [("reno", true), ("none-such", false)] {
            let stream = TcpStream::connect(address).await.unwrap();
            let before = SockRef::from(&stream).tcp_congestion().unwrap();
            let options = SocketOptions {
                congestion_control: Some(name.to_owned()),
                ..SocketOptions::default()
            };
            adapt_to_distance(&stream, &options, false);
            let after = SockRef::from(&stream).tcp_congestion().unwrap();
            let expected = if set { name.as_bytes() } else { &before };
            assert!(after.starts_with(expected), "{after:?}");
        }
    }

    #[tokio::test]
    async fn a_near_end_does_not_queue_megabytes() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (near, (far, _)) = (near.unwrap(), far.unwrap());
        adapt_to_distance(&near, &SocketOptions::default(), true);
        let chunk = [0; 64 << 10];
        let mut sent = 0;
        let quiet = Duration::from_millis(200);
        while tokio::time::timeout(quiet, far.writable()).await.is_ok() {
            sent += far.try_write(&chunk).unwrap_or(0);
        }
        let queued = near.peek(&mut vec![0; 16 << 20]).await.unwrap();
        assert!(queued <= 2 * NEAR_RECEIVE_BUFFER, "{queued} of {sent}");
    }

    #[tokio::test]
    async fn what_is_read_is_acknowledged_at_once() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (near, (mut far, _)) = (near.unwrap(), far.unwrap());
        let (reader, mut writer) = near.into_split();
        let mut reader = PromptReader::new(reader);
        let acknowledging = tokio::spawn(async move {
            let mut byte = [0];
            // An answer makes the kernel expect further answers: it delays acknowledgments from then on.
            while reader.read_exact(&mut byte).await.is_ok() {
                if byte == [b'q'] {
                    writer.write_all(b"a").await.unwrap();
                }
            }
        });
        for _ in 0..20 {
            far.write_all(b"q").await.unwrap();
            far.read_u8().await.unwrap();
        }
        let pair = crate::transport::TcpPair::of(&far).unwrap();
        let started = std::time::Instant::now();
        let mut fastest = Duration::MAX;
        // On a busy machine one of many shows it; the kernel's own delay is never shorter.
        while fastest >= Duration::from_millis(20) {
            assert!(started.elapsed() < Duration::from_secs(5), "{fastest:?}");
            far.write_all(b"n").await.unwrap();
            let begun = std::time::Instant::now();
            while pair
                .send_queue()
                .await
                .is_none_or(|queue| queue.unacknowledged > 0)
            {
                assert!(begun.elapsed() < Duration::from_secs(5));
            }
            fastest = fastest.min(begun.elapsed());
            far.write_all(b"q").await.unwrap();
            far.read_u8().await.unwrap();
        }
        drop(far);
        acknowledging.await.unwrap();
    }
}
