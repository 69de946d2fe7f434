//! The only segment that Jira does not route by: the name of an attachment, in Jira's own links.
//!
//! `/secure/attachment/*` is a servlet that uses only the id; the name after it is the name of the file,
//! percent-encoded. So every encoding passes that stays one segment, however often it is decoded.

use super::target::hex;
use agent_base::vendor_text::{VendorPart, VendorText};
use std::borrow::Cow;

/// Splits a raw path into everything up to the file name, and the name. `None` where there is none: then every segment is
/// one that Jira may route by. The part before the name must be written plainly.
pub(super) fn split<'a>(path: &'a str, context_path: &str) -> Option<(&'a str, &'a str)> {
    let below = path.strip_prefix(context_path)?;
    let mut segments = [""; 4];
    let mut parts = below.strip_prefix('/')?.split('/');
    for segment in &mut segments {
        *segment = parts.next()?;
    }
    let name = segments[3];
    let is_file = parts.next().is_none() && !name.is_empty() && is_last_of(&segments);
    is_file.then(|| path.split_at(path.len() - name.len()))
}

/// Whether the last of these segments is a file name.
pub(super) fn is_last_of(segments: &[&str]) -> bool {
    matches!(segments, ["secure", "attachment" | "thumbnail", id, _]
        if !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit()))
}

/// Percent-decodes a name once, and makes sure that it stays one segment if it is decoded again. `before`: bytes of the
/// path before it.
pub(super) fn decode(name: &str, before: usize) -> Result<Cow<'_, str>, VendorText> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let at = before + name.len() - rest.len();
        rest = tail;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let [high, low, tail @ ..] = tail else {
            return Err(contains_error(&"an incomplete percent-encoding", Some(at)));
        };
        let (Some(high), Some(low)) = (hex(*high), hex(*low)) else {
            return Err(contains_error(
                &"a `%` that is not followed by two hex digits",
                Some(at),
            ));
        };
        let byte = high << 4 | low;
        if let Some(what) = forbidden_byte(byte) {
            return Err(contains_error(&what, Some(at)));
        }
        decoded.push(byte);
        rest = tail;
    }
    // This also refuses overlong forms and surrogates (RFC 3629 §3).
    let decoded = String::from_utf8(decoded)
        .map_err(|_| VendorText::from("the file name does not decode to UTF-8"))?;
    require_one_segment(decoded.as_bytes())?;
    require_one_segment_decoded_again(decoded.as_bytes())?;
    Ok(match name.contains('%') {
        true => Cow::Owned(decoded),
        false => Cow::Borrowed(name),
    })
}

/// A server on the way may decode once more, or twice.
fn require_one_segment_decoded_again(name: &[u8]) -> Result<(), VendorText> {
    let mut name = Cow::Borrowed(name);
    for _ in 0..MAX_DECODINGS {
        let next = decode_leniently(&name);
        if next == *name {
            return Ok(());
        }
        require_one_segment(&next)?;
        name = Cow::Owned(next);
    }
    Err("the file name is percent-encoded more often than any server decodes it".into())
}

fn require_one_segment(name: &[u8]) -> Result<(), VendorText> {
    if matches!(name, b"." | b"..") {
        return Err(contains_error(&"a dot segment (`.` or `..`)", None));
    }
    if let Some(what) = name.iter().find_map(|byte| forbidden_byte(*byte)) {
        return Err(contains_error(&what, None));
    }
    if name.windows(2).any(is_overlong) {
        return Err(contains_error(&"an overlong encoding", None));
    }
    if String::from_utf8_lossy(name).chars().any(char::is_control) {
        return Err(contains_error(&"an encoded control character", None));
    }
    Ok(())
}

fn forbidden_byte(byte: u8) -> Option<&'static str> {
    match byte {
        b'/' => Some("an encoded slash (%2F)"),
        b'\\' => Some("an encoded backslash (%5C)"),
        0..=0x1f | 0x7f => Some("an encoded control byte"),
        _ => None,
    }
}

