//! Requests that no policy can judge by what it sees.

use super::problem::{HttpProblem, ProblemKind};
use crate::{
    policy::{method_override_headers, path_override_headers},
    vendor_text::VendorText,
};
use http::{HeaderMap, HeaderName, Method, header, request};

/// Refuses methods and headers that would make the request something else than it looks like.
pub(super) fn check(head: &request::Parts) -> Result<(), HttpProblem> {
    if head.method.as_str().len() > MAX_METHOD {
        let detail = "the method is longer than 32 bytes";
        return Err(HttpProblem::not_sent(ProblemKind::MalformedRequest, detail));
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        // TRACE would show the vendor the agent's own credential.
        let detail = "CONNECT and TRACE are refused whatever the policy says";
        return Err(HttpProblem::not_sent(ProblemKind::MethodRefused, detail));
    }
    if !head.uri.path().starts_with('/') {
        let detail = "the request target must be a path that begins with a slash";
        return Err(HttpProblem::not_sent(ProblemKind::AmbiguousTarget, detail));
    }
    if head.headers.contains_key(header::UPGRADE) && !offers_only_h2c(&head.headers) {
        let detail = "this way to Jira carries HTTP requests only";
        return Err(HttpProblem::not_sent(ProblemKind::UpgradeRefused, detail));
    }
    for name in FRAMING_TWINS {
        if head.headers.contains_key(name) {
            let detail = VendorText::of(&[
                &"the header ",
                &name,
                &" is refused: some servers read it as framing",
            ]);
            return Err(HttpProblem::not_sent(ProblemKind::MalformedRequest, detail));
        }
    }
    if let Some(name) = head.headers.keys().find_map(overrides) {
        let detail = VendorText::of(&[
            &"the header ",
            name,
            &" is refused: policy judges the request line",
        ]);
        return Err(HttpProblem::not_sent(ProblemKind::MethodOverride, detail));
    }
    Ok(())
}

/// By which known name some server takes another method or path from this header. Those that hand headers on as
/// variables take `_` and `-` for the same.
fn overrides(name: &HeaderName) -> Option<&'static &'static str> {
    let known = method_override_headers().iter();
    let mut known = known.chain(path_override_headers());
    match name.as_str().contains('_') {
        false => known.find(|known| **known == name.as_str()),
        true => {
            let name = name.as_str().replace('_', "-");
            known.find(|known| **known == name)
        }
    }
}

/// Java's client offers h2c on every request and goes on without it (RFC 9110 §7.8 allows to ignore
/// an offer); to refuse it would refuse the client.
fn offers_only_h2c(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// Longer than any registered method. For HTTP/1.1 the framing says the same.
const MAX_METHOD: usize = 32;
/// CGI and WSGI write `-` as `_`, so that a server behind one may take these for the real ones.
const FRAMING_TWINS: [&str; 2] = ["content_length", "transfer_encoding"];
