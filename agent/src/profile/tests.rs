#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;

#[test]
fn every_built_in_profile_is_complete() {
    for name in builtin_names() {
        let profile = builtin(name).unwrap_or_else(|| panic!("{name} cannot be read"));
        assert_eq!(profile.name(), name);
        assert!(profile.documentation.starts_with("https://"), "{name}");
        assert!(!profile.modes.is_empty(), "{name}");
        let has_proofs = profile.health.is_some() && profile.login.is_some();
        assert_eq!(has_proofs, name != PLAIN_HTTP, "{name}");
        assert_eq!(profile.is_jira(), name == "jira");
        assert_eq!(title_of(name), profile.title);
    }
    assert_eq!(title_of("inventory"), "inventory");
    assert!(!ServiceProfile::jira().answers.own_headers.is_empty());
}

#[test]
fn a_sentence_about_jira_speaks_of_the_tool() {
    let text = "Jira does not answer: check Jira's own log";
    assert_eq!(ServiceProfile::jira().reword(text), text);
    let gitlab = builtin("gitlab").unwrap();
    let reworded = "GitLab does not answer: check GitLab's own log";
    assert_eq!(gitlab.reword(text), reworded);
    let host = ServiceProfile::vendor_host();
    assert!(host.is_vendor_host() && !host.is_jira() && !gitlab.is_vendor_host());
    assert!(host.reword(text).starts_with("the vendor's host does not"));
}

#[test]
fn the_packaged_files_are_the_built_in_ones() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/files/profiles");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_owned())
        .collect();
    files.sort();
    let mut names: Vec<_> = builtin_names().map(std::ffi::OsString::from).collect();
    names.sort();
    assert_eq!(files, names);
}

#[test]
fn an_error_names_the_line_and_the_remedy() {
    let good = include_str!("../../../packaging/files/profiles/gitlab.toml");
    ServiceProfile::parse("own", good).unwrap();
    for (from, to, part) in [
        ("status =", "statuses =", "unknown field"),
        (
            "path = \"/api/v4/user\"",
            "path = \"api/v4/user\"",
            "like \"/rest/system\"",
        ),
        ("user = \"/username\"", "user = \"username\"", "RFC 6901"),
        ("X-Gitlab-Meta", "X Gitlab", "like \"X-Jenkins\""),
        (
            "GET /api/v4/version",
            "/api/v4/version",
            "the method is missing",
        ),
        ("\"header\"", "\"heder\"", "is no mode"),
        ("refused = [401]", "refused = [4010]", "from 200 to 599"),
    ] {
        assert!(good.contains(from), "{from}");
        let line = good[..good.find(from).unwrap()].lines().count();
        let error = ServiceProfile::parse("own", &good.replacen(from, to, 1)).unwrap_err();
        assert!(error.problem.contains(part), "{from}: {error}");
        assert!(
            error.line.abs_diff(line) <= 1,
            "{from}: {error}, not {line}"
        );
    }
    let error = ServiceProfile::parse("own", "title = \"x\"").unwrap_err();
    assert!(error.to_string().starts_with("line 1: "), "{error}");
}

#[test]
fn a_sentence_about_jira_becomes_one_about_the_tool() {
    let jenkins = builtin("jenkins").unwrap();
    assert_eq!(jenkins.reword("Jira's log"), "Jenkins's log");
    assert_eq!(jenkins.reword("see the jira layer"), "see the jira layer");
    assert_eq!(ServiceProfile::jira().reword("Jira's log"), "Jira's log");
}

#[test]
fn a_member_is_compared_as_text() {
    let body = serde_json::json!({"state": "RUNNING", "code": 200});
    let member = |at: &str, is: Option<&str>| RequiredMember {
        at: at.to_owned(),
        is: is.map(str::to_owned),
    };
    assert!(member("/state", Some("RUNNING")).is_in(&body));
    assert!(member("/code", Some("200")).is_in(&body));
    assert!(member("/state", None).is_in(&body));
    assert!(!member("/state", Some("STARTING")).is_in(&body));
    assert!(!member("/other", None).is_in(&body));
}
