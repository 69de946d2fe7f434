//! A request target fit for a log: the path and the names of the query, never a value.

use crate::printable::is_printable;

/// A redacted request target. Its only constructor removes the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RedactedTarget {
    text: String,
    hidden_bytes: usize,
}

impl serde::Serialize for RedactedTarget {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl RedactedTarget {
    /// Keeps the path and `?name=*&other=*`. A parameter without `=` may itself be a value and
    /// becomes `*`, as do values of path parameters (`;jsessionid=…`) and all after `#`.
    /// A target that is no path (`http://user:password@host/`) is dropped.
    pub fn redact(raw: &str) -> Self {
        if !raw.starts_with('/') {
            return Self {
                text: String::from("(no path)"),
                hidden_bytes: raw.len(),
            };
        }
        let mut kept = String::with_capacity(raw.len().min(MAX_LENGTH));
        let (path, query) = split_query(raw);
        let mut hidden_bytes = push_path(&mut kept, path);
        hidden_bytes += kept.len().saturating_sub(MAX_LENGTH);
        let (query, fragment) = match query.map(|query| query.split_once('#')) {
            Some(Some((query, _))) => (Some(query), true),
            Some(None) => (query, false),
            None => (None, false),
        };
        if let Some(query) = query {
            kept.push('?');
            for (index, parameter) in query.split('&').enumerate() {
                if kept.len() >= MAX_LENGTH {
                    break;
                }
                if index > 0 {
                    kept.push('&');
                }
                push_name(&mut kept, parameter);
            }
        }
        if fragment {
            kept.push_str("#*");
        }
        bound(&mut kept);
        Self {
            text: kept,
            hidden_bytes,
        }
    }

    /// For a request whose target could not be read.
    pub fn unknown() -> Self {
        Self {
            text: String::new(),
            hidden_bytes: 0,
        }
    }

