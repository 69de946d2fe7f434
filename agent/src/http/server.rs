//! One HTTP server per channel: HTTP/1.1, or HTTP/2 where the client begins with its preface.

use super::{
    CurrentForward, HttpLimits,
    exchange::{self, RequestContext, ResponseGuard},
    framing::{ExchangeSlot, FramedStream, SharedFraming},
    http2::http2,
};
use crate::{
    tunnel::{ListeningPlace, channel::ChannelStream},
    upstream::{ActivityClock, StallLimits},
};
use bytes::BytesMut;
use http::{HeaderValue, Version, header};
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

/// When a channel is to end although its client would keep it. Requests in flight are answered.
#[derive(Clone, Default)]
pub struct ShutdownTokens {
    /// No further request is taken after 250 ms, in which requests on their way arrive, or after 1.25 s where a balancer checks
    /// the place; answers until then carry `Connection: close`. A request that arrives just then is lost.
    pub drain: CancellationToken,
    /// The client is asked to use another channel next time, and none of its requests is lost: by `Connection: close` in
    /// the next answer, by GOAWAY in HTTP/2.
    pub replaced: CancellationToken,
    /// The time for requests in flight is over: those that Jira has not answered yet get a problem with their delivery
    /// state.
    pub abort: CancellationToken,
}

/// Where a channel comes from.
#[derive(Clone)]
pub struct ChannelOrigin {
    /// `address:port` of the vendor's client, as the gateway reports it.
    pub originator: Arc<str>,
    /// Number of the SSH connection.
    pub connection: usize,
    /// Where the gateway listens; `None` in tests without a gateway.
    pub place: Option<Arc<ListeningPlace>>,
}

/// A channel of the vendor's.
pub trait VendorStream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Completes once the vendor sends no more, without waiting until what came before has been read.
    fn disconnected(&self) -> impl Future<Output = ()> + Send + 'static;
}

impl VendorStream for ChannelStream {
    fn disconnected(&self) -> impl Future<Output = ()> + Send + 'static {
        Self::disconnected(self)
    }
}

/// Answers the requests of one channel until its end, each by the forward that is `current` then. After
/// [`ShutdownTokens::drain`] it returns when those in flight are answered; the caller sets that a limit and drops it.
///
/// Dropping the future, or an end of the stream while a request is being answered, drops that request's exchange with
/// Jira at once. A broken answer drops the stream without a shutdown, in the middle of its framing.
///
/// The end of the vendor's side ends the exchange in progress, however much of the request was received before and waits
/// for Jira.
pub async fn serve<S>(
    mut stream: S,
    current: impl Into<CurrentForward>,
    origin: ChannelOrigin,
    shutdown: ShutdownTokens,
) where
    S: VendorStream,
{
    let mut read = BytesMut::with_capacity(FIRST_READ);
    let current = current.into();
    let limits = current.load().limits().clone();
    let protocol = tokio::select! {
        protocol = detect_protocol(&mut stream, &mut read, &limits) => protocol,
        () = drained(&shutdown.drain, origin.place.as_deref()) => return,
    };
    let channel = ChannelContext {
        current,
        origin,
        limits,
        shutdown,
    };
    match protocol {
        DetectedProtocol::Http1 => http1(stream, read, channel).await,
        DetectedProtocol::Http2 => http2(stream, read, channel).await,
        DetectedProtocol::Nothing => {}
    }
}

/// What all requests of one channel have in common.
#[derive(Clone)]
pub(super) struct ChannelContext {
    pub(super) current: CurrentForward,
    origin: ChannelOrigin,
    /// As they were when the channel was opened.
    pub(super) limits: HttpLimits,
    pub(super) shutdown: ShutdownTokens,
}

impl ChannelContext {
    /// The context of one request on this channel.
    pub(super) fn request_context(&self) -> RequestContext {
        RequestContext {
            forward: self.current.load(),
            originator: Arc::clone(&self.origin.originator),
            connection: self.origin.connection,
            place: self.origin.place.clone(),
            draining: self.shutdown.drain.is_cancelled() || self.shutdown.replaced.is_cancelled(),
            abort: self.shutdown.abort.clone(),
        }
    }

