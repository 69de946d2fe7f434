//! `tcp://` upstreams: bytes unchanged in both directions, each of which ends by itself.

use super::{
    ActivityClock, ExpectedFlow, SendError, Settings, StallLimits, TlsConfigError,
    dial::UpstreamDialer,
};
use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::Instant,
};

/// What went through one pumped connection.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PumpedBytes {
    /// Bytes toward the upstream.
    pub sent: u64,
    /// Bytes from the upstream.
    pub received: u64,
}

/// Why a pumped connection ended before both sides closed it.
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

/// Connects to the upstream and carries bytes both ways until both sides have closed. The counts are exact whatever the
/// outcome.
pub async fn pump<S>(stream: S, settings: &Settings) -> (PumpedBytes, Result<(), PumpError>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let counter = ByteCounter::default();
    let result = carry(stream, settings, &counter).await;
    (counter.pumped(), result)
}

/// Connects to the upstream and closes at once.
///
/// # Errors
/// The upstream was not reached within `connect_timeout`.
pub async fn probe_connect(settings: &Settings) -> Result<(), PumpError> {
    let deadline = Instant::now() + settings.connect_timeout;
    UpstreamDialer::new(settings)?.tcp(deadline).await?;
    Ok(())
}

async fn carry<S>(stream: S, settings: &Settings, counter: &ByteCounter) -> Result<(), PumpError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let deadline = Instant::now() + settings.connect_timeout;
    let mut upstream = UpstreamDialer::new(settings)?.tcp(deadline).await?;
    let (from_upstream, to_upstream) = upstream.split();
    let (from_vendor, to_vendor) = tokio::io::split(stream);
    counter.clock.begin(ExpectedFlow::Tunnel);
    let both = async {
        tokio::try_join!(
            one_way(from_vendor, to_upstream, &counter.clock, &counter.sent),
            one_way(from_upstream, to_vendor, &counter.clock, &counter.received),
        )
    };
    tokio::select! {
        result = both => result.map(drop).map_err(PumpError::Lost),
        _ = counter.clock.too_slow(StallLimits::without_rate(settings.tcp_idle_timeout)) => {
            Err(PumpError::Idle(settings.tcp_idle_timeout))
        }
    }
}

/// Copies until the end, then passes the end on and leaves the other direction open.
async fn one_way<R, W>(
    mut from: R,
    mut to: W,
    clock: &ActivityClock,
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
        clock.moved();
        let mut rest = &buffer[..filled];
        while !rest.is_empty() {
            let written = to.write(rest).await?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            count.fetch_add(written as u64, Ordering::Relaxed);
            clock.moved();
            rest = &rest[written..];
        }
        to.flush().await?;
    }
}

/// Bytes of both directions, and when the last one moved.
#[derive(Default)]
struct ByteCounter {
    clock: ActivityClock,
    sent: AtomicU64,
    received: AtomicU64,
}

impl ByteCounter {
    fn pumped(&self) -> PumpedBytes {
        PumpedBytes {
            sent: self.sent.load(Ordering::Relaxed),
            received: self.received.load(Ordering::Relaxed),
        }
    }
}

/// Bytes in flight per direction and connection.
const BUFFER: usize = 32 << 10;
