//! Requests that policy cannot judge by their request line.

use super::problem::{HttpProblem, ProblemKind};
use crate::{
    policy::{method_override_headers, path_override_headers},
    vendor_text::VendorText,
};
use http::{HeaderMap, HeaderName, Method, header, request};

/// Refuses methods and headers by which a server may take the request for another one.
pub(super) fn check(head: &request::Parts) -> Result<(), HttpProblem> {
    if head.method.as_str().len() > MAX_METHOD {
        let detail = "the method is longer than 32 bytes";
        return Err(HttpProblem::not_sent(ProblemKind::MalformedRequest, detail));
    }
    if matches!(head.method, Method::CONNECT | Method::TRACE) {
        // TRACE would show the vendor the agent's own credential.
        let detail = "CONNECT and TRACE are always refused";
        return Err(HttpProblem::not_sent(ProblemKind::MethodRefused, detail));
    }
    if !head.uri.path().starts_with('/') {
        let detail = "the request target must be a path that begins with a slash";
        return Err(HttpProblem::not_sent(ProblemKind::AmbiguousTarget, detail));
    }
    if head.headers.contains_key(header::UPGRADE) && !offers_only_h2c(&head.headers) {
        let detail = "this tunnel carries HTTP requests only";
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

/// The known name by which some server takes another method or path from this header. Servers that pass headers on as
/// variables treat `_` and `-` alike.
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

/// Java's client offers h2c on every request and continues without it (RFC 9110 §7.8 allows to ignore an offer); refusing
/// it would refuse the client.
fn offers_only_h2c(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::UPGRADE)
        .iter()
        .all(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"h2c"))
}

/// Bytes; longer than any registered method. The framing has the same limit for HTTP/1.1.
const MAX_METHOD: usize = 32;
/// CGI and WSGI write `-` as `_`, so that a server behind one may take these for the real ones.
const FRAMING_TWINS: [&str; 2] = ["content_length", "transfer_encoding"];
