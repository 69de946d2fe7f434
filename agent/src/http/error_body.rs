//! A short answer that refuses the login is read before it is judged: its words tell a credential that
//! is dead from one that is only not meant for this request.

use super::forward::HttpForward;
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

/// How the answer begins, and the answer's body as it was. Empty where it refuses nothing, or is known
/// to be long.
pub(super) async fn peek(
    forward: &HttpForward,
    head: &response::Parts,
    mut body: UpstreamBody,
) -> (Bytes, UpstreamBody) {
    let long = body
        .size_hint()
        .exact()
        .is_some_and(|length| length > MAX_WORDS);
    if head.status != StatusCode::UNAUTHORIZED
        || !forward.login().injects()
        || body.is_end_stream()
        || long
    {
        return (Bytes::new(), body);
    }
    let limit = forward.limits().stall_timeout;
    let deadline = Instant::now() + limit;
    let mut words = BytesMut::new();
    let rest = loop {
        match timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => words.extend_from_slice(&data),
                Err(trailers) => break RemainingBody::Last(Some(Ok(trailers))),
            },
            Ok(Some(Err(error))) => break RemainingBody::Last(Some(Err(error))),
            Ok(None) => break RemainingBody::Last(None),
            Err(_) => {
                let stalled = format!("nothing more of Jira's answer came within {limit:?}");
                break RemainingBody::Last(Some(Err(stalled.into())));
            }
        }
        if words.len() as u64 > MAX_WORDS {
            break RemainingBody::Body(body);
        }
    };
    let words = words.freeze();
    let whole = PeekedBody {
        peeked: words.clone(),
        rest,
    };
    (words, whole.boxed_unsync())
}

/// What was read, then the rest.
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
            let words = std::mem::take(&mut self.peeked);
            return Poll::Ready(Some(Ok(Frame::data(words))));
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
            RemainingBody::Last(Some(_)) => {
                let mut hint = SizeHint::new();
                hint.set_lower(read);
                hint
            }
            RemainingBody::Body(body) => {
                let rest = body.size_hint();
                let mut hint = SizeHint::new();
                hint.set_lower(read.saturating_add(rest.lower()));
                if let Some(upper) = rest.upper() {
                    hint.set_upper(read.saturating_add(upper));
                }
                hint
            }
        }
    }
}

/// Bytes. Cloud's API gateway says it in a hundred; Jira's login page is longer.
const MAX_WORDS: u64 = 4 << 10;