    /// Bytes of the path that the line does not show: those after an equals sign, and those past its length. Where this
    /// is not 0, two requests that look alike in the audit may have had different targets.
    pub fn hidden_bytes(&self) -> usize {
        self.hidden_bytes
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

/// The query begins at `?`, or at an encoded one: a server that decodes first would see it there.
fn split_query(raw: &str) -> (&str, Option<&str>) {
    let plain = raw.find(['?', '#']);
    let encoded = raw
        .as_bytes()
        .windows(3)
        .position(|w| w.eq_ignore_ascii_case(b"%3f"));
    match (plain, encoded) {
        (plain, Some(at)) if plain.is_none_or(|p| at < p) => (&raw[..at], Some(&raw[at + 3..])),
        // A fragment without a query keeps its sign, so that it is cut off below.
        (Some(at), _) if raw.as_bytes()[at] == b'#' => (&raw[..at], Some(&raw[at..])),
        (Some(at), _) => (&raw[..at], Some(&raw[at + 1..])),
        (None, _) => (raw, None),
    }
}

/// Returns how many bytes it left out.
fn push_path(kept: &mut String, path: &str) -> usize {
    if !path.contains([';', '=', '%']) {
        push_printable(kept, path);
        return 0;
    }
    let mut hidden = 0;
    for (index, segment) in path.split('/').enumerate() {
        if index > 0 {
            kept.push('/');
        }
        let mut parts = segment.split(';');
        hidden += push_segment(kept, parts.next().unwrap_or_default());
        for parameter in parts {
            kept.push(';');
            push_name(kept, parameter);
            let value = parameter
                .split_once('=')
                .map_or(parameter, |(_, value)| value);
            hidden += value.len();
        }
    }
    hidden
}

/// Hardly any path of Jira has an equals sign: what follows one is treated as a value. Returns how many bytes it left out.
fn push_segment(kept: &mut String, segment: &str) -> usize {
    let encoded = segment
        .as_bytes()
        .windows(2)
        .position(|w| w.eq_ignore_ascii_case(b"3d"))
        .filter(|&at| segment[..at].ends_with(['%', '5']));
    match [segment.find('='), encoded].into_iter().flatten().min() {
        Some(at) => {
            push_printable(kept, &segment[..at]);
            kept.push_str("=*");
            segment.len() - at
        }
        None => {
            push_printable(kept, segment);
            0
        }
    }
}

fn push_name(kept: &mut String, parameter: &str) {
    match parameter.split_once('=') {
        Some((name, _)) => {
            let end = name
                .char_indices()
                .nth(MAX_NAME)
                .map_or(name.len(), |(at, _)| at);
            push_printable(kept, &name[..end]);
            kept.push_str("=*");
        }
        None if parameter.is_empty() => {}
        None => kept.push('*'),
    }
}

fn push_printable(kept: &mut String, text: &str) {
    if text.bytes().all(|byte| byte.is_ascii_graphic()) {
        kept.push_str(text);
    } else {
        kept.extend(text.chars().map(|c| match c {
            c if !is_printable(c) || c == ' ' => char::REPLACEMENT_CHARACTER,
            c => c,
        }));
    }
}

fn bound(kept: &mut String) {
    if kept.len() > MAX_LENGTH {
        let mut end = MAX_LENGTH;
        while !kept.is_char_boundary(end) {
            end -= 1;
        }
        kept.truncate(end);
        kept.push('…');
    }
}

/// Jira's paths are far below this; a line stays well inside one journal datagram.
const MAX_LENGTH: usize = 1024;
/// Characters of a parameter's name; a longer one is probably data.
const MAX_NAME: usize = 64;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_stay_and_values_go() {
        for (raw, kept) in [
            ("/rest/api/2/issue", "/rest/api/2/issue"),
            (
                "/rest/api/2/search?jql=project%3DACME&fields=a",
                "/rest/api/2/search?jql=*&fields=*",
            ),
            ("/x?CANARY", "/x?*"),
            ("/x?a=CANARY=b?c#CANARY", "/x?a=*#*"),
            ("/x#CANARY", "/x?#*"),
            (
                "/x;jsessionid=CANARY/y;CANARY?a=1",
                "/x;jsessionid=*/y;*?a=*",
            ),
            ("/x%3Fa=CANARY&CANARY", "/x?a=*&*"),
            ("/x%253Fa=CANARY/y%3DCANARY", "/x%253Fa=*/y%=*"),
            ("/x%253fa%253dCANARY", "/x%253fa%25=*"),
            ("/x?", "/x?"),
            ("/x?a=1&&b=2", "/x?a=*&&b=*"),
            ("http://u:CANARY@h/x?a=CANARY", "(no path)"),
            ("*", "(no path)"),
            ("/a\r\n\tb", "/a\u{fffd}\u{fffd}\u{fffd}b"),
        ] {
            assert_eq!(RedactedTarget::redact(raw).as_str(), kept, "{raw}");
        }
    }

    #[test]
    fn a_long_target_is_cut_and_says_so() {
        let kept = RedactedTarget::redact(&format!("/{}", "é".repeat(4000)));
        assert!(kept.as_str().len() <= MAX_LENGTH + '…'.len_utf8());
        assert!(kept.as_str().ends_with('…'));
        assert_eq!(kept.hidden_bytes(), 1 + 8000 - MAX_LENGTH);
    }

    #[test]
    fn what_of_a_path_is_not_shown_is_counted() {
        for (raw, hidden) in [
            ("/rest/api/2/issue/A-1/properties/k", 0),
            ("/rest/api/2/search?jql=a%3Db&x", 0),
            ("/rest/api/2/issue/A-1/properties/k=CANARY", "=CANARY".len()),
            ("/x/a%3DCANARY/b=", "3DCANARY".len() + 1),
            ("/x;jsessionid=CANARY", "CANARY".len()),
        ] {
            assert_eq!(RedactedTarget::redact(raw).hidden_bytes(), hidden, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn no_value_survives(path in "[/a-z;%?#&=]{0,40}", name in "[a-z]{1,8}", tail in "[/a-z;?#&=]{0,20}") {
            let raw = format!("/{path}?{name}=CANARY{tail}");
            let kept = RedactedTarget::redact(&raw);
            prop_assert!(!kept.as_str().contains("CANARY"), "{raw} -> {}", kept.as_str());
        }

        #[test]
        fn nothing_breaks_a_line_or_grows_without_end(raw in any::<String>()) {
            let kept = RedactedTarget::redact(&raw);
            prop_assert!(!kept.as_str().contains(['\n', '\r']));
            prop_assert!(kept.as_str().len() <= MAX_LENGTH + 4);
        }
    }
}
