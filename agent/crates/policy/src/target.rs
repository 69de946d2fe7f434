//! From the raw request target to the one path that every server on the way reads in it. Nothing is repaired: a target
//! that two servers could read differently is refused.

use super::{file_name, query};
use agent_base::vendor_text::{ContextPath, QuotedByte, VendorPart, VendorQuote, VendorText};
use std::borrow::Cow;

/// The path of a request target as Jira reads it: decoded, without context path, query and the one
/// trailing slash that is permitted. Always begins with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NormalTarget<'a> {
    /// The whole decoded path, context path included.
    decoded: Cow<'a, str>,
    /// Where the part below the context path begins and ends in it.
    start: usize,
    end: usize,
}

/// Why a target has no normal form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NormalTargetError {
    /// Two servers could read it differently, or it is longer than any Jira answers to.
    #[error("{0}")]
    Ambiguous(VendorText),
    /// It is unambiguous, but not below Jira's context path.
    #[error("the path is outside the context path {context_path}")]
    OutsideContextPath {
        /// Jira's context path, as configured in `upstream`.
        context_path: String,
    },
}

impl NormalTargetError {
    /// For the vendor's engineer.
    pub(super) fn vendor_text(&self) -> VendorText {
        match self {
            Self::Ambiguous(text) => text.clone(),
            Self::OutsideContextPath { context_path } => VendorText::of(&[
                &"the path is outside the context path ",
                &ContextPath(context_path),
            ]),
        }
    }
}

impl<'a> NormalTarget<'a> {
    /// Reads a raw request target (RFC 9112 §3.2.1, origin-form only). `context_path` is `""` or like `/jira`. The
    /// query is checked, not normalized.
    pub fn parse(target: &'a str, context_path: &str) -> Result<Self, NormalTargetError> {
        require_origin_form(target)?;
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        if path.len() > MAX_PATH {
            return Err(ambiguous(&[
                &"the path is ",
                &path.len(),
                &" bytes long, at most ",
                &MAX_PATH,
                &" are accepted",
            ]));
        }
        require_plain_bytes(path.as_bytes()).map_err(NormalTargetError::Ambiguous)?;
        if let Some(query) = query {
            query::check(query).map_err(NormalTargetError::Ambiguous)?;
        }
        let (decoded, end) = match file_name::split(path, context_path) {
            Some((route, name)) => {
                let name =
                    file_name::decode(name, route.len()).map_err(NormalTargetError::Ambiguous)?;
                require_plain_segments(route.trim_end_matches('/'))?;
                let decoded = match name {
                    Cow::Borrowed(_) => Cow::Borrowed(path),
                    Cow::Owned(name) => Cow::Owned(format!("{route}{name}")),
                };
                let end = decoded.len();
                (decoded, end)
            }
            None => {
                let decoded = decode(path)?;
                let end = decoded.strip_suffix('/').unwrap_or(&decoded).len();
                require_plain_segments(&decoded[..end])?;
                (decoded, end)
            }
        };
        let start = below_context(&decoded[..end], context_path).ok_or_else(|| {
            NormalTargetError::OutsideContextPath {
                context_path: context_path.to_owned(),
            }
        })?;
        let normal = Self {
            decoded,
            start,
            end,
        };
        normal.require_one_reading_in_jira()?;
        Ok(normal)
    }

    /// The normal form; `/` for the context path itself.
    pub fn as_str(&self) -> &str {
        match &self.decoded[self.start..self.end] {
            "" => "/",
            path => path,
        }
    }

    /// The parts between the slashes; none for `/`.
    pub(super) fn segments(&self) -> TargetSegments<'_> {
        let mut segments = TargetSegments {
            parts: [""; MAX_SEGMENTS],
            len: 0,
        };
        for part in self.decoded[self.start..self.end].split('/').skip(1) {
            segments.parts[segments.len] = part;
            segments.len += 1;
        }
        segments
    }

    /// Refuses what is unambiguous in HTTP, but not in Jira.
    fn require_one_reading_in_jira(&self) -> Result<(), NormalTargetError> {
        let segments = self.segments();
        let segments = segments.as_slice();
        if let Some(extension) = stripped_extension(segments) {
            return Err(ambiguous(&[
                &"a REST layer like Jira's drops the ending `.",
                &VendorQuote(extension),
                &"` and answers for the path without it; leave it out and send an Accept header",
            ]));
        }
        let file_name = file_name::is_last_of(segments).then(|| segments.len() - 1);
        let fragment =
            |(at, segment): (usize, &&str)| segment.contains('#') && Some(at) != file_name;
        if segments.iter().enumerate().any(fragment) {
            return Err(ambiguous(&[
                &"the path contains an encoded `#` (%23) outside a file name",
            ]));
        }
        Ok(())
    }
}

