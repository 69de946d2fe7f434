#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use crate::{
    check::StepVerdict,
    config::{Config, ConfigSources},
};
use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};
use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
};

/// A forward to the Jira at this URL, with these lines of `[forward.auth]` and `[forward.policy]`.
fn forward(upstream: &str, auth: &str, policy: &str) -> ForwardConfig {
    forward_to("jira", upstream, auth, policy)
}

fn forward_to(service: &str, upstream: &str, auth: &str, policy: &str) -> ForwardConfig {
    let folder = tempfile::tempdir().unwrap();
    let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
    let key = key.to_openssh(LineEnding::LF).unwrap();
    let text = format!(
        r#"[tunnel]
gateways = ["gw1.vendor.example:443"]
user = "acme"
identity_file = "id"
host_keys = ["SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0"]
[[forward]]
name = "jira"
service = {service:?}
bind = "127.0.0.1:8080"
upstream = {upstream:?}
roots = "webpki"
[forward.auth]
{auth}
[forward.policy]
{policy}
"#
    );
    for (name, content) in [
        ("id", key.as_str()),
        ("secret", "secret"),
        ("agent.toml", &text),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    let sources = ConfigSources::new(Some(folder.path().join("agent.toml")), BTreeMap::new());
    let config = Config::load(&sources).unwrap_or_else(|problems| panic!("{problems}"));
    config.forwards.into_iter().next().unwrap()
}

/// The causes of all steps, which are warnings of the step `paths` with a remedy each.
fn causes(config: &ForwardConfig, running: Option<(&str, &str)>) -> Vec<String> {
    let running = running.map(|(url, auth_mode)| RunningUpstream { url, auth_mode });
    let steps = paths(config, running.as_ref());
    for step in &steps {
        assert_eq!((&*step.step, step.verdict), ("paths", StepVerdict::Warn));
        assert!(step.remedy.is_some(), "{step:?}");
    }
    steps.into_iter().filter_map(|step| step.cause).collect()
}

const CLOUD: &str = "https://acme.atlassian.net";
const OWN: &str = "https://jira.corp.example";
const API_TOKEN: &str =
    "mode = \"api-token\"\nemail = \"bot@acme.example\"\ntoken_file = \"secret\"";
const PAT: &str = "mode = \"pat\"\ntoken_file = \"secret\"";
const TICKETING: &str = "presets = [\"ticketing\"]";

/// A preset serves both kinds: its paths of the other kind are no news while a forward stays where it is.
#[test]
fn a_forward_that_stays_is_warned_of_what_is_useless_alone() {
    for (upstream, auth, mode) in [(CLOUD, API_TOKEN, "api-token"), (OWN, PAT, "pat")] {
        let config = forward(upstream, auth, TICKETING);
        assert_eq!(causes(&config, None), [""; 0], "{upstream}");
        assert_eq!(
            causes(&config, Some((upstream, mode))),
            [""; 0],
            "{upstream}"
        );
    }
    let policy = "presets = [\"ticketing-cloud\"]\nallow = [\"GET /rest/api/2/search/jql\", \"GET /rest/api/2/field\"]";
    assert_eq!(
        causes(&forward(OWN, PAT, policy), None),
        [
            "preset \"ticketing-cloud\" opens nothing: Jira Data Center has none of its paths",
            "Jira Data Center does not answer \"GET /rest/api/2/search/jql\"",
        ]
    );
    let no_jira = forward_to("gitlab", OWN, PAT, "presets = [\"read-only\"]");
    assert_eq!(causes(&no_jira, Some((CLOUD, "api-token"))), [""; 0]);
}

#[test]
fn a_credential_that_cloud_does_not_know_is_named() {
    for (auth, warned) in [(PAT, true), (API_TOKEN, false)] {
        let found = causes(&forward(CLOUD, auth, TICKETING), None);
        let expected: &[&str] = match warned {
            true => &["Jira Cloud has no login of mode \"pat\""],
            false => &[],
        };
        assert_eq!(found, expected);
    }
}

/// Each rule that one side lacks is named before the reload, in both directions; so is what else changes for the vendor.
#[test]
fn a_forward_that_moves_is_warned_of_each_path_that_the_other_kind_lacks() {
    let of_preset = |kind: JiraKind| {
        let ticketing = presets().iter().find(|p| p.name == "ticketing").unwrap();
        let rules = ticketing.rules().filter(|rule| kind.lacks(rule).is_some());
        let name = kind.name();
        let cause = |rule| format!("{name} does not answer {rule:?} (preset \"ticketing\")");
        rules.map(cause).collect::<Vec<_>>()
    };
    let to_cloud = forward(CLOUD, API_TOKEN, TICKETING);
    let mut expected = of_preset(Cloud);
    assert!(expected.len() > 2, "{expected:#?}");
    expected.push("Jira Cloud names users by accountId; parameters and fields with a user's name or key match no user there".to_owned());
    assert_eq!(causes(&to_cloud, Some((OWN, "pat"))), expected);
    expected.insert(0, "the reload moves the forward to Jira Cloud, and the context path changes from \"/jira\" to \"\": the vendor's URL has it".to_owned());
    let below = format!("{OWN}/jira");
    assert_eq!(causes(&to_cloud, Some((&below, "pat"))), expected);

    let back = forward(OWN, PAT, TICKETING);
    let expected = of_preset(DataCenter);
    assert!(!expected.is_empty());
    assert_eq!(causes(&back, Some((CLOUD, "api-token"))), expected);
    // A site of Cloud is known by its login too.
    assert_eq!(causes(&back, Some((OWN, "api-token"))), expected);
}

#[test]
fn a_rule_of_the_other_kind_is_known_with_its_replacement() {
    for (kind, rule, instead) in [
        (
            Cloud,
            "GET,POST /rest/api/(2|latest)/search",
            Some("search/jql"),
        ),
        (Cloud, "GET /rest/api/2/search/", Some("search/jql")),
        (Cloud, "GET,POST /rest/api/(2|latest)/search/jql", None),
        (
            Cloud,
            "GET /secure/attachment/{number}/*",
            Some("attachment/content"),
        ),
        (Cloud, "GET /status", Some("serverInfo")),
        (Cloud, "GET /rest/api/3/issue/{issue}", None),
        (Cloud, "GET /rest/agile/1.0/board", None),
        (DataCenter, "GET /rest/agile/1.0/board", None),
        (
            DataCenter,
            "GET /rest/api/3/issue/{issue}",
            Some("/rest/api/2"),
        ),
        (
            DataCenter,
            "GET /rest/api/2/search/jql",
            Some("/rest/api/2/search"),
        ),
        (DataCenter, "GET /rest/api/2/search", None),
        (DataCenter, "GET /rest/api/(2|3)/issue/{issue}", None),
        (DataCenter, "GET /secure/attachment/{number}/*", None),
        (Cloud, "GET /rest/**", None),
        (Cloud, "no rule", None),
    ] {
        let found = kind.lacks(rule).map(|path| path.instead);
        match instead {
            None => assert_eq!(found, None, "{rule}"),
            Some(text) => assert!(found.unwrap().contains(text), "{rule}: {found:?}"),
        }
    }
}

/// The preset of one kind alone is useless for the other, and the others serve both.
#[test]
fn each_preset_serves_the_kinds_that_it_says() {
    for preset in presets() {
        let useless = |kind: JiraKind| preset.rules().all(|rule| kind.lacks(rule).is_some());
        assert!(!useless(Cloud), "{}", preset.name);
        assert_eq!(
            useless(DataCenter),
            preset.name.ends_with("-cloud"),
            "{}",
            preset.name
        );
    }
}
