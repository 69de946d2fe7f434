//! What stands between the channel and hyper: finds where each HTTP/1.1 message begins and ends.
//!
//! hyper repairs some requests that two parsers can read differently (it drops a Content-Length
//! beside a Transfer-Encoding), answers others without a body, and stops looking for the end of the
//! channel once it has read a pipelined request. So it is handed one whole, unambiguous message at a
//! time; in the place of a bad head it gets a request of ours, which the service answers with the
//! reason. Heads are looked at once and copied once; bodies go straight into hyper's buffer.

mod behind;
mod body;
mod chunks;
mod exchange_slot;
mod head;
mod streams;

pub(super) use behind::SharedFraming;
pub(super) use exchange_slot::{ExchangeGuard, ExchangeNote, ExchangeSlot};
pub(super) use head::is_token;
pub(super) use streams::{StreamTracker, UnservedRequests};

use super::{
    HttpLimits,
    problem::ProblemKind,
    stall::{ActivityClock, ExpectedFlow},
};
use crate::{audit::RedactedTarget, vendor_text::VendorText};
use behind::Ahead;
use bytes::{Buf, BytesMut};
use chunks::ChunkScanner;
pub(super) use head::inspect;
use head::{BodyLength, InspectedHead, RelaxedTarget};
use http::Method;
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

