//! Rules and presets that cannot be used are refused with what would be right.

use crate::{error, policy};
use http::Method;

#[test]
fn a_bad_rule_is_refused_with_its_place_and_what_would_be_right() {
    for (rule, expected) in [
        ("", "the rule is empty"),
        ("GET", "the path is missing; write like `GET /rest"),
        ("/rest/api/2/issue", "write `GET /rest/api/2/issue`"),
        ("GET  /rest", "one space"),
        (" GET /rest", "one space"),
        ("GET /rest ", "one space"),
        ("GET, POST /rest", "methods joined by commas, one space"),
        ("GET\t/rest", "write like"),
        ("get /rest", "upper-case: GET, not get"),
        ("GET,post /rest", "upper-case: POST, not post"),
        ("GET, /rest", "a method is missing"),
        ("GET,* /rest", "`*` stands alone"),
        ("FETCH /rest", "known: GET, HEAD, POST"),
        ("TRACE /rest", "always refused and needs no rule"),
        ("GET rest/api", "column 1: a path pattern begins with `/`"),
        (
            "GET https://jira/rest",
            "column 1: a path pattern begins with `/`",
        ),
        ("GET /jira", "omit the context path /jira"),
        ("GET /jira/rest/api/2/issue", "write /rest/api/2/issue"),
        (
            "GET /rest/**/issue",
            "column 7: `**` must be the last segment",
        ),
        ("GET /rest/api*", "column 7: `*` stands for a whole segment"),
        (
            "GET /rest/api**",
            "column 7: `*` stands for a whole segment",
        ),
        ("GET /rest/***", "column 7: `*` stands for a whole segment"),
        ("GET /rest//api", "column 7: an empty segment"),
        ("GET /rest/api//", "column 11: an empty segment"),
        ("GET /rest/../api", "column 7: dot segments"),
        ("GET /rest/./api", "column 7: dot segments"),
        ("GET /a%20b", "column 2: patterns are written decoded"),
        ("GET /a%2fb", "column 2: patterns are written decoded"),
        (
            "GET /rest/api?x=1",
            "column 7: patterns match the path only",
        ),
        ("GET /rest/api#x", "column 7: patterns match the path only"),
        ("GET /rest;x", "always refused"),
        ("GET /rest\\x", "always refused"),
        ("GET /rest/{key}", "{key} is unknown; there are {issue}"),
        ("GET /rest/x{issue}", "a typed segment stands alone"),
        ("GET /rest/(a|b", "alternatives fill a whole segment"),
        ("GET /rest/(a||b)", "an empty segment"),
        ("GET /rest/(a|*)", "`*` stands for a whole segment"),
        ("GET /a\u{a0}b", "white space cannot be part"),
        ("GET /a\"b", "a quote cannot be part"),
        ("GET /rest/api/2/user.json", "Jira drops the ending"),
        (&format!("GET {}", "/a".repeat(25)), "at most 24 segments"),
    ] {
        for key in ["allow", "deny"] {
            let rules: &[&str] = &["GET /fine", rule];
            let error = match key {
                "allow" => error(&[], rules, &[], "/jira"),
                _ => error(&[], &[], rules, "/jira"),
            };
            assert_eq!(error.key, format!("{key}[1]"));
            assert_eq!(error.text, rule);
            assert!(
                error.problem.contains(expected),
                "{rule}: {}",
                error.problem
            );
        }
    }
}

#[test]
fn an_unknown_preset_is_refused_with_the_known_ones() {
    let error = error(&["ticketing", "tickets"], &[], &[], "");
    assert_eq!(
        (error.key.as_str(), error.text.as_str()),
        ("presets[1]", "tickets")
    );
    for name in [
        "did you mean \"ticketing\"?",
        "read-only",
        "two-way-sync",
        "ticketing-cloud",
        "two-way-sync-cloud",
        "oauth-dance",
        "webhooks",
        "epics",
        "bulk",
        "delete",
    ] {
        assert!(error.problem.contains(name), "{}", error.problem);
    }
}

#[test]
fn a_context_path_that_no_target_could_have_is_refused() {
    for context_path in ["/", "/jira/", "jira", "/a//b", "/a/../b", "/a%20b", "/a;b"] {
        assert_eq!(
            error(&[], &[], &[], context_path).key,
            "upstream",
            "{context_path}"
        );
    }
    for context_path in ["", "/jira", "/ex/jira/11223344-a1b2-3b33-c444-def123456789"] {
        policy(&["ticketing"], &[], &[], context_path);
    }
}

#[test]
fn without_any_rule_everything_is_refused() {
    let policy = policy(&[], &[], &[], "");
    for target in [
        "/",
        "/status",
        "/rest/api/2/serverInfo",
        "/rest/api/2/issue",
    ] {
        for method in [Method::GET, Method::POST, Method::HEAD, Method::OPTIONS] {
            assert!(
                !policy.decide(&method, target).is_allowed(),
                "{method} {target}"
            );
        }
    }
}

#[test]
fn a_decision_names_the_rule_that_made_it() {
    let policy = policy(
        &["bulk"],
        &["GET,POST /rest/api/2/issue/*"],
        &["* /rest/api/2/user/**"],
        "/jira",
    );
    let decided = |method, target| format!("{:?}", policy.decide(&method, target));
    for (method, target, expected) in [
        (
            Method::POST,
            "/jira/rest/api/2/issue/bulk",
            "preset bulk: POST /rest/api/(2|latest)/issue/bulk",
        ),
        (
            Method::GET,
            "/jira/rest/api/2/issue/bulk",
            "allow[0]: GET,POST /rest/api/2/issue/*",
        ),
        (
            Method::GET,
            "/jira/rest/api/2/user",
            "deny[0]: * /rest/api/2/user/**",
        ),
        (
            Method::GET,
            "/jira/rest/pat/1",
            "always refused: /rest/pat/**",
        ),
        (
            Method::TRACE,
            "/jira/rest/api/2/issue/X-1",
            "always refused: TRACE",
        ),
    ] {
        assert!(
            decided(method, target).contains(&format!("{expected:?}")),
            "{target}"
        );
    }
}
