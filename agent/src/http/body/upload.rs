//! The vendor's body while it is sent to Jira, and how far it is.

use super::{VendorBody, vendor::broke_off};
use crate::{
    audit::RequestOutcome,
    upstream::{ActivityClock, BodyError, ExpectedFlow, UpstreamBody},
};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Empty, Full};
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

/// The vendor's body while it is sent to Jira. Its clock expects movement only while the vendor is the one to send.
pub(in crate::http) struct UploadBody {
    inner: VendorBody,
    waiting: bool,
    progress: Arc<UploadProgress>,
    /// Receives what has streamed by.
    copy: Option<Arc<BodyCopy>>,
    /// The largest body that may pass, in bytes.
    most: Option<u64>,
}

/// A copy of what has streamed by. Its owner has bounded the length.
#[derive(Default)]
pub(in crate::http) struct BodyCopy(Mutex<BytesMut>);

impl BodyCopy {
    fn add(&self, data: &[u8]) {
        self.0.lock().extend_from_slice(data);
    }

    pub(in crate::http) fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock()).freeze()
    }
}

/// How far an upload is, as seen by the request that waits for the answer.
#[derive(Default)]
pub(in crate::http) struct UploadProgress {
    pub(in crate::http) activity: ActivityClock,
    bytes: AtomicU64,
    end: AtomicU8,
}

/// How an upload ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::http) enum UploadEnd {
    /// It has not ended.
    Running = 0,
    /// All of it was sent.
    Complete = 1,
    /// The channel ended first.
    Gone = 2,
    /// Its chunks can be read in two ways.
    Malformed = 3,
    /// It is longer than may pass.
    TooLarge = 4,
}

impl UploadProgress {
    pub(in crate::http) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(in crate::http) fn end(&self) -> UploadEnd {
        match self.end.load(Ordering::Relaxed) {
            0 => UploadEnd::Running,
            1 => UploadEnd::Complete,
            2 => UploadEnd::Gone,
            4 => UploadEnd::TooLarge,
            _ => UploadEnd::Malformed,
        }
    }

    fn set_end(&self, end: UploadEnd) {
        self.end.store(end as u8, Ordering::Relaxed);
    }
}

impl UploadEnd {
    /// The outcome of a request that Jira has not answered.
    pub(in crate::http) fn outcome(self) -> RequestOutcome {
        match self {
            Self::Gone => RequestOutcome::VendorGone,
            Self::TooLarge => RequestOutcome::Refused,
            Self::Running | Self::Complete | Self::Malformed => RequestOutcome::Failed,
        }
    }
}

impl UploadBody {
    /// The body as it streams to Jira, and into `copy`. An empty one has no progress.
    pub(in crate::http) fn streaming(
        inner: VendorBody,
        copy: Option<Arc<BodyCopy>>,
        most: Option<u64>,
    ) -> (UpstreamBody, Option<Arc<UploadProgress>>) {
        if inner.is_end_stream() {
            let empty = Empty::new().map_err(|never| match never {});
            return (empty.boxed_unsync(), None);
        }
        let progress = Arc::new(UploadProgress::default());
        let upload = Self {
            inner,
            waiting: false,
            progress: progress.clone(),
            copy,
            most,
        };
        (upload.boxed_unsync(), Some(progress))
    }

    /// A body that is all here, with its progress.
    pub(in crate::http) fn whole(bytes: Bytes) -> (UpstreamBody, Option<Arc<UploadProgress>>) {
        let progress = UploadProgress::default();
        progress.bytes.store(bytes.len() as u64, Ordering::Relaxed);
        progress.set_end(UploadEnd::Complete);
        let body = Full::new(bytes).map_err(|never| match never {});
        (body.boxed_unsync(), Some(Arc::new(progress)))
    }
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
                    let bytes = &self.progress.bytes;
                    let sent = bytes.fetch_add(length as u64, Ordering::Relaxed) + length as u64;
                    if self.most.is_some_and(|most| sent > most) {
                        self.progress.set_end(UploadEnd::TooLarge);
                        let error = "the body is longer than may pass";
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    self.progress.activity.vendor_moved(length);
                    if let Some(copy) = &self.copy {
                        copy.add(data);
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
