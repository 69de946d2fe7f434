//! HTTP/2 by prior knowledge on one channel.
//!
//! What a peer may hold here without taking anything: [`CONNECTIONS`] connections of [`MAX_STREAMS`] streams each per
//! forward, refused requests included; `docs/operate.md` does the sum. A stream whose window stays shut is reset after
//! the stall limit, whoever's answer it carries.

use super::{
    exchange::{self, ResponseGuard},
    framing::{FramedStream, StreamTracker, UnservedRequests},
    problem::ProblemKind,
    server::{BUFFER, ChannelContext},
    stall::{ActivityClock, StallLimits},
};
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
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::{Instant, sleep, timeout},
};

/// Serves an HTTP/2 connection of which `read` has come already, to its end.
pub(super) async fn http2<S>(mut stream: S, read: BytesMut, line: ChannelContext)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let limits = line.limits.clone();
    let Some(_place) = line.current.load().enter_http2() else {
        let detail = "too many HTTP/2 connections are open on this forward";
        exchange::audit_unread_refusal(&line.request_context(), ProblemKind::Overloaded, detail, 1);
        // A peer that does not read gets none.
        let _ = timeout(GOODBYE, stream.write_all(TOO_MANY)).await;
        return;
    };
    let leaving = line.replaced.clone();
    let drain = line.drain.clone();
    let pulse = Arc::new(ActivityClock::default());
    let ledger = Arc::new(StreamTracker::default());
    let framing = FramedStream::http2(stream, read, &limits, pulse.clone(), ledger.clone());
    let mut refusals = UnservedAuditor {
        context: line.clone(),
        tracker: ledger.clone(),
        audited: UnservedRequests::default(),
    };
    let patience = StallLimits::from(&limits);
    let streams = StreamExecutor {
        open: Arc::default(),
        patience,
    };
    let open = streams.open.clone();
    let service = service_fn(move |request| {
        ledger.serve();
        let line = line.clone();
        async move {
            let hold = ResponseGuard {
                activity: STREAM_ACTIVITY.try_with(Arc::clone).unwrap_or_default(),
                exchange: None,
                note: None,
            };
            Ok::<_, Infallible>(exchange::handle(&line.request_context(), hold, request).await)
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
    let mut too_slow = pin!(pulse.too_slow(patience));
    let mut idle = pin!(idle(&open, limits.idle_timeout));
    let mut looks = tokio::time::interval(limits.stall_timeout.max(SHORTEST_LOOK));
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
            why = too_slow.as_mut() => {
                tracing::debug!(?why, "HTTP/2 channel broken off: its peer does not read");
                return;
            }
            _ = looks.tick() => {
                refusals.audit_new();
                // A stream that its own task watches is reset before that.
                if refusals.tracker.is_stuck(2 * limits.stall_timeout) {
                    tracing::debug!("HTTP/2 channel broken off: the end of an answer is not taken");
                    return;
                }
            }
            () = drain.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = leaving.cancelled(), if !closing => {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            () = idle.as_mut() => {
                if closing {
                    // The client does not let go.
                    return;
                }
                closing = true;
                connection.as_mut().graceful_shutdown();
                idle.set(self::idle(&open, limits.head_timeout));
            }
        }
    }
}

/// Audits what the library refused by itself, when it is looked for and at the end.
struct UnservedAuditor {
    context: ChannelContext,
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
            exchange::audit_unread_refusal(&self.context.request_context(), kind, detail, count);
        }
    }
}

impl Drop for UnservedAuditor {
    fn drop(&mut self) {
        self.audit_new();
    }
}

tokio::task_local! {
    /// The pulse of the stream that the present task answers.
    static STREAM_ACTIVITY: Arc<ActivityClock>;
}

/// Runs each HTTP/2 stream as a task of its own that ends, resetting the stream, when its answer does not move.
#[derive(Clone)]
struct StreamExecutor {
    open: Arc<AtomicUsize>,
    patience: StallLimits,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, stream: F) {
        let open = OpenStreamGuard::new(&self.open);
        let patience = self.patience;
        let pulse = Arc::new(ActivityClock::default());
        // On the heap once: each block that it is moved through would keep room for it.
        let mut stream = Box::pin(stream);
        tokio::spawn(STREAM_ACTIVITY.scope(pulse.clone(), async move {
            tokio::select! {
                biased;
                _ = stream.as_mut() => {}
                _ = pulse.too_slow(patience) => {}
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
        sleep((limit / 4).max(SHORTEST_LOOK)).await;
        if open.load(Ordering::Relaxed) > 0 {
            since = Instant::now();
        }
    }
}

/// HTTP/2 connections open at once on one forward. A client needs one or a few, whatever it has to send.
pub(super) const CONNECTIONS: usize = 64;
/// Streams open at once on one connection; what RFC 9113 §5.1.2 asks for at the least.
const MAX_STREAMS: u32 = 100;
/// Streams of one connection that break the protocol before the connection is ended.
const MAX_BROKEN_STREAMS: usize = 100;
/// An empty SETTINGS frame, which must come first, and GOAWAY: nothing was processed, ENHANCE_YOUR_CALM
/// (RFC 9113 §6.8, §7).
const TOO_MANY: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0b";
/// How long that may take.
const GOODBYE: Duration = Duration::from_secs(1);
const SHORTEST_LOOK: Duration = Duration::from_millis(10);
