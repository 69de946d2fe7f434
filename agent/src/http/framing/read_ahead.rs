//! Reads what comes behind a short body while nothing reads that body: Jira has no connection free, or the request waits
//! for the login. It would lie in the channel's spool file otherwise, up to its caps.

use super::{ChunkScanner, FramedStream, FramingState, READ_AHEAD, READS_AT_ONCE};
use bytes::BytesMut;
use parking_lot::Mutex;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A chunked body, as far as it lies in the buffer.
#[derive(Debug, Default)]
pub(super) struct ScannedBody {
    chunks: ChunkScanner,
    /// Bytes of the buffer that were scanned, and belong to the body.
    length: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FramedStream<S> {
    /// Reads a short body ahead, and what comes behind it, within the bound for bytes behind an unfinished answer. Bytes
    /// past the bound are discarded, and a refusal takes the place of the next request.
    fn read_behind_body(&mut self, cx: &mut Context<'_>) {
        if self.is_asked {
            return;
        }
        for _ in 0..READS_AT_ONCE {
            match self.end_of_short_body() {
                Some(end) => {
                    let behind = self.buffer.len().saturating_sub(end);
                    if behind > READ_AHEAD.max(self.max_head) || (self.overrun && behind > 0) {
                        self.overrun = true;
                        self.buffer.truncate(end);
                        if end == 0 {
                            self.buffer = BytesMut::new();
                        }
                    }
                }
                // A long one, which the channel buffers.
                None if self.buffer.len() >= READ_AHEAD => return,
                None if !matches!(self.state, FramingState::Chunked(_)) => return,
                None => {}
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                // The next read meets the end or the error.
                Poll::Ready(_) | Poll::Pending => return,
            }
        }
        cx.waker().wake_by_ref();
    }

    /// Where the present body ends in the buffer, or will end. `None` where it is long, or its end has not come yet.
    fn end_of_short_body(&mut self) -> Option<usize> {
        match &self.state {
            // hyper has all of it, and has not handed on all of it.
            FramingState::Head { .. } if self.slot.is_taken() => Some(0),
            FramingState::Known { left } => {
                let left = usize::try_from(*left).ok()?;
                (left <= READ_AHEAD).then_some(left)
            }
            FramingState::Chunked(chunks) => {
                let scanned = self.scanned.get_or_insert_with(|| ScannedBody {
                    chunks: chunks.clone(),
                    length: 0,
                });
                // The read of the body meets an error in it.
                let new = scanned.chunks.follow(&self.buffer[scanned.length..]).ok()?;
                scanned.length += new;
                scanned.chunks.is_done().then_some(scanned.length)
            }
            FramingState::Head { .. }
            | FramingState::HandOver { .. }
            | FramingState::Refused
            | FramingState::Through => None,
        }
    }
}

/// A framing that hyper reads, and that the task which drives hyper reads ahead.
pub(in crate::http) struct SharedFraming<S>(Arc<Mutex<FramedStream<S>>>);

impl<S> Clone for SharedFraming<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> SharedFraming<S> {
    pub(in crate::http) fn new(framing: FramedStream<S>) -> Self {
        Self(Arc::new(Mutex::new(framing)))
    }

    /// Never completes. To be polled by the task that drives hyper, after hyper.
    pub(in crate::http) async fn read_behind_bodies(self) {
        std::future::poll_fn(|cx| {
            self.0.lock().read_behind_body(cx);
            Poll::<()>::Pending
        })
        .await;
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for SharedFraming<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(cx, out)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for SharedFraming<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().is_write_vectored()
    }
}
