//! Path patterns: their syntax, and the paths that they match.

use super::target::{MAX_SEGMENTS, stripped_extension};
use std::borrow::Cow;

/// A path pattern, compiled. It matches normal forms only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathPattern {
    segments: Box<[PatternSegment]>,
    /// Ends in `**`: any further segments, or none.
    open: bool,
}

/// How literal segments are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentComparison {
    /// As they are, case-sensitively: for rules that allow.
    Exact,
    /// As generously as Jira could read them, so that a deny rule cannot be bypassed: without regard to letter case
    /// (Jira finds `abc-1` too), to zeros before a number (Java reads `010` as 10), and `latest` is the same API
    /// version as a number. A segment with characters outside ASCII matches any segment of the rule: Java's case
    /// mappings (`ſ` is an S), its digits, and the collations of databases (full-width letters, accents) make
    /// different texts equal, and no list of them is complete.
    Generous,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PatternSegment {
    Literal(Box<str>),
    OneOf(Box<[Box<str>]>),
    Any,
    /// `{issue}`: `ABC-1` or `10001`.
    Issue,
    /// `{project}`: `ABC` or `10001`. Upper-case only, as Jira makes them: `/project/type` is no project.
    Project,
    /// `{number}`: an id.
    Number,
}

impl PathPattern {
    /// Reads a pattern. The error contains the column (in characters, from 1) and the remedy.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let Some(inner) = text.strip_prefix('/') else {
            return Err(format!(
                "column 1: a path pattern begins with `/`, like /rest/api/2/issue, not {text:?}"
            ));
        };
        let inner = inner.strip_suffix('/').unwrap_or(inner);
        let (inner, open) = match inner {
            "**" => ("", true),
            _ => match inner.strip_suffix("/**") {
                Some(inner) => (inner, true),
                None => (inner, false),
            },
        };
        let mut segments = Vec::new();
        if !inner.is_empty() {
            let mut column = 2;
            for part in inner.split('/') {
                let segment = PatternSegment::parse(part);
                segments.push(segment.map_err(|problem| format!("column {column}: {problem}"))?);
                column += part.chars().count() + 1;
            }
        }
        let pattern = Self {
            segments: segments.into(),
            open,
        };
        pattern.require_reachable()?;
        Ok(pattern)
    }

    /// Whether the pattern matches a path, given as segments.
    pub(super) fn matches(&self, path: &[&str], compare: SegmentComparison) -> bool {
        let long_enough = path.len() >= self.segments.len();
        if !long_enough || (path.len() > self.segments.len() && !self.open) {
            return false;
        }
        let mut pairs = self.segments.iter().zip(path).enumerate();
        match compare {
            SegmentComparison::Exact => {
                pairs.all(|(_, (segment, part))| segment.matches(part, same))
            }
            SegmentComparison::Generous => {
                let is_rest = path.first().is_some_and(|p| p.eq_ignore_ascii_case("rest"));
                pairs.all(|(at, (segment, part))| {
                    let is_version = is_rest && at == API_VERSION;
                    !part.is_ascii()
                        || segment.matches(part, |a, b| {
                            equal_in_java(a, b) || (is_version && same_version(a, b))
                        })
                })
            }
        }
    }

    /// Whether the segment at this index is literal, not a wildcard.
    pub(super) fn is_literal_at(&self, at: usize) -> bool {
        matches!(
            self.segments.get(at),
            Some(PatternSegment::Literal(_) | PatternSegment::OneOf(_))
        )
    }

    /// Whether the whole pattern is literal.
    pub(super) fn is_literal(&self) -> bool {
        !self.open && (0..self.segments.len()).all(|at| self.is_literal_at(at))
    }

    /// A rule that can never match would be misleading.
    fn require_reachable(&self) -> Result<(), String> {
        if self.segments.len() > MAX_SEGMENTS {
            return Err(format!(
                "a path has at most {MAX_SEGMENTS} segments, so this matches none"
            ));
        }
        let (Some(PatternSegment::Literal(first)), Some(PatternSegment::Literal(last)), false) =
            (self.segments.first(), self.segments.last(), self.open)
        else {
            return Ok(());
        };
        match stripped_extension(&[first, last]) {
            None => Ok(()),
            Some(extension) => Err(format!(
                "targets below /rest that end in `.{extension}` are always refused, because Jira drops \
                 the ending; write the pattern without it"
            )),
        }
    }
}

