//! HTTP/2 by prior knowledge on one channel.
//!
//! A peer that reads nothing holds at most [`CONNECTIONS`] connections of [`MAX_STREAMS`] streams each per forward, refused
//! requests included; `docs/operate.md` does the sum. A stream whose window stays shut is reset after the stall limit,
//! whether it carries Jira's answer or the agent's.

use super::{
    exchange::{self, ResponseGuard},
    framing::{FramedStream, StreamTracker, UnservedRequests},
    problem::ProblemKind,
    server::{BUFFER, ChannelContext, ShutdownTokens, VendorStream, gone_while},
};
use crate::upstream::{ActivityClock, StallLimits};
use bytes::BytesMut;
use hyper::{rt::Executor, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt,
    time::{Instant, sleep, timeout},
};

/// Serves an HTTP/2 connection to its end; `read` has been read from it already.
pub(super) async fn http2<S>(mut stream: S, read: BytesMut, channel: ChannelContext)
where
    S: VendorStream,
{
    let limits = channel.limits.clone();
    let Some(_permit) = channel.current.load().try_enter_http2() else {
        let detail = "too many HTTP/2 connections are open on this forward";
        let context = channel.request_context();
        exchange::audit_unread_refusals(&context, ProblemKind::Overloaded, detail, 1);
        // A peer that does not read gets none.
        let _ = timeout(GOAWAY_TIMEOUT, stream.write_all(TOO_MANY)).await;
        return;
    };
    let ShutdownTokens {
        drain, replaced, ..
    } = channel.shutdown.clone();
    let disconnected = stream.disconnected();
    let activity = Arc::new(ActivityClock::default());
    let tracker = Arc::new(StreamTracker::default());
    let framing = FramedStream::http2(stream, read, &limits, activity.clone(), tracker.clone());
    let mut auditor = UnservedAuditor {
        channel: channel.clone(),
        tracker: tracker.clone(),
        audited: UnservedRequests::default(),
    };
    let stall_limits = StallLimits::from(&limits);
    let streams = StreamExecutor {
        open: Arc::default(),
        stall_limits,
    };
    let open = streams.open.clone();
    let service = service_fn(move |request| {
        tracker.serve();
        let channel = channel.clone();
        async move {
            let guard = ResponseGuard {
                activity: STREAM_ACTIVITY.try_with(Arc::clone).unwrap_or_default(),
                exchange: None,
                note: None,
            };
            Ok::<_, Infallible>(exchange::handle(&channel.request_context(), guard, request).await)
        }
    });
    let connection = http2::Builder::new(streams)
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        .max_local_error_reset_streams(MAX_BROKEN_STREAMS)
        .max_header_list_size(u32::try_from(limits.max_head).unwrap_or(u32::MAX))
        .max_send_buf_size(BUFFER)
        .serve_connection(TokioIo::new(framing), service);
    let mut connection = pin!(connection);
    let mut too_slow = pin!(activity.too_slow(stall_limits));
    let mut idle = pin!(idle(&open, limits.idle_timeout));
    let mut checks = tokio::time::interval(limits.stall_timeout.max(SHORTEST_INTERVAL));
    let has_streams = || open.load(Ordering::Relaxed) > 0;
    let mut vendor_gone = pin!(gone_while(disconnected, has_streams));
    let mut closing = false;
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "HTTP/2 channel ended");
                }
                return;
            }
            reason = too_slow.as_mut() => {
                tracing::debug!(?reason, "HTTP/2 channel closed: its peer does not read");
                return;
            }
            () = vendor_gone.as_mut() => {
                tracing::debug!("HTTP/2 channel closed: its vendor left while requests were in flight");
                return;
            }
            _ = checks.tick() => {
                auditor.audit_new();
                // A stream that its own task watches is reset before that.
                if auditor.tracker.is_stuck(2 * limits.stall_timeout) {
                    tracing::debug!("HTTP/2 channel closed: its peer does not read the end of an answer");
                    return;
                }
            }
            () = drain.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = replaced.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = idle.as_mut() => {
                if closing {
                    // The client does not close the connection.
                    return;
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
                idle.set(self::idle(&open, limits.head_timeout));
            }
        }
    }
}

/// Audits the requests that the library refused by itself, at each check and at the end.
struct UnservedAuditor {
    channel: ChannelContext,
    tracker: Arc<StreamTracker>,
    audited: UnservedRequests,
}

impl UnservedAuditor {
    fn audit_new(&mut self) {
        let now = self.tracker.unserved();
        let new = [
            (
                now.too_many.saturating_sub(self.audited.too_many),
                ProblemKind::Overloaded,
                "more streams than a connection may have",
            ),
            (
                now.malformed.saturating_sub(self.audited.malformed),
                ProblemKind::MalformedRequest,
                "refused by the HTTP/2 library",
            ),
        ];
        self.audited = now;
        for (count, kind, detail) in new {
            if count > 0 {
                tracing::debug!(count, "{detail}");
            }
            exchange::audit_unread_refusals(&self.channel.request_context(), kind, detail, count);
        }
    }
}

impl Drop for UnservedAuditor {
    fn drop(&mut self) {
        self.audit_new();
    }
}

tokio::task_local! {
    /// The clock of the stream that the present task answers.
    static STREAM_ACTIVITY: Arc<ActivityClock>;
}

/// Runs each HTTP/2 stream as a task that ends, which resets the stream, when its answer does not move.
///
/// hyper hands over one opaque future for service and answer body together, so the stream's clock reaches the service by
/// a task-local: only this task can both watch the clock and reset the stream.
#[derive(Clone)]
struct StreamExecutor {
    open: Arc<AtomicUsize>,
    stall_limits: StallLimits,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let open = OpenStreamGuard::new(&self.open);
        let stall_limits = self.stall_limits;
        let activity = Arc::new(ActivityClock::default());
        // On the heap once: each block that it is moved through would keep room for it.
        let mut stream = Box::pin(stream);
        tokio::spawn(STREAM_ACTIVITY.scope(activity.clone(), async move {
            tokio::select! {
                biased;
                _ = stream.as_mut() => {}
                _ = activity.too_slow(stall_limits) => {}
            }
            drop(open);
        }));
    }
}

struct OpenStreamGuard(Arc<AtomicUsize>);

impl OpenStreamGuard {
    fn new(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Self(open.clone())
    }
}

impl Drop for OpenStreamGuard {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Ends when no stream has been open for `limit`, give or take a quarter of it.
async fn idle(open: &AtomicUsize, limit: Duration) {
    let mut since = Instant::now();
    while since.elapsed() < limit {
        sleep((limit / 4).max(SHORTEST_INTERVAL)).await;
        if open.load(Ordering::Relaxed) > 0 {
            since = Instant::now();
        }
    }
}

/// HTTP/2 connections open at once on one forward. A client needs one or a few, however much it sends.
pub(super) const CONNECTIONS: usize = 64;
/// Streams open at once on one connection: the least that RFC 9113 §5.1.2 recommends.
const MAX_STREAMS: u32 = 100;
/// Streams of one connection that break the protocol before the connection is ended.
const MAX_BROKEN_STREAMS: usize = 100;
/// An empty SETTINGS frame, which must come first, and GOAWAY: nothing was processed, ENHANCE_YOUR_CALM
/// (RFC 9113 §6.8, §7).
const TOO_MANY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
/// How long writing that may take.
const GOAWAY_TIMEOUT: Duration = Duration::from_secs(1);
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);
