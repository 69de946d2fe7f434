//! What the running agent would decide on a request line, without a request: the same stages in the same order, framing
//! first.
//!
//! `exchange` is the path of a real request. A property test compares the two.

use super::{
    exchange::target as target_of,
    framing::{self, FramingFault},
    precheck,
    problem::{HttpProblem, ProblemKind},
};
use crate::{
    auth,
    policy::{CompiledPolicy, PolicyExplanation},
    profile::ServiceProfile,
    upstream::RawTarget,
};
use bytes::Bytes;
use http::{Method, Request, Uri, request};

/// What decides on the requests of one forward.
pub struct DryRun<'a> {
    /// The compiled `[forward.policy]` of the forward.
    pub policy: &'a CompiledPolicy,
    /// `[forward.auth]`: where the agent logs in, a query may not name an identity.
    pub auth: &'a auth::Settings,
    /// What is behind the forward.
    pub profile: &'a ServiceProfile,
    /// Largest request head in bytes: `max_head` in `[forward.http]`.
    pub max_head: usize,
}

impl DryRun<'_> {
    /// Takes the target as the vendor sends it, or without Jira's context path, as documents write it.
    pub fn explain(&self, method: &Method, target: &[u8]) -> PolicyExplanation {
        let as_sent = self.explain_as_sent(method, target);
        let context_path = self.policy.context_path();
        if as_sent.decision.code() != "outside-context-path" || !target.starts_with(b"/") {
            return as_sent;
        }
        let completed = [context_path.as_bytes(), target].concat();
        PolicyExplanation {
            note: format!(
                "taken for a path below {context_path}, where the vendor has to call it; as it was typed it is refused \
                 (outside-context-path)"
            ),
            ..self.explain_as_sent(method, &completed)
        }
    }

    /// Takes the target exactly as the request line has it.
    pub fn explain_as_sent(&self, method: &Method, target: &[u8]) -> PolicyExplanation {
        let head = match self.parsed(method, target) {
            Ok(head) => head,
            Err(FramingFault { kind, detail, .. }) => {
                return PolicyExplanation::refused_elsewhere(
                    method,
                    target,
                    kind.code(),
                    &detail,
                    NO_RULE,
                );
            }
        };
        if let Err(HttpProblem { kind, detail, .. }) = precheck::check(&head) {
            return PolicyExplanation::refused_elsewhere(
                method,
                target,
                kind.code(),
                &detail,
                NO_RULE,
            );
        }
        let explained = self.policy.explain(method, target_of(&head));
        if !explained.decision.is_allowed() {
            return explained;
        }
        match auth::check_query(self.auth, self.profile, &head) {
            Ok(()) => explained,
            Err(refusal) => {
                let kind = match refusal {
                    auth::AuthRefusal::AmbiguousQuery(_) => ProblemKind::AmbiguousTarget,
                    auth::AuthRefusal::ForeignIdentity(_)
                    | auth::AuthRefusal::FormBody(_)
                    | auth::AuthRefusal::Unavailable(_) => ProblemKind::ForeignIdentity,
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
    fn parsed(&self, method: &Method, target: &[u8]) -> Result<request::Parts, FramingFault> {
        if target.contains(&b'\n') {
            return Err(FramingFault::unread(
                ProblemKind::MalformedRequest,
                "a line end in the request target begins another line",
            ));
        }
        let line = [method.as_str().as_bytes(), b" ", target].concat();
        let head = [&line, &b" HTTP/1.1\r\nhost: x\r\n\r\n"[..]].concat();
        if head.len() > self.max_head {
            return Err(FramingFault::too_large());
        }
        let raw = framing::inspect(&head, self.max_head)?.raw;
        let handed = match &raw {
            Some(raw) => Bytes::copy_from_slice(raw.encoded.as_bytes()),
            None => Bytes::copy_from_slice(target),
        };
        let uri = Uri::from_maybe_shared(handed).map_err(|_| {
            FramingFault::unread(
                ProblemKind::AmbiguousTarget,
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
