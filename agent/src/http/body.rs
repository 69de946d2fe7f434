//! Bodies on their way, counted and watched: the vendor's to Jira, Jira's to the vendor.

use super::{
    draft::Draft,
    forward::InFlight,
    framing::TurnHeld,
    pulse::{Flow, Pulse},
};
use crate::{
    audit::Outcome,
    upstream::{self, BodyError},
};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use std::{
    error::Error,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

/// The vendor's body as it comes, of which the first part can be awaited before anything is done with it.
pub(super) struct VendorBody {
    inner: Incoming,
    begun: Begun,
}

enum Begun {
    /// Nobody has asked for it.
    No,
    /// Its first part, which nobody has taken.
    With(Box<Frame<Bytes>>),
    /// It ended without any; that end nobody has taken.
    Empty,
    /// What comes now comes from the channel.
    Taken,
}

impl VendorBody {
    pub(super) fn new(inner: Incoming) -> Self {
        Self {
            inner,
            begun: Begun::No,
        }
    }

    /// Whether it was asked for, so that a client that waits for `100 Continue` sends it.
    pub(super) fn is_asked_for(&self) -> bool {
        !matches!(self.begun, Begun::No)
    }

    /// Completes once its first byte, its trailers or its end has come. That first part is kept, and nothing more.
    pub(super) async fn begin(&mut self) -> Result<(), (UploadEnd, &'static str)> {
        while !self.inner.is_end_stream() && matches!(self.begun, Begun::No) {
            match self.inner.frame().await {
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(Ok(frame)) => self.begun = Begun::With(Box::new(frame)),
                Some(Err(error)) => return Err(broke_off(&error)),
                None => self.begun = Begun::Empty,
            }
        }
        Ok(())
    }
}

impl Body for VendorBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match std::mem::replace(&mut self.begun, Begun::Taken) {
            Begun::With(frame) => Poll::Ready(Some(Ok(*frame))),
            Begun::Empty => Poll::Ready(None),
            Begun::No | Begun::Taken => Pin::new(&mut self.inner).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.begun {
            Begun::With(_) => false,
            _ => self.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        let mut hint = self.inner.size_hint();
        if let Begun::With(frame) = &self.begun {
            let first = frame.data_ref().map_or(0, |data| data.len() as u64);
            let upper = hint.upper().map(|upper| upper.saturating_add(first));
            let mut whole = SizeHint::new();
            whole.set_lower(hint.lower().saturating_add(first));
            if let Some(upper) = upper {
                whole.set_upper(upper);
            }
            hint = whole;
        }
        hint
    }
}

/// The vendor's body. Its pulse is expected to move only while the vendor is the one to send.
pub(super) struct Upload {
    inner: VendorBody,
    waiting: bool,
    progress: Arc<Progress>,
    /// Where a copy goes.
    kept: Option<Arc<Kept>>,
}

/// A copy of what has streamed by, whose length its owner has bounded.
#[derive(Default)]
pub(super) struct Kept(Mutex<BytesMut>);

impl Kept {
    fn add(&self, data: &[u8]) {
        self.lock().extend_from_slice(data);
    }

    pub(super) fn take(&self) -> Bytes {
        std::mem::take(&mut *self.lock()).freeze()
    }

    fn lock(&self) -> MutexGuard<'_, BytesMut> {
        // Its owner compares the length: what a panic cut short is not sent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How far an upload is, for the exchange that waits for its answer.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) pulse: Pulse,
    bytes: AtomicU64,
    end: AtomicU8,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum UploadEnd {
    /// It has not.
    Running = 0,
    /// With its last byte.
    Complete = 1,
    /// With the end of the channel.
    Gone = 2,
    /// With chunks that can be read in two ways.
    Malformed = 3,
}

impl Progress {
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn end(&self) -> UploadEnd {
        match self.end.load(Ordering::Relaxed) {
            0 => UploadEnd::Running,
            1 => UploadEnd::Complete,
            2 => UploadEnd::Gone,
            _ => UploadEnd::Malformed,
        }
    }

    fn set_end(&self, end: UploadEnd) {
        self.end.store(end as u8, Ordering::Relaxed);
    }
}

impl Upload {
    /// The body as it goes to Jira; no progress where there is none to send.
    /// `kept` gets a copy.
    pub(super) fn begin(
        inner: VendorBody,
        kept: Option<Arc<Kept>>,
    ) -> (upstream::Body, Option<Arc<Progress>>) {
        if inner.is_end_stream() {
            let empty = http_body_util::Empty::new().map_err(|never| match never {});
            return (empty.boxed_unsync(), None);
        }
        let progress = Arc::new(Progress::default());
        let upload = Self {
            inner,
            waiting: false,
            progress: progress.clone(),
            kept,
        };
        (upload.boxed_unsync(), Some(progress))
    }

    /// The same for a body that was read ahead.
    pub(super) fn whole(bytes: Bytes) -> (upstream::Body, Option<Arc<Progress>>) {
        let progress = Progress::default();
        progress.bytes.store(bytes.len() as u64, Ordering::Relaxed);
        progress.set_end(UploadEnd::Complete);
        let body = Full::new(bytes).map_err(|never| match never {});
        (body.boxed_unsync(), Some(Arc::new(progress)))
    }
}

/// Why a body could not be read ahead.
pub(super) enum CollectError {
    /// It is longer than was allowed.
    TooLong,
    /// How it ended, and the vendor's engineer's words for it.
    Broke(UploadEnd, &'static str),
}

/// Reads a whole body of `most` bytes at the most. Trailers are dropped.
pub(super) async fn collect(mut body: VendorBody, most: usize) -> Result<Bytes, CollectError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let (end, detail) = broke_off(&error);
            CollectError::Broke(end, detail)
        })?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > most {
                return Err(CollectError::TooLong);
            }
            all.extend_from_slice(data);
        }
    }
    Ok(all.freeze())
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        if polled.is_pending() != self.waiting {
            self.waiting = polled.is_pending();
            match self.waiting {
                true => self.progress.pulse.begin(Flow::Upload),
                false => self.progress.pulse.end(Flow::Upload),
            }
        }
        let result = match ready!(polled) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let length = data.len();
                    self.progress
                        .bytes
                        .fetch_add(length as u64, Ordering::Relaxed);
                    self.progress.pulse.vendor_moved(length);
                    if let Some(kept) = &self.kept {
                        kept.add(data);
                    }
                }
                if self.inner.is_end_stream() {
                    self.progress.set_end(UploadEnd::Complete);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                let (end, detail) = broke_off(&error);
                self.progress.set_end(end);
                Some(Err(detail.into()))
            }
            None => {
                self.progress.set_end(UploadEnd::Complete);
                None
            }
        };
        Poll::Ready(result)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        self.progress.pulse.end(Flow::Upload);
    }
}