/// The segments of a normal target, on the stack.
pub(super) struct TargetSegments<'a> {
    parts: [&'a str; MAX_SEGMENTS],
    len: usize,
}

impl<'a> TargetSegments<'a> {
    /// The segments, in the order of the path.
    pub(super) fn as_slice(&self) -> &[&'a str] {
        &self.parts[..self.len]
    }
}

/// The ending that Jira's REST layer would strip from these segments. Atlassian REST turns
/// `/rest/x.json` into `/rest/x` with an Accept header (`ExtensionJerseyFilter`), so a rule on
/// `/rest/x` would not see it.
pub(super) fn stripped_extension<'a>(segments: &[&'a str]) -> Option<&'a str> {
    let (first, last) = (segments.first()?, segments.last()?);
    if !first.eq_ignore_ascii_case("rest") {
        return None;
    }
    let (_, extension) = last.rsplit_once('.')?;
    STRIPPED_EXTENSIONS
        .iter()
        .any(|stripped| extension.eq_ignore_ascii_case(stripped))
        .then_some(extension)
}

fn require_origin_form(target: &str) -> Result<(), NormalTargetError> {
    let form = match target {
        "" => "an empty target",
        "*" => "the target `*` (asterisk-form)",
        _ if target.starts_with('/') => return Ok(()),
        _ if target.contains("://") => "a whole URL (absolute-form)",
        _ => "a target that does not begin with `/`",
    };
    Err(ambiguous(&[
        &form,
        &" was sent where a path belongs, like /rest/api/2/issue",
    ]))
}

/// Checks a raw target for bytes that must be encoded, before it is known to be text. What passes is ASCII without
/// spaces and control bytes.
pub fn require_sendable(target: &[u8]) -> Result<(), VendorText> {
    match target.iter().position(|byte| *byte == b'?') {
        None => require_plain_bytes(target),
        Some(at) => {
            require_plain_bytes(&target[..at])?;
            query::require_plain_bytes(&target[at + 1..])
        }
    }
}

/// `<`, `>` and the backquote are refused by Jira's own Tomcat, and by hyper.
fn require_plain_bytes(path: &[u8]) -> Result<(), VendorText> {
    let found = path.iter().enumerate().find_map(|(at, byte)| {
        let what = match byte {
            b';' => "a path parameter (`;`)",
            b'\\' => "a backslash",
            b'#' => "a fragment (`#`)",
            b' ' => "a space",
            b'<' | b'>' | b'`' => "a character that must be percent-encoded",
            0..=0x1f | 0x7f => "a control byte",
            0x80.. => "a byte outside ASCII that is not percent-encoded",
            _ => return None,
        };
        Some((what, *byte, at))
    });
    match found {
        None => Ok(()),
        Some((what, byte, at)) => Err(VendorText::of(&[
            &"the path contains ",
            &what,
            &", ",
            &QuotedByte(byte),
            &", at byte ",
            &at,
        ])),
    }
}

/// Percent-decodes once and makes sure that a second time would change nothing.
fn decode(path: &str) -> Result<Cow<'_, str>, NormalTargetError> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let mut decoded = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, tail @ ..] = rest {
        let at = path.len() - rest.len();
        if *first != b'%' {
            decoded.push(*first);
            rest = tail;
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Err(contains_error("an incomplete percent-encoding", at));
        };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
            return Err(contains_error(
                "a `%` that is not followed by two hex digits",
                at,
            ));
        };
        let byte = high << 4 | low;
        let what = match byte {
            b'/' => "an encoded slash (%2F)",
            b'\\' => "an encoded backslash (%5C)",
            b'.' => "an encoded dot (%2E)",
            b';' => "an encoded `;` (%3B)",
            b'?' => "an encoded question mark (%3F)",
            0..=0x1f | 0x7f => "an encoded control byte",
            _ => {
                decoded.push(byte);
                rest = tail;
                continue;
            }
        };
        return Err(contains_error(what, at));
    }
    // This also refuses overlong forms and surrogates (RFC 3629 §3).
    let decoded = String::from_utf8(decoded)
        .map_err(|_| ambiguous(&[&"the path does not decode to UTF-8"]))?;
    if decodes_again(&decoded) {
        return Err(ambiguous(&[
            &"the path is percent-encoded twice (like %252F)",
        ]));
    }
    if decoded.chars().any(char::is_control) {
        return Err(ambiguous(&[
            &"the path contains an encoded control character",
        ]));
    }
    Ok(Cow::Owned(decoded))
}

