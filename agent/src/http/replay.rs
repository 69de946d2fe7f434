//! A request kept so that it can be sent once more: where Jira rejects a credential that can be refreshed at once, the
//! vendor does not notice.

use super::body::BodyCopy;
use crate::auth::{FormBody, UpstreamAuth};
use bytes::Bytes;
use http::{StatusCode, request};
use std::sync::Arc;

/// Head and body of a request, kept until its first answer shows that they are not needed.
pub(super) struct ReplayableRequest {
    head: request::Parts,
    body: ReplayBody,
}

enum ReplayBody {
    Whole(Bytes),
    /// Copied while it streams by.
    Streaming {
        length: usize,
        copy: Arc<BodyCopy>,
    },
}

impl ReplayableRequest {
    /// `length` is that of the body, where it is known. `None`: the request can never be sent twice, because the
    /// credential cannot be refreshed, or the body is too long to keep or of unknown length.
    pub(super) fn capture(
        login: &UpstreamAuth,
        head: &request::Parts,
        length: Option<u64>,
    ) -> Option<Self> {
        if !login.can_refresh() {
            return None;
        }
        let body = match (head.extensions.get::<FormBody>(), length) {
            (Some(form), _) => ReplayBody::Whole(form.0.clone()),
            (None, Some(0)) => ReplayBody::Whole(Bytes::new()),
            (None, Some(length)) if length <= MAX_COPY => ReplayBody::Streaming {
                length: length as usize,
                copy: Arc::default(),
            },
            _ => return None,
        };
        Some(Self {
            head: head.clone(),
            body,
        })
    }

    /// Where the body is to be copied while it streams by.
    pub(super) fn copy(&self) -> Option<Arc<BodyCopy>> {
        match &self.body {
            ReplayBody::Whole(_) => None,
            ReplayBody::Streaming { copy, .. } => Some(copy.clone()),
        }
    }

    /// The same request for a second sending, where the first answer shows that it has done nothing (RFC 9110 §15.5.2),
    /// or its method does nothing (§9.2.1), and its body is all here. A write that Jira took for anonymous may have been
    /// carried out.
    pub(super) fn into_request(self, status: StatusCode) -> Option<(request::Parts, Bytes)> {
        if status != StatusCode::UNAUTHORIZED && !self.head.method.is_safe() {
            return None;
        }
        let body = match self.body {
            ReplayBody::Whole(body) => body,
            ReplayBody::Streaming { length, copy } => {
                let body = copy.take();
                // Jira may answer before it has seen the end.
                if body.len() != length {
                    return None;
                }
                body
            }
        };
        Some((self.head, body))
    }
}

/// Bytes. A ticket with its description; an attachment is not worth the memory, which every request in
/// flight may take.
const MAX_COPY: u64 = 64 << 10;