impl PatternSegment {
    fn parse(text: &str) -> Result<Self, String> {
        if let Some(name) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) {
            return match name {
                "issue" => Ok(Self::Issue),
                "project" => Ok(Self::Project),
                "number" => Ok(Self::Number),
                _ => Err(format!(
                    "{{{name}}} is unknown; there are {{issue}}, {{project}}, {{number}}, and `*` for \
                     any one segment"
                )),
            };
        }
        if let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) {
            let options: Result<Box<[_]>, _> = inner.split('|').map(literal).collect();
            return options.map(Self::OneOf);
        }
        match text {
            "*" => Ok(Self::Any),
            "**" => Err("`**` must be the last segment; `*` stands for one segment".to_owned()),
            _ => literal(text).map(Self::Literal),
        }
    }

    fn matches(&self, part: &str, equal: impl Fn(&str, &str) -> bool) -> bool {
        match self {
            Self::Literal(literal) => equal(literal, part),
            Self::OneOf(options) => options.iter().any(|option| equal(option, part)),
            Self::Any => true,
            Self::Issue => is_issue(part),
            Self::Project => is_project(part),
            Self::Number => is_number(part),
        }
    }
}

/// `ABC-1`, `abc-1` or an id.
pub(super) fn is_issue(part: &str) -> bool {
    is_number(part)
        || part.rsplit_once('-').is_some_and(|(project, number)| {
            is_number(number)
                && project.len() <= MAX_KEY
                && project.starts_with(|c: char| c.is_ascii_alphabetic())
                && project
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b == b'_')
        })
}

/// Digits that fit the ids of Jira's database.
pub(super) fn is_number(part: &str) -> bool {
    (1..=MAX_DIGITS).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())
}

fn is_project(part: &str) -> bool {
    is_number(part)
        || (part.len() <= MAX_KEY
            && part.starts_with(|c: char| c.is_ascii_uppercase())
            && part
                .bytes()
                .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_'))
}

/// A segment as it is written out. Patterns are decoded already, so what would need an encoding in a
/// URL is either plain here or cannot occur.
pub(super) fn literal(text: &str) -> Result<Box<str>, String> {
    let problem = match text {
        "" => "an empty segment (`//`) is always refused; remove one slash",
        "." | ".." => "dot segments are always refused; write the path they lead to",
        _ => match text.chars().find_map(literal_error) {
            Some(problem) => problem,
            None => return Ok(text.into()),
        },
    };
    Err(problem.to_owned())
}

fn literal_error(c: char) -> Option<&'static str> {
    Some(match c {
        '*' => "`*` stands for a whole segment and cannot be part of one; write `*` alone",
        '%' => "patterns are written decoded; write the character itself, or `*` for the segment",
        '?' | '#' => "patterns match the path only; leave the query out",
        ';' | '\\' => "targets with `;` or `\\` are always refused",
        '(' | ')' | '|' => "alternatives fill a whole segment, like (2|latest)",
        '{' | '}' => "a typed segment stands alone: {issue}, {project} or {number}",
        '"' => "a quote cannot be part of a pattern; write `*` for the segment",
        _ if c.is_whitespace() || c.is_control() => {
            "white space cannot be part of a pattern; write `*` for the segment"
        }
        _ => return None,
    })
}

fn same(a: &str, b: &str) -> bool {
    a == b
}

/// Letter case as Java folds it, and numbers by their value: `SEC-010` is `sec-10`.
fn equal_in_java(a: &str, b: &str) -> bool {
    let (a, b) = (fold_case(a), fold_case(b));
    a.eq_ignore_ascii_case(&b) || {
        let ((a, a_number), (b, b_number)) = (split_number(&a), split_number(&b));
        a.eq_ignore_ascii_case(b) && a_number.is_some() && a_number == b_number
    }
}

/// The part before a trailing number, `SEC-` or nothing, and the number as `Long.parseLong` reads it.
fn split_number(text: &str) -> (&str, Option<&str>) {
    let at = text.rfind('-').map_or(0, |at| at + 1);
    let (before, number) = text.split_at(at);
    let digits = number.strip_prefix('+').unwrap_or(number);
    let is_number = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (before, is_number.then(|| digits.trim_start_matches('0')))
}

/// With the characters that Java's case mappings turn into ASCII letters turned into them: `ſ` (U+017F), the Kelvin sign,
/// `ı` and `İ`.
pub(super) fn fold_case(text: &str) -> Cow<'_, str> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let fold = |c: char| {
        let mut ways = c.to_uppercase().chain(c.to_lowercase());
        ways.find(char::is_ascii).unwrap_or(c)
    };
    Cow::Owned(text.chars().map(fold).collect())
}

/// `/rest/api/latest` is `/rest/api/2`.
fn same_version(a: &str, b: &str) -> bool {
    let is_version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let is_latest = |text: &str| text.eq_ignore_ascii_case("latest");
    (is_latest(a) && is_version(b)) || (is_latest(b) && is_version(a))
}