    /// Whether the client should use another channel: this one is about to end, the session is being replaced, or the
    /// channel was opened with other limits than the forward has now.
    fn should_close(&self) -> bool {
        self.shutdown.drain.is_cancelled()
            || self.shutdown.replaced.is_cancelled()
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
            // From the first byte on it is one head, however small its pieces are.
            Ok(Ok(1..)) if first => deadline = Instant::now() + limits.head_timeout,
            Ok(Ok(1..)) => {}
            // The framing answers half a preface with a problem.
            Ok(Ok(0)) | Err(_) if !read.is_empty() => return DetectedProtocol::Http1,
            _ => return DetectedProtocol::Nothing,
        }
    }
}

async fn http1<S>(stream: S, read: BytesMut, channel: ChannelContext)
where
    S: VendorStream,
{
    let limits = channel.limits.clone();
    let drain = channel.shutdown.drain.clone();
    let place = channel.origin.place.clone();
    let disconnected = stream.disconnected();
    let slot = Arc::new(ExchangeSlot::default());
    let activity = Arc::new(ActivityClock::default());
    let framing = FramedStream::http1(stream, read, &limits, slot.clone(), activity.clone());
    let framing = SharedFraming::new(framing);
    let mut read_ahead = pin!(framing.clone().read_behind_bodies());
    let mut vendor_gone = pin!(gone_while(disconnected, || slot.is_taken()));
    let service = service_fn({
        let (activity, slot) = (activity.clone(), slot.clone());
        move |request| {
            let channel = channel.clone();
            let (exchange, note) = slot.acquire();
            let guard = ResponseGuard {
                activity: activity.clone(),
                exchange: Some(exchange),
                note,
            };
            async move {
                // To HTTP/1.0 only the close shows where an answer without a length ends.
                let is_last = request.version() == Version::HTTP_10;
                let mut answer = exchange::handle(&channel.request_context(), guard, request).await;
                if is_last || channel.should_close() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        }
    });
    let connection = http1::Builder::new()
        // The end of the channel in the middle of an exchange means that the vendor has disconnected.
        .half_close(false)
        .header_read_timeout(None)
        .max_buf_size(limits.max_head.max(BUFFER) + BUFFER_MARGIN)
        .serve_connection(TokioIo::new(framing), service);
    let mut connection = pin!(connection);
    let mut too_slow = pin!(activity.too_slow(StallLimits::from(&limits)));
    let mut drained = pin!(drained(&drain, place.as_deref()));
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
            reason = too_slow.as_mut() => {
                tracing::debug!(?reason, "channel closed: its answer did not move");
                return;
            }
            () = vendor_gone.as_mut() => {
                tracing::debug!("channel closed: its vendor left in the middle of an exchange");
                return;
            }
            () = read_ahead.as_mut() => {}
            () = drained.as_mut(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Completes once the vendor sends no more and `in_exchange` holds. Before an exchange begins, what was received is read
/// first: a request whose vendor has gone gets an audit record. Poll it after what drives the exchange.
pub(super) async fn gone_while(
    disconnected: impl Future<Output = ()>,
    in_exchange: impl Fn() -> bool,
) {
    disconnected.await;
    poll_fn(|_| match in_exchange() {
        true => Poll::Ready(()),
        // The task that polls this drives the exchange as well, and comes back when one begins.
        false => Poll::Pending,
    })
    .await;
}

/// Ends a little after `drain`: by then, requests that the gateway sent before it knew have arrived. A balancer that checks
/// the place knows with its next check, and uses the channels that it keeps until then.
async fn drained(drain: &CancellationToken, place: Option<&ListeningPlace>) {
    drain.cancelled().await;
    let is_checked = place.is_some_and(|place| place.is_checked());
    sleep(if is_checked { CHECKED_LINGER } else { LINGER }).await;
}

/// RFC 9113 §3.4.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Longer than requests take that the gateway sends while it cancels a forward; short, since the next agent waits for it.
const LINGER: Duration = Duration::from_millis(250);
/// Longer than HAProxy takes to notice: a check each second, 5 % spread, and a second one 100 ms later.
const CHECKED_LINGER: Duration = Duration::from_millis(1250);
/// Holds most requests whole.
const FIRST_READ: usize = 4 << 10;
/// Bytes of an answer that hyper gathers before it waits for the channel; a stalled reader holds this much per request.
pub(super) const BUFFER: usize = 64 << 10;
const BUFFER_MARGIN: usize = 8 << 10;