/// What the vendor gets. When it is dropped the next request of the channel may begin.
pub(super) struct Answer {
    content: Content,
    delivery: Handover,
    /// HTTP/2: the end of a part, which follows it.
    tail: Option<Bytes>,
    _turn: Option<TurnHeld>,
}

enum Content {
    /// The agent's own words, once.
    Own(Option<Bytes>),
    Jira(Box<Download>),
}

/// Watches that the vendor takes an answer. On HTTP/1.1 the channel's writes tell when it does not. On HTTP/2 they do
/// not: there a part is not asked for while the stream's window is shut.
struct Handover {
    pulse: Arc<Pulse>,
    by_stream: bool,
}

/// Jira's body.
pub(super) struct Download {
    pub(super) inner: upstream::Body,
    pub(super) draft: Draft,
    pub(super) upload: Option<Arc<Progress>>,
    /// Watched by whoever drives the channel.
    pub(super) pulse: Arc<Pulse>,
    pub(super) bytes: u64,
    pub(super) broke: bool,
    pub(super) complete: bool,
    pub(super) _in_flight: InFlight,
}

impl Answer {
    /// `pulse` is watched by whoever drives the channel, or the stream where there is no `turn`.
    pub(super) fn own(bytes: Bytes, pulse: Arc<Pulse>, turn: Option<TurnHeld>) -> Self {
        let content = Content::Own((!bytes.is_empty()).then_some(bytes));
        Self::new(content, pulse, turn)
    }

