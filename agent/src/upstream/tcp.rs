//! `tcp://` upstreams: bytes as they are, both ways, each way ending on its own.

use super::{SendError, Settings, TlsConfigError, dial::UpstreamDialer};
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep_until},
};

/// What went through one pumped connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PumpedBytes {
    /// Bytes toward the upstream.
    pub sent: u64,
    /// Bytes from the upstream.
    pub received: u64,
}

/// Why a pumped connection ended other than by both sides closing.
#[derive(Debug, thiserror::Error)]
pub enum PumpError {
    /// The upstream was not reached; nothing was sent.
    #[error(transparent)]
    Connect(#[from] SendError),
    /// One side's connection failed.
    #[error("connection lost: {0}")]
    Lost(io::Error),
    /// Neither side moved a byte for `tcp_idle_timeout`.
    #[error("no byte either way for {0:?}")]
    Idle(Duration),
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] TlsConfigError),
}

/// Connects to the upstream and carries bytes both ways until both sides have closed. The counts
/// are right whatever the outcome.
pub async fn pump<S>(stream: S, settings: &Settings) -> (PumpedBytes, Result<(), PumpError>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let meter = ByteCounter::new();
    let result = carry(stream, settings, &meter).await;
    (meter.pumped(), result)
}

/// Connects to the upstream and closes at once: is somebody there?
pub async fn probe_connect(settings: &Settings) -> Result<(), PumpError> {
    let deadline = Instant::now() + settings.connect_timeout;
    UpstreamDialer::new(settings)?.tcp(deadline).await?;
    Ok(())
}

async fn carry<S>(stream: S, settings: &Settings, meter: &ByteCounter) -> Result<(), PumpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = Instant::now() + settings.connect_timeout;
    let mut upstream = UpstreamDialer::new(settings)?.tcp(deadline).await?;
    let (from_upstream, to_upstream) = upstream.split();
    let (from_vendor, to_vendor) = tokio::io::split(stream);
    let both = async {
        tokio::try_join!(
            one_way(from_vendor, to_upstream, meter, &meter.sent),
            one_way(from_upstream, to_vendor, meter, &meter.received),
        )
    };
    tokio::select! {
        result = both => result.map(drop).map_err(PumpError::Lost),
        () = meter.idle_for(settings.tcp_idle_timeout) => {
            Err(PumpError::Idle(settings.tcp_idle_timeout))
        }
    }
}

/// Copies until the end, then passes the end on and leaves the other way open.
async fn one_way<R, W>(
    mut from: R,
    mut to: W,
    meter: &ByteCounter,
    count: &AtomicU64,
) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; BUFFER];
    loop {
        let filled = from.read(&mut buffer).await?;
        if filled == 0 {
            return to.shutdown().await;
        }
        meter.touch();
        let mut rest = &buffer[..filled];
        while !rest.is_empty() {
            let written = to.write(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            count.fetch_add(written as u64, Ordering::Relaxed);
            meter.touch();
            rest = &rest[written..];
        }
        to.flush().await?;
    }
}

/// Counts bytes and remembers when the last one moved.
struct ByteCounter {
    origin: Instant,
    moved_ms: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl ByteCounter {
    fn new() -> Self {
        Self {
            origin: Instant::now(),
            moved_ms: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
        }
    }

    fn touch(&self) {
        let elapsed = self.origin.elapsed().as_millis() as u64;
        self.moved_ms.store(elapsed, Ordering::Relaxed);
    }

    fn pumped(&self) -> PumpedBytes {
        PumpedBytes {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }

    async fn idle_for(&self, limit: Duration) {
        loop {
            let moved = Duration::from_millis(self.moved_ms.load(Ordering::Relaxed));
            let deadline = self.origin + moved + limit;
            if deadline <= Instant::now() {
                return;
            }
            sleep_until(deadline).await;
        }
    }
}

/// Bytes in flight per direction and connection.
const BUFFER: usize = 32 << 10;
