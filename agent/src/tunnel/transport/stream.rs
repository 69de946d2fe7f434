//! What russh reads and writes.

use super::{Limits, Meter, drain::drain};
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, BufReader, ReadBuf},
    task::JoinHandle,
    time::{Instant, Sleep, sleep_until},
};

/// A byte stream for `connect_stream` / `run_stream`: writes are always ready, reads are buffered
/// (russh reads each packet with two small reads), both fail at once when the session is aborted.
pub struct Transport<R> {
    reader: BufReader<Stamped<R>>,
    meter: Arc<Meter>,
    drain: Option<JoinHandle<()>>,
    farewell: Option<Farewell>,
}

/// The deadlines of a shutdown.
struct Farewell {
    begun: Instant,
    latest: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<R: AsyncRead + Unpin> Transport<R> {
    /// Takes both halves of a connection; needs a runtime. The meter outlives the transport.
    pub fn new<W>(read_half: R, write_half: W, limits: Limits) -> (Self, Arc<Meter>)
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let meter = Meter::new(limits);
        let stamped = Stamped {
            inner: read_half,
            meter: Arc::clone(&meter),
        };
        let transport = Self {
            reader: BufReader::with_capacity(meter.limits.read_buffer, stamped),
            meter: Arc::clone(&meter),
            drain: Some(tokio::spawn(drain(Arc::clone(&meter), write_half))),
            farewell: None,
        };
        (transport, meter)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for Transport<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.meter.register_reader(cx);
        if let Some(error) = self.meter.error() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl<R: AsyncRead + Unpin> AsyncWrite for Transport<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.meter.push(buf))
    }

    /// Ready at once: the drain task flushes whenever its buffer is empty.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.meter.error().map_or(Ok(()), Err))
    }

    /// Waits for the kernel to take what is queued, within the grace. Never an error: russh would
    /// leave out `Handler::disconnected`.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(drain) = this.drain.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let farewell = this.farewell.get_or_insert_with(|| {
            this.meter.queue().close();
            this.meter.work.notify_one();
            let begun = Instant::now();
            let latest = begun + this.meter.limits.shutdown_grace * TRICKLE;
            Farewell {
                begun,
                latest,
                timer: Box::pin(sleep_until(latest)),
            }
        });
        loop {
            if Pin::new(&mut *drain).poll(cx).is_ready() {
                this.drain = None;
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            // A peer that has been stuck for a while gets no second wait.
            let quiet = match this.meter.backlog() {
                0 => this.meter.taken_age().min(now - farewell.begun),
                _ => this.meter.tx_age(),
            };
            let left = this.meter.limits.shutdown_grace.saturating_sub(quiet);
            if left.is_zero() || now >= farewell.latest {
                this.meter
                    .abort("shutdown: the far side did not take the last bytes in time");
                this.drain = None;
                return Poll::Ready(Ok(()));
            }
            farewell
                .timer
                .as_mut()
                .reset((now + left).min(farewell.latest));
            if farewell.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<R> Drop for Transport<R> {
    fn drop(&mut self) {
        self.meter
            .kill(io::ErrorKind::NotConnected, "the SSH session has ended");
    }
}

/// Stamps what comes from the socket.
struct Stamped<R> {
    inner: R,
    meter: Arc<Meter>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Stamped<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.meter.note_received(buf.filled().len() - before);
            }
            Poll::Ready(Err(error)) => self.meter.kill(
                error.kind(),
                format!("reading from the gateway's socket failed: {error}"),
            ),
            _ => {}
        }
        polled
    }
}

/// However slowly bytes still go, shutdown ends after so many times the grace.
const TRICKLE: u32 = 10;