/// The beginnings of UTF-8 forms that are longer than need be; lenient decoders read `/` and `.` in some.
fn is_overlong(two: &[u8]) -> bool {
    matches!(
        two,
        [0xc0 | 0xc1, _] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]
    )
}

/// Decodes what can be decoded and leaves the rest, as lenient servers do; `%u0041` too, as some on Windows still read it.
fn decode_leniently(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match (byte, tail) {
            (b'%', [b'u' | b'U', digits @ ..]) if four_digits(digits).is_some() => {
                let unit = four_digits(digits).unwrap_or_default();
                let c = char::from_u32(unit).unwrap_or(char::REPLACEMENT_CHARACTER);
                decoded.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                rest = &digits[4..];
            }
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    decoded.push(high << 4 | low);
                    rest = after;
                }
                _ => decoded.push(byte),
            },
            _ => decoded.push(byte),
        }
    }
    decoded
}

fn four_digits(text: &[u8]) -> Option<u32> {
    let mut digits = text.get(..4)?.iter().map(|digit| hex(*digit));
    digits.try_fold(0, |number, digit| Some(number << 4 | u32::from(digit?)))
}

fn contains_error(what: &dyn VendorPart, at: Option<usize>) -> VendorText {
    match at {
        Some(at) => VendorText::of(&[&"the file name contains ", what, &" at byte ", &at]),
        None => VendorText::of(&[
            &"the file name contains ",
            what,
            &", however often it is decoded",
        ]),
    }
}

/// After the first. Each halves a run of `%25`; regular names need one.
const MAX_DECODINGS: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_name_passes_that_is_one_segment_however_often_it_is_decoded() {
        for (encoded, name) in [
            ("a.png", "a.png"),
            ("a%3Bb.png", "a;b.png"),
            ("Q3%2520report.pdf", "Q3%20report.pdf"),
            ("50%25ab.txt", "50%ab.txt"),
            ("a%3Fb.txt", "a?b.txt"),
            ("%2Ehidden", ".hidden"),
            ("a%2E%2Eb", "a..b"),
            ("%25252525", "%252525"),
            ("x.jspa", "x.jspa"),
            ("%20a%20", " a "),
            ("%25u00e4", "%u00e4"),
        ] {
            assert_eq!(decode(encoded, 0).unwrap(), name, "{encoded}");
        }
    }

    #[test]
    fn a_name_is_refused_that_could_become_another_path() {
        for encoded in [
            "a%2Fb",
            "a%252Fb",
            "a%25252Fb",
            "a%5Cb",
            "a%255cb",
            "%2E%2E",
            "%2e.",
            "%252e%252E",
            ".%252e",
            "..",
            ".",
            "a%00",
            "a%0d",
            "a%2500",
            "a%7F",
            "%C2%85",
            "%25c2%2585",
            "%c0%af",
            "%25c0%25af",
            "%25e0%2580%25af",
            "%ff",
            "a%25u002fb",
            "%25u002e%25U002e",
            "%",
            "a%2",
            "a%zz",
            "%25%32%46",
            "%2525252525252F",
        ] {
            assert!(decode(encoded, 0).is_err(), "{encoded}");
        }
    }

    #[test]
    fn only_the_plainly_written_route_of_an_attachment_has_a_file_name() {
        assert_eq!(
            split("/jira/secure/attachment/1/a%3Bb", "/jira"),
            Some(("/jira/secure/attachment/1/", "a%3Bb"))
        );
        for path in [
            "/secure/attachment/1/a",
            "/jira/secure/attachment/1/",
            "/jira/secure/attachment/1/a/b",
            "/jira/secure/attachment/x/a",
            "/jira/secur%65/attachment/1/a",
            "/jira/Secure/attachment/1/a",
            "/jira/secure/attachments/1/a",
            "/jirasecure/attachment/1/a",
        ] {
            assert_eq!(split(path, "/jira"), None, "{path}");
        }
    }
}
