//! Properties of the normaliser and the matcher, against independent readings of both.

use crate::strategies::*;
use crate::{code, policy};
use agent::policy::{CompiledPolicy, NormalTarget, PolicyDecision, Settings};
use http::Method;
use proptest::prelude::*;
use proptest::strategy::ValueTree;

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_accepted_path_reads_the_same_to_every_server(target in tricky_target()) {
        let Ok(normal) = NormalTarget::parse(&target, "") else { return Ok(()) };
        let raw = target.split('?').next().unwrap().as_bytes().to_vec();
        let once = percent_decoded(&raw);
        if let Some(name) = file_name(&raw) {
            prop_assert!(is_one_segment_however_often_it_is_decoded(name));
            prop_assert_eq!(&once, normal.as_str().as_bytes());
            return Ok(());
        }
        // What we matched is what a decoder reads, but for the one trailing slash.
        let trimmed = once.strip_suffix(b"/").filter(|path| !path.is_empty()).unwrap_or(&once);
        prop_assert_eq!(trimmed, normal.as_str().as_bytes());
        prop_assert_eq!(&percent_decoded(&once), &once);
        // Who splits before decoding sees the same segments.
        let slashes = |path: &[u8]| path.iter().filter(|b| **b == b'/').count();
        prop_assert_eq!(slashes(&raw), slashes(&once));
        for reading in [&raw, &once] {
            for (name, rewrite) in REWRITES {
                prop_assert_eq!(&rewrite(reading), reading, "{}", name);
            }
        }
        prop_assert!(std::str::from_utf8(&once).is_ok_and(|path| !path.contains(char::is_control)));
    }

    #[test]
    fn every_ordinary_path_is_accepted_as_what_it_encodes(
        segments in prop::collection::vec(ordinary_segment(), 0..10),
        slash in any::<bool>(),
    ) {
        let path: String = segments.iter().map(|segment| format!("/{segment}")).collect();
        let encoded: String = segments.iter().map(|segment| format!("/{}", percent_encoded(segment))).collect();
        let target = format!("/jira{encoded}{}?x=1", if slash { "/" } else { "" });
        let normal = NormalTarget::parse(&target, "/jira");
        prop_assert!(normal.is_ok(), "{target}: {normal:?}");
        let normal = normal.unwrap();
        prop_assert_eq!(normal.as_str(), if path.is_empty() { "/" } else { &path });
    }

    #[test]
    fn the_matcher_agrees_with_a_naive_one((pattern, path) in pattern_and_path(), method in method()) {
        let segments: Vec<&str> = path.split('/').skip(1).filter(|part| !part.is_empty()).collect();
        let parts: Vec<&str> = pattern.split('/').skip(1).filter(|part| !part.is_empty()).collect();
        let allowed = policy(&[], &[&format!("GET {pattern}")], &[], "").decide(&method, &path).is_allowed();
        let speaks = method == Method::GET || method == Method::HEAD;
        prop_assert_eq!(allowed, speaks && naive(&parts, &segments, 0, false));

        let denying = policy(&[], &["* /**"], &[&format!("GET {pattern}")], "");
        let denied = code(&denying.decide(&method, &path)) == "denied";
        prop_assert_eq!(denied, speaks && naive(&parts, &segments, 0, true));
    }

    #[test]
    fn deny_always_wins(
        allow in rules(),
        mut deny in rules(),
        denied in pattern_and_path(),
        method in method(),
    ) {
        let (pattern, path) = denied;
        deny.push(format!("GET,POST {pattern}"));
        let given = |allow: &[String], deny: &[String]| {
            let (allow, deny) = (allow.to_vec(), deny.to_vec());
            let settings = Settings { allow, deny, ..Settings::default() };
            code(&CompiledPolicy::new(&settings).unwrap().decide(&method, &path))
        };
        let denied_alone = given(&deny, &[]) == "allow";
        let decided = given(&allow, &deny);
        if denied_alone {
            prop_assert_eq!(decided, "denied");
        }
        if decided == "allow" {
            prop_assert_eq!(given(&allow, &[]), "allow");
        }
    }

    #[test]
    fn deciding_and_explaining_never_panic_and_agree(
        target in prop_oneof![any::<String>(), tricky_target(), any_bytes()],
        method in prop_oneof![method(), "[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}".prop_map(|name| Method::from_bytes(name.as_bytes()).unwrap())],
        context_path in prop_oneof![Just(""), Just("/jira")],
    ) {
        let policy = policy(&["ticketing"], &["* /**"], &["* /rest/api/2/user/**"], context_path);
        let explanation = policy.explain(&method, &target);
        prop_assert_eq!(code(&explanation.decision), code(&policy.decide(&method, &target)));
        let text = explanation.to_string();
        prop_assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    }

    #[test]
    fn the_rule_that_an_explanation_offers_does_allow_the_request(
        path in prop_oneof![path(), tricky_target(), sensitive_path()],
        method in method(),
        context_path in prop_oneof![Just(""), Just("/jira")],
    ) {
        let target = format!("{context_path}{path}");
        let explanation = policy(&[], &["GET /kept"], &[], context_path).explain(&method, &target);
        let Some((_, rules)) = explanation.remedy.split_once("allow = [\"") else { return Ok(()) };
        let rules: Vec<_> = rules.split("\"]").next().unwrap().split("\", \"").collect();
        prop_assert_eq!(rules[0], "GET /kept", "the array is replaced as a whole");
        let after = policy(&[], &rules, &[], context_path).decide(&method, &target);
        prop_assert!(after.is_allowed(), "{rules:?} for {target}: {after:?}");
    }

    #[test]
    fn any_text_as_a_rule_is_taken_or_refused_without_panic(
        text in prop_oneof![any::<String>(), "(GET|POST|\\*|get) [/a-z*(){}|%.;]{0,20}"],
    ) {
        let rules = vec![text];
        let _ = CompiledPolicy::new(&Settings { allow: rules.clone(), deny: rules, ..Settings::default() });
    }
}

