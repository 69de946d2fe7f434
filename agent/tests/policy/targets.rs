//! A table of request targets and what the policy says of each. To add one, write a line into
//! `targets.txt`.

use crate::{code, policy, table};
use agent::policy::CompiledPolicy;
use http::Method;
use std::collections::HashMap;

#[test]
fn every_target_of_the_table_is_decided_as_it_says() {
    let mut policies = HashMap::new();
    let mut wrong = Vec::new();
    for row in table::rows() {
        let policy = policies
            .entry(row.section)
            .or_insert_with(|| named_policy(row.section));
        let method = Method::from_bytes(row.method.as_bytes()).unwrap();
        let decided = code(&policy.decide(&method, &row.target));
        if decided != row.expected {
            wrong.push(format!("{row:?}\n    decided: {decided}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_table_holds_at_least_two_hundred_tricks() {
    let tricks = |row: &table::Row| row.expected == "ambiguous-target";
    assert!(table::rows().into_iter().filter(tricks).count() >= 200);
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

fn named_policy(name: &str) -> CompiledPolicy {
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
