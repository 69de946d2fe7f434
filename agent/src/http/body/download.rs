//! The answer while it is sent to the vendor: Jira's, or the agent's own.

use super::UploadProgress;
use crate::{
    audit::RequestOutcome,
    http::{forward::RequestPermit, framing::ExchangeGuard, pending_record::PendingRecord},
    upstream::{ActivityClock, BodyError, ExpectedFlow, UpstreamBody},
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The body that the vendor gets. Dropping it lets the next request of the channel begin.
pub(in crate::http) struct ResponseBody {
    content: ResponseContent,
    watch: VendorReadWatch,
    /// HTTP/2: the end of the part that was handed on last.
    tail: Option<Bytes>,
    _exchange: Option<ExchangeGuard>,
}

enum ResponseContent {
    /// The agent's own text, once.
    Own(Option<Bytes>),
    Jira(Box<DownloadBody>),
}

/// Watches that the vendor takes an answer. On HTTP/1.1 a blocked write of the channel shows that it does not. On HTTP/2
/// only this does: a part is not asked for while the stream's window is shut.
struct VendorReadWatch {
    activity: Arc<ActivityClock>,
    by_stream: bool,
}

/// Jira's body, with what ends together with it: the audit record and the request's place among those in flight.
pub(in crate::http) struct DownloadBody {
    inner: UpstreamBody,
    record: PendingRecord,
    upload: Option<Arc<UploadProgress>>,
    activity: Arc<ActivityClock>,
    bytes: u64,
    broke: bool,
    complete: bool,
    _in_flight: RequestPermit,
}

impl ResponseBody {
    /// The agent's own answer. The task that drives the channel watches `activity`; without an `exchange`, which only
    /// HTTP/1.1 has, the task of the stream.
    pub(in crate::http) fn own(
        bytes: Bytes,
        activity: Arc<ActivityClock>,
        exchange: Option<ExchangeGuard>,
    ) -> Self {
        let content = ResponseContent::Own((!bytes.is_empty()).then_some(bytes));
        Self::new(content, activity, exchange)
    }

    pub(in crate::http) fn jira(download: DownloadBody, exchange: Option<ExchangeGuard>) -> Self {
        let activity = download.activity.clone();
        let content = ResponseContent::Jira(Box::new(download));
        Self::new(content, activity, exchange)
    }

    fn new(
        content: ResponseContent,
        activity: Arc<ActivityClock>,
        exchange: Option<ExchangeGuard>,
    ) -> Self {
        Self {
            watch: VendorReadWatch::begin(activity, exchange.is_none()),
            tail: None,
            content,
            _exchange: exchange,
        }
    }

    /// hyper hands a part to its HTTP/2 library as soon as a window lets one byte of it through, and does not look at the
    /// stream after the last. So a last part is small: it lies there until the stream's window opens.
    fn hold_tail_back(&mut self, frame: Frame<Bytes>) -> Frame<Bytes> {
        match frame.into_data() {
            Ok(mut data) if self.watch.by_stream && data.len() > LAST_PART => {
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
    fn begin(activity: Arc<ActivityClock>, by_stream: bool) -> Self {
        activity.begin(ExpectedFlow::Download);
        if by_stream {
            activity.begin(ExpectedFlow::Window);
        }
        Self {
            activity,
            by_stream,
        }
    }

    /// The vendor asks for the next part.
    fn on_asked(&self) {
        if self.by_stream {
            self.activity.end(ExpectedFlow::Window);
        }
    }

    /// The vendor has got this many bytes.
    fn on_given(&self, bytes: usize) {
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
        self.watch.on_asked();
        if let Some(tail) = self.tail.take() {
            self.watch.on_given(tail.len());
            return Poll::Ready(Some(Ok(Frame::data(tail))));
        }
        let frame = match &mut self.content {
            ResponseContent::Own(bytes) => bytes.take().map(|bytes| Ok(Frame::data(bytes))),
            ResponseContent::Jira(download) => ready!(download.poll(cx)),
        };
        let frame = frame.map(|frame| frame.map(|frame| self.hold_tail_back(frame)));
        if let Some(Ok(frame)) = &frame {
            self.watch.on_given(frame.data_ref().map_or(0, Bytes::len));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.tail.is_none() && self.content.is_end()
    }

    /// hyper asks for it before the first part only.
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
    /// `activity` is watched by the task that drives the channel, or the HTTP/2 stream.
    pub(in crate::http) fn new(
        inner: UpstreamBody,
        record: PendingRecord,
        upload: Option<Arc<UploadProgress>>,
        activity: Arc<ActivityClock>,
        in_flight: RequestPermit,
    ) -> Self {
        Self {
            inner,
            record,
            upload,
            activity,
            bytes: 0,
            broke: false,
            complete: false,
            _in_flight: in_flight,
        }
    }

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
        self.record.set_bytes(uploaded, self.bytes);
        self.record.set_outcome(if self.broke {
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

/// Bytes. Most of the agent's own answers fit.
const LAST_PART: usize = 1 << 10;
