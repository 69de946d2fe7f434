//! Between the channel and hyper: finds where each HTTP/1.1 message begins and ends.
//!
//! hyper repairs some requests that two parsers can read differently (it drops a Content-Length beside a
//! Transfer-Encoding), answers others without a body, and stops looking for the end of the channel once it has read a
//! pipelined request. So it gets one whole, unambiguous message at a time; in place of a bad head it gets a request of
//! ours, which the service answers with the reason. Heads are parsed once and copied once; bodies go straight into
//! hyper's buffer.

mod body;
mod chunks;
mod exchange_slot;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_properties;
mod head;
mod read_ahead;
mod streams;

pub(super) use exchange_slot::{ExchangeGuard, ExchangeNote, ExchangeSlot};
pub(super) use head::is_token;
pub(super) use read_ahead::SharedFraming;
pub(super) use streams::{StreamTracker, UnservedRequests};

use super::{HttpLimits, problem::ProblemKind};
use crate::{
    audit::RedactedTarget,
    upstream::{ActivityClock, ExpectedFlow},
    vendor_text::VendorText,
};
use bytes::{Buf, BytesMut};
use chunks::ChunkScanner;
pub(super) use head::inspect;
use head::{BodyLength, InspectedHead, RelaxedTarget};
use http::Method;
use read_ahead::ScannedBody;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use streams::FrameParser;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// Why a head is refused, with its readable parts.
#[derive(Clone, Debug)]
pub(super) struct FramingFault {
    pub(super) kind: ProblemKind,
    pub(super) detail: VendorText,
    pub(super) method: Option<Method>,
    pub(super) target: RedactedTarget,
}

/// A channel of which hyper sees one message at a time.
pub(super) struct FramedStream<S> {
    inner: S,
    /// Read from the channel and not yet handed on.
    buffer: BytesMut,
    state: FramingState,
    slot: Arc<ExchangeSlot>,
    activity: Arc<ActivityClock>,
    write_blocked: bool,
    /// More came behind an unfinished answer than is read ahead; none of it is parsed.
    overrun: bool,
    /// hyper waits for bytes.
    is_asked: bool,
    /// How far the present chunked body has been read ahead.
    scanned: Option<ScannedBody>,
    /// The first byte of the present head has come.
    head_begun: bool,
    /// Empty lines before the present head.
    empty_lines: u8,
    max_head: usize,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// Since when a head, or the rest of one, has been awaited.
    waiting_since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
    http2: Option<Box<FrameMonitor>>,
}

/// The frames of an HTTP/2 connection.
struct FrameMonitor {
    received: FrameParser,
    sent: FrameParser,
    tracker: Arc<StreamTracker>,
}

enum FramingState {
    /// Waiting for a head; its end does not lie before `searched`.
    Head {
        searched: usize,
    },
    /// Handing over the first `left` bytes of the buffer.
    HandOver {
        left: usize,
        then: AfterHead,
    },
    /// Handing over a body.
    Known {
        left: u64,
    },
    Chunked(ChunkScanner),
    /// Nothing more is read: the last request was refused for its framing.
    Refused,
    /// HTTP/2: bytes as they come.
    Through,
}

enum AfterHead {
    Body(BodyLength),
    Refused,
}

impl<S: AsyncRead + AsyncWrite + Unpin> FramedStream<S> {
    /// `read` is what has been read from `inner` already.
    pub(super) fn http1(
        inner: S,
        read: BytesMut,
        limits: &HttpLimits,
        slot: Arc<ExchangeSlot>,
        activity: Arc<ActivityClock>,
    ) -> Self {
        Self {
            inner,
            buffer: read,
            state: FramingState::Head { searched: 0 },
            slot,
            activity,
            write_blocked: false,
            overrun: false,
            is_asked: false,
            scanned: None,
            head_begun: false,
            empty_lines: 0,
            max_head: limits.max_head,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            waiting_since: None,
            timer: None,
            http2: None,
        }
    }

    /// HTTP/2 frames its messages itself: blocked writes go into `activity`, its frames into `tracker`.
    pub(super) fn http2(
        inner: S,
        read: BytesMut,
        limits: &HttpLimits,
        activity: Arc<ActivityClock>,
        tracker: Arc<StreamTracker>,
    ) -> Self {
        Self {
            state: FramingState::Through,
            http2: Some(Box::new(FrameMonitor {
                received: FrameParser::of_client(),
                sent: FrameParser::default(),
                tracker,
            })),
            ..Self::http1(inner, read, limits, Arc::default(), activity)
        }
    }