/// `/rest/{api}/{version}/…`
const API_VERSION: usize = 2;
/// Characters of a project key in Jira's database.
const MAX_KEY: usize = 255;
/// Digits of a 64-bit id.
const MAX_DIGITS: usize = 19;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn matches(pattern: &str, path: &str, compare: SegmentComparison) -> bool {
        let path: Vec<&str> = path.split('/').skip(1).collect();
        PathPattern::parse(pattern).unwrap().matches(&path, compare)
    }

    #[test]
    fn two_stars_match_the_rest_or_nothing() {
        for path in ["/a", "/a/b", "/a/b/c"] {
            assert!(matches("/a/**", path, SegmentComparison::Exact), "{path}");
        }
        assert!(!matches("/a/**", "/ab", SegmentComparison::Exact));
        assert!(!matches("/a/*", "/a", SegmentComparison::Exact));
        assert!(!matches("/a/*", "/a/b/c", SegmentComparison::Exact));
    }

    #[test]
    fn typed_segments_match_what_they_name_and_no_more() {
        for (pattern, yes, no) in [
            (
                "/{issue}",
                &["ABC-1", "abc-1", "A_1-22", "10001"][..],
                &[
                    "createmeta",
                    "ABC",
                    "ABC-",
                    "-1",
                    "1A-1",
                    "ABC-1x",
                    "A-B-1",
                    "ABC-1 ",
                ][..],
            ),
            (
                "/{project}",
                &["ABC", "A1_B", "10000"],
                &["type", "search", "ABC-1", "A B", "_A"],
            ),
            (
                "/{number}",
                &["0", "123"],
                &["-1", "1a", "12345678901234567890"],
            ),
        ] {
            for path in yes {
                assert!(
                    matches(pattern, &format!("/{path}"), SegmentComparison::Exact),
                    "{path}"
                );
            }
            for path in no {
                assert!(
                    !matches(pattern, &format!("/{path}"), SegmentComparison::Exact),
                    "{path}"
                );
            }
        }
    }

    #[test]
    fn only_a_generous_comparison_folds_case_and_versions() {
        for (pattern, path) in [
            ("/rest/api/2/user/**", "/rest/api/2/USER"),
            ("/rest/api/2/user/**", "/rest/api/latest/user/x"),
            ("/rest/api/latest/user", "/rest/api/2/user"),
            ("/rest/api/(2|3)/user", "/rest/api/latest/user"),
        ] {
            assert!(
                matches(pattern, path, SegmentComparison::Generous),
                "{pattern} {path}"
            );
            assert!(
                !matches(pattern, path, SegmentComparison::Exact),
                "{pattern} {path}"
            );
        }
        // Java's `equalsIgnoreCase` and `toUpperCase`, its digits, and what collations of databases take for the same.
        for path in [
            "/rest/api/2/issue/sec-1",
            "/rest/api/2/issue/\u{17f}EC-1",
            "/rest/api/2/issue/\u{ff33}EC-1",
            "/rest/api/2/issue/SE\u{301}C-1",
            "/rest/api/2/issue/S\u{c9}C-1",
            "/rest/api/2/issue/SEC\u{200b}-1",
            "/rest/api/2/issue/SEC-\u{ff11}",
            "/rest/api/2/issue/SEC-01",
            "/rest/api/2/issue/SEC-+1",
            "/re\u{17f}t/api/2/issue/SEC-1",
        ] {
            let deny = "/rest/api/2/issue/SEC-1/**";
            assert!(matches(deny, path, SegmentComparison::Generous), "{path}");
            assert!(!matches(deny, path, SegmentComparison::Exact), "{path}");
        }
        for (pattern, path) in [
            ("/issue/10001", "/issue/010001"),
            ("/issue/10001", "/issue/+10001"),
            ("/project/K", "/project/\u{212a}"),
            ("/x/{issue}", "/x/\u{17f}EC-1"),
            ("/x/{number}", "/x/\u{661}"),
        ] {
            assert!(
                matches(pattern, path, SegmentComparison::Generous),
                "{pattern} {path}"
            );
        }
        assert!(!matches(
            "/issue/SEC-1",
            "/issue/SEC-10",
            SegmentComparison::Generous
        ));
        assert!(!matches(
            "/issue/SEC-1",
            "/issue/OTHER-01",
            SegmentComparison::Generous
        ));
        // Elsewhere `latest` is a word like others.
        assert!(!matches(
            "/a/b/2",
            "/a/b/latest",
            SegmentComparison::Generous
        ));
        assert!(!matches(
            "/rest/api/2",
            "/rest/api/3",
            SegmentComparison::Generous
        ));
    }
}
