//! Bodies on their way, counted and watched: the vendor's to Jira, Jira's to the vendor.

use super::{
    forward::RequestPermit,
    framing::ExchangeGuard,
    pending_record::PendingRecord,
    stall::{ActivityClock, ExpectedFlow},
};
use crate::{
    audit::RequestOutcome,
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
pub(super) struct UploadBody {
    inner: VendorBody,
    waiting: bool,
    progress: Arc<UploadProgress>,
    /// Where a copy goes.
    copy: Option<Arc<BodyCopy>>,
}

/// A copy of what has streamed by, whose length its owner has bounded.
#[derive(Default)]
pub(super) struct BodyCopy(Mutex<BytesMut>);

impl BodyCopy {
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
pub(super) struct UploadProgress {
    pub(super) activity: ActivityClock,
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

impl UploadProgress {
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

impl UploadBody {
    /// The body as it goes to Jira; no progress where there is none to send.
    /// `kept` gets a copy.
    pub(super) fn begin(
        inner: VendorBody,
        kept: Option<Arc<BodyCopy>>,
    ) -> (upstream::UpstreamBody, Option<Arc<UploadProgress>>) {
        if inner.is_end_stream() {
            let empty = http_body_util::Empty::new().map_err(|never| match never {});
            return (empty.boxed_unsync(), None);
        }
        let progress = Arc::new(UploadProgress::default());
        let upload = Self {
            inner,
            waiting: false,
            progress: progress.clone(),
            copy: kept,
        };
        (upload.boxed_unsync(), Some(progress))
    }

    /// The same for a body that was read ahead.
    pub(super) fn whole(bytes: Bytes) -> (upstream::UpstreamBody, Option<Arc<UploadProgress>>) {
        let progress = UploadProgress::default();
        progress.bytes.store(bytes.len() as u64, Ordering::Relaxed);
        progress.set_end(UploadEnd::Complete);
        let body = Full::new(bytes).map_err(|never| match never {});
        (body.boxed_unsync(), Some(Arc::new(progress)))
    }
}

/// Why a body could not be read ahead.
pub(super) enum ReadAheadError {
    /// It is longer than was allowed.
    TooLong,
    /// How it ended, and the vendor's engineer's words for it.
    Broke(UploadEnd, &'static str),
}

/// Reads a whole body of `most` bytes at the most. Trailers are dropped.
pub(super) async fn collect(mut body: VendorBody, most: usize) -> Result<Bytes, ReadAheadError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let (end, detail) = broke_off(&error);
            ReadAheadError::Broke(end, detail)
        })?;
        if let Some(data) = frame.data_ref() {
            if all.len() + data.len() > most {
                return Err(ReadAheadError::TooLong);
            }
            all.extend_from_slice(data);
        }
    }
    Ok(all.freeze())
}

impl Body for UploadBody {
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
                true => self.progress.activity.begin(ExpectedFlow::Upload),
                false => self.progress.activity.end(ExpectedFlow::Upload),
            }
        }
        let result = match ready!(polled) {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let length = data.len();
                    self.progress
                        .bytes
                        .fetch_add(length as u64, Ordering::Relaxed);
                    self.progress.activity.vendor_moved(length);
                    if let Some(kept) = &self.copy {
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

impl Drop for UploadBody {
    fn drop(&mut self) {
        self.progress.activity.end(ExpectedFlow::Upload);
    }
}

/// What the vendor gets. When it is dropped the next request of the channel may begin.
pub(super) struct ResponseBody {
    content: ResponseContent,
    delivery: VendorReadWatch,
    /// HTTP/2: the end of a part, which follows it.
    tail: Option<Bytes>,
    _turn: Option<ExchangeGuard>,
}

enum ResponseContent {
    /// The agent's own words, once.
    Own(Option<Bytes>),
    Jira(Box<DownloadBody>),
}

/// Watches that the vendor takes an answer. On HTTP/1.1 the channel's writes tell when it does not. On HTTP/2 they do
/// not: there a part is not asked for while the stream's window is shut.
struct VendorReadWatch {
    activity: Arc<ActivityClock>,
    by_stream: bool,
}

/// Jira's body.
pub(super) struct DownloadBody {
    pub(super) inner: upstream::UpstreamBody,
    pub(super) record: PendingRecord,
    pub(super) upload: Option<Arc<UploadProgress>>,
    /// Watched by whoever drives the channel.
    pub(super) activity: Arc<ActivityClock>,
    pub(super) bytes: u64,
    pub(super) broke: bool,
    pub(super) complete: bool,
    pub(super) _in_flight: RequestPermit,
}

impl ResponseBody {
    /// `pulse` is watched by whoever drives the channel, or the stream where there is no `turn`.
    pub(super) fn own(
        bytes: Bytes,
        pulse: Arc<ActivityClock>,
        turn: Option<ExchangeGuard>,
    ) -> Self {
        let content = ResponseContent::Own((!bytes.is_empty()).then_some(bytes));
        Self::new(content, pulse, turn)
    }

    pub(super) fn jira(download: DownloadBody, turn: Option<ExchangeGuard>) -> Self {
        let pulse = download.activity.clone();
        Self::new(ResponseContent::Jira(Box::new(download)), pulse, turn)
    }

    fn new(
        content: ResponseContent,
        pulse: Arc<ActivityClock>,
        turn: Option<ExchangeGuard>,
    ) -> Self {
        Self {
            delivery: VendorReadWatch::begin(pulse, turn.is_none()),
            tail: None,
            content,
            _turn: turn,
        }
    }
}

impl ResponseBody {
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

impl ResponseContent {
    fn is_end(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_none(),
            Self::Jira(download) => download.inner.is_end_stream(),
        }
    }
}

impl VendorReadWatch {
    fn begin(pulse: Arc<ActivityClock>, by_stream: bool) -> Self {
        pulse.begin(ExpectedFlow::Download);
        if by_stream {
            pulse.begin(ExpectedFlow::Window);
        }
        Self {
            activity: pulse,
            by_stream,
        }
    }

    /// The vendor asks for more.
    fn asked(&self) {
        if self.by_stream {
            self.activity.end(ExpectedFlow::Window);
        }
    }

    /// It has got this much.
    fn gave(&self, bytes: usize) {
        if self.by_stream {
            self.activity.vendor_moved(bytes);
            self.activity.begin(ExpectedFlow::Window);
        } else {
            self.activity.moved();
        }
    }
}

impl Drop for VendorReadWatch {
    fn drop(&mut self) {
        self.activity.end(ExpectedFlow::Window);
        self.activity.end(ExpectedFlow::Download);
    }
}

impl Body for ResponseBody {
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
            ResponseContent::Own(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            ResponseContent::Jira(download) => ready!(download.poll(cx)),
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
            ResponseContent::Own(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64))
            }
            ResponseContent::Jira(download) => download.inner.size_hint(),
        }
    }
}

impl DownloadBody {
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

impl Drop for DownloadBody {
    fn drop(&mut self) {
        let uploaded = self.upload.as_ref().map_or(0, |upload| upload.bytes());
        self.record.bytes(uploaded, self.bytes);
        self.record.outcome(if self.broke {
            RequestOutcome::JiraBroke
        } else if self.complete || self.inner.is_end_stream() {
            RequestOutcome::Complete
        } else if self.activity.has_stalled() {
            RequestOutcome::Stalled
        } else {
            RequestOutcome::VendorGone
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
