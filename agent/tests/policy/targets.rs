//! A table of request targets and what the policy says of each. To add one, write a line into
//! `targets.txt`.

use crate::{code, policy};
use agent::policy::Policy;
use http::Method;

#[test]
fn every_target_of_the_table_is_decided_as_it_says() {
    let mut policy = None;
    let mut wrong = Vec::new();
    for (number, line) in TABLE.lines().enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            policy = Some(named_policy(section.split(']').next().unwrap()));
            continue;
        }
        let (expected, rest) = line.split_once(' ').unwrap();
        let (method, target) = rest.trim_start().split_once(' ').unwrap();
        let target = unescape(target.trim_start_matches(' '));
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let policy = policy.as_ref().expect("a section comes first");
        let decided = code(&policy.decide(&method, &target));
        if decided != expected {
            wrong.push(format!(
                "line {}: {line}\n    decided: {decided}",
                number + 1
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_holds_at_least_two_hundred_tricks() {
    let tricks = |line: &&str| line.starts_with("ambiguous-target");
    assert!(TABLE.lines().filter(tricks).count() >= 200);
}

#[test]
fn a_refusal_repeats_nothing_of_the_query() {
    let policy = named_policy("ticketing");
    for target in [
        "/jira/rest/api/2/nothing?os_password=hunter2",
        "/jira/rest/api/2/issue;?os_password=hunter2",
        "/jira/rest/api/2/issue?_method=hunter2",
        "/jira/rest/api/2/issue?hunter2#",
        "/rest?hunter2",
        "http://x/?hunter2",
        "?hunter2",
    ] {
        let explanation = policy.explain(&Method::GET, target);
        let text = format!("{explanation}\n{explanation:?}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}

fn named_policy(name: &str) -> Policy {
    let (presets, allow, deny, context_path): (&[&str], &[&str], &[&str], &str) = match name {
        "open" => (&[], &["* /**", "OPTIONS /**"], &[], "/jira"),
        "ticketing" => (&["ticketing"], &[], &[], "/jira"),
        "wide" => (&[], &["* /**", "* /rest/**", "* /*/*/**"], &[], ""),
        "named" => (
            &[],
            &[
                "GET /rest/pat/latest/tokens",
                "GET /rest/oauth2/*/client",
                "GET /rest/oauth2/latest/*",
                "GET /plugins/servlet/upm",
                "GET /plugins/servlet/**",
                "POST /secure/AddComment.jspa",
                "GET /secure/admin/**",
                "POST /rest/auth/1/session",
                "GET /rest/*/1/session",
                "GET /*/plugins/**",
                "GET /rest/**",
            ],
            &["POST /rest/auth/**"],
            "",
        ),
        "denied" => (
            &["ticketing"],
            &["* /**"],
            &[
                "* /rest/api/2/user/**",
                "* /rest/api/2/issue/SECRET-1/**",
                "GET /rest/api/2/project/HR",
                "* /rest/api/latest/mypermissions",
            ],
            "",
        ),
        "oauth-dance" => (&["oauth-dance"], &[], &[], ""),
        "groups" => (&["webhooks", "epics", "bulk", "delete"], &[], &[], ""),
        _ => panic!("no policy is called {name}"),
    };
    policy(presets, allow, deny, context_path)
}

/// `\xNN`, `\u{N}`, `\\`, `\empty`.
fn unescape(text: &str) -> String {
    if text == r"\empty" {
        return String::new();
    }
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap().to_owned();
    while let Some(part) = parts.next() {
        let (digits, rest) = if part.is_empty() {
            plain.push('\\');
            plain.push_str(parts.next().unwrap_or_default());
            continue;
        } else if let Some(part) = part.strip_prefix("u{") {
            part.split_once('}').unwrap()
        } else {
            part.strip_prefix('x').unwrap().split_at(2)
        };
        plain.push(char::from_u32(u32::from_str_radix(digits, 16).unwrap()).unwrap());
        plain.push_str(rest);
    }
    plain
}

const TABLE: &str = include_str!("targets.txt");