#[test]
fn the_tricky_targets_are_not_all_refused() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut accepted = 0;
    for _ in 0..2000 {
        let target = tricky_target().new_tree(&mut runner).unwrap().current();
        accepted += usize::from(NormalTarget::parse(&target, "").is_ok());
    }
    assert!((100..1900).contains(&accepted), "{accepted}");
}

#[test]
fn a_sensitive_path_is_offered_literally() {
    let policy = policy(&[], &[], &[], "");
    let explanation = policy.explain(&Method::GET, "/rest/pat/latest/tokens/5");
    assert!(matches!(explanation.decision, PolicyDecision::Refuse(_)));
    let offered = r#"allow = ["GET /rest/pat/latest/tokens/5"]"#;
    assert!(explanation.remedy.contains(offered), "{explanation}");
}

/// What a server, a framework or a proxy may do to a path before it routes by it.
type Rewrite = fn(&Vec<u8>) -> Vec<u8>;
const REWRITES: [(&str, Rewrite); 7] = [
    ("path parameters", |path| {
        let bare = path
            .split(|b| *b == b'/')
            .map(|part| part.split(|b| *b == b';').next().unwrap());
        bare.collect::<Vec<_>>().join(&b'/')
    }),
    ("backslashes", |path| {
        path.iter()
            .map(|b| if *b == b'\\' { b'/' } else { *b })
            .collect()
    }),
    ("dot segments", |path| {
        let mut kept: Vec<&[u8]> = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"." => {}
                b".." => drop(kept.pop()),
                _ => kept.push(part),
            }
        }
        kept.join(&b'/')
    }),
    ("double slashes", |path| {
        let mut once = path.clone();
        once.dedup_by(|a, b| *a == b'/' && *b == b'/');
        once
    }),
    ("a query that was decoded", |path| {
        path.split(|b| *b == b'?').next().unwrap().to_vec()
    }),
    ("a string that ends at NUL", |path| {
        path.split(|b| *b == 0).next().unwrap().to_vec()
    }),
    ("white space around segments", |path| {
        let bare = path.split(|b| *b == b'/').map(<[u8]>::trim_ascii);
        bare.collect::<Vec<_>>().join(&b'/')
    }),
];

/// The part after the id of an attachment, if it is written without encodings.
fn file_name(raw: &[u8]) -> Option<&[u8]> {
    let name = raw.strip_prefix(b"/secure/attachment/")?;
    let at = name.iter().position(|byte| *byte == b'/')?;
    let (id, name) = (&name[..at], &name[at + 1..]);
    let is_file = !id.is_empty()
        && id.iter().all(u8::is_ascii_digit)
        && !name.is_empty()
        && !name.contains(&b'/');
    is_file.then_some(name)
}

fn is_one_segment_however_often_it_is_decoded(name: &[u8]) -> bool {
    let mut name = name.to_vec();
    for _ in 0..40 {
        let bad = |byte: &u8| matches!(byte, b'/' | b'\\' | 0..=0x1f | 0x7f);
        if name == b"." || name == b".." || name.iter().any(bad) {
            return false;
        }
        name = percent_decoded(&name);
    }
    true
}

/// Decodes what can be decoded and leaves the rest, as lenient servers do.
fn percent_decoded(path: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < path.len() {
        let hex = path
            .get(at + 1..at + 3)
            .and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())) {
            Some(hex) if path[at] == b'%' => {
                decoded.push(u8::from_str_radix(hex, 16).unwrap());
                at += 3;
            }
            _ => {
                decoded.push(path[at]);
                at += 1;
            }
        }
    }
    decoded
}

fn percent_encoded(segment: &str) -> String {
    let encode = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
            char::from(b).to_string()
        }
        _ => format!("%{b:02X}"),
    };
    segment.bytes().map(encode).collect()
}

/// The pattern language once more, as slow and plain as can be.
fn naive(pattern: &[&str], path: &[&str], at: usize, generous: bool) -> bool {
    match (pattern.get(at), path.get(at)) {
        (Some(&"**"), _) | (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(part), Some(segment)) => {
            let options: Vec<&str> = part.trim_matches(['(', ')']).split('|').collect();
            let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
            let one = match *part {
                "*" => true,
                "{number}" => digits(segment),
                "{issue}" => digits(segment) || segment.to_uppercase() == "ABC-1",
                "{project}" => digits(segment) || segment.chars().all(|c| c.is_ascii_uppercase()),
                _ => options.iter().any(|option| {
                    let version = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
                    option == segment
                        || generous
                            && (option.to_lowercase() == segment.to_lowercase()
                                || path[0].to_lowercase() == "rest"
                                    && at == 2
                                    && (*option == "latest" && version(segment)
                                        || version(option) && segment.to_lowercase() == "latest"))
                }),
            };
            one && naive(pattern, path, at + 1, generous)
        }
    }
}
