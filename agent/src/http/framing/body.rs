//! Hands bodies on, up to their end and not a byte further.

use super::{ChunkScanner, FramedStream, FramingState};
use bytes::Buf;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

impl<S: AsyncRead + AsyncWrite + Unpin> FramedStream<S> {
    /// Copies up to `most` bytes of the buffer. Returns how many.
    pub(super) fn hand_over(&mut self, out: &mut ReadBuf<'_>, most: usize) -> usize {
        let length = most.min(self.buffer.len()).min(out.remaining());
        out.put_slice(&self.buffer[..length]);
        self.buffer.advance(length);
        if self.buffer.is_empty() && self.buffer.capacity() > super::READ_AHEAD {
            // Most channels are idle most of the time: an idle one keeps no large buffer.
            self.buffer = bytes::BytesMut::new();
        }
        length
    }

    /// A part of a body of known length, straight into the reader's buffer.
    pub(super) fn poll_known(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        left: u64,
    ) -> Poll<io::Result<()>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        let length = if self.buffer.is_empty() {
            let before = out.filled().len();
            let mut limited = (&mut self.inner).take(left.min(PART));
            ready!(Pin::new(&mut limited).poll_read(cx, out))?;
            out.filled().len() - before
        } else {
            self.hand_over(out, most)
        };
        self.state = match left - length as u64 {
            0 => FramingState::Head { searched: 0 },
            left => FramingState::Known { left },
        };
        Poll::Ready(Ok(()))
    }

    /// A part of a chunked body; bytes read past its end go back into the buffer.
    pub(super) fn poll_chunked(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
        mut chunks: ChunkScanner,
    ) -> Poll<io::Result<()>> {
        let before = out.filled().len();
        let followed = if self.buffer.is_empty() {
            let mut limited = (&mut self.inner).take(PART);
            match Pin::new(&mut limited).poll_read(cx, out) {
                Poll::Ready(read) => read?,
                Poll::Pending => {
                    self.state = FramingState::Chunked(chunks);
                    return Poll::Pending;
                }
            }
            let new = &out.filled()[before..];
            let followed = chunks.follow(new);
            if let Ok(length) = followed {
                // The next message came with the same read.
                self.buffer.extend_from_slice(&new[length..]);
                out.set_filled(before + length);
            }
            followed
        } else {
            let most = self.buffer.len().min(out.remaining());
            let followed = chunks.follow(&self.buffer[..most]);
            if let Ok(length) = followed {
                self.hand_over(out, length);
            }
            followed
        };
        if followed.is_err() {
            out.set_filled(before);
            self.state = FramingState::Refused;
            return Poll::Ready(Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a chunked body that can be read in two ways",
            )));
        }
        self.state = match chunks.is_done() {
            true => FramingState::Head { searched: 0 },
            false => FramingState::Chunked(chunks),
        };
        Poll::Ready(Ok(()))
    }
}

/// Bytes that are handed on at once: one message of the channel. Each part that waits for Jira, in a buffer or between two
/// tasks, keeps the memory that it was read into.
const PART: u64 = 32 << 10;
