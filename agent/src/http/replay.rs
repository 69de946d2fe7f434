//! A request kept so that it can be sent once more: where Jira refuses a credential that can be renewed
//! at once, the vendor need not hear of it.

use super::body::BodyCopy;
use crate::auth::{FormBody, UpstreamAuth};
use bytes::Bytes;
use http::{StatusCode, request};
use std::sync::Arc;

/// Head and body of a request, until its first answer says that they are not needed.
pub(super) struct ReplayableRequest {
    head: request::Parts,
    body: ReplayBody,
}

enum ReplayBody {
    Whole(Bytes),
    /// Kept while it streams by.
    Streaming {
        length: usize,
        copy: Arc<BodyCopy>,
    },
}

impl ReplayableRequest {
    /// `length` is that of the body, where it is known. `None`: it can never be sent twice, because the
    /// credential cannot be renewed, or the body is too long to be kept or of a length that nobody knows.
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
            (None, Some(length)) if length <= MAX_KEPT => ReplayBody::Streaming {
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

    /// Where the body is to be kept while it streams by.
    pub(super) fn copy(&self) -> Option<Arc<BodyCopy>> {
        match &self.body {
            ReplayBody::Whole(_) => None,
            ReplayBody::Streaming { copy: kept, .. } => Some(kept.clone()),
        }
    }

    /// The same request anew, where the first answer says that it has done nothing (RFC 9110 §15.5.2),
    /// or it is one that does nothing (§9.2.1), and its body is all here. A write that Jira took for
    /// anonymous may have been carried out.
    pub(super) fn into_replay(self, status: StatusCode) -> Option<(request::Parts, Bytes)> {
        if status != StatusCode::UNAUTHORIZED && !self.head.method.is_safe() {
            return None;
        }
        let body = match self.body {
            ReplayBody::Whole(body) => body,
            ReplayBody::Streaming { length, copy: kept } => {
                let body = kept.take();
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
const MAX_KEPT: u64 = 64 << 10;
