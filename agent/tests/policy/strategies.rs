//! What the properties are tried on: methods, rules, and targets good and bad.

use http::Method;
use proptest::prelude::*;

pub(crate) fn method() -> impl Strategy<Value = Method> {
    prop::sample::select(vec![
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::PATCH,
    ])
}

pub(crate) fn path() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "rest", "REST", "api", "2", "1.0", "latest", "Latest", "issue", "Issue", "ABC-1", "abc-1",
        "ABC", "10001", "user", "x",
    ]);
    joined(prop::collection::vec(segment.prop_map(str::to_owned), 0..6))
}

pub(crate) fn pattern() -> impl Strategy<Value = String> {
    let segment = prop::sample::select(vec![
        "rest",
        "api",
        "2",
        "latest",
        "(2|latest)",
        "(1.0|issue|x)",
        "issue",
        "ABC-1",
        "user",
        "*",
        "{issue}",
        "{project}",
        "{number}",
    ]);
    let segments = prop::collection::vec(segment.prop_map(str::to_owned), 0..5);
    (segments, any::<bool>()).prop_map(|(mut segments, open)| {
        if open {
            segments.push("**".to_owned());
        }
        format!("/{}", segments.join("/"))
    })
}

/// A path that has nothing to do with the pattern, or one that follows it with a few turns taken.
pub(crate) fn pattern_and_path() -> impl Strategy<Value = (String, String)> {
    let turns = prop::collection::vec((any::<prop::sample::Index>(), 0..8), 8);
    (pattern(), path(), turns, 0..3).prop_map(|(pattern, unrelated, turns, kind)| {
        if kind == 0 {
            return (pattern, unrelated);
        }
        let mut path = String::new();
        for (part, (choice, turn)) in pattern.split('/').skip(1).zip(turns) {
            let options: Vec<&str> = match part {
                "*" => vec!["user", "rest", "2"],
                "**" => vec!["", "x", "x/2/issue", "latest"],
                "{issue}" => vec!["ABC-1", "abc-1", "10001"],
                "{project}" => vec!["ABC", "10001", "Issue"],
                "{number}" => vec!["2", "10001", "x"],
                _ => part.trim_matches(['(', ')']).split('|').collect(),
            };
            let segment = *choice.get(&options);
            let segment = match turn {
                0 => segment.to_uppercase(),
                1 => segment.replace("latest", "2"),
                2 if segment == "2" => "latest".to_owned(),
                _ => segment.to_owned(),
            };
            if !segment.is_empty() {
                path = format!("{path}/{segment}");
            }
        }
        let path = if path.is_empty() {
            "/".to_owned()
        } else {
            path
        };
        (pattern, path)
    })
}

pub(crate) fn rules() -> impl Strategy<Value = Vec<String>> {
    let methods = prop::sample::select(vec!["GET", "POST", "GET,PUT", "*", "DELETE"]);
    prop::collection::vec(
        (methods, pattern()).prop_map(|(methods, pattern)| format!("{methods} {pattern}")),
        0..5,
    )
}

pub(crate) fn sensitive_path() -> impl Strategy<Value = String> {
    let area = prop::sample::select(vec![
        "/rest/pat",
        "/REST/pat",
        "/rest/oauth2/latest/clients",
        "/secure/admin",
        "/secure/x.jspa",
        "/plugins/servlet",
        "/s",
        "/rest/plugins",
    ]);
    (area, path()).prop_map(|(area, path)| format!("{area}{path}").trim_end_matches('/').to_owned())
}

/// Pieces that make trouble, put together at random between pieces that do not.
pub(crate) fn tricky_target() -> impl Strategy<Value = String> {
    let harmless = prop::sample::select(vec![
        "/",
        "/rest",
        "/api",
        "/2",
        "/issue",
        "/ABC-1",
        "/secure/attachment/1",
        "x",
        "/a.b",
        "%C3%BC",
        "/%41",
        "/jira",
    ]);
    let trouble = prop::sample::select(vec![
        "/",
        "//",
        ".",
        "..",
        "/..",
        "/../",
        "/./",
        ";",
        ";a=b",
        "\\",
        "%",
        "%2",
        "%25",
        "%252e",
        "%2e",
        "%2E",
        "%2f",
        "%2F",
        "%5c",
        "%3b",
        "%3F",
        "%23",
        "#",
        "?",
        "%00",
        "%0a",
        "%7f",
        "%20",
        "%c0%ae",
        "%e0%80%af",
        "%c2%85",
        "%u002e",
        "%25u002e",
        "2e",
        "5c",
        "é",
        " ",
        "\u{0}",
        "\r\n",
        ".json",
        ".jspa",
        "%ff",
        "%25%32%65",
        "u002e",
        "/x?_method=y",
    ]);
    let piece = prop_oneof![8 => harmless, 1 => trouble];
    prop::collection::vec(piece, 0..12)
        .prop_map(|pieces| format!("/{}", pieces.concat().trim_start_matches('/')))
}

/// Bytes as a lossy text, the only way in which they could arrive.
pub(crate) fn any_bytes() -> impl Strategy<Value = String> {
    prop::collection::vec(any::<u8>(), 0..64)
        .prop_map(|bytes| format!("/{}", String::from_utf8_lossy(&bytes)))
}

pub(crate) fn ordinary_segment() -> impl Strategy<Value = String> {
    // No character that is refused in every form, no ending that Jira drops.
    "[a-zA-Z0-9 _~!$&'()*+,:@<>\\[\\]äß漢]{1,12}"
        .prop_map(|text| text.trim().to_owned())
        .prop_filter("empty", |text| !text.is_empty())
}

fn joined(segments: impl Strategy<Value = Vec<String>>) -> impl Strategy<Value = String> {
    segments.prop_map(|segments| format!("/{}", segments.join("/")))
}
