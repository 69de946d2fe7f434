//! `docs/policy.md` says what the code does.

use crate::policy;
use agent::{
    auth::Settings,
    http::DryRun,
    policy::{always_refused, presets},
};
use http::Method;

const DOCUMENT: &str = include_str!("../../../docs/policy.md");

#[test]
fn the_document_lists_every_preset_with_its_rules() {
    for preset in presets() {
        let rules: Vec<_> = preset.rules().collect();
        let section = format!(
            "### `{}`\n{}.\n```text\n{}\n```\n",
            preset.name,
            capitalised(preset.summary),
            rules.join("\n")
        );
        assert!(
            DOCUMENT.contains(&section),
            "docs/policy.md lacks:\n{section}"
        );
    }
    let sections = DOCUMENT
        .lines()
        .filter(|line| line.starts_with("### `"))
        .count();
    assert_eq!(
        sections,
        presets().len(),
        "a preset that is gone is still described"
    );
}

#[test]
fn the_document_lists_every_path_that_is_always_refused() {
    let rows: Vec<_> = always_refused()
        .map(|(text, why)| format!("| `{text}` | {why} |"))
        .collect();
    let table = rows.join("\n");
    assert!(
        DOCUMENT.contains(&format!("|---|---|\n{table}\n\n")),
        "docs/policy.md lacks:\n{table}"
    );
}

#[test]
fn the_examples_in_the_document_are_what_the_command_prints() {
    let policy = policy(
        &["ticketing"],
        &["POST /rest/api/2/issue/bulk"],
        &["* /rest/api/2/user/**"],
        "/jira",
    );
    let mut examples = 0;
    for block in DOCUMENT.split("```console\n").skip(1) {
        let (command, rest) = block.split_once('\n').unwrap();
        let printed = rest.split("\n```").next().unwrap();
        let words: Vec<_> = command.split(' ').collect();
        let ["$", "agent", "policy", "explain", method, target] = words[..] else {
            panic!("not an example of explain: {command}");
        };
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        let judges = DryRun {
            policy: &policy,
            auth: &Settings::PassThrough,
            profile: &agent::profile::ServiceProfile::jira(),
            max_head: 64 << 10,
        };
        let explanation = judges.explain(&method, target.trim_matches('\'').as_bytes());
        assert_eq!(explanation.to_string(), printed, "{command}");
        examples += 1;
    }
    assert!(examples >= 5);
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}
