//! Percent-encoding of OAuth 1.0a, and reading form-encoded text only where there is one way to read it.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::fmt::Write;

/// A decoded name and value, from a query, a form or the protocol itself.
pub type OAuthParameter = (String, String);

/// RFC 5849 §3.6: the unreserved characters of RFC 3986 stay, every other byte of the UTF-8 becomes `%XX` in
/// upper case.
pub(super) fn encode(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, ENCODED)
}

/// Why form-encoded text has no one reading that the agent and Jira share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FormDecodeError {
    /// `%` without two hexadecimal digits: Tomcat drops the parameter, others keep it as it is.
    Percent,
    /// What is decoded is no UTF-8: each server puts another replacement in.
    NotUtf8,
    /// `=value`: Tomcat drops it, others take the name to be empty.
    NoName,
    /// More than servers read.
    TooMany,
}

impl FormDecodeError {
    /// One clause for the vendor's engineer.
    pub fn why(self) -> &'static str {
        match self {
            Self::Percent => "a `%` in it is not followed by two hexadecimal digits",
            Self::NotUtf8 => "a name or value in it is not UTF-8",
            Self::NoName => "a parameter in it has no name",
            Self::TooMany => "it has more than a thousand parameters",
        }
    }
}

/// Reads `application/x-www-form-urlencoded` text, as queries and forms have it (RFC 5849 §3.4.1.3.1): names
/// in their order, duplicates kept, `+` a space. What two servers would read differently is an error, because
/// a signature over the one reading does not verify over the other.
pub fn parse(text: &[u8]) -> Result<Vec<OAuthParameter>, FormDecodeError> {
    let mut found = Vec::new();
    for pair in text.split(|byte| *byte == b'&') {
        if pair.is_empty() {
            continue;
        }
        let mut halves = pair.splitn(2, |byte| *byte == b'=');
        let name = decode(halves.next().unwrap_or_default())?;
        let value = decode(halves.next().unwrap_or_default())?;
        if name.is_empty() {
            return Err(FormDecodeError::NoName);
        }
        if found.len() == MAX_PARAMETERS {
            return Err(FormDecodeError::TooMany);
        }
        found.push((name, value));
    }
    Ok(found)
}

/// `name=value&…` with the encoding of §3.6, which every form reader understands.
pub fn form<'a>(parameters: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in parameters {
        let separator = if text.is_empty() { "" } else { "&" };
        // Writing to a string does not fail.
        let _ = write!(text, "{separator}{}={}", encode(name), encode(value));
    }
    text
}

fn decode(text: &[u8]) -> Result<String, FormDecodeError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        decoded.push(match (byte, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => {
                rest = after;
                hex(*high)? << 4 | hex(*low)?
            }
            (b'%', _) => return Err(FormDecodeError::Percent),
            _ => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| FormDecodeError::NotUtf8)
}

fn hex(digit: u8) -> Result<u8, FormDecodeError> {
    let value = char::from(digit)
        .to_digit(16)
        .ok_or(FormDecodeError::Percent)?;
    Ok(value as u8)
}

const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// Newer Tomcats read a thousand and silently drop the rest.
const MAX_PARAMETERS: usize = 1000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<OAuthParameter> {
        let owned = |(n, v): &(&str, &str)| ((*n).to_owned(), (*v).to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn what_rfc_5849_lists_is_read_as_it_says() {
        // §3.4.1.3.1.
        assert_eq!(
            parse(b"b5=%3D%253D&a3=a&c%40=&a2=r%20b").unwrap(),
            owned(&[("b5", "=%3D"), ("a3", "a"), ("c@", ""), ("a2", "r b")])
        );
        assert_eq!(
            parse(b"c2&a3=2+q").unwrap(),
            owned(&[("c2", ""), ("a3", "2 q")])
        );
    }

    #[test]
    fn corner_cases_have_one_reading_or_none() {
        for (text, read) in [
            (&b""[..], &[][..]),
            (b"&&", &[]),
            (
                b"a&a=&a=1&a",
                &[("a", ""), ("a", ""), ("a", "1"), ("a", "")],
            ),
            (b"a=b=c==", &[("a", "b=c==")]),
            (b"a=%2b+%20", &[("a", "+  ")]),
            (b"%61=%C3%a4", &[("a", "ä")]),
            ("a=ä".as_bytes(), &[("a", "ä")]),
            (b"a;b=c;d", &[("a;b", "c;d")]),
            (b"a=%00", &[("a", "\0")]),
        ] {
            assert_eq!(parse(text), Ok(owned(read)), "{text:?}");
        }
        for (text, wrong) in [
            (&b"a=%"[..], FormDecodeError::Percent),
            (b"a=%4", FormDecodeError::Percent),
            (b"a=%zz", FormDecodeError::Percent),
            (b"%+1=a", FormDecodeError::Percent),
            (b"a=%ff", FormDecodeError::NotUtf8),
            (b"a=\xc3", FormDecodeError::NotUtf8),
            (b"a=%ed%a0%80", FormDecodeError::NotUtf8),
            (b"=a", FormDecodeError::NoName),
            (b"a=1&=", FormDecodeError::NoName),
        ] {
            assert_eq!(parse(text), Err(wrong), "{text:?}");
        }
        let many = |count: usize| parse("a&".repeat(count).as_bytes()).map(|p| p.len());
        assert_eq!(many(MAX_PARAMETERS), Ok(MAX_PARAMETERS));
        assert_eq!(many(MAX_PARAMETERS + 1), Err(FormDecodeError::TooMany));
    }

    #[test]
    fn only_the_unreserved_stay_unencoded() {
        let all: String = (0..=255u8).map(char::from).collect();
        let encoded = encode(&all).to_string();
        for (index, byte) in (0..128u8).enumerate() {
            let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let one = encode(&all[index..=index]).to_string();
            assert_eq!(one.len(), if plain { 1 } else { 3 }, "{byte}");
        }
        assert!(!encoded.bytes().any(|b| b.is_ascii_lowercase() && b < b'a'));
        assert!(encoded.contains("%C3%BF"));
        assert_eq!(encode("☃+ %/").to_string(), "%E2%98%83%2B%20%25%2F");
    }

    proptest! {
        #[test]
        fn what_is_written_as_a_form_is_read_back(
            pairs in proptest::collection::vec(("\\PC{1,8}", "\\PC{0,8}"), 0..12)
        ) {
            let text = form(pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())));
            prop_assert_eq!(parse(text.as_bytes()).unwrap(), pairs);
        }

        /// The `url` crate decodes by the same rules with code of its own, leniently; where we read at all, we
        /// read the same.
        #[test]
        fn an_independent_decoder_reads_the_same(text in "[a-c=&+%0-9A-F\\-ä;]{0,40}") {
            if let Ok(ours) = parse(text.as_bytes()) {
                let theirs: Vec<OAuthParameter> = url::form_urlencoded::parse(text.as_bytes())
                    .into_owned()
                    .collect();
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