/// `%41`, and `%u0041` as some servers on Windows still read it.
fn decodes_again(decoded: &str) -> bool {
    decoded.as_bytes().windows(3).any(|three| {
        let [percent, first, second] = three else {
            return false;
        };
        *percent == b'%'
            && (first.eq_ignore_ascii_case(&b'u') || hex(*first).is_some())
            && hex(*second).is_some()
    })
}

pub(super) fn hex(digit: u8) -> Option<u8> {
    // A hex digit is at most 15.
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// `path` without its one trailing slash.
fn require_plain_segments(path: &str) -> Result<(), NormalTargetError> {
    for (count, segment) in path.split('/').skip(1).enumerate() {
        let what = match segment {
            _ if count >= MAX_SEGMENTS => "more segments than any documented path",
            "" => "an empty segment (`//`)",
            "." | ".." => "a dot segment (`.` or `..`)",
            // Jira trims keys in places, so `ABC-1%20` would get past a rule on `ABC-1`.
            _ if segment.trim() != segment => "white space at the end of a segment",
            _ => continue,
        };
        return Err(ambiguous(&[&"the path contains ", &what]));
    }
    Ok(())
}

/// Where the part below the context path begins; `None` outside.
fn below_context(path: &str, context_path: &str) -> Option<usize> {
    let below = path.strip_prefix(context_path)?;
    (below.is_empty() || below.starts_with('/')).then_some(context_path.len())
}

fn contains_error(what: &'static str, at: usize) -> NormalTargetError {
    ambiguous(&[&"the path contains ", &what, &" at byte ", &at])
}

fn ambiguous(detail: &[&dyn VendorPart]) -> NormalTargetError {
    NormalTargetError::Ambiguous(VendorText::of(detail))
}

/// Bytes. An attachment's name has at most 255 characters, each at most 12 bytes when encoded.
const MAX_PATH: usize = 4096;
/// Jira's deepest documented path has 10.
pub(super) const MAX_SEGMENTS: usize = 24;
/// The endings in Atlassian REST's `ExtensionJerseyFilter`.
const STRIPPED_EXTENSIONS: [&str; 6] = ["json", "xml", "txt", "htm", "html", "atom"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_path_without_encodings_is_not_copied() {
        let normal = NormalTarget::parse("/jira/rest/api/2/issue/?x=1", "/jira").unwrap();
        assert!(matches!(normal.decoded, Cow::Borrowed(_)));
        assert_eq!(normal.as_str(), "/rest/api/2/issue");
    }

    #[test]
    fn the_context_path_itself_is_the_root() {
        for target in ["/jira", "/jira/", "/jira?x", "/jira/?x"] {
            let normal = NormalTarget::parse(target, "/jira").unwrap();
            assert_eq!(normal.as_str(), "/", "{target}");
            assert!(normal.segments().as_slice().is_empty(), "{target}");
        }
    }

    #[test]
    fn a_longer_name_is_not_below_the_context_path() {
        let outside = NormalTarget::parse("/jirax/rest", "/jira");
        assert!(matches!(
            outside,
            Err(NormalTargetError::OutsideContextPath { .. })
        ));
    }

    #[test]
    fn length_and_depth_are_bounded() {
        let long = |n: usize| format!("/{}", "a".repeat(n - 1));
        assert!(NormalTarget::parse(&long(MAX_PATH), "").is_ok());
        assert!(NormalTarget::parse(&long(MAX_PATH + 1), "").is_err());
        assert!(NormalTarget::parse(&"/a".repeat(MAX_SEGMENTS), "").is_ok());
        assert!(NormalTarget::parse(&"/a".repeat(MAX_SEGMENTS + 1), "").is_err());
    }
}