    pub(super) fn jira(download: Download, turn: Option<TurnHeld>) -> Self {
        let pulse = download.pulse.clone();
        Self::new(Content::Jira(Box::new(download)), pulse, turn)
    }

    fn new(content: Content, pulse: Arc<Pulse>, turn: Option<TurnHeld>) -> Self {
        Self {
            delivery: Handover::begin(pulse, turn.is_none()),
            tail: None,
            content,
            _turn: turn,
        }
    }
}

impl Answer {
    /// hyper hands a part to its HTTP/2 library as soon as a window lets one byte of it through, and leaves the stream
    /// alone after the last. So a last part is small: it lies there until the stream's window opens.
    fn hold_tail_back(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if self.delivery.by_stream && data.len() > LAST_PART => {
                self.tail = Some(data.split_off(data.len() - LAST_PART));
                Frame::data(data)
            }
            Ok(data) => Frame::data(data),
            Err(trailers) => trailers,
        }
    }
}

impl Content {
    fn is_end(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Jira(download) => download.inner.is_end_stream(),
        }
    }
}

impl Handover {
    fn begin(pulse: Arc<Pulse>, by_stream: bool) -> Self {
        pulse.begin(Flow::Download);
        if by_stream {
            pulse.begin(Flow::Window);
        }
        Self { pulse, by_stream }
    }

    /// The vendor asks for more.
    fn asked(&self) {
        if self.by_stream {
            self.pulse.end(Flow::Window);
        }
    }

    /// It has got this much.
    fn gave(&self, bytes: usize) {
        if self.by_stream {
            self.pulse.vendor_moved(bytes);
            self.pulse.begin(Flow::Window);
        } else {
            self.pulse.moved();
        }
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.pulse.end(Flow::Window);
        self.pulse.end(Flow::Download);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.delivery.asked();
        if let Some(tail) = self.tail.take() {
            self.delivery.gave(tail.len());
            return Poll::Ready(Some(Ok(Frame::data(tail))));
        }
        let frame = match &mut self.content {
            Content::Own(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            Content::Jira(download) => ready!(download.poll(cx)),
        };
        let frame = frame.map(|frame| frame.map(|frame| self.hold_tail_back(frame)));
        if let Some(Ok(frame)) = &frame {
            self.delivery.gave(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none() && self.content.is_end()
    }

    /// Asked for before the first part only.
    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            Content::Jira(download) => download.inner.size_hint(),
        }
    }
}

impl Download {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.bytes += data.len() as u64;
                }
            }
            Some(Err(_)) => self.broke = true,
            None => self.complete = true,
        }
        Poll::Ready(frame)
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let uploaded = self.upload.as_ref().map_or(0, |upload| upload.bytes());
        self.draft.bytes(uploaded, self.bytes);
        self.draft.outcome(if self.broke {
            Outcome::JiraBroke
        } else if self.complete || self.inner.is_end_stream() {
            Outcome::Complete
        } else if self.pulse.has_stalled() {
            Outcome::Stalled
        } else {
            Outcome::VendorGone
        });
    }
}

/// Holds most of the agent's own answers.
const LAST_PART: usize = 1 << 10;

/// hyper's own words on a broken body name no cause that the vendor's engineer could use.
fn broke_off(error: &hyper::Error) -> (UploadEnd, &'static str) {
    let kind = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::InvalidData) => (UploadEnd::Malformed, "its chunks are malformed"),
        _ => (UploadEnd::Gone, "the channel ended before it was complete"),
    }
}