/// Why a head is refused, and what of it could be read.
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
    /// Read from the channel and not handed on yet.
    buffer: BytesMut,
    state: FramingState,
    slot: Arc<ExchangeSlot>,
    activity: Arc<ActivityClock>,
    write_blocked: bool,
    /// More came behind an unfinished answer than is read ahead; none of it is looked at.
    overrun: bool,
    /// hyper waits for bytes.
    is_asked: bool,
    /// Of the present chunked body.
    ahead: Option<Ahead>,
    /// The present head has begun.
    begun: bool,
    /// Empty lines before it.
    empty_lines: u8,
    max_head: usize,
    head_timeout: Duration,
    idle_timeout: Duration,
    /// Since when a head, or its rest, has been waited for.
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
    /// Waiting for a head; the end of it does not lie before `searched`.
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
        turn: Arc<ExchangeSlot>,
        pulse: Arc<ActivityClock>,
    ) -> Self {
        Self {
            inner,
            buffer: read,
            state: FramingState::Head { searched: 0 },
            slot: turn,
            activity: pulse,
            write_blocked: false,
            overrun: false,
            is_asked: false,
            ahead: None,
            begun: false,
            empty_lines: 0,
            max_head: limits.max_head,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            waiting_since: None,
            timer: None,
            http2: None,
        }
    }

    /// HTTP/2 frames its messages itself; blocked writes are noted, and its frames in `ledger`.
    pub(super) fn http2(
        inner: S,
        read: BytesMut,
        limits: &HttpLimits,
        pulse: Arc<ActivityClock>,
        ledger: Arc<StreamTracker>,
    ) -> Self {
        Self {
            state: FramingState::Through,
            http2: Some(Box::new(FrameMonitor {
                received: FrameParser::of_client(),
                sent: FrameParser::default(),
                tracker: ledger,
            })),
            ..Self::http1(inner, read, limits, Arc::default(), pulse)
        }
    }

    /// Moves on to handing over a head, ours where there is none to hand over. Ready(true) at the
    /// end of the channel.
    fn poll_head(&mut self, cx: &mut Context<'_>, searched: usize) -> Poll<io::Result<bool>> {
        let mut searched = searched;
        loop {
            if self.slot.is_taken() {
                return self.poll_watch(cx);
            }
            if self.overrun {
                self.refuse(FramingFault::unread(
                    ProblemKind::Overloaded,
                    "too much was sent behind a request that was not answered yet; none of it was looked at",
                ));
                return Poll::Ready(Ok(false));
            }
            while self.buffer.starts_with(b"\r\n") {
                // Left over from the body before; RFC 9112 §2.2 asks for patience with one.
                self.buffer.advance(2);
                searched = 0;
                self.empty_lines += 1;
                if self.empty_lines > MAX_EMPTY_LINES {
                    self.refuse(FramingFault::unread(
                        ProblemKind::MalformedRequest,
                        "empty lines in the place of a request",
                    ));
                    return Poll::Ready(Ok(false));
                }
            }
            match end_of_head(&self.buffer, searched) {
                Some(length) if length <= self.max_head => {
                    self.waiting_since = None;
                    self.begun = false;
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
            let begun = !self.buffer.is_empty();
            if begun && !self.begun {
                // An empty line does not come so far: it moves no timer.
                self.waiting_since = None;
            }
            self.begun = begun;
            match self.poll_fill(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Ok(true)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if begun => {
                    ready!(self.poll_timer(cx, self.head_timeout));
                    self.refuse(FramingFault::unread(
                        ProblemKind::HeadTimeout,
                        "the request head did not come to its end in time",
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

    /// While a request is being answered only the end of the channel is of interest; what comes
    /// before it is kept for later, within a bound. What comes past it is thrown away, so that it lies neither here nor
    /// in the channel's spool file: the answer goes to its end, and a refusal takes the place of the next.
    /// Ready at the end of the channel.
    fn poll_watch(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
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
                tracing::debug!("what is pipelined behind an unfinished answer is thrown away");
            }
        }
        // The answer has its turn, too.
        cx.waker().wake_by_ref();
        self.slot.poll_free(cx).map(|()| Ok(false))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.buffer.capacity() - self.buffer.len() < READ_LEAST {
            self.buffer.reserve(READ_SIZE);
        }
        tokio_util::io::poll_read_buf(Pin::new(&mut self.inner), cx, &mut self.buffer)
    }

    /// One timer for the channel's life: it is moved only when it fires, or when it must fire earlier.
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

    /// Puts into the head at the buffer's beginning a target that hyper can hold; the true one goes beside it. Gives the
    /// head's new length.
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
        let stand_in: &[u8] = match fault.method {
            Some(Method::HEAD) => b"HEAD / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n",
            _ => b"GET / HTTP/1.1\r\nhost: -\r\nconnection: close\r\n\r\n",
        };
        self.buffer = BytesMut::from(stand_in);
        self.slot.set_note(ExchangeNote::Fault(fault));
        self.state = FramingState::HandOver {
            left: stand_in.len(),
            then: AfterHead::Refused,
        };
    }

    fn note_taken(&mut self, result: &Poll<io::Result<usize>>, offered: &[io::IoSlice<'_>]) {
        let Poll::Ready(Ok(taken)) = result else {
            return;
        };
        self.activity.vendor_moved(*taken);
        if let Some(watched) = &mut self.http2 {
            let mut left = *taken;
            for part in offered {
                let here = left.min(part.len());
                watched.sent.follow(&part[..here], &watched.tracker);
                left -= here;
            }
        }
    }

    /// HTTP/2: its library reads nothing while a write waits. What the peer sends meanwhile is taken, up to a little more
    /// than the windows let it send, so that it does not lie in the channel's spool file; a peer that sends more is left.
    fn take_behind(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.http2.is_none() {
            return Ok(());
        }
        for _ in 0..READS_AT_ONCE {
            if self.buffer.len() > HTTP2_BEHIND {
                let text = "more was sent than HTTP/2's windows let through, and no reply was read";
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
            }
            match self.poll_fill(cx) {
                Poll::Ready(Ok(1..)) => {}
                // The end, or what is wrong, is met by the next read.
                Poll::Ready(_) | Poll::Pending => return Ok(()),
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    fn note_write<T>(&mut self, result: Poll<T>) -> Poll<T> {
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
            // Download frames have been counted as movement already; blocked writes are not.
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
        this.ahead = None;
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
                // hyper closes once the answer is written; an end here would be taken for an abort.
                FramingState::Refused => return Poll::Pending,
                FramingState::Through => {
                    let before = out.filled().len();
                    if this.buffer.is_empty() {
                        ready!(Pin::new(&mut this.inner).poll_read(cx, out))?;
                    } else {
                        this.hand_over(out, usize::MAX);
                    }
                    if let Some(watched) = &mut this.http2 {
                        let new = &out.filled()[before..];
                        watched.received.follow(new, &watched.tracker);
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
        self.note_taken(&result, &[io::IoSlice::new(bytes)]);
        if result.is_pending() {
            self.take_behind(cx)?;
        }
        self.note_write(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_flush(cx);
        if result.is_pending() {
            self.take_behind(cx)?;
        }
        self.note_write(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.note_write(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bytes);
        self.note_taken(&result, bytes);
        if result.is_pending() {
            self.take_behind(cx)?;
        }
        self.note_write(result)
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

/// Length of the head that begins the buffer, where its empty line is there. Bare LFs count, so that
/// they are refused now and not when time is up.
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

/// What is read of pipelined requests while one is being answered, at the most; `max_head` where that is more.
const READ_AHEAD: usize = 64 << 10;
/// hyper's window for all uploads of a connection, and room for frames that need none.
const HTTP2_BEHIND: usize = (1 << 20) + (64 << 10);
/// Reads after which the answer comes first again.
const READS_AT_ONCE: usize = 32;
/// Empty lines before one request.
const MAX_EMPTY_LINES: u8 = 4;
/// Holds most heads, and an idle channel holds no more.
const READ_SIZE: usize = 4 << 10;
const READ_LEAST: usize = 1 << 10;
