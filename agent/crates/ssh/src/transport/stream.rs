//! The byte stream that russh reads and writes.

use super::{TransportHandle, TransportLimits, writer::write_out};
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
pub struct SshTransport<R> {
    reader: BufReader<StampedReader<R>>,
    handle: Arc<TransportHandle>,
    writer: Option<JoinHandle<()>>,
    shutdown: Option<ShutdownDeadlines>,
}

/// The deadlines of a shutdown.
struct ShutdownDeadlines {
    begun: Instant,
    latest: Instant,
    timer: Pin<Box<Sleep>>,
}

impl<R: AsyncRead + Unpin> SshTransport<R> {
    /// Takes both halves of a connection. Needs a tokio runtime. The handle outlives the transport.
    pub fn new<W>(
        read_half: R,
        write_half: W,
        limits: TransportLimits,
    ) -> (Self, Arc<TransportHandle>)
    where
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let handle = TransportHandle::new(limits);
        let stamped = StampedReader {
            inner: read_half,
            handle: Arc::clone(&handle),
        };
        let transport = Self {
            reader: BufReader::with_capacity(handle.limits.read_buffer, stamped),
            handle: Arc::clone(&handle),
            writer: Some(tokio::spawn(write_out(Arc::clone(&handle), write_half))),
            shutdown: None,
        };
        (transport, handle)
    }
}

impl<R: AsyncRead + Unpin> AsyncRead for SshTransport<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.handle.register_reader(cx);
        if let Some(error) = self.handle.error() {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl<R: AsyncRead + Unpin> AsyncWrite for SshTransport<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.handle.push(buf))
    }

    /// Ready at once: the writer task flushes whenever its buffer is empty.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.handle.error().map_or(Ok(()), Err))
    }

    /// Waits within the grace until the kernel has taken the queue. Never an error: russh would skip
    /// `Handler::disconnected`.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(drain) = this.writer.as_mut() else {
            return Poll::Ready(Ok(()));
        };
        let deadlines = this.shutdown.get_or_insert_with(|| {
            this.handle.queue().close();
            this.handle.work.notify_one();
            let begun = Instant::now();
            let latest = begun + this.handle.limits.shutdown_grace * MAX_GRACES;
            ShutdownDeadlines {
                begun,
                latest,
                timer: Box::pin(sleep_until(latest)),
            }
        });
        loop {
            if Pin::new(&mut *drain).poll(cx).is_ready() {
                this.writer = None;
                return Poll::Ready(Ok(()));
            }
            let now = Instant::now();
            // A peer that was stuck before the shutdown gets no second grace.
            let quiet = match this.handle.backlog() {
                0 => this.handle.taken_age().min(now - deadlines.begun),
                _ => this.handle.tx_age(),
            };
            let left = this.handle.limits.shutdown_grace.saturating_sub(quiet);
            if left.is_zero() || now >= deadlines.latest {
                this.handle
                    .abort("shutdown: the far side did not take the last bytes in time");
                this.writer = None;
                return Poll::Ready(Ok(()));
            }
            deadlines
                .timer
                .as_mut()
                .reset((now + left).min(deadlines.latest));
            if deadlines.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl<R> Drop for SshTransport<R> {
    fn drop(&mut self) {
        self.handle
            .kill(io::ErrorKind::NotConnected, "the SSH session has ended");
    }
}

/// Counts the bytes that are read from the socket, and notes the time.
struct StampedReader<R> {
    inner: R,
    handle: Arc<TransportHandle>,
}

impl<R: AsyncRead + Unpin> AsyncRead for StampedReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                self.handle.note_received(buf.filled().len() - before);
            }
            Poll::Ready(Err(error)) => self.handle.fail("reading from", error),
            Poll::Ready(_) | Poll::Pending => {}
        }
        polled
    }
}

/// A shutdown ends after this many times the grace, even while bytes are still sent.
const MAX_GRACES: u32 = 10;
