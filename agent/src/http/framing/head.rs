//! Whether a request head can be read in one way only.
//!
//! RFC 9112 lets a recipient be lenient in many places; each of them is a way to make two parsers
//! see two different requests. The vendor's clients need none of it, so none of it passes.

use super::FramingFault;
use crate::{
    audit::RedactedTarget, http::problem::ProblemKind, policy::require_sendable,
    vendor_text::VendorText,
};
use http::{Method, uri::PathAndQuery};
use std::{ops::Range, sync::Arc};

/// How the body that follows a head ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// This many bytes; 0 where there is none.
    Known(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What a good head says of itself.
#[derive(Debug)]
pub(in crate::http) struct InspectedHead {
    pub(super) body: BodyLength,
    /// Set where hyper cannot hold the target.
    pub(in crate::http) raw: Option<RelaxedTarget>,
}

/// A target with characters that Jira's own Tomcat takes in a query and the `http` crate does not.
#[derive(Debug)]
pub(in crate::http) struct RelaxedTarget {
    /// As the vendor wrote it.
    pub(in crate::http) target: Arc<str>,
    /// Where it stands in the head.
    pub(super) at: Range<usize>,
    /// What hyper is handed in its place: the same with these characters percent-encoded.
    pub(in crate::http) encoded: String,
}

/// Judges a complete head, the empty line that ends it included, of at most `max_head` bytes.
pub(in crate::http) fn inspect(
    head: &[u8],
    max_head: usize,
) -> Result<InspectedHead, FramingFault> {
    let mut lines = HeadLines(head);
    let request_line = lines.next().unwrap_or(Err(()));
    let request_line = request_line.map_err(|()| malformed(BARE_LF))?;
    let (method, target, minor) = request_line_parts(request_line)?;
    let fault = |(kind, detail): (ProblemKind, &'static str)| FramingFault {
        kind,
        detail: detail.into(),
        method: Method::from_bytes(method).ok(),
        target: str::from_utf8(target).map_or(RedactedTarget::unknown(), RedactedTarget::redact),
    };
    let body = fields(lines, method, minor).map_err(fault)?;
    let raw = relaxed_target(method, target).map_err(fault)?;
    let grown = raw
        .as_ref()
        .map_or(0, |raw| raw.encoded.len() - target.len());
    if head.len() + grown > max_head {
        return Err(fault((
            ProblemKind::HeadTooLarge,
            "the request head is too large for the raw characters in its query; percent-encode them",
        )));
    }
    Ok(InspectedHead { body, raw })
}

fn relaxed_target(
    method: &[u8],
    target: &[u8],
) -> Result<Option<RelaxedTarget>, (ProblemKind, &'static str)> {
    let is_plain = |&b: &u8| CLASS[b as usize] & PLAIN_TARGET != 0;
    if target.iter().all(is_plain) || PathAndQuery::try_from(target).is_ok() {
        return Ok(None);
    }
    let ambiguous = (
        ProblemKind::AmbiguousTarget,
        "the request target holds a character that must be percent-encoded",
    );
    let target = str::from_utf8(target).map_err(|_| ambiguous)?;
    let (path, query) = target.split_once('?').ok_or(ambiguous)?;
    let mut stand_in = format!("{path}?");
    for c in query.chars() {
        match c {
            '"' => stand_in.push_str("%22"),
            '<' => stand_in.push_str("%3C"),
            '>' => stand_in.push_str("%3E"),
            c => stand_in.push(c),
        }
    }
    if stand_in.len() > MAX_TARGET {
        return Err((
            ProblemKind::HeadTooLarge,
            "the query has too many raw characters; percent-encode them, or send long JQL in a body",
        ));
    }
    if PathAndQuery::try_from(stand_in.as_str()).is_err() {
        return Err(ambiguous);
    }
    let start = method.len() + 1;
    Ok(Some(RelaxedTarget {
        at: start..start + target.len(),
        target: target.into(),
        encoded: stand_in,
    }))
}

/// A byte of a token, RFC 9110 §5.6.2.
pub(crate) const fn is_token(byte: u8) -> bool {
    CLASS[byte as usize] & TOKEN != 0
}

/// One trailer line without its CRLF.
pub(super) fn is_field_line(line: &[u8]) -> bool {
    field(line).is_ok()
}

/// The versions that differ here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum MinorVersion {
    /// Health checks and old proxies: no `Host`, no chunks, one request per connection.
    Zero,
    One,
}

