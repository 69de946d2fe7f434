//! Trailers: fields after a body, which some servers merge into the head (RFC 9110 §6.5.1 warns of it). Nothing that
//! decides on a request reads them, so they must decide nothing.
//!
//! Where the agent logs in, they are dropped in both directions. In pass-through mode they pass as trailers (§6.5: a
//! recipient may keep or drop them), except fields that §6.5.1 allows in no trailer and those that policy or the agent's
//! own headers depend on.

use super::own_headers;
use crate::{
    policy::{method_override_headers, path_override_headers},
    upstream::{BodyError, UpstreamBody},
};
use bytes::Bytes;
use http::HeaderName;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

/// The body with the trailers that may pass: none where the agent logs in.
pub(super) fn filtered(body: UpstreamBody, agent_logs_in: bool) -> UpstreamBody {
    if body.is_end_stream() {
        return body;
    }
    let filtered = FilteredTrailers {
        inner: body,
        drop_all: agent_logs_in,
    };
    filtered.boxed_unsync()
}

struct FilteredTrailers {
    inner: UpstreamBody,
    drop_all: bool,
}

impl HttpBody for FilteredTrailers {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            let mut trailers = match frame.into_trailers() {
                Ok(trailers) => trailers,
                Err(data) => return Poll::Ready(Some(Ok(data))),
            };
            let dropped: Vec<HeaderName> = trailers
                .keys()
                .filter(|name| self.drop_all || !may_trail(name))
                .cloned()
                .collect();
            for name in dropped {
                trailers.remove(name);
            }
            if !trailers.is_empty() {
                return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Whether a field may stand behind a body.
fn may_trail(name: &HeaderName) -> bool {
    // Servers that pass headers on as variables compare names so.
    let name = name.as_str().replace('_', "-");
    let name = name.as_str();
    let overrides = method_override_headers().iter();
    let mut overrides = overrides.chain(path_override_headers());
    !NEVER_TRAILERS.contains(&name)
        && !NEVER_TRAILER_PREFIXES.iter().any(|p| name.starts_with(p))
        && !overrides.any(|other| other.replace('_', "-") == name)
        && !own_headers::is_own(name)
}

/// RFC 9110 §6.5.1: framing, routing, request modifiers, authentication, control of the answer, and content format.
const NEVER_TRAILERS: &[&str] = &[
    "age",
    "authorization",
    "cache-control",
    "connection",
    "cookie",
    "cookie2",
    "date",
    "expect",
    "expires",
    "forwarded",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "remote-user",
    "retry-after",
    "set-cookie",
    "set-cookie2",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "warning",
    "www-authenticate",
    "x-ausername",
    "x-atlassian-token",
];

const NEVER_TRAILER_PREFIXES: &[&str] = &[
    "content-",
    "if-",
    "proxy-",
    "x-auth",
    "x-forwarded-",
    "x-remote-",
    "x-seraph-",
];
