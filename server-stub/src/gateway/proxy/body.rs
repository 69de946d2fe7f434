//! Bodies on their way: passed frame by frame, with a limit for one that stops moving.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// When something last moved in one direction of a request.
#[derive(Clone)]
pub(super) struct Progress(Arc<Mutex<Instant>>);

impl Progress {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }

    pub(super) fn stamp(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    pub(super) fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that passes through.
pub(super) struct Passing {
    inner: Incoming,
    progress: Progress,
    stall: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Passing {
    /// Fails when its sender sends nothing for `stall`.
    pub(super) fn new(inner: Incoming, progress: Progress, stall: Duration) -> Self {
        Self {
            inner,
            progress,
            stall,
            timer: None,
        }
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            this.timer = None;
            this.progress.stamp();
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

/// Why a body did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(in crate::gateway) enum BodyError {
    /// The connection it came by failed.
    #[error(transparent)]
    Http(hyper::Error),
    /// Nothing moved for too long.
    #[error("the body has not moved for too long")]
    Stalled,
}

/// The body of an answer: our own, or the agent's with what is to happen after it.
pub(in crate::gateway) enum Answer {
    /// Ours.
    Whole(Full<Bytes>),
    /// The agent's.
    Passed {
        /// The body.
        body: PassedBody,
        /// Dropped, and told whether the body came to its end, when it has.
        after: Option<After>,
    },
}

/// See [`Answer::Passed`].
pub(in crate::gateway) struct PassedBody(pub(super) Passing);

/// What to do once a body has ended; `true` where it came to its end.
pub(in crate::gateway) type After = Box<dyn FnOnce(bool) + Send>;

impl Answer {
    pub(in crate::gateway) fn whole(text: impl Into<Bytes>) -> Self {
        Self::Whole(Full::new(text.into()))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body)
                .poll_frame(cx)
                .map(|frame| frame.map(|frame| frame.map_err(|never| match never {}))),
            Self::Passed { body, after } => {
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
            Self::Whole(body) => body.is_end_stream(),
            Self::Passed { body, .. } => body.0.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Passed { body, .. } => body.0.size_hint(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Self::Passed { body, after } = self
            && let Some(after) = after.take()
        {
            // hyper does not poll a body that says it is over.
            after(body.0.is_end_stream());
        }
    }
}
