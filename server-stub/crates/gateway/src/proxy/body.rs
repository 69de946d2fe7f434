//! Bodies that pass through frame by frame, with a time limit for one that stalls.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// When data was last transferred in one direction of a request.
#[derive(Clone)]
pub(super) struct ActivityClock(Arc<Mutex<Instant>>);

impl ActivityClock {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn touch(&self) {
        *self.0.lock() = Instant::now();
    }

    pub(super) fn last(&self) -> Instant {
        *self.0.lock()
    }
}

/// A body that passes through and fails when it stalls.
pub(super) struct ForwardedBody {
    inner: Incoming,
    progress: ActivityClock,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl ForwardedBody {
    /// Fails when its sender sends nothing for `stall`.
    pub(super) fn new(inner: Incoming, progress: ActivityClock, stall: Duration) -> Self {
        Self {
            inner,
            progress,
            stall,
            timer: None,
        }
    }
}

impl Body for ForwardedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.timer = None;
            this.progress.touch();
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::Http)));
        }
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(sleep(this.stall)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyError::Stalled)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The connection of its sender failed.
    #[error(transparent)]
    Http(hyper::Error),
    /// Nothing was transferred for too long.
    #[error("the body stalled")]
    Stalled,
}

/// The body of a response: the gateway's own, or the agent's with a hook for its end.
pub(crate) enum ResponseBody {
    /// A body of the gateway's own.
    Own(Full<Bytes>),
    /// A body that the agent sends.
    FromAgent {
        /// The body.
        body: AgentResponseBody,
        /// Called once when the body ends or is dropped, with whether it was complete.
        after: Option<BodyEndHook>,
    },
}

/// The body of [`ResponseBody::FromAgent`].
pub(crate) struct AgentResponseBody(pub(super) ForwardedBody);

/// Called once a body has ended; `true` if it was complete.
pub(crate) type BodyEndHook = Box<dyn FnOnce(bool) + Send>;

impl ResponseBody {
    pub(crate) fn own(text: impl Into<Bytes>) -> Self {
        Self::Own(Full::new(text.into()))
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Own(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::FromAgent { body, after } => {
                let frame = ready!(Pin::new(&mut body.0).poll_frame(cx));
                if !matches!(frame, Some(Ok(_)))
                    && let Some(after) = after.take()
                {
                    after(frame.is_none());
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(body) => body.is_end_stream(),
            Self::FromAgent { body, .. } => body.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(body) => body.size_hint(),
            Self::FromAgent { body, .. } => body.0.size_hint(),
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if let Self::FromAgent { body, after } = self
            && let Some(after) = after.take()
        {
            // hyper does not poll a body whose end it knows.
            after(body.0.is_end_stream());
        }
    }
}
