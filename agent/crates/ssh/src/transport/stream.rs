//! The byte stream that russh reads and writes.

use super::{TransportHandle, TransportLimits, delivery::deliver, writer::write_out};
use futures_util::future::BoxFuture;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadBuf},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// A byte stream for `connect_stream` / `run_stream`: writes are always ready, reads are buffered
/// (russh reads each packet with two small reads), both fail at once when the session is aborted.
pub struct SshTransport<R> {
    reader: BufReader<StampedReader<R>>,
    handle: Arc<TransportHandle>,
    writer: Option<JoinHandle<()>>,
    shutdown: Option<TransportShutdown>,
}

/// A shutdown that has begun.
struct TransportShutdown {
    /// `None` once it is over.
    delivery: Option<BoxFuture<'static, ()>>,
    peer_closed: CancellationToken,
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

    /// Waits until what was written has arrived, within bounds, and reads meanwhile. Never an error: russh would skip
    /// `Handler::disconnected`.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let shutdown = match (&mut this.shutdown, this.writer.take()) {
            (Some(shutdown), _) => shutdown,
            (None, None) => return Poll::Ready(Ok(())),
            (begun @ None, Some(writer)) => {
                this.handle.queue().close();
                this.handle.work.notify_one();
                let (handle, peer_closed) = (Arc::clone(&this.handle), CancellationToken::new());
                let closed = peer_closed.clone();
                let delivery = async move { deliver(&handle, writer, &closed).await };
                begun.insert(TransportShutdown {
                    delivery: Some(Box::pin(delivery)),
                    peer_closed,
                })
            }
        };
        let Some(delivery) = &mut shutdown.delivery else {
            return Poll::Ready(Ok(()));
        };
        if !shutdown.peer_closed.is_cancelled()
            && poll_discard(Pin::new(&mut this.reader), cx).is_ready()
        {
            shutdown.peer_closed.cancel();
        }
        ready!(delivery.as_mut().poll(cx));
        shutdown.delivery = None;
        Poll::Ready(Ok(()))
    }
}

/// Reads and drops what comes. Ready at the end, or at an error.
fn poll_discard<R: AsyncBufRead>(mut reader: Pin<&mut R>, cx: &mut Context<'_>) -> Poll<()> {
    for _ in 0..READS {
        match ready!(reader.as_mut().poll_fill_buf(cx)) {
            Ok([]) | Err(_) => return Poll::Ready(()),
            Ok(read) => {
                let length = read.len();
                reader.as_mut().consume(length);
            }
        }
    }
    // A peer that sends without end holds no thread.
    cx.waker().wake_by_ref();
    Poll::Pending
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

/// Reads of one poll.
const READS: usize = 16;
