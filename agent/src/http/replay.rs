//! A request kept so that it can be sent once more: where Jira rejects a credential that can be refreshed at once, and
//! where a kept-alive connection breaks before an idempotent request is answered. The vendor notices neither.

use super::body::BodyCopy;
use crate::auth::{FormBody, UpstreamAuth};
use bytes::Bytes;
use http::{Method, StatusCode, request};
use serde_json::Value;
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
    /// `length` is that of the body, where it is known. `None`: the request can never be sent twice, because its method is
    /// not idempotent and the credential cannot be refreshed, or the body is too long to keep or of unknown length.
    pub(super) fn capture(
        login: &UpstreamAuth,
        head: &request::Parts,
        length: Option<u64>,
    ) -> Option<Self> {
        if !login.can_refresh() && !head.method.is_idempotent() {
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
        self.whole()
    }

    /// The same request for a second sending, where it is unknown whether Jira has carried out the first: only if doing so
    /// twice is as good as once (RFC 9110 §9.2.2), and its body is all here.
    pub(super) fn repetition(self) -> Option<(request::Parts, Bytes)> {
        if !self.head.method.is_idempotent() {
            return None;
        }
        let is_put = self.head.method == Method::PUT;
        let (head, body) = self.whole()?;
        (!is_put || sets_only(&body)).then_some((head, body))
    }

    fn whole(self) -> Option<(request::Parts, Bytes)> {
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

/// Whether Jira reads from this body what is to be, and nothing that is to be added: an `update` can add a comment, a second
/// one the second time. What is no JSON as the agent reads it (another character set, a form) may hide one.
fn sets_only(body: &[u8]) -> bool {
    body.is_empty() || serde_json::from_slice(body).is_ok_and(|body| !has_member(&body, ADDING))
}

/// At any depth, of which serde_json allows 128.
fn has_member(value: &Value, name: &str) -> bool {
    match value {
        Value::Object(members) => {
            members.contains_key(name) || members.values().any(|member| has_member(member, name))
        }
        Value::Array(elements) => elements.iter().any(|element| has_member(element, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Bytes. A ticket with its description; an attachment is not worth the memory, which every request in
/// flight may take.
const MAX_COPY: u64 = 64 << 10;
/// The member of an issue's PUT whose operations are relative: `{"update":{"comment":[{"add":…}]}}`.
const ADDING: &str = "update";