fn request_line_parts(line: &[u8]) -> Result<(&[u8], &[u8], MinorVersion), FramingFault> {
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(malformed(
            "the request line is not METHOD SP target SP version",
        ));
    };
    if method.is_empty() || method.len() > MAX_METHOD || !method.iter().all(|&b| is_token(b)) {
        return Err(malformed("the method is not a token"));
    }
    let fault = |kind, detail: VendorText| FramingFault {
        kind,
        detail,
        method: Method::from_bytes(method).ok(),
        target: str::from_utf8(target).map_or(RedactedTarget::unknown(), RedactedTarget::redact),
    };
    let minor = match version {
        b"HTTP/1.1" => MinorVersion::One,
        b"HTTP/1.0" => MinorVersion::Zero,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(fault(
                ProblemKind::HttpVersion,
                "only HTTP/1.0, HTTP/1.1, and HTTP/2 by prior knowledge, are spoken here".into(),
            ));
        }
        _ => return Err(malformed("the request line does not end in HTTP/1.1")),
    };
    if method == b"CONNECT" {
        return Err(fault(
            ProblemKind::MethodRefused,
            "CONNECT asks for a tunnel to any host, which the agent never opens".into(),
        ));
    }
    if !target.starts_with(b"/") {
        return Err(fault(
            ProblemKind::AmbiguousTarget,
            "the request target must be a path that begins with a slash (origin form)".into(),
        ));
    }
    if target.len() > MAX_TARGET {
        return Err(fault(
            ProblemKind::HeadTooLarge,
            "the request target is longer than 65,534 bytes".into(),
        ));
    }
    // hyper would cut a fragment off without a word, and answer other characters without ours.
    let plain = target
        .iter()
        .all(|&b| CLASS[b as usize] & PLAIN_TARGET != 0);
    if !plain
        && (!target.is_ascii() || target.contains(&b'#') || PathAndQuery::try_from(target).is_err())
    {
        require_sendable(target).map_err(|detail| fault(ProblemKind::AmbiguousTarget, detail))?;
    }
    Ok((method, target, minor))
}

fn fields(
    lines: HeadLines<'_>,
    method: &[u8],
    minor: MinorVersion,
) -> Result<BodyLength, (ProblemKind, &'static str)> {
    let bad = |detail| (ProblemKind::MalformedRequest, detail);
    let mut hosts = 0;
    let mut length = None;
    let mut chunked = false;
    for (count, line) in lines.enumerate() {
        let line = line.map_err(|()| (ProblemKind::MalformedRequest, BARE_LF))?;
        if count >= MAX_FIELDS {
            return Err((ProblemKind::HeadTooLarge, "more than 100 header fields"));
        }
        let (name, value) = field(line).map_err(bad)?;
        // Only three names matter here; their lengths tell them from nearly all others.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                hosts += 1;
                if !is_host(value) {
                    return Err(bad("the Host header is not host or host:port"));
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if length.is_some() {
                    return Err(bad("more than one Content-Length"));
                }
                length = Some(decimal(value).ok_or(bad("Content-Length is not a number"))?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if chunked {
                    return Err(bad("more than one Transfer-Encoding"));
                }
                if !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(bad("the only Transfer-Encoding understood is chunked"));
                }
                chunked = true;
            }
            _ => {}
        }
    }
    if minor == MinorVersion::Zero {
        if chunked {
            return Err(bad("a Transfer-Encoding in HTTP/1.0"));
        }
        if length.is_none() && matches!(method, b"POST" | b"PUT" | b"PATCH") {
            // Its body would end with the connection, which is how a request breaks off.
            return Err(bad("no Content-Length in HTTP/1.0"));
        }
        hosts = hosts.max(1);
    }
    match (hosts, length, chunked) {
        (0, ..) => Err(bad("the Host header is missing")),
        (1, Some(_), true) => Err(bad("both Content-Length and Transfer-Encoding")),
        (1, None, true) => Ok(BodyLength::Chunked),
        (1, length, false) => Ok(BodyLength::Known(length.unwrap_or(0))),
        _ => Err(bad("more than one Host header")),
    }
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let colon = line
        .iter()
        .position(|&byte| byte == b':')
        .ok_or("a header line without a colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Err("a header folded over two lines");
    }
    if name.is_empty() || !name.iter().all(|&byte| is_token(byte)) {
        return Err("a header name that is not a token");
    }
    if !value.iter().all(|&byte| CLASS[byte as usize] & VALUE != 0) {
        return Err("a control character in a header value");
    }
    Ok((name, value.trim_ascii()))
}

