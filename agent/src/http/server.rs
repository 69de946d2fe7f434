//! One HTTP server per channel: HTTP/1.1, or HTTP/2 where the client begins with its preface.

use super::{
    CurrentForward, HttpLimits,
    exchange::{self, RequestContext, ResponseGuard},
    framing::{ExchangeSlot, FramedStream, SharedFraming},
    http2::http2,
    stall::{ActivityClock, StallLimits},
};
use bytes::BytesMut;
use http::{HeaderValue, Version, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// When a channel is to end although its client would go on. What is being answered is answered.
#[derive(Clone, Default)]
pub struct ShutdownTokens {
    /// No further request is taken, once what is on its way has had time to come; answers until then carry `Connection:
    /// close`. A request that comes just then is lost.
    pub drain: CancellationToken,
    /// The client is told to come by another channel next time, and none of its requests is lost: by `Connection:
    /// close` in the next answer, by GOAWAY in HTTP/2.
    pub replaced: CancellationToken,
    /// The time for what is being answered is over: what Jira has not answered yet is told so, with its delivery state.
    pub abort: CancellationToken,
}

/// Answers the requests of one channel until its end, each by the forward that has the `seat` then. Once it is drained it
/// returns when those in flight are answered; the caller sets that a limit and drops it.
///
/// Dropping the future, or an end of the stream while a request is being answered, drops that
/// request's exchange with Jira at once. An answer that breaks off drops the stream without a
/// shutdown, in the middle of its framing.
pub async fn serve<S>(
    mut stream: S,
    seat: impl Into<CurrentForward>,
    originator: impl Into<Arc<str>>,
    connection: usize,
    ends: ShutdownTokens,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut read = BytesMut::with_capacity(FIRST_READ);
    let seat = seat.into();
    let limits = seat.load().limits().clone();
    let opening = tokio::select! {
        opening = detect_protocol(&mut stream, &mut read, &limits) => opening,
        () = lingered(&ends.drain) => return,
    };
    let line = ChannelContext {
        current: seat,
        originator: originator.into(),
        connection,
        limits,
        replaced: ends.replaced,
        drain: ends.drain.clone(),
        abort: ends.abort,
    };
    match opening {
        DetectedProtocol::Http1 => http1(stream, read, line, ends.drain).await,
        DetectedProtocol::Http2 => http2(stream, read, line).await,
        DetectedProtocol::Nothing => {}
    }
}

/// What all requests of one channel have in common.
#[derive(Clone)]
pub(super) struct ChannelContext {
    pub(super) current: CurrentForward,
    originator: Arc<str>,
    connection: usize,
    /// As they were when it was opened.
    pub(super) limits: HttpLimits,
    pub(super) replaced: CancellationToken,
    pub(super) drain: CancellationToken,
    abort: CancellationToken,
}

impl ChannelContext {
    /// The context of one request on this channel.
    pub(super) fn request_context(&self) -> RequestContext {
        RequestContext {
            forward: self.current.load(),
            originator: Arc::clone(&self.originator),
            connection: self.connection,
            abort: self.abort.clone(),
        }
    }

    /// Whether the client should come by another channel: this one is about to end, the session is left, or the limits
    /// that the channel was opened with hold no more.
    fn should_close(&self) -> bool {
        self.drain.is_cancelled()
            || self.replaced.is_cancelled()
            || *self.current.load().limits() != self.limits
    }
}

enum DetectedProtocol {
    Http1,
    Http2,
    /// The channel ended or stayed silent.
    Nothing,
}

async fn detect_protocol<S>(
    stream: &mut S,
    read: &mut BytesMut,
    limits: &HttpLimits,
) -> DetectedProtocol
where
    S: AsyncRead + Unpin,
{
    let mut deadline = Instant::now() + limits.idle_timeout;
    loop {
        let seen = read.len().min(PREFACE.len());
        if read[..seen] != PREFACE[..seen] {
            return DetectedProtocol::Http1;
        }
        if seen == PREFACE.len() {
            return DetectedProtocol::Http2;
        }
        let first = read.is_empty();
        match timeout_at(deadline, stream.read_buf(read)).await {
            // From the first byte on it is one head, in however small pieces it comes.
            Ok(Ok(1..)) if first => deadline = Instant::now() + limits.head_timeout,
            Ok(Ok(1..)) => {}
            // The framing room says what is wrong with half a preface.
            Ok(Ok(0)) | Err(_) if !read.is_empty() => return DetectedProtocol::Http1,
            _ => return DetectedProtocol::Nothing,
        }
    }
}

async fn http1<S>(stream: S, read: BytesMut, line: ChannelContext, drain: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = line.limits.clone();
    let turn = Arc::new(ExchangeSlot::default());
    let pulse = Arc::new(ActivityClock::default());
    let framing = FramedStream::http1(stream, read, &limits, turn.clone(), pulse.clone());
    let framing = SharedFraming::new(framing);
    let mut behind = pin!(framing.clone().take_behind_bodies());
    let service = service_fn({
        let pulse = pulse.clone();
        move |request| {
            let line = line.clone();
            let (held, aside) = turn.acquire();
            let hold = ResponseGuard {
                activity: pulse.clone(),
                exchange: Some(held),
                note: aside,
            };
            async move {
                // Where its answer has no length, HTTP/1.0 knows the end by the close; there is no other way to say it.
                let last = request.version() == Version::HTTP_10;
                let mut answer = exchange::handle(&line.request_context(), hold, request).await;
                if last || line.should_close() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let connection = http1::Builder::new()
        // The end of the channel in the middle of an exchange means that the vendor is gone.
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(limits.max_head.max(BUFFER) + BUFFER_MARGIN)
        .serve_connection(TokioIo::new(framing), service);
    let mut connection = pin!(connection);
    let mut too_slow = pin!(pulse.too_slow(StallLimits::from(&limits)));
    let mut lingered = pin!(lingered(&drain));
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "channel ended in the middle of an exchange");
                }
                return;
            }
            why = too_slow.as_mut() => {
                tracing::debug!(?why, "channel broken off: its answer did not move");
                return;
            }
            () = behind.as_mut() => {}
            () = lingered.as_mut(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Ends a little after `drain`: what was sent before the gateway had heard of it has come then.
async fn lingered(drain: &CancellationToken) {
    drain.cancelled().await;
    sleep(LINGER).await;
}

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer than what the gateway has on its way when it lets go of a forward, or reads in the same turn; and short, since
/// the next agent has to wait for it.
const LINGER: Duration = Duration::from_millis(250);
/// Holds most requests whole.
const FIRST_READ: usize = 4 << 10;
/// Bytes of an answer that hyper gathers before it waits for the channel; a stalled reader holds
/// this much per request.
pub(super) const BUFFER: usize = 64 << 10;
const BUFFER_MARGIN: usize = 8 << 10;
