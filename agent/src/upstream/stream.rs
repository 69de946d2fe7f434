//! One connection to Jira as bytes, plain or TLS.

use super::{
    answer_head::AnswerHead,
    channel_dial::{DialedStream, QuietCheck},
    raw_target::RequestLineSwap,
};
use crate::descriptors::DescriptorPermit;
use bytes::{Buf, BytesMut};
use socket2::{SockRef, Socket};
use std::{
    io,
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

/// A connected stream that lets an early answer through.
///
/// A server may answer an upload before its end and close. Our next write then fails, while the
/// answer still lies unread in the socket. So a failed write is not reported: it stays pending, and
/// the read side, which sees the answer or the end of the connection, decides.
pub(super) struct EarlyAnswerStream {
    inner: MaybeTlsStream,
    write_failed: bool,
    request_line: RequestLineSwap,
    answer_head: AnswerHead,
    /// A request line that hyper takes for written, and that is still to be written.
    unwritten: BytesMut,
    /// Of a channel, until the probe takes it.
    is_quiet: Option<QuietCheck>,
    /// For the socket and its probe. The last member, because it is dropped last.
    permit: DescriptorPermit,
}

enum MaybeTlsStream {
    Plain(DialedStream),
    // Boxed: a TLS session is about a kilobyte, a plain socket a few words.
    Tls(Box<TlsStream<DialedStream>>),
}

/// A second handle on a stream's socket or channel, to check it while hyper owns the stream.
pub(super) struct SocketProbe {
    socket: Option<Socket>,
    is_quiet: Option<QuietCheck>,
    _permit: Option<DescriptorPermit>,
}

impl SocketProbe {
    /// Whether the kernel has nothing to read: on a connection without a request in flight, bytes, an end or an error mean
    /// that Jira's side has closed it or is about to. hyper notices only when it is polled next, and a request may already
    /// be written by then.
    pub(super) fn is_quiet(&self) -> bool {
        if let Some(is_quiet) = &self.is_quiet {
            return is_quiet();
        }
        let Some(socket) = &self.socket else {
            return true;
        };
        let mut byte = [MaybeUninit::uninit()];
        matches!(socket.peek(&mut byte), Err(e) if e.kind() == io::ErrorKind::WouldBlock)
    }
}

impl EarlyAnswerStream {
    /// `permit`: for two descriptors.
    pub(super) fn plain(stream: DialedStream, permit: DescriptorPermit) -> Self {
        Self::new(MaybeTlsStream::Plain(stream), permit)
    }

    /// `permit`: for two descriptors.
    pub(super) fn tls(stream: TlsStream<DialedStream>, permit: DescriptorPermit) -> Self {
        Self::new(MaybeTlsStream::Tls(Box::new(stream)), permit)
    }

    /// The same stream, of a channel that this check looks at.
    pub(super) fn checked_by(self, is_quiet: Option<QuietCheck>) -> Self {
        Self { is_quiet, ..self }
    }

    fn new(inner: MaybeTlsStream, permit: DescriptorPermit) -> Self {
        Self {
            inner,
            write_failed: false,
            request_line: RequestLineSwap::default(),
            answer_head: AnswerHead::default(),
            unwritten: BytesMut::new(),
            is_quiet: None,
            permit,
        }
    }

    /// The swap of request lines on this stream.
    pub(super) fn request_line(&self) -> RequestLineSwap {
        self.request_line.clone()
    }

    /// The head of the answer that this stream reads.
    pub(super) fn answer_head(&self) -> AnswerHead {
        self.answer_head.clone()
    }

    /// Costs one more file descriptor; where none is free, hyper's own view must do.
    pub(super) fn probe(&mut self) -> SocketProbe {
        let permit = self.permit.split_one();
        let stream = match &self.inner {
            MaybeTlsStream::Plain(stream) => stream,
            MaybeTlsStream::Tls(stream) => stream.get_ref().0,
        };
        let socket = match stream {
            DialedStream::Tcp(socket) => SockRef::from(socket).try_clone().ok(),
            DialedStream::Channel(_) => None,
        };
        SocketProbe {
            socket,
            is_quiet: self.is_quiet.take(),
            _permit: permit,
        }
    }

    /// Takes hyper's request line for written where another one is to be written in its place.
    fn swap_request_line(&mut self, bytes: &[u8]) -> io::Result<Option<usize>> {
        let swapped = self.request_line.swap(bytes)?;
        Ok(swapped.map(|swapped| {
            self.unwritten.extend_from_slice(&swapped.line);
            swapped.taken
        }))
    }

    /// Ready when the swapped request line is written.
    fn poll_unwritten(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.unwritten.is_empty() {
            let result = ready!(match &mut self.inner {
                MaybeTlsStream::Plain(stream) => Pin::new(stream).poll_write(cx, &self.unwritten),
                MaybeTlsStream::Tls(stream) => Pin::new(stream).poll_write(cx, &self.unwritten),
            });
            let result = result.and_then(|written| match written {
                0 => Err(io::ErrorKind::WriteZero.into()),
                written => Ok(written),
            });
            match ready!(self.check(result)) {
                Ok(written) => self.unwritten.advance(written),
                // Never: a failure stays pending.
                Err(_) => return Poll::Pending,
            }
        }
        Poll::Ready(())
    }

    fn check<T>(&mut self, result: io::Result<T>) -> Poll<io::Result<T>> {
        match result {
            Ok(value) => Poll::Ready(Ok(value)),
            Err(error) => {
                tracing::debug!(%error, "write toward Jira failed; its answer is still awaited");
                self.write_failed = true;
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for EarlyAnswerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = match &mut self.inner {
            MaybeTlsStream::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            MaybeTlsStream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        };
        self.answer_head.read(&buf.filled()[before..]);
        read
    }
}

impl AsyncWrite for EarlyAnswerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Pending;
        }
        ready!(self.poll_unwritten(cx));
        if let Some(taken) = self.swap_request_line(buf)? {
            return Poll::Ready(Ok(taken));
        }
        let result = ready!(match &mut self.inner {
            MaybeTlsStream::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            MaybeTlsStream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        });
        self.check(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.write_failed {
            return Poll::Pending;
        }
        ready!(self.poll_unwritten(cx));
        let first = bufs.iter().find(|buf| !buf.is_empty());
        if let Some(taken) = self.swap_request_line(first.map_or(&[], |buf| buf))? {
            return Poll::Ready(Ok(taken));
        }
        let result = ready!(match &mut self.inner {
            MaybeTlsStream::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            MaybeTlsStream::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        });
        self.check(result)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.inner {
            MaybeTlsStream::Plain(stream) => stream.is_write_vectored(),
            MaybeTlsStream::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Pending;
        }
        ready!(self.poll_unwritten(cx));
        let result = ready!(match &mut self.inner {
            MaybeTlsStream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            MaybeTlsStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        });
        self.check(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.write_failed {
            return Poll::Ready(Ok(()));
        }
        match &mut self.inner {
            MaybeTlsStream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            MaybeTlsStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
