//! A short 401 is read before the credential is judged: its text tells a credential that is dead from one that is only
//! not meant for this request.

use super::{body::hint_with_prefix, forward::HttpForward};
use crate::upstream::{BodyError, UpstreamBody};
use bytes::{Buf, Bytes, BytesMut};
use http::{StatusCode, response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    task::{Context, Poll},
};
use tokio::time::{Instant, timeout_at};

/// How the answer's body begins, and the body as it was. The beginning is empty where the answer is no 401, or known to
/// be long.
pub(super) async fn peek(
    forward: &HttpForward,
    head: &response::Parts,
    mut body: UpstreamBody,
) -> (Bytes, UpstreamBody) {
    let long = body
        .size_hint()
        .exact()
        .is_some_and(|length| length > MAX_PEEKED);
    if head.status != StatusCode::UNAUTHORIZED
        || !forward.login().injects()
        || body.is_end_stream()
        || long
    {
        return (Bytes::new(), body);
    }
    let limit = forward.limits().stall_timeout;
    let deadline = Instant::now() + limit;
    let mut start = BytesMut::new();
    let rest = loop {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => start.extend_from_slice(&data),
                Err(trailers) => break RemainingBody::Last(Some(Ok(trailers))),
            },
            Ok(Some(Err(error))) => break RemainingBody::Last(Some(Err(error))),
            Ok(None) => break RemainingBody::Last(None),
            Err(_) => {
                let stalled = format!("nothing more of Jira's answer came within {limit:?}");
                break RemainingBody::Last(Some(Err(stalled.into())));
            }
        }
        if start.len() as u64 > MAX_PEEKED {
            break RemainingBody::Body(body);
        }
    };
    let start = start.freeze();
    let whole = PeekedBody {
        peeked: start.clone(),
        rest,
    };
    (start, whole.boxed_unsync())
}

/// A body of which the beginning was read, whole again.
struct PeekedBody {
    peeked: Bytes,
    rest: RemainingBody,
}

enum RemainingBody {
    /// Not read yet.
    Body(UpstreamBody),
    /// Trailers, the error by which it broke off, or nothing.
    Last(Option<Result<Frame<Bytes>, BodyError>>),
}

impl HttpBody for PeekedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.peeked.has_remaining() {
            let peeked = std::mem::take(&mut self.peeked);
            return Poll::Ready(Some(Ok(Frame::data(peeked))));
        }
        match &mut self.rest {
            RemainingBody::Body(body) => Pin::new(body).poll_frame(cx),
            RemainingBody::Last(last) => Poll::Ready(last.take()),
        }
    }

    fn is_end_stream(&self) -> bool {
        let ended = match &self.rest {
            RemainingBody::Body(body) => body.is_end_stream(),
            RemainingBody::Last(last) => last.is_none(),
        };
        ended && !self.peeked.has_remaining()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.peeked.len() as u64;
        match &self.rest {
            RemainingBody::Last(None) => SizeHint::with_exact(read),
            RemainingBody::Last(Some(_)) => hint_with_prefix(read, &SizeHint::new()),
            RemainingBody::Body(body) => hint_with_prefix(read, &body.size_hint()),
        }
    }
}

/// Bytes. Cloud's API gateway needs a hundred; Jira's login page is longer.
const MAX_PEEKED: u64 = 4 << 10;