    /// Moves on to handing over a head, ours where there is none to hand over. Ready(true) at the
    /// end of the channel.
    fn poll_head(&mut self, cx: &mut Context<'_>, searched: usize) -> Poll<io::Result<bool>> {
        let mut searched = searched;
        loop {
            if self.slot.is_taken() {
                return self.poll_until_free(cx);
            }
            if self.overrun {
                self.refuse(FramingFault::unread(
                    ProblemKind::Overloaded,
                    "too much was sent behind a request that was not answered yet; none of it was read",
                ));
                return Poll::Ready(Ok(false));
            }
            while self.buffer.starts_with(b"\r\n") {
                // Left over from the body before; RFC 9112 §2.2 asks servers to ignore one.
                self.buffer.advance(2);
                searched = 0;
                self.empty_lines += 1;
                if self.empty_lines > MAX_EMPTY_LINES {
                    self.refuse(FramingFault::unread(
                        ProblemKind::MalformedRequest,
                        "empty lines instead of a request",
                    ));
                    return Poll::Ready(Ok(false));
                }
            }
            match end_of_head(&self.buffer, searched) {
                Some(length) if length <= self.max_head => {
                    self.waiting_since = None;
                    self.head_begun = false;
                    self.empty_lines = 0;
                    match head::inspect(&self.buffer[..length], self.max_head) {
                        Ok(InspectedHead { body, raw }) => {
                            let left =
                                raw.map_or(length, |raw| self.substitute_target(length, raw));
                            self.state = FramingState::HandOver {
                                left,
                                then: AfterHead::Body(body),
                            };
                        }
                        Err(fault) => self.refuse(fault),
                    }
                    return Poll::Ready(Ok(false));
                }
                None if self.buffer.len() <= self.max_head => {}
                _ => {
                    self.refuse(FramingFault::too_large());
                    return Poll::Ready(Ok(false));
                }
            }
            searched = self.buffer.len();
            self.state = FramingState::Head { searched };
            let head_begun = !self.buffer.is_empty();
            if head_begun && !self.head_begun {
                // An empty line does not get this far: it moves no timer.
                self.waiting_since = None;
            }
            self.head_begun = head_begun;
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(true)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if head_begun => {
                    ready!(self.poll_timer(cx, self.head_timeout));
                    self.refuse(FramingFault::unread(
                        ProblemKind::HeadTimeout,
                        "the request head was not complete in time",
                    ));
                    return Poll::Ready(Ok(false));
                }
                Poll::Pending => {
                    ready!(self.poll_timer(cx, self.idle_timeout));
                    return Poll::Ready(Ok(true));
                }
            }
        }
    }

    /// While a request is being answered only the end of the channel matters; bytes before it are buffered, within a
    /// bound. Bytes past the bound are discarded, so that they lie neither here nor in the channel's spool file: the
    /// answer is completed, and a refusal takes the place of the next request. Ready(true) at the end of the channel.
    fn poll_until_free(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        for _ in 0..READS_AT_ONCE {
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(true)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => return self.slot.poll_free(cx).map(|()| Ok(false)),
            }
            if self.overrun {
                self.buffer.clear();
            } else if self.buffer.len() > READ_AHEAD.max(self.max_head) {
                self.overrun = true;
                self.buffer = BytesMut::new();
                tracing::debug!("discarding requests pipelined behind an unfinished answer");
            }
        }
        // The answer needs the task, too.
        cx.waker().wake_by_ref();
        self.slot.poll_free(cx).map(|()| Ok(false))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < READ_LEAST {
            self.buffer.reserve(READ_SIZE);
        }
        tokio_util::io::poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.buffer)
    }

    /// One timer for the life of the channel: it is moved only when it fires, or when it must fire earlier.
    fn poll_timer(&mut self, cx: &mut Context<'_>, limit: Duration) -> Poll<()> {
        let since = *self.waiting_since.get_or_insert_with(Instant::now);
        let deadline = since + limit;
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        while timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }

    /// Puts a target that hyper can parse into the head at the beginning of the buffer; the vendor's own goes beside it.
    /// Returns the new length of the head.
    fn substitute_target(&mut self, length: usize, raw: RelaxedTarget) -> usize {
        let grown = raw.encoded.len() - raw.at.len();
        let mut buffer = BytesMut::with_capacity(self.buffer.len() + grown);
        buffer.extend_from_slice(&self.buffer[..raw.at.start]);
        buffer.extend_from_slice(raw.encoded.as_bytes());
        buffer.extend_from_slice(&self.buffer[raw.at.end..]);
        self.buffer = buffer;
        self.slot.set_note(ExchangeNote::Target(raw.target));
        length + grown
    }

    fn refuse(&mut self, fault: FramingFault) {
        let substitute: &[u8] = match fault.method {
            Some(Method::HEAD) => b"HEAD / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n",
            _ => b"GET / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n",
        };
        self.buffer = BytesMut::from(substitute);
        self.slot.set_note(ExchangeNote::Fault(fault));
        self.state = FramingState::HandOver {
            left: substitute.len(),
            then: AfterHead::Refused,
        };
    }

    fn on_written(&mut self, result: &Poll<io::Result<usize>>, offered: &[io::IoSlice<'_>]) {
        let Poll::Ready(Ok(taken)) = result else {
            return;
        };
        self.activity.vendor_moved(*taken);
        if let Some(monitor) = &mut self.http2 {
            let mut left = *taken;
            for part in offered {
                let here = left.min(part.len());
                monitor.sent.follow(&part[..here], &monitor.tracker);
                left -= here;
            }
        }
    }

    /// HTTP/2: its library reads nothing while a write waits. Bytes that the peer sends meanwhile are buffered, up to a
    /// little more than the windows allow, so that they do not lie in the channel's spool file; more ends the channel.
    fn read_while_blocked(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.http2.is_none() {
            return Ok(());
        }
        for _ in 0..READS_AT_ONCE {
            if self.buffer.len() > HTTP2_READ_AHEAD {
                let text = "more was sent than HTTP/2's windows let through, and no reply was read";
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                // The next read meets the end or the error.
                Poll::Ready(_) | Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn on_write<T>(&mut self, result: Poll<T>) -> Poll<T> {
        match (result.is_pending(), self.write_blocked) {
            (true, false) => {
                self.activity.begin(ExpectedFlow::Write);
                self.write_blocked = true;
            }
            (false, true) => {
                self.activity.end(ExpectedFlow::Write);
                self.write_blocked = false;
                self.activity.moved();
            }
            // Download frames count as movement elsewhere; blocked writes do not.
            _ => {}
        }
        result
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for FramedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.scanned = None;
        let read = this.poll_message(cx, out);
        this.is_asked = read.is_pending();
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> FramedStream<S> {
    fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self;
        loop {
            match &mut this.state {
                FramingState::Head { searched } => {
                    let searched = *searched;
                    if ready!(this.poll_head(cx, searched))? {
                        return Poll::Ready(Ok(()));
                    }
                }
                FramingState::HandOver { left, .. } if *left > 0 => {
                    let most = *left;
                    let length = this.hand_over(out, most);
                    if let FramingState::HandOver { left, then } = &mut this.state {
                        *left -= length;
                        if *left == 0 {
                            this.slot.take();
                            this.state = then.state();
                        }
                    }
                    return Poll::Ready(Ok(()));
                }
                FramingState::HandOver { then, .. } => this.state = then.state(),
                FramingState::Known { left } => {
                    let left = *left;
                    return this.poll_known(cx, out, left);
                }
                FramingState::Chunked(chunks) => {
                    let chunks = std::mem::take(chunks);
                    return this.poll_chunked(cx, out, chunks);
                }
                // hyper closes once the answer is written; it would take an end here for an abort.
                FramingState::Refused => return Poll::Pending,
                FramingState::Through => {
                    let before = out.filled().len();
                    if this.buffer.is_empty() {
                        ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
                    } else {
                        this.hand_over(out, usize::MAX);
                    }
                    if let Some(monitor) = &mut this.http2 {
                        let new = &out.filled()[before..];
                        monitor.received.follow(new, &monitor.tracker);
                    }
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for FramedStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.on_written(&result, &[io::IoSlice::new(bytes)]);
        if result.is_pending() {
            self.read_while_blocked(cx)?;
        }
        self.on_write(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        if result.is_pending() {
            self.read_while_blocked(cx)?;
        }
        self.on_write(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.on_write(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.on_written(&result, bytes);
        if result.is_pending() {
            self.read_while_blocked(cx)?;
        }
        self.on_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

impl AfterHead {
    fn state(&self) -> FramingState {
        match self {
            Self::Body(BodyLength::Known(0)) => FramingState::Head { searched: 0 },
            Self::Body(BodyLength::Known(left)) => FramingState::Known { left: *left },
            Self::Body(BodyLength::Chunked) => FramingState::Chunked(ChunkScanner::default()),
            Self::Refused => FramingState::Refused,
        }
    }
}

impl FramingFault {
    pub(super) fn too_large() -> Self {
        Self::unread(
            ProblemKind::HeadTooLarge,
            "the request head is larger than this agent takes",
        )
    }

    pub(super) fn unread(kind: ProblemKind, detail: &'static str) -> Self {
        Self {
            kind,
            detail: detail.into(),
            method: None,
            target: RedactedTarget::unknown(),
        }
    }
}

/// Length of the head at the beginning of the buffer, if its empty line has come. Bare LFs count, so that they are refused
/// now and not after the timeout.
fn end_of_head(buffer: &[u8], searched: usize) -> Option<usize> {
    let mut from = searched.saturating_sub(3);
    while let Some(at) = buffer[from..].iter().position(|&byte| byte == b'\n') {
        let next = from + at + 1;
        match &buffer[next..] {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => from = next,
        }
    }
    None
}

/// Bytes of pipelined requests that are read while one is being answered; `max_head` where that is more.
const READ_AHEAD: usize = 64 << 10;
/// Bytes: hyper's window for all uploads of a connection, and room for frames that need none.
const HTTP2_READ_AHEAD: usize = (1 << 20) + (64 << 10);
/// Reads in a row before the answer is polled again.
const READS_AT_ONCE: usize = 32;
/// Empty lines before one request; more are refused.
const MAX_EMPTY_LINES: u8 = 4;
/// Bytes. Most heads fit, and an idle channel holds no more.
const READ_SIZE: usize = 4 << 10;
const READ_LEAST: usize = 1 << 10;