fn is_host(value: &[u8]) -> bool {
    !value.is_empty()
        && value
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(b))
}

/// Digits and nothing else; `+5`, `0x5`, `5,5` and an empty value are no numbers. Nor is what Java's `long` does not hold.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number: u64 = str::from_utf8(value).ok()?.parse().ok()?;
    i64::try_from(number).is_ok().then_some(number)
}

fn malformed(detail: &'static str) -> FramingFault {
    FramingFault {
        kind: ProblemKind::MalformedRequest,
        detail: detail.into(),
        method: None,
        target: RedactedTarget::unknown(),
    }
}

/// Lines that end in CRLF, up to the empty one; a bare LF or CR is a fault.
struct HeadLines<'a>(&'a [u8]);

impl<'a> Iterator for HeadLines<'a> {
    /// The error is a bare LF or CR.
    type Item = Result<&'a [u8], ()>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.0.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = (&self.0[..end], &self.0[end + 1..]);
        let Some(line) = line.strip_suffix(b"\r") else {
            return Some(Err(()));
        };
        if line.is_empty() {
            return None;
        }
        self.0 = rest;
        Some(Ok(line))
    }
}

const BARE_LF: &str = "a line that does not end in CRLF";
/// hyper keeps this many on its stack; Jira's own limit is of the same size.
const MAX_FIELDS: usize = 100;
/// Longer than any registered method; also what the audit line can show.
const MAX_METHOD: usize = 32;
/// The `http` crate's own limit.
const MAX_TARGET: usize = u16::MAX as usize - 1;

const TOKEN: u8 = 1;
const VALUE: u8 = 2;
const PLAIN_TARGET: u8 = 4;

/// What each byte may be part of.
static CLASS: [u8; 256] = classes();

const fn classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        let alphanumeric = b.is_ascii_alphanumeric();
        if alphanumeric || in_set(b, b"!#$%&'*+-.^_`|~") {
            table[byte] |= TOKEN;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7F) {
            table[byte] |= VALUE;
        }
        if alphanumeric || in_set(b, b"-._~%!$&'()*+,=:@/?") {
            table[byte] |= PLAIN_TARGET;
        }
        byte += 1;
    }
    table
}

const fn in_set(byte: u8, set: &[u8]) -> bool {
    let mut index = 0;
    while index < set.len() {
        if set[index] == byte {
            return true;
        }
        index += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What passes here must pass hyper in the same way: its target unchanged, each name and value
        /// one that `http` takes.
        #[test]
        fn what_passes_is_understood_alike_behind(
            target in "/[!-~]{0,12}",
            fields in proptest::collection::vec(("[!-9;-~]{0,8}", "[\\x00-\\x09\\x0b\\x0c\\x0e-\\xff]{0,12}"), 0..5),
        ) {
            let mut head = format!("GET {target} HTTP/1.1\r\nHost: x\r\n").into_bytes();
            for (name, value) in &fields {
                head.extend_from_slice(format!("{name}:{value}\r\n").as_bytes());
            }
            head.extend_from_slice(b"\r\n");
            if let Ok(inspected) = inspect(&head, usize::MAX) {
                let handed = inspected.raw.as_ref().map_or(target.as_str(), |raw| &raw.encoded);
                let parsed = PathAndQuery::try_from(handed).expect("a target");
                prop_assert_eq!(parsed.as_str(), handed);
                if let Some(raw) = inspected.raw {
                    prop_assert_eq!(&head[raw.at], target.as_bytes());
                    // Only the query: in the path `http` takes a quote, and refuses the others.
                    let (path, query) = target.split_once('?').expect("a query");
                    let query = query.replace('"', "%22").replace('<', "%3C").replace('>', "%3E");
                    prop_assert_eq!(raw.encoded, format!("{path}?{query}"));
                }
                for (name, value) in fields {
                    prop_assert!(http::HeaderName::from_bytes(name.as_bytes()).is_ok());
                    prop_assert!(http::HeaderValue::from_bytes(value.trim_ascii().as_bytes()).is_ok());
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = inspect(&bytes, 100);
        }
    }
}
