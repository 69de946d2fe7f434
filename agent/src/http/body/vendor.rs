//! The vendor's body as it comes from the channel.

use super::{UploadEnd, hint_with_prefix};
use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    error::Error,
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// The vendor's body, of which the first part can be awaited before anything is done with it.
pub(in crate::http) struct VendorBody {
    inner: Incoming,
    first: FirstPart,
}

enum FirstPart {
    /// Not asked for yet.
    NotAsked,
    /// It has come, and waits here.
    Waiting(Box<Frame<Bytes>>),
    /// The body ended without any; its end waits here.
    None,
    /// Handed on: all further parts come from the channel.
    Taken,
}

impl VendorBody {
    pub(in crate::http) fn new(inner: Incoming) -> Self {
        Self {
            inner,
            first: FirstPart::NotAsked,
        }
    }

    /// Whether the body was asked for, so that a client that waits for `100 Continue` sends it.
    pub(in crate::http) fn is_asked_for(&self) -> bool {
        !matches!(self.first, FirstPart::NotAsked)
    }

    /// Completes once the first byte, the trailers or the end has come. Buffers that first part and nothing more.
    pub(in crate::http) async fn await_first_part(
        &mut self,
    ) -> Result<(), (UploadEnd, &'static str)> {
        while !self.inner.is_end_stream() && matches!(self.first, FirstPart::NotAsked) {
            match self.inner.frame().await {
                Some(Ok(frame)) if frame.data_ref().is_some_and(Bytes::is_empty) => {}
                Some(Ok(frame)) => self.first = FirstPart::Waiting(Box::new(frame)),
                Some(Err(error)) => return Err(broke_off(&error)),
                None => self.first = FirstPart::None,
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
        match std::mem::replace(&mut self.first, FirstPart::Taken) {
            FirstPart::Waiting(frame) => Poll::Ready(Some(Ok(*frame))),
            FirstPart::None => Poll::Ready(None),
            FirstPart::NotAsked | FirstPart::Taken => Pin::new(&mut self.inner).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        !matches!(self.first, FirstPart::Waiting(_)) && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.inner.size_hint();
        match &self.first {
            FirstPart::Waiting(frame) => {
                let first = frame.data_ref().map_or(0, Bytes::len);
                hint_with_prefix(first as u64, &rest)
            }
            FirstPart::NotAsked | FirstPart::None | FirstPart::Taken => rest,
        }
    }
}

/// Why a body could not be read ahead.
pub(in crate::http) enum ReadAheadError {
    /// It is longer than was allowed.
    TooLong,
    /// How it ended, in words for the vendor's engineer.
    Broke(UploadEnd, &'static str),
}

/// Reads a whole body of at most `most` bytes. Drops trailers.
pub(in crate::http) async fn collect(
    mut body: VendorBody,
    most: usize,
) -> Result<Bytes, ReadAheadError> {
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

/// hyper's own text on a broken body names no cause that the vendor's engineer could use.
pub(super) fn broke_off(error: &hyper::Error) -> (UploadEnd, &'static str) {
    let kind = error
        .source()
        .and_then(|source| source.downcast_ref::<io::Error>())
        .map(io::Error::kind);
    match kind {
        Some(io::ErrorKind::InvalidData) => (UploadEnd::Malformed, "its chunks are malformed"),
        _ => (UploadEnd::Gone, "the channel ended before it was complete"),
    }
}
