//! `tcp://` upstreams: bytes unchanged in both directions, each of which ends by itself.

use super::{
    ActivityClock, ExpectedFlow, SendError, Settings, StallLimits, TlsConfigError,
    dial::{self, UpstreamDialer},
};
use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
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
    /// The vendor's channel was closed before all bytes were delivered.
    #[error("the vendor closed the channel")]
    VendorClosed,
    /// Neither side moved a byte for `tcp_idle_timeout`.
    #[error("no byte either way for {0:?}")]
    Idle(Duration),
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] TlsConfigError),
}

/// Connects to the upstream and carries bytes both ways until both sides have closed. The counts are exact whatever the
/// outcome.
///
/// `closed` completes when the stream is closed, with whether the vendor had sent all before. What the upstream has not
/// taken by then is discarded, unless each side had sent all.
pub async fn pump<S>(
    stream: S,
    closed: impl Future<Output = bool>,
    settings: &Settings,
) -> (PumpedBytes, Result<(), PumpError>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let counter = ByteCounter::default();
    let result = tokio::select! {
        biased;
        result = carry(stream, settings, &counter) => result,
        () = cut_off(closed, &counter) => Err(PumpError::VendorClosed),
    };
    (counter.pumped(), result)
}

/// Completes when the stream is closed in the middle of a transfer. A stream is also closed when each side has sent all:
/// then the upstream may still take what the vendor sent.
async fn cut_off(closed: impl Future<Output = bool>, counter: &ByteCounter) {
    let vendor_sent_all = closed.await;
    if vendor_sent_all && counter.answered.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
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
    let _permit = dial::promised(1)?;
    let mut upstream = UpstreamDialer::new(settings)?.tcp(deadline).await?;
    let (from_upstream, to_upstream) = upstream.split();
    let (from_vendor, to_vendor) = tokio::io::split(stream);
    counter.clock.begin(ExpectedFlow::Tunnel);
    let both = async {
        tokio::try_join!(
            one_way(from_vendor, to_upstream, &counter.clock, &counter.sent),
            async {
                let answer = one_way(from_upstream, to_vendor, &counter.clock, &counter.received);
                answer.await?;
                counter.answered.store(true, Ordering::Relaxed);
                Ok(())
            },
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
    /// The upstream has sent all, and the vendor's channel has it.
    answered: AtomicBool,
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
