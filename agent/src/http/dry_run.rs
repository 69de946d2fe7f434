//! What the running agent would decide on a request line, without a request: its judges in their order, framing first.
//!
//! `exchange` is the way of a real request. A property test holds the two against each other.

use super::{
    exchange::target as target_of,
    framing::{self, Fault},
    problem::{Kind, Problem},
    sanity,
};
use crate::{
    auth,
    policy::{Explanation, Policy},
    upstream::RawTarget,
};
use bytes::Bytes;
use http::{Method, Request, Uri, request};

/// The judges of one forward.
pub struct DryRun<'a> {
    /// `[forward.policy]`.
    pub policy: &'a Policy,
    /// `[forward.auth]`: who logs in decides whether a query may name an identity.
    pub auth: &'a auth::Settings,
    /// `max_head` in `[forward.http]`.
    pub max_head: usize,
}

impl DryRun<'_> {
    /// Takes the target as the vendor sends it, or without Jira's context path, as documents write it.
    pub fn explain(&self, method: &Method, target: &[u8]) -> Explanation {
        let as_sent = self.explain_as_sent(method, target);
        let context_path = self.policy.context_path();
        if as_sent.decision.code() != "outside-context-path" || !target.starts_with(b"/") {
            return as_sent;
        }
        let completed = [context_path.as_bytes(), target].concat();
        Explanation {
            note: format!(
                "taken for a path below {context_path}, where the vendor has to call it; as it was typed it is refused \
                 (outside-context-path)"
            ),
            ..self.explain_as_sent(method, &completed)
        }
    }

    /// Takes the target for what stands in the request line.
    pub fn explain_as_sent(&self, method: &Method, target: &[u8]) -> Explanation {
        let head = match self.parsed(method, target) {
            Ok(head) => head,
            Err(Fault { kind, detail, .. }) => {
                return Explanation::refused_elsewhere(
                    method,
                    target,
                    kind.code(),
                    &detail,
                    NO_RULE,
                );
            }
        };
        if let Err(Problem { kind, detail, .. }) = sanity::check(&head) {
            return Explanation::refused_elsewhere(method, target, kind.code(), &detail, NO_RULE);
        }
        let explained = self.policy.explain(method, target_of(&head));
        if !explained.decision.is_allowed() {
            return explained;
        }
        match auth::judge_query(self.auth, &head) {
            Ok(()) => explained,
            Err(refusal) => {
                let kind = match refusal {
                    auth::Refusal::AmbiguousQuery(_) => Kind::AmbiguousTarget,
                    _ => Kind::ForeignIdentity,
                };
                explained.but_refused(
                    kind.code(),
                    &refusal.vendor_text(),
                    "no rule can allow this query while the agent logs in by itself; the caller has to leave it out",
                )
            }
        }
    }

    /// As the smallest request with this request line comes out of framing and hyper.
    fn parsed(&self, method: &Method, target: &[u8]) -> Result<request::Parts, Fault> {
        if target.contains(&b'\n') {
            return Err(Fault::unread(
                Kind::MalformedRequest,
                "a line end in the request target begins another line",
            ));
        }
        let line = [method.as_str().as_bytes(), b" ", target].concat();
        let head = [&line, &b" HTTP/1.1\r\nhost: x\r\n\r\n"[..]].concat();
        if head.len() > self.max_head {
            return Err(Fault::too_large());
        }
        let raw = framing::inspect(&head, self.max_head)?.raw;
        let handed = match &raw {
            Some(raw) => Bytes::copy_from_slice(raw.stand_in.as_bytes()),
            None => Bytes::copy_from_slice(target),
        };
        let uri = Uri::from_maybe_shared(handed).map_err(|_| {
            Fault::unread(
                Kind::AmbiguousTarget,
                "the request target holds a character that must be percent-encoded",
            )
        })?;
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = method.clone();
        head.uri = uri;
        if let Some(raw) = raw {
            head.extensions.insert(RawTarget(raw.target));
        }
        Ok(head)
    }
}

const NO_RULE: &str = "no rule can allow this request; the caller has to send it without that";
