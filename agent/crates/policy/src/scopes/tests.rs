#![allow(clippy::unwrap_used)]
use super::*;
use crate::{Settings, presets, rules::areas_of};
use std::collections::BTreeSet;

fn policy(presets: &[&str], allow: &[&str], deny: &[&str]) -> CompiledPolicy {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
    CompiledPolicy::new(&Settings {
        presets: owned(presets),
        allow: owned(allow),
        deny: owned(deny),
        ..Settings::default()
    })
    .unwrap()
}

fn opened(policy: &CompiledPolicy) -> Vec<String> {
    let requests = policy.cloud_requests().into_iter();
    requests.map(|request| request.request).collect()
}

#[test]
fn every_line_of_the_table_is_a_request_that_a_rule_could_open() {
    for row in SCOPE_TABLE {
        for text in row.requests {
            let (method, path) = text.split_once(' ').unwrap();
            for path in versions(path) {
                let rule = format!("{method} {path}");
                let sample = policy(&[], &[&rule], &[]);
                assert!(opened(&sample).contains(&rule), "{rule}");
            }
        }
        let classic = row.classic.split_whitespace();
        for scope in classic.chain(granular(row)) {
            let form = |c: char| c.is_ascii_lowercase() || ":.-".contains(c);
            assert!(scope.chars().all(form) && scope.contains(':'), "{scope}");
        }
        assert!(!row.classic.is_empty() || !row.granular.is_empty());
    }
    for request in cloud_requests() {
        assert_eq!(areas_of(&borrowed(&request.sample)).count(), 0);
    }
}

#[test]
fn no_request_is_in_the_table_twice() {
    let mut seen = BTreeSet::new();
    for request in cloud_requests() {
        let key = format!("{} {}", request.method, request.path);
        assert!(seen.insert(key.clone()), "{key}");
    }
}

/// A rule that is added to a preset needs a line in the table.
#[test]
fn the_scopes_of_every_rule_of_a_preset_are_known() {
    for preset in presets() {
        for rule in preset.rules() {
            let outside = [
                "/secure/",
                "/status",
                "serverInfo",
                "/rest/webhooks/",
                "/rest/jira-webhook/",
                "oauth",
            ];
            if outside.iter().any(|part| rule.contains(part)) {
                continue;
            }
            let (methods, path) = rule.split_once(' ').unwrap();
            for method in methods.split(',') {
                for sample in sample_paths(path) {
                    let one = format!("{method} /{}", sample.join("/"));
                    assert!(!opened(&policy(&[], &[&one], &[])).is_empty(), "{one}");
                }
            }
        }
    }
}

#[test]
fn a_request_is_named_for_each_preset_and_rule_that_opens_it() {
    let both = policy(
        &["read-only"],
        &["GET /rest/api/3/issue/ABC-7/comment"],
        &[],
    );
    let comments = both.cloud_requests().into_iter();
    let comments: Vec<_> = comments
        .filter(|found| found.request.ends_with("/issue/{issue}/comment"))
        .collect();
    let sources: Vec<_> = comments
        .iter()
        .map(|found| (&*found.source, &*found.request))
        .collect();
    assert_eq!(
        sources,
        [
            ("preset read-only", "GET /rest/api/2/issue/{issue}/comment"),
            ("allow[0]", "GET /rest/api/3/issue/{issue}/comment"),
        ]
    );
    assert_eq!(comments[0].classic, ["read:jira-work"]);
    assert!(comments[0].granular.contains(&"read:comment.property:jira"));
}

#[test]
fn a_wide_rule_opens_all_of_its_methods_and_a_denied_request_is_left_out() {
    let wide = opened(&policy(&[], &["GET /rest/**"], &[]));
    assert!(wide.contains(&"GET /rest/agile/1.0/board".to_owned()));
    assert!(wide.iter().all(|request| request.starts_with("GET ")));
    let denied = policy(
        &["ticketing"],
        &[],
        &[
            "* /rest/api/2/issue/{issue}/comment/**",
            "POST /rest/api/latest/issue/{issue}/comment",
        ],
    );
    let left = opened(&denied);
    assert!(
        !left.iter().any(|request| request.contains("/comment")),
        "{left:?}"
    );
    assert!(left.contains(&"GET /rest/api/2/issue/{issue}".to_owned()));
}

#[test]
fn reading_by_post_changes_nothing() {
    let changing = |presets: &[&str], allow: &[&str], deny: &[&str]| {
        let rules = policy(presets, allow, deny).changing_rules();
        let text = |found: ChangingRule| format!("{}: {}", found.source, found.rule);
        rules.into_iter().map(text).collect::<Vec<_>>()
    };
    assert_eq!(changing(&["read-only", "oauth-dance"], &[], &[]), [""; 0]);
    assert_eq!(
        changing(
            &["read-only", "ticketing"],
            &["POST /rest/api/2/search", "PUT /rest/api/2/user"],
            &[]
        ),
        [
            "preset ticketing: POST /rest/api/(2|latest)/(issue|issueLink)",
            "allow[1]: PUT /rest/api/2/user",
        ]
    );
    assert_eq!(
        changing(&[], &["* /rest/**"], &[]),
        ["allow[0]: * /rest/**"]
    );
    assert_eq!(
        changing(&["ticketing"], &[], &["POST,PUT,PATCH,DELETE /**"]),
        [""; 0]
    );
}

/// docs/authentication/cloud.md lists the scopes of each preset.
#[test]
fn the_documented_scopes_are_those_of_the_table() {
    let page = include_str!("../../../../../docs/authentication/cloud.md");
    for preset in presets() {
        let requests = policy(&[preset.name], &[], &[]).cloud_requests();
        if requests.is_empty() {
            continue;
        }
        // Nobody should grant an administrator's scope for one request.
        let classic = requests.iter().flat_map(|r| r.classic.iter());
        let classic: BTreeSet<_> = classic.filter(|s| !s.starts_with("manage:")).collect();
        let list: Vec<_> = classic.iter().map(|scope| format!("`{scope}`")).collect();
        let list = match list.is_empty() {
            true => "none".to_owned(),
            false => list.join(", "),
        };
        let row = format!("| `{}` | {list} |", preset.name);
        assert!(
            page.contains(&row),
            "docs/authentication/cloud.md lacks: {row}"
        );
    }
    // The granular ones of the most frequent preset, as they are pasted.
    let requests = policy(&["ticketing"], &[], &[]).cloud_requests();
    let granular: BTreeSet<_> = requests
        .iter()
        .flat_map(|r| r.granular.iter())
        .copied()
        .collect();
    let list: Vec<_> = granular.into_iter().collect();
    let words: Vec<&str> = page.split_whitespace().collect();
    let found = words.windows(list.len()).any(|window| window == list);
    assert!(
        found,
        "docs/authentication/cloud.md lacks: {}",
        list.join(" ")
    );
}
